"""The two halves of a batch, together: exact scores, and replies that hold nothing else."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from batch_forests import QUESTIONS, Floats, breast_cancer, random_forest, random_rows
from blindgate_models.bits import Questions, answers
from blindgate_models.clients import client_half
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.tree_batches import TreeBatch, compile_tree_batch
from blindgate_models.halves import ClientHalf, ServerHalf
from blindgate_models.seal.serial import Ciphertext, Seeded
from blindgate_models.servers import server_half
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import HEADER_BYTES
from blindgate_protocol.errors import (
    CiphertextError,
    EvaluationKeyError,
    InputError,
    KeyStoreError,
    PackageError,
    ResultError,
)


class World(NamedTuple):
    """A forest, its two halves and a key."""

    forest: BitForest
    compiled: TreeBatch
    client: TreesBatchClient
    server: TreesBatchServer
    secret: bytes

    def scores(self, rows: Floats) -> Floats:
        """Through encryption."""
        result = self.server.evaluate(None, self.client.encrypt(self.secret, rows))
        return self.client.decrypt(self.secret, result, len(rows))


def world(forest: BitForest) -> World:
    """Compile a forest over `QUESTIONS`."""
    rows = random_rows(np.random.default_rng(9), 50)
    compiled = compile_tree_batch(forest, QUESTIONS, rows, classifies=False)
    client = TreesBatchClient.from_part(compiled.client.model_dump())
    server = TreesBatchServer.from_part(compiled.server.model_dump())
    return World(forest, compiled, client, server, client.make_keys().secret)


def halves_are_the_protocols(client: TreesBatchClient, server: TreesBatchServer) -> tuple[ClientHalf, ServerHalf]:
    """The type checker compares each half with its protocol here."""
    return client, server


@pytest.fixture(scope="module")
def small() -> World:
    """Eight trees of depth 3, two outputs."""
    return world(random_forest(np.random.default_rng(1), 8, 3, 2))


@pytest.mark.parametrize(
    ("trees", "depth", "outputs"),
    [
        pytest.param(20, 1, 1, id="stumps: one level, a small ring"),
        pytest.param(6, 2, 3, id="three classes"),
        pytest.param(3, 6, 1, id="depth 6"),
        pytest.param(1, 1, 1, id="one question"),
    ],
)
def test_scores_are_the_rounded_forests_for_every_shape(trees: int, depth: int, outputs: int) -> None:
    """Missing values and unknown categories among the rows; a single row, and all slots."""
    it = world(random_forest(np.random.default_rng(depth), trees, depth, outputs))
    for count in (1, 77, it.client.rows_per_job):
        rows = random_rows(np.random.default_rng(count), count)
        got = it.scores(rows)
        assert (np.abs(got - it.forest.scores(answers(QUESTIONS, rows))) <= it.compiled.client.error_bound).all()
        units = np.ldexp(got, it.compiled.client.scale_bits)
        assert (units == np.rint(units)).all()


def test_a_forest_of_constants_is_still_drowned() -> None:
    """No product, no bit: a reply like any other."""
    forest = random_forest(np.random.default_rng(1), 1, 1)
    constant = BitForest(((forest.trees[0][0]._replace(bits=(), wanted=(), value=(0.75,)),),), 10, (-0.25,))
    it = world(constant)
    assert (it.scores(random_rows(np.random.default_rng(0), 3)) == 0.5).all()


def test_a_product_may_be_all_that_is_subtracted() -> None:
    """Bit 9 switches a product off: b0·b7 - b9·(b0·b7), where both sums begin with what they must not change."""
    paths = [
        ((9, True),),
        ((9, False), (0, False)),
        ((9, False), (0, True), (7, False)),
        ((9, False), (0, True), (7, True)),
    ]
    leaves = [
        Leaf(tuple(bit for bit, _ in path), tuple(wanted for _, wanted in path), (float(number == 3),))
        for number, path in enumerate(paths)
    ]
    it = world(BitForest((tuple(leaves),), 10, (0.0,)))
    circuit = it.compiled.server.circuit
    assert [(product.of.added, product.of.subtracted) for product in circuit.products] == [([], []), ([], [0])]
    rows = random_rows(np.random.default_rng(0), 300)
    assert (it.scores(rows) == it.forest.scores(answers(QUESTIONS, rows))).all()
    assert 0 < it.scores(rows).mean() < 1


def test_a_family_is_found_by_its_name() -> None:
    """As the manifest gives it."""
    assert client_half("trees-batch") is TreesBatchClient
    assert server_half("trees-batch") is TreesBatchServer


@pytest.mark.slow
def test_fifty_trees_on_breast_cancer_decide_every_held_out_row_alike() -> None:
    """All 450 bits of 16 public bins go up; the class is XGBoost's on each patient, and the score within the bound."""
    trained = breast_cancer(50, 4)
    compiled = compile_tree_batch(trained.forest, trained.questions, trained.training)
    client = TreesBatchClient.from_part(compiled.client.model_dump())
    server = TreesBatchServer.from_part(compiled.server.model_dump())
    secret = client.make_keys().secret
    result = server.evaluate(None, client.encrypt(secret, trained.held_out))
    scores = client.decrypt(secret, result, len(trained.held_out))[:, 0]
    assert ((scores > 0) == (trained.margins > 0)).all()
    assert np.abs(scores - trained.margins).max() <= compiled.client.error_bound[0] + 1e-5
    assert compiled.report["agreement_plain"] == 1.0


def test_blobs_tell_nothing_of_rows_or_forest(small: World) -> None:
    """One length each, whatever the rows are and however many; a ciphertext for each bit, used or not."""
    sizes = set()
    for count in (1, 500, small.client.rows_per_job):
        blob = small.client.encrypt(small.secret, random_rows(np.random.default_rng(count), count))
        sizes.add((len(blob), len(small.server.evaluate(None, blob))))
    assert sizes == {(small.client.input_bytes(1), small.client.result_bytes(1))}
    parameters = small.compiled.client.parameters
    assert small.client.input_bytes(1) == HEADER_BYTES + 11 * (64 + parameters.degree * sum(parameters.data_bits) // 8)
    fewer = world(BitForest(small.forest.trees[:2], 10, small.forest.bias))
    assert len(fewer.compiled.server.circuit.used) < 10


def test_every_bit_is_expanded_used_or_not(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time tells how much work the circuit is, and nothing of which bits it asks."""
    stump = world(random_forest(np.random.default_rng(1), 1, 1))
    blob = stump.client.encrypt(stump.secret, np.zeros((1, 3)))
    expanded: list[Seeded] = []
    expand = stump.server._ring.expand

    def counted(seeded: Seeded) -> Ciphertext:
        expanded.append(seeded)
        return expand(seeded)

    monkeypatch.setattr(stump.server._ring, "expand", counted)
    opened = stump.server.open_input(blob)
    assert len(expanded) == 11
    assert len({seeded.seed for seeded in expanded}) == 11
    assert [bit for bit, ciphertext in opened.bits.items() if ciphertext is not None] == [
        *stump.compiled.server.circuit.used
    ]


def test_slots_that_are_no_rows_hold_random_numbers(small: World) -> None:
    """A reply has as many scores as its header says, so that a budget of rows cannot be got around by full ciphertexts."""
    blob = small.client.encrypt(small.secret, random_rows(np.random.default_rng(2), small.client.rows_per_job))
    claimed = blob[:8] + (5).to_bytes(4, "little") + blob[12:]
    results = [small.server.evaluate(None, each) for each in (blob, claimed, claimed)]
    key = small.client._secret(small.secret)
    full, once, again = (
        small.client._ring.decrypt(key, small.client._words(memoryview(each)[HEADER_BYTES:][: len(each) // 2]))
        for each in results
    )
    assert (full[:5] == once[:5]).all()
    assert (full[5:] == once[5:]).mean() < 0.01
    assert (once[5:] == again[5:]).mean() < 0.01


def test_slots_past_the_rows_repeat_them(small: World) -> None:
    """An unmodified client asks about its own rows only."""
    rows = random_rows(np.random.default_rng(2), 3)
    _, *polynomials = small.client._polynomials(rows)
    bits = np.stack([each for each in polynomials if each is not None], axis=1)
    assert (bits == answers(QUESTIONS, rows)[np.arange(len(bits)) % 3]).all()


def test_every_polynomial_of_a_reply_is_drawn_anew(small: World) -> None:
    """The same blob twice: not a word is the same, in any polynomial, and the scores are."""
    rows = random_rows(np.random.default_rng(2), 9)
    blob = small.client.encrypt(small.secret, rows)
    first, second = (small.server.evaluate(None, blob) for _ in range(2))
    assert (small.client.decrypt(small.secret, first, 9) == small.client.decrypt(small.secret, second, 9)).all()
    size = len(first) // 2 - HEADER_BYTES // 2
    one, other = (small.client._words(memoryview(each)[HEADER_BYTES : HEADER_BYTES + size]) for each in (first, second))
    for before, after in zip(one, other, strict=True):
        assert (before == after).mean() < 0.001
    assert all(
        0.25 < (polynomial / 2.0 ** small.compiled.client.parameters.data_bits[0]).std() < 0.33 for polynomial in one
    )


def test_a_cover_is_spent_once(small: World) -> None:
    """A second reply under the same noise would give the difference of two."""
    opened = small.server.open_input(small.client.encrypt(small.secret, random_rows(np.random.default_rng(2), 9)))
    covers = small.server.covers()
    small.server.answer(opened, covers)
    with pytest.raises(RuntimeError, match="spent"):
        covers[0].spend()


def test_covers_drawn_ahead_serve_one_answer(small: World) -> None:
    """A worker that waits has them ready; the next answer of the same process draws others."""
    blob = small.client.encrypt(small.secret, random_rows(np.random.default_rng(2), 9))
    small.server.prepare()
    ready = list(small.server._ready)
    small.server.prepare()
    assert small.server._ready == ready
    first, second = (small.server.evaluate(None, blob) for _ in range(2))
    assert small.server._ready == []
    assert first != second
    with pytest.raises(RuntimeError, match="spent"):
        ready[0].spend()


def test_a_node_reads_the_number_of_rows_before_it_computes(small: World) -> None:
    """It is held against the order's; slots past it are random, so that it is also how many scores a reply has."""
    blob = small.client.encrypt(small.secret, random_rows(np.random.default_rng(2), 9))
    assert small.server.rows(blob) == 9
    with pytest.raises(CiphertextError, match="length"):
        small.server.rows(blob[:-1])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(np.zeros((0, 3)), r"got shape \(0, 3\)", id="none"),
        pytest.param(np.zeros((8193, 3)), r"expected \(1 to \d+, 3\)", id="too many"),
        pytest.param(np.zeros((5, 2)), r"got shape \(5, 2\)", id="too few columns"),
        pytest.param(np.zeros(3), r"got shape \(3,\)", id="no table"),
    ],
)
def test_tables_that_do_not_fit_are_refused(small: World, rows: NDArray[np.float64], says: str) -> None:
    """Before anything is encrypted."""
    with pytest.raises(InputError, match=says):
        small.client.encrypt(small.secret, rows)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda secret: secret[:-1], id="cut"),
        pytest.param(lambda secret: b"BGPK" + secret[4:], id="another family's"),
        pytest.param(lambda secret: secret[:36] + b"\xff" * (len(secret) - 36), id="words past the primes"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_a_secret_that_is_none_is_refused(small: World, spoil: Callable[[bytes], bytes]) -> None:
    """By name, and without showing it."""
    with pytest.raises(KeyStoreError, match="secret key"):
        small.client.encrypt(spoil(small.secret), np.zeros((1, 3)))


def test_another_key_decrypts_to_nothing_like_the_scores(small: World) -> None:
    """A result is for the holder of the secret key alone."""
    rows = random_rows(np.random.default_rng(2), 200)
    result = small.server.evaluate(None, small.client.encrypt(small.secret, rows))
    got = small.client.decrypt(small.client.make_keys().secret, result, 200)
    expected = small.forest.scores(answers(QUESTIONS, rows))
    assert abs(np.corrcoef(got[:, 0], expected[:, 0])[0, 1]) < 0.3


def test_results_for_other_rows_and_keys_for_evaluation_are_refused(small: World) -> None:
    """There is no evaluation key in this family."""
    blob = small.client.encrypt(small.secret, np.zeros((2, 3)))
    assert small.client.make_keys().evaluation is None
    with pytest.raises(EvaluationKeyError, match="got 3 bytes, expected none"):
        small.server.evaluate(b"key", blob)
    with pytest.raises(ResultError, match="rows: got 2, expected 3"):
        small.client.decrypt(small.secret, small.server.evaluate(None, blob), 3)


CHAIN = [Questions(column=column, kind="at_least", values=[0.5]) for column in range(14)]


def chain(depth: int) -> BitForest:
    """One tree, which asks a bit of another column at each step."""
    asked = [tuple((bit, bit < step) for bit in range(step + 1)) for step in range(depth)]
    paths = [*asked, tuple((bit, True) for bit in range(depth))]
    leaves = tuple(
        Leaf(tuple(bit for bit, _ in path), tuple(wanted for _, wanted in path), (float(number % 3),))
        for number, path in enumerate(paths)
    )
    return BitForest((leaves,), 14, (0.0,))


def test_ten_bits_in_a_product_take_the_large_ring() -> None:
    """Sixteen thousand slots; deeper than any ensemble asks."""
    compiled = compile_tree_batch(chain(8), CHAIN, np.eye(14), classifies=False)
    assert compiled.client.parameters.degree == 16384
    assert compiled.client.parameters.components == 9
    assert compiled.report["agreement_plain"] == 1.0


def test_forests_that_do_not_fit_are_refused(small: World) -> None:
    """Other bits, a depth past what a reply has polynomials for, a tolerance that no scale keeps."""
    rows = np.zeros((1, 3))
    with pytest.raises(ValueError, match="questions: got 9 bits, expected the forest's 10"):
        compile_tree_batch(small.forest, QUESTIONS[:-1], rows)
    rng = np.random.default_rng(5)
    with pytest.raises(PackageError, match="no parameters hold scores"):
        compile_tree_batch(random_forest(rng, 2, 3, scale=1), QUESTIONS, rows, tolerance=2.0**-30)
    with pytest.raises(PackageError, match=r"no parameters hold scores up to .* more than 12 components"):
        compile_tree_batch(chain(14), CHAIN, np.zeros((1, 14)), classifies=False)
    with pytest.raises(PackageError, match="which no scale up to"):
        compile_tree_batch(small.forest, QUESTIONS, rows, tolerance=-1.0)
