"""Random forests on random rows: the decrypted integers are the rounded forest's, every one, and the noise is what was computed.

`BLINDGATE_CAMPAIGN` multiplies how many forests are tried.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from batch_forests import QUESTIONS, Floats, Trained, breast_cancer, digits, german_credit, random_forest, random_rows
from blindgate_models.bits import Questions, answers
from blindgate_models.compilers.bit_forests import BitForest
from blindgate_models.compilers.rounded_forests import decided
from blindgate_models.compilers.tree_batches import TreeBatch, compile_tree_batch
from blindgate_models.trees_batch.circuit import deviation
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import Parameters, ServerPart
from blindgate_protocol.errors import PackageError
from campaigns import CAMPAIGN, of
from phases import noise, secret_words


def integers(forest: BitForest, scale_bits: int, bits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The scores of the forest with leaves and bias rounded to integers."""

    def whole(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(value) for value in np.rint(np.ldexp(values, scale_bits)))

    trees = tuple(tuple(leaf._replace(value=whole(leaf.value)) for leaf in tree) for tree in forest.trees)
    return BitForest(trees, forest.bits, whole(forest.bias)).scores(bits)


@pytest.mark.parametrize("seed", range(of(10 * CAMPAIGN, slice_of=5)))
def test_decrypted_scores_are_exactly_the_rounded_forests(seed: int) -> None:
    """Any depth to 5, any number of outputs to 3, leaves of any size; every slot of every output."""
    rng = np.random.default_rng(seed)
    outputs, scale = int(rng.integers(1, 4)), float(2.0 ** rng.integers(-10, 10))
    forest = random_forest(rng, int(rng.integers(1, 15)), int(rng.integers(1, 6)), outputs, scale=scale)
    compiled = compile_tree_batch(forest, QUESTIONS, random_rows(rng, 30), classifies=bool(rng.integers(2)))
    client = TreesBatchClient.from_part(compiled.client.model_dump())
    server = TreesBatchServer.from_part(compiled.server.model_dump())
    secret = client.make_keys().secret
    rows = random_rows(rng, client.rows_per_job)
    got = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))
    scale_bits = compiled.client.scale_bits
    assert (np.ldexp(got, scale_bits) == integers(forest, scale_bits, answers(QUESTIONS, rows))).all()
    assert (np.abs(got - forest.scores(answers(QUESTIONS, rows))) <= compiled.client.error_bound).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "trees", "depth"),
    [
        pytest.param(
            breast_cancer,
            50,
            6,
            id="breast cancer, depth 6",
            marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"),
        ),
        pytest.param(german_credit, of(50, slice_of=16), 4, id="German credit, depth 4"),
        pytest.param(
            german_credit,
            50,
            6,
            id="German credit, depth 6",
            marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"),
        ),
        pytest.param(digits, of(10, slice_of=4), 5, id="digits, ten classes"),
    ],
)
def test_trained_forests_decide_every_held_out_row_as_in_the_clear(
    train: Callable[[int, int], Trained], trees: int, depth: int
) -> None:
    """The class is the library's own, on every row, and the scores within the stated bound."""
    trained = train(trees, depth)
    compiled = compile_tree_batch(trained.forest, trained.questions, trained.training)
    client, server = TreesBatchClient(compiled.client), TreesBatchServer(compiled.server)
    secret = client.make_keys().secret
    rows = trained.held_out
    got = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))
    assert (decided(got) == decided(trained.margins.reshape(len(rows), -1))).all()
    assert (np.abs(got - trained.margins.reshape(len(rows), -1)) <= np.array(compiled.client.error_bound) + 1e-5).all()


@pytest.fixture(scope="module")
def of_breast_cancer() -> tuple[Trained, TreeBatch]:
    """Fifty trees, or a dozen, compiled."""
    trained = breast_cancer(of(50, slice_of=12), 4)
    return trained, compile_tree_batch(trained.forest, trained.questions, trained.training[:1])


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(lambda rows: np.resize(rows, (8192, rows.shape[1])), id="patients"),
        pytest.param(
            lambda rows: rows[:1],
            id="one row in every slot",
            marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"),
        ),
        pytest.param(lambda rows: np.full((1, rows.shape[1]), -1.0), id="all bits 0"),
        pytest.param(
            lambda rows: np.full((1, rows.shape[1]), 1e9),
            id="all bits 1",
            marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"),
        ),
        pytest.param(
            lambda rows: np.sort(np.resize(rows, (8192, rows.shape[1])), axis=0),
            id="sorted columns",
            marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"),
        ),
    ],
)
def test_the_noise_is_what_was_computed_from_the_circuit(
    table: object, of_breast_cancer: tuple[Trained, TreeBatch]
) -> None:
    """Below it, and not by much: for rows of every structure, though the computation takes messages as random."""
    trained, compiled = of_breast_cancer
    client = TreesBatchClient.from_part(compiled.client.model_dump())
    server = TreesBatchServer.from_part(compiled.server.model_dump())
    secret = client.make_keys().secret
    assert callable(table)
    rows: Floats = table(trained.held_out)
    (total,) = server._evaluation.run(server.open_input(client.encrypt(secret, rows)).bits)
    given = noise(server._ring, secret_words(server._ring, secret), total)
    parameters = compiled.server.parameters
    bound = deviation(compiled.server.circuit.polynomials(), parameters.degree, parameters.plain_modulus)
    assert 0.7 < given.std() / bound < 1.0
    assert np.abs(given).max() < 6 * bound


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param({"data_bits": [40, 40, 40]}, id="a shorter modulus"),
        pytest.param({"kept": 1, "data_bits": [40, 56, 56]}, id="a shorter prime for replies"),
        pytest.param({"flood_bits": 151}, id="a flood past the room"),
    ],
)
def test_parameters_that_are_cut_are_refused_and_would_be_wrong(
    cut: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is no formality: with the check taken out, rows decrypt to other scores."""
    asked = [Questions(column=column, kind="at_least", values=[0.0]) for column in range(12)]
    forest = random_forest(np.random.default_rng(11), 40, 4, questions=asked)
    rows = np.random.default_rng(12).normal(size=(400, 12))
    compiled = compile_tree_batch(forest, asked, rows, classifies=False, tolerance=2e-3)
    parameters = compiled.server.parameters
    assert (parameters.degree, sum(parameters.data_bits), parameters.components) == (8192, 168, 5)
    changed = {"parameters": parameters.model_dump() | cut}
    part = ServerPart.model_validate(compiled.server.model_dump() | changed)
    with pytest.raises(PackageError, match="standard deviations to decrypt by"):
        TreesBatchServer(part)
    monkeypatch.setattr(Parameters, "require_bounds", lambda *_: None)
    server = TreesBatchServer(part)
    client = TreesBatchClient.from_part(compiled.client.model_dump() | changed)
    secret = client.make_keys().secret
    got = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))
    wrong = np.abs(got - forest.scores(answers(asked, rows))) > compiled.client.error_bound
    assert wrong.mean() > 0.5
