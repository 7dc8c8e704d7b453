"""The two halves of a linear model, together: right scores for every shape, refusals for what does not fit."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.linear import linear_parts
from blindgate_models.halves import ClientHalf, ServerHalf
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_protocol.errors import EvaluationKeyError, InputError, KeyStoreError, ResultError

Floats = NDArray[np.float64]


class World(NamedTuple):
    """A model by its numbers, with its two halves and a key."""

    weights: Floats
    intercept: Floats
    ranges: Floats
    client: LinearClient
    server: LinearServer
    secret: bytes
    error_bound: Floats

    def rows(self, count: int, seed: int = 5) -> Floats:
        """Rows from all over the ranges, the ends included."""
        rng = np.random.default_rng(seed)
        low, high = self.ranges.T
        rows = low + rng.uniform(size=(count, len(low))) * (high - low)
        rows[0], rows[-1] = low, high
        return np.asarray(np.clip(rows, low, high))

    def scores(self, rows: Floats) -> Floats:
        """What the model says in clear."""
        return np.asarray(rows @ self.weights.T + self.intercept)


def world(features: int, outputs: int, *, precision: float = 1e-3, seed: int = 0) -> World:
    """A random model."""
    rng = np.random.default_rng(seed)
    weights, intercept = rng.normal(size=(outputs, features)) / features, rng.normal(size=outputs)
    low = rng.normal(size=features)
    ranges = np.stack([low, low + rng.uniform(0.1, 5, features)], axis=1)
    client_part, server_part = linear_parts(weights, intercept, ranges, precision=precision)
    client = LinearClient.from_part(client_part.model_dump())
    server = LinearServer.from_part(server_part.model_dump())
    return World(
        weights, intercept, ranges, client, server, client.make_keys().secret, np.array(client_part.error_bound)
    )


def halves_are_the_protocols(client: LinearClient, server: LinearServer) -> tuple[ClientHalf, ServerHalf]:
    """The type checker compares each half with its protocol here."""
    return client, server


@pytest.fixture(scope="module")
def small() -> World:
    """Three columns, two outputs."""
    return world(3, 2)


@pytest.mark.parametrize(
    ("features", "outputs", "rows"),
    [
        pytest.param(30, 1, 1, id="a single row"),
        pytest.param(30, 1, 171, id="rows in two polynomials"),
        pytest.param(30, 3, 46, id="one row more than a polynomial holds"),
        pytest.param(30, 1, 4096, id="a full block of columns"),
        pytest.param(4, 3, 4097, id="a block and one row"),
        pytest.param(4, 2, 9000, id="three blocks"),
        pytest.param(1, 1, 1, id="one number"),
        pytest.param(1, 1, 4096, id="one column"),
        pytest.param(2048, 1, 3, id="half a polynomial a row"),
        pytest.param(2048, 5, 2, id="half a polynomial a row, several outputs"),
        pytest.param(4096, 2, 2, id="a row that fills a polynomial"),
        pytest.param(4097, 2, 3, id="one column more, in two pieces"),
        pytest.param(8191, 1, 2, id="two pieces, the last one shorter"),
        pytest.param(8192, 3, 2, id="as many columns as a manifest has"),
        pytest.param(1500, 3, 5, id="a width that leaves coefficients over"),
        pytest.param(17, 256, 2, id="the most outputs"),
    ],
)
def test_scores_are_within_the_bound_for_every_shape(features: int, outputs: int, rows: int) -> None:
    """Whatever the packing, every row and output comes back in its place and within the part's error bound."""
    it = world(features, outputs)
    table = it.rows(rows)
    result = it.server.evaluate(None, it.client.encrypt(it.secret, table))
    error = np.abs(it.client.decrypt(it.secret, result, rows) - it.scores(table))
    assert (error <= it.error_bound).all()


@pytest.mark.parametrize("rows", [1, 500, 5000])
def test_lengths_follow_from_the_number_of_rows(small: World, rows: int) -> None:
    """Neither blob's length tells anything about the values in it."""
    lengths = set()
    for seed, shrink in ((1, 1.0), (2, 0.0)):
        table = small.rows(rows, seed) * shrink + small.ranges.mean(axis=1) * (1 - shrink)
        blob = small.client.encrypt(small.secret, table)
        lengths.add((len(blob), len(small.server.evaluate(None, blob))))
    packing = small.server.packing
    assert lengths == {(packing.input_bytes(rows), packing.result_bytes(rows))}


def test_the_same_blob_gives_the_same_result_bytes(small: World) -> None:
    """The manifest says `bit-exact`: another node that computes again comes to the same digest."""
    blob = small.client.encrypt(small.secret, small.rows(300))
    other = world(3, 2).server
    assert small.server.evaluate(None, blob) == small.server.evaluate(None, blob) == other.evaluate(None, blob)


def test_the_same_rows_never_encrypt_alike(small: World) -> None:
    """A node cannot see that a patient was asked about twice."""
    table = small.rows(10)
    first, second = (small.client.encrypt(small.secret, table) for _ in range(2))
    header = 44
    assert first[:header] == second[:header]
    same = np.frombuffer(first[header:], np.uint8) == np.frombuffer(second[header:], np.uint8)
    assert same.mean() < 0.02


def test_another_key_decrypts_to_nothing_like_the_scores(small: World) -> None:
    """A result is for the holder of the secret key alone; others read noise, as finite numbers."""
    table = small.rows(200)
    result = small.server.evaluate(None, small.client.encrypt(small.secret, table))
    stranger = small.client.make_keys().secret
    got = small.client.decrypt(stranger, result, 200)
    assert np.isfinite(got).all()
    assert (
        abs(np.corrcoef(got[:, 0], small.scores(table)[:, 0])[0, 1]) < 0.45
    )  # six deviations of what 200 numbers have with any others


def test_zeroed_weights_change_the_answers() -> None:
    """The scores come from the node's weights; with none of them the intercept is left, and nothing fails."""
    it = world(3, 2)
    _, part = linear_parts(np.zeros((2, 3)), it.intercept, it.ranges, precision=1e-3)
    parameters = LinearServer.from_part(
        part.model_dump() | {"parameters": it.server._parameters.model_dump()},
    )
    for rows in (5, 5000):
        table = it.rows(rows)
        got = it.client.decrypt(it.secret, parameters.evaluate(None, it.client.encrypt(it.secret, table)), rows)
        assert (np.abs(got - it.intercept) <= it.error_bound).all()


def test_a_column_of_one_value_counts_as_it_should() -> None:
    """A range without width is legal: its column always holds that value."""
    ranges = np.array([[0.0, 1.0], [7.0, 7.0]])
    client_part, server_part = linear_parts(np.array([[2.0, 3.0]]), np.array([1.0]), ranges, precision=1e-3)
    client = LinearClient.from_part(client_part.model_dump())
    server = LinearServer.from_part(server_part.model_dump())
    secret = client.make_keys().secret
    table = np.array([[0.25, 7.0]])
    got = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, table)), 1)
    assert abs(got[0, 0] - 22.5) <= client_part.error_bound[0]


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        pytest.param(0, 0, np.nan, id="not a number"),
        pytest.param(4, 2, np.inf, id="infinite"),
        pytest.param(2, 1, 1e9, id="above the range"),
        pytest.param(9, 1, -1e9, id="below the range"),
    ],
)
def test_a_value_outside_its_range_is_not_encrypted(small: World, row: int, column: int, value: float) -> None:
    """It could make a sum wrap around into a wrong score, so the row and the column are named instead."""
    table = small.rows(10)
    table[row, column] = value
    with pytest.raises(InputError, match="declared range") as caught:
        small.client.encrypt(small.secret, table)
    assert (caught.value.row, caught.value.column) == (row, str(column))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((0, 3), id="no rows"),
        pytest.param((5, 2), id="a column short"),
        pytest.param((5, 4), id="a column over"),
        pytest.param((3,), id="a row and no table"),
        pytest.param((1, 1, 3), id="three dimensions"),
    ],
)
def test_a_table_of_another_shape_is_not_encrypted(small: World, shape: tuple[int, ...]) -> None:
    """Got and expected shapes stand in the message."""
    with pytest.raises(InputError, match="shape"):
        small.client.encrypt(small.secret, np.zeros(shape))


def test_a_job_has_a_most_of_rows_that_keeps_its_blobs_bounded() -> None:
    """Up to 2,048 columns a full block, wider ones as many rows as fit, and one row more than the most is refused."""
    for features, outputs in ((30, 1), (2048, 128), (1, 256), (1024, 256)):
        packing = world(features, outputs).server.packing
        assert packing.rows_per_blob >= 4096
        assert packing.input_bytes(packing.rows_per_blob) + packing.result_bytes(packing.rows_per_blob) <= 64 << 20
    for features, outputs in ((4096, 4), (4097, 1), (8192, 16)):
        packing = world(features, outputs).server.packing
        most = packing.rows_per_blob
        assert 60 <= most < 4096
        assert packing.input_bytes(most) + packing.result_bytes(most) <= 64 << 20
        assert packing.input_bytes(most + 1) + packing.result_bytes(most + 1) > 60 << 20
    wide = world(2048, 1).client
    with pytest.raises(InputError, match="1 to 4096"):
        wide.encrypt(wide.make_keys().secret, np.zeros((4097, 2048)))


def test_a_long_table_is_cut_into_full_blocks() -> None:
    """Jobs of rows_at_once waste no coefficient, stay within a job, and are neither tiny nor huge."""
    for features, outputs in ((1, 1), (30, 1), (2048, 5)):
        client = world(features, outputs).client
        assert client.outputs == outputs
        assert client.rows_at_once % 4096 == 0
        assert 4096 <= client.rows_at_once <= client.rows_per_job


@pytest.mark.parametrize(("features", "outputs"), [(30, 1), (2048, 1), (64, 10)])
def test_no_job_is_longer_than_the_limits_that_a_manifest_takes_from_the_half(features: int, outputs: int) -> None:
    """A result of few rows, packed by rows, may be longer than that of a full block, and must not be refused for it."""
    it = world(features, outputs)
    most = it.client.rows_per_job
    for rows in (1, 100, 300):
        blob = it.client.encrypt(it.secret, it.rows(rows))
        assert len(blob) <= it.client.input_bytes(most)
        assert len(it.server.evaluate(None, blob)) <= it.client.result_bytes(most)


def test_an_evaluation_key_is_refused(small: World) -> None:
    """This family has none, so bytes that claim to be one belong to something else."""
    blob = small.client.encrypt(small.secret, small.rows(1))
    assert small.client.make_keys().evaluation is None
    with pytest.raises(EvaluationKeyError, match="expected none"):
        small.server.evaluate(b"key", blob)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda secret: secret[:-1], id="cut short"),
        pytest.param(lambda secret: secret + secret, id="twice"),
        pytest.param(lambda secret: b"XXXX" + secret[4:], id="another magic"),
        pytest.param(lambda secret: secret[:4] + bytes(32) + secret[36:], id="other parameters"),
        pytest.param(lambda secret: secret[:36] + b"\xff" * (len(secret) - 36), id="words above the modulus"),
    ],
)
def test_a_secret_that_is_none_is_a_key_store_error(small: World, wrong: Callable[[bytes], bytes]) -> None:
    """Nothing is encrypted under bytes that are not this family's key."""
    with pytest.raises(KeyStoreError, match="secret key"):
        small.client.encrypt(wrong(small.secret), small.rows(1))


def test_models_with_equal_moduli_share_a_key(small: World) -> None:
    """One secret serves every linear model of the same ring, whatever its shape and scales."""
    other = world(7, 1, seed=3)
    assert other.client.key_parameters == small.client.key_parameters
    table = other.rows(4)
    got = other.client.decrypt(small.secret, other.server.evaluate(None, other.client.encrypt(small.secret, table)), 4)
    assert (np.abs(got - other.scores(table)) <= other.error_bound).all()
    assert world(3, 2, precision=0.0).client.key_parameters != small.client.key_parameters


def test_a_result_for_another_number_of_rows_is_refused(small: World) -> None:
    """A gateway that swaps a longer result in is told so, before anything is decrypted."""
    result = small.server.evaluate(None, small.client.encrypt(small.secret, small.rows(4)))
    with pytest.raises(ResultError, match="rows: got 4, expected 5"):
        small.client.decrypt(small.secret, result, 5)


def test_progress_counts_every_polynomial(small: World) -> None:
    """A progress bar reaches its end, once."""
    seen: list[tuple[int, int]] = []
    small.client.encrypt(small.secret, small.rows(4097), lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4) for done in range(1, 5)]
