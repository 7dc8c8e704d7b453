"""Trees that ask a category for a group of its values, as a batch: circuits, noise, parts, and both halves."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from batch_forests import CATEGORIES, GROUPS, category_rows, random_forest
from blindgate_models.bits import Questions, answers, with_groups
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.factoring import Question, Relations, factored, multiplied_out, nested, tree_of
from blindgate_models.compilers.rounded_forests import Rounded, rounded_to
from blindgate_models.compilers.tree_batches import TreeBatch, compile_tree_batch
from blindgate_models.halves import Part
from blindgate_models.trees_batch.circuit import Circuit, Polynomial, Product, Sum, deviation, kin
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_protocol.errors import PackageError
from phases import noise, secret_words

T = 114689
BITS = 13
GROUP = {group: BITS + place for place, group in enumerate(GROUPS)}
"""The number of each group."""

Make = Callable[[Rounded], Circuit]


def as_nested(rounded: Rounded) -> Circuit:
    """The circuit as the trees stand."""
    return nested(rounded.outputs, Relations(CATEGORIES, GROUPS), T)


def as_factored(rounded: Rounded) -> Circuit:
    """The circuit of the polynomial."""
    relations = Relations(CATEGORIES, GROUPS)
    polynomials = multiplied_out(rounded.outputs, relations)
    return factored(polynomials, T, relations.groups)


def run(circuit: Circuit, bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """What the circuit says of rows of bits, modulo t around 0: `(rows, outputs)`."""
    conditions = {bit: bits[:, bit].astype(np.int64) for bit in range(bits.shape[1])}
    conditions |= {group: bits[:, sorted(members)].sum(axis=1) for group, members in circuit.groups.items()}
    made: list[NDArray[np.int64]] = []

    def total(of: Sum) -> NDArray[np.int64]:
        value = np.full(len(bits), of.constant)
        value += sum(weight * conditions[bit] for bit, weight in of.weights.items())
        return np.asarray(value + sum(made[each] for each in of.added) - sum(made[each] for each in of.subtracted))

    for bit, of in circuit.products:
        made += [conditions[bit] * total(of)]
    scores = np.stack([total(output) for output in circuit.outputs], axis=1)
    return np.asarray((scores + T // 2) % T - T // 2)


def of_bits(polynomial: Polynomial, circuit: Circuit) -> Polynomial:
    """A polynomial in groups as one in bits."""
    found: Polynomial = {}
    for monomial, weight in polynomial.items():
        for bits in product(*(circuit.groups.get(each, {each}) for each in monomial)):
            found[frozenset(bits)] = found.get(frozenset(bits), 0) + weight
    return found


@pytest.mark.parametrize("way", [pytest.param(as_nested, id="nested"), pytest.param(as_factored, id="factored")])
@pytest.mark.parametrize("seed", range(15))
def test_a_circuit_says_what_the_forest_says(way: Make, seed: int) -> None:
    """Groups that hold, share or exclude each other's values, asked in any order on a path: exactly the integers."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 12)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    forest = random_forest(rng, *shape, questions=CATEGORIES, scale=5, groups=GROUPS)
    bits = answers(CATEGORIES, category_rows(rng, 300))
    rounded = rounded_to(forest, CATEGORIES, 7)
    expected = np.zeros((300, shape[2]))
    for tree in forest.trees:
        for leaf in tree:
            fits = (with_groups(bits, GROUPS)[:, list(leaf.bits)] == np.array(leaf.wanted, dtype=bool)).all(axis=1)
            expected[fits] += np.rint(np.ldexp(leaf.value, 7))
    assert (run(way(rounded), bits) == expected + np.rint(np.ldexp(forest.bias, 7))).all()


@pytest.mark.parametrize("seed", range(10))
def test_the_noise_is_that_of_the_polynomial_in_bits(seed: int) -> None:
    """Written down monomial by monomial: groups of one column that share bits have noises that add up."""
    rng = np.random.default_rng(seed)
    forest = random_forest(rng, 6, 4, 2, questions=CATEGORIES, groups=GROUPS)
    circuit = as_factored(rounded_to(forest, CATEGORIES, 5))
    polynomials = circuit.polynomials()
    assert circuit.groups
    expected = deviation([of_bits(each, circuit) for each in polynomials], 8192, T)
    assert deviation(polynomials, 8192, T, circuit.groups) == pytest.approx(expected)
    assert deviation(polynomials, 8192, T) != pytest.approx(expected)


def test_a_long_sum_is_reckoned_in_pieces_and_no_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part may hold half a million products of the same columns: pieces are added up as if they were all alike."""
    forest = random_forest(np.random.default_rng(1), 6, 4, questions=CATEGORIES, groups=GROUPS)
    circuit = as_factored(rounded_to(forest, CATEGORIES, 5))
    exact = deviation(circuit.polynomials(), 8192, T, circuit.groups)
    monkeypatch.setattr("blindgate_models.trees_batch.circuit._AT_ONCE", 2)
    assert exact < deviation(circuit.polynomials(), 8192, T, circuit.groups) < 4 * exact


@pytest.mark.parametrize(
    ("first", "value", "second", "certain"),
    [
        pytest.param((4, 5, 6), False, (4, 5), False, id="not in a group, nor in one that it holds"),
        pytest.param((4, 5), True, (4, 5, 6), True, id="in a group, and in one that holds it"),
        pytest.param((3, 4), True, (6, 7, 8), False, id="in a group, and so in none that excludes it"),
        pytest.param((3, 4), True, (4, 5), None, id="groups that share a value"),
        pytest.param((3, 4), False, (4, 5), None, id="groups that share a value, not in the first"),
        pytest.param((3, 4), False, (6, 7, 8), None, id="groups that exclude each other, not in the first"),
        pytest.param((3, 4), True, (9, 10), None, id="groups of two columns"),
    ],
)
def test_conditions_that_follow_are_left_out(
    first: tuple[int, ...], value: bool, second: tuple[int, ...], certain: bool | None
) -> None:
    """What is known of one group says something of another one of its column."""
    path = ((GROUP[first], not value),), ((GROUP[first], value), (GROUP[second], False))
    paths = [*path, ((GROUP[first], value), (GROUP[second], True))]
    leaves = [Leaf(tuple(b for b, _ in each), tuple(w for _, w in each), (0.0,)) for each in paths]
    tree = tree_of(leaves, [5, 0, 1], Relations(CATEGORIES, GROUPS))
    inner = Question(GROUP[second], 0, 1) if certain is None else int(certain)
    assert tree == Question(GROUP[first], *((5, inner) if value else (inner, 5)))


def test_of_two_groups_together_a_single_value_is_left() -> None:
    """In both (3, 4) and (4, 5) there is bit 4 alone: the product is that bit, and costs none."""
    relations = Relations(CATEGORIES, GROUPS)
    assert relations.product(GROUP[3, 4], GROUP[4, 5]) == 4
    assert relations.product(GROUP[4, 5, 6], GROUP[4, 5]) == GROUP[4, 5]
    assert relations.product(GROUP[3, 4], 8) is None
    assert relations.implied(7, {GROUP[6, 7, 8]: True, 6: False, 8: False}) is True
    assert not relations.related(GROUP[9, 10], 3)


def test_what_is_missing_is_none_of_the_categories() -> None:
    """It may be one of a group; in a column of numbers it is a question by itself."""
    missing = Questions(column=1, kind="is_missing", values=[])
    relations = Relations([*CATEGORIES, missing, missing.model_copy(update={"column": 0})], ((3, 13), (4, 5)))
    assert relations.product(13, 3) is None
    assert relations.product(15, 13) == 13
    assert relations.implied(13, {15: True, 3: False}) is True
    assert relations.implied(16, {13: True}) is False
    assert not relations.related(14, 0)


def test_kin_are_never_multiplied() -> None:
    """Groups that share a bit, also by way of others, and their bits: such a product would have other noise."""
    assert (
        len(set(map(kin({20: frozenset({1, 2}), 21: frozenset({3, 4}), 22: frozenset({2, 3})}).get, (1, 4, 20, 21))))
        == 1
    )
    assert kin({20: frozenset({1, 2}), 21: frozenset({3, 4})}).get(1) != kin({21: frozenset({3, 4})}).get(3)
    for bit in (1, 5, 21):
        circuit = Circuit(
            [Product(20, Sum(0, {bit: 1}, [], []))],
            [Sum(0, {}, [0], [])],
            {20: frozenset({1, 2}), 21: frozenset({2, 5})},
        )
        with pytest.raises(ValueError, match=r"products\.0\.bit: multiplies bit 20 by itself, or by its kin"):
            circuit.polynomials()


@pytest.fixture(scope="module")
def compiled() -> TreeBatch:
    """A small forest that asks for groups."""
    rng = np.random.default_rng(0)
    forest = random_forest(rng, 6, 3, 2, questions=CATEGORIES, groups=GROUPS)
    return compile_tree_batch(forest, CATEGORIES, category_rows(rng, 20), classifies=False)


@pytest.mark.parametrize(("trees", "depth"), [(10, 2), (6, 3), (4, 5)])
def test_scores_are_the_rounded_forests(trees: int, depth: int) -> None:
    """Through encryption: every category, and values that are none."""
    rng = np.random.default_rng(depth)
    forest = random_forest(rng, trees, depth, 2, questions=CATEGORIES, groups=GROUPS)
    made = compile_tree_batch(forest, CATEGORIES, category_rows(rng, 20), classifies=False)
    assert made.server.groups
    client, server = TreesBatchClient(made.client), TreesBatchServer.from_part(made.server.model_dump())
    secret, rows = client.make_keys().secret, category_rows(rng, 500)
    got = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))
    expected = forest.scores(answers(CATEGORIES, rows))
    assert (np.abs(got - expected) <= made.client.error_bound).all()


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(category_rows(np.random.default_rng(0), 8192), id="any values"),
        pytest.param(np.full((1, 3), 3.0), id="one row in every slot"),
        pytest.param(np.full((1, 3), 9.0), id="of no category"),
    ],
)
def test_the_noise_is_what_was_computed_from_the_circuit(rows: NDArray[np.float64]) -> None:
    """Below it, and not by much, though the bits of a category are no independent messages."""
    rng = np.random.default_rng(5)
    forest = random_forest(rng, 30, 3, questions=CATEGORIES[1:], groups=((0, 1, 2, 3), (1, 2, 4), (3, 4, 5), (6, 7)))
    made = compile_tree_batch(forest, CATEGORIES[1:], rows[:1], classifies=False)
    client, server = TreesBatchClient(made.client), TreesBatchServer(made.server)
    secret = client.make_keys().secret
    (total,) = server._evaluation.run(server.open_input(client.encrypt(secret, rows)).bits)
    given = noise(server._ring, secret_words(server._ring, secret), total)
    circuit, parameters = made.server.circuit, made.server.parameters
    bound = deviation(circuit.polynomials(), parameters.degree, parameters.plain_modulus, circuit.groups)
    assert 0.6 < given.std() / bound < 1.0


def moved(part: Part) -> None:
    """Let the first product multiply what it is made of: a group that holds a bit of its own inner sum."""
    inner = part["products"][0]["bits"] or part["products"][1]["bits"]
    number = 0 if part["products"][0]["bits"] else 1
    part["groups"] = [*part["groups"], [0, inner[0]] if inner[0] else [0, 1]]
    part["products"][number]["bit"] = part["bits"] + len(part["groups"]) - 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(
            lambda p: p["groups"].__setitem__(0, [1, BITS]), r"groups\.0: expected bits below 13", id="no bit"
        ),
        pytest.param(lambda p: p["groups"].__setitem__(0, [-1, 2]), r"groups\.0\.0", id="a negative bit"),
        pytest.param(lambda p: p["groups"].__setitem__(0, [2, 2]), r"groups\.0: .*ascending", id="a bit twice"),
        pytest.param(lambda p: p["groups"].__setitem__(0, [3, 2]), r"groups\.0: .*ascending", id="descending"),
        pytest.param(lambda p: p["groups"].__setitem__(0, [2]), r"groups\.0", id="a single bit"),
        pytest.param(lambda p: p.update(groups=[[1, 2]] * 8193), "groups", id="too many"),
        pytest.param(lambda p: p.update(groups=[]), r"got \d+, expected below 13", id="groups that are not there"),
        pytest.param(moved, r"multiplies bit \d+ by itself, or by its kin", id="kin"),
        pytest.param(lambda p: p["parameters"].update(flood_bits=90), "an advantage of 2", id="too little flood"),
    ],
)
def test_a_part_that_is_wrong_is_refused_by_name(compiled: TreeBatch, spoil: Callable[[Part], None], says: str) -> None:
    """The good part next to it is taken."""
    TreesBatchServer.from_part(compiled.server.model_dump())
    part = compiled.server.model_dump()
    spoil(part)
    with pytest.raises(PackageError, match=says):
        TreesBatchServer.from_part(part)


def test_a_bit_of_a_group_is_expanded_though_nothing_else_asks_for_it() -> None:
    """The node keeps the members of the groups that it uses."""
    leaves = (Leaf((BITS,), (False,), (0.0,)), Leaf((BITS,), (True,), (1.0,)))
    forest = BitForest((leaves,), BITS, (0.0,), ((3, 5, 8),))
    made = compile_tree_batch(forest, CATEGORIES, category_rows(np.random.default_rng(0), 9), classifies=False)
    assert made.server.circuit.used == {3, 5, 8}
    assert made.server.outputs[0].bits == [BITS]
