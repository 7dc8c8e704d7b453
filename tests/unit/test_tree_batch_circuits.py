"""From trees to circuits: the same scores, fewer products."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from batch_forests import QUESTIONS, breast_cancer, random_forest, random_rows
from blindgate_models.bits import Questions, answers
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.factoring import Question, Relations, factored, multiplied_out, nested, tree_of
from blindgate_models.compilers.rounded_forests import Rounded, rounded_to
from blindgate_models.trees_batch.circuit import MAX_MONOMIALS, Circuit, Product, Sum, deviation

T = 114689

Make = Callable[[Rounded], Circuit]


def as_nested(rounded: Rounded) -> Circuit:
    """The circuit as the trees stand."""
    return nested(rounded.outputs, Relations(QUESTIONS), T)


def as_factored(rounded: Rounded) -> Circuit:
    """The circuit of the polynomial."""
    return factored(multiplied_out(rounded.outputs, Relations(QUESTIONS)), T)


WAYS = [pytest.param(as_nested, id="nested"), pytest.param(as_factored, id="factored")]


def run(circuit: Circuit, bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """What the circuit says of rows of bits, modulo t around 0: `(rows, outputs)`."""
    made: list[NDArray[np.int64]] = []

    def total(of: Sum) -> NDArray[np.int64]:
        value = np.full(len(bits), of.constant)
        value += bits[:, list(of.weights)] @ np.array(list(of.weights.values()), dtype=np.int64)
        return np.asarray(value + sum(made[each] for each in of.added) - sum(made[each] for each in of.subtracted))

    for bit, of in circuit.products:
        made += [bits[:, bit] * total(of)]
    scores = np.stack([total(output) for output in circuit.outputs], axis=1)
    return np.asarray((scores + T // 2) % T - T // 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(25))
def test_a_circuit_says_what_the_forest_says(way: Make, seed: int) -> None:
    """Random forests that ask in vain, ask twice and end early, on rows with missing values: exactly the integers."""
    rng = np.random.default_rng(seed)
    forest = random_forest(rng, int(rng.integers(1, 12)), int(rng.integers(1, 6)), int(rng.integers(1, 4)), scale=5)
    scale_bits = 7
    bits = answers(QUESTIONS, random_rows(rng, 300))
    whole = tuple(
        tuple(leaf._replace(value=tuple(np.rint(np.ldexp(leaf.value, scale_bits)))) for leaf in tree)
        for tree in forest.trees
    )
    bias = tuple(float(each) for each in np.rint(np.ldexp(forest.bias, scale_bits)))
    expected = BitForest(whole, forest.bits, bias).scores(bits)
    rounded = rounded_to(forest, QUESTIONS, scale_bits)
    assert (run(way(rounded), bits) == expected).all()
    assert np.abs(expected).max() <= rounded.largest
    assert (np.abs(np.ldexp(expected, -scale_bits) - forest.scores(bits)) <= rounded.error + 1e-9).all()
    assert (rounded.error <= (len(forest.trees) + 1) * 0.5 * 2.0**-scale_bits).all()


@pytest.mark.parametrize("seed", range(10))
def test_factoring_does_not_change_the_polynomial(seed: int) -> None:
    """Multiplied out again, it is the same; so the noise is."""
    rng = np.random.default_rng(seed)
    rounded = rounded_to(random_forest(rng, 6, 4, 2), QUESTIONS, 5)
    polynomials = multiplied_out(rounded.outputs, Relations(QUESTIONS))
    circuit = factored(polynomials, T)
    assert circuit.polynomials() == polynomials
    assert deviation(circuit.polynomials(), 8192, T) == deviation(polynomials, 8192, T)
    assert circuit.components == 1 + max(len(monomial) for each in polynomials for monomial in each)


def test_breast_cancer_takes_few_products() -> None:
    """Half of what a product a question would take."""
    trained = breast_cancer(50, 4)
    rounded = rounded_to(trained.forest, trained.questions, 12)
    circuit = nested(rounded.outputs, Relations(trained.questions), T)
    questions = sum(len(tree) - 1 for tree in trained.forest.trees)
    assert len(circuit.products) < questions / 2
    assert circuit.components == 5


def leaf(value: float, *path: tuple[int, bool]) -> Leaf:
    """A leaf at the end of a path."""
    return Leaf(tuple(bit for bit, _ in path), tuple(wanted for _, wanted in path), (value,))


def test_an_interval_of_one_column_costs_no_product() -> None:
    """Of two bits of a thermometer the product is the later one."""
    interval = (
        leaf(0.0, (0, False)),
        leaf(8.0, (0, True), (2, False)),
        leaf(0.0, (0, True), (2, True)),
    )
    rounded = rounded_to(BitForest((interval,), 10, (0.0,)), QUESTIONS, 0)
    for way in (as_nested, as_factored):
        assert way(rounded) == Circuit([], [Sum(0, {0: 8, 2: -8}, [], [])])


def test_conditions_that_follow_are_left_out() -> None:
    """That x ≥ 2 settles x ≥ 0; one category settles another; a bit settles itself; equal sides settle the question."""
    relations = Relations(QUESTIONS)
    for first, value, second, certain in (
        (3, True, 1, True),
        (1, False, 3, False),
        (6, True, 7, False),
        (9, True, 9, True),
    ):
        sides = [leaf(float(side), (first, value), (second, side)) for side in (False, True)]
        leaves = [leaf(5.0, (first, not value)), *sides]
        tree = tree_of(leaves, [5, 0, 1], relations)
        assert tree == Question(first, *((5, int(certain)) if value else (int(certain), 5)))
    assert tree_of([leaf(1, (0, False)), leaf(1, (0, True))], [1, 1], relations) == 1


def test_what_does_not_follow_is_kept() -> None:
    """Questions of different kinds about one column, an unsorted list of edges: nothing is assumed."""
    relations = Relations([Questions(column=0, kind="at_least", values=[2.0, 1.0]), *QUESTIONS])
    assert not relations.related(0, 1)
    assert not relations.related(6, 11)
    assert relations.implied(8, {9: False}) is None


@pytest.mark.parametrize(
    "leaves",
    [
        pytest.param([leaf(0, (0, False))], id="a side is missing"),
        pytest.param([leaf(0, (0, False)), leaf(0, (1, True))], id="two roots"),
        pytest.param([leaf(0), leaf(1, (0, True)), leaf(1, (0, False))], id="a leaf above others"),
        pytest.param([leaf(0, (0, False)), leaf(0, (0, True)), leaf(0, (0, True))], id="two leaves at once"),
        pytest.param([], id="none"),
    ],
)
def test_leaves_that_are_no_trees_are_refused(leaves: list[Leaf]) -> None:
    """A forest whose leaves overlap has no polynomial that is its score."""
    with pytest.raises(ValueError, match="do not part"):
        tree_of(leaves, [0] * len(leaves), Relations(QUESTIONS))


@pytest.mark.parametrize("way", WAYS)
def test_a_tree_that_is_there_twice_counts_twice(way: Make) -> None:
    """A sum names no product more than once, and still adds it up."""
    forest = random_forest(np.random.default_rng(3), 1, 3)
    twice = BitForest(forest.trees * 3, forest.bits, forest.bias)
    bits = answers(QUESTIONS, random_rows(np.random.default_rng(4), 100))
    circuit = way(rounded_to(twice, QUESTIONS, 6))
    for each in [*(product.of for product in circuit.products), *circuit.outputs]:
        numbers = [*each.added, *each.subtracted]
        assert len(set(numbers)) == len(numbers)
    once = run(way(rounded_to(BitForest(forest.trees, forest.bits, (0.0,)), QUESTIONS, 6)), bits)
    assert (run(circuit, bits) == 3 * once + round(forest.bias[0] * 64)).all()


def test_what_cannot_be_multiplied_out_is_refused() -> None:
    """A bit times itself has other noise; and a part must not make a node count forever."""
    squared = Circuit([Product(0, Sum(0, {1: 1}, [], [])), Product(0, Sum(0, {}, [0], []))], [Sum(0, {}, [1], [])])
    with pytest.raises(ValueError, match=r"products\.1\.bit: multiplies bit 0 by itself"):
        squared.polynomials()
    chain = [Product(0, Sum(0, dict.fromkeys(range(100, 4000), 1), [], []))]
    chain += [Product(bit, Sum(0, {}, list(range(bit)), [])) for bit in range(1, 40)]
    with pytest.raises(ValueError, match=f"over {MAX_MONOMIALS} monomials"):
        Circuit(chain, [Sum(0, {}, [39], [])]).polynomials()
