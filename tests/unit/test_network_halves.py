"""The two halves of a network, together: right scores for every shape, refusals for what does not fit."""

from typing import Any

import numpy as np
import pytest

from blindgate_models.halves import ClientHalf, ServerHalf
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.server import NetworkServer
from blindgate_protocol.errors import EvaluationKeyError, InputError, KeyStoreError, ResultError
from square_networks import Halves, drawn, halves


def halves_are_the_protocols(client: NetworkClient, server: NetworkServer) -> tuple[ClientHalf, ServerHalf]:
    """The type checker compares each half with its protocol here."""
    return client, server


@pytest.fixture(scope="module")
def small() -> Halves:
    """Three columns, four squares, two scores."""
    return halves(drawn([3, 4, 2]))


@pytest.mark.parametrize(
    ("widths", "reads", "rows", "unit_by_unit"),
    [
        pytest.param([64, 64, 10], None, 1, True, id="the MLP of the issue"),
        pytest.param([30, 16, 1], None, 9, True, id="one score, eight rows a ciphertext and one more"),
        pytest.param([1, 1, 1], None, 3, True, id="one number"),
        pytest.param([5, 3, 2], None, 1, True, id="no power of two anywhere"),
        pytest.param([200, 256, 64, 10], 49, 1, True, id="a convolution and a narrower layer"),
        pytest.param([9, 4, 16, 3], None, 2, True, id="a wider layer after a narrower one"),
        pytest.param([600, 128, 3], None, 1, False, id="too many columns for the client to lay out"),
        pytest.param([20, 1024, 2], None, 2, True, id="many units"),
        pytest.param([6, 64, 200], None, 2, True, id="scores in several results"),
        pytest.param([8, 8, 8, 8, 2], None, 1, True, id="three squares"),
    ],
)
def test_scores_are_the_networks_within_the_stated_bound(
    widths: list[int], reads: int | None, rows: int, unit_by_unit: bool
) -> None:
    """Whatever the shape, the packing and the number of rows."""
    made = halves(drawn(widths, reads=reads), precision=0.2)
    assert bool(made.client_part.shape.fan_in) == unit_by_unit
    table = made.rows(rows)
    error = np.abs(made.scores(table) - made.network.scores(table)).max(axis=0)
    assert (error <= made.client_part.error_bound).all()
    assert max(made.client_part.error_bound) <= 0.2


def test_sizes_are_the_announced_ones(small: Halves) -> None:
    """Blobs and keys have the lengths that a manifest states, and lengths tell the number of ciphertexts alone."""
    rows = small.rows(small.client_part.shape.rows + 1)
    blob = small.client.encrypt(small.keys.secret, rows)
    result = small.server.evaluate(small.keys.evaluation, blob)
    assert small.keys.evaluation is not None
    assert len(small.keys.evaluation) == small.server.packing.evaluation_key_bytes
    assert len(blob) == small.client.input_bytes(len(rows)) > small.client.input_bytes(1)
    assert len(result) == small.client.result_bytes(len(rows))
    assert small.client.input_bytes(1) == small.client.input_bytes(small.client_part.shape.rows)
    assert small.server.rows(blob) == len(rows)
    assert small.client.rows_at_once <= small.client.rows_per_job


def test_the_same_key_and_input_give_the_same_bytes(small: Halves) -> None:
    """Determinism is stated as bit-exact: another half of the same part, under the key loaded again, agrees."""
    blob = small.client.encrypt(small.keys.secret, small.rows(3))
    again = NetworkServer.from_part(small.server_part.model_dump())
    assert again.evaluate(small.keys.evaluation, blob) == small.server.evaluate(small.keys.evaluation, blob)


def test_a_key_that_was_loaded_serves_many_inputs(small: Halves) -> None:
    """What a node's keyed zygote does: load once, compute often."""
    compute = small.server.direct(small.keys.evaluation)
    small.server.prepare()
    for seed in range(3):
        rows = small.rows(2, seed)
        got = small.client.decrypt(small.keys.secret, compute(small.client.encrypt(small.keys.secret, rows)), len(rows))
        assert np.abs(got - small.network.scores(rows)).max() <= small.client.error_bound


def test_progress_is_told(small: Halves) -> None:
    """Block by block."""
    told: list[tuple[int, int]] = []
    rows = small.rows(2 * small.client_part.shape.rows)
    small.client.encrypt(small.keys.secret, rows, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.zeros((0, 3)), id="no rows"),
        pytest.param(np.zeros((1, 4)), id="too many columns"),
        pytest.param(np.zeros(3), id="no table"),
        pytest.param(np.array([[0.0, 0.0, 1.5]]), id="a value outside"),
        pytest.param(np.array([[0.0, np.nan, 0.0]]), id="not a number"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_they_are_encrypted(small: Halves, rows: Any) -> None:
    """The proof that nothing wraps around holds within the ranges only."""
    with pytest.raises(InputError):
        small.client.encrypt(small.keys.secret, rows)


def test_more_rows_than_a_job_takes_are_refused(small: Halves) -> None:
    """The limit that the manifest states."""
    with pytest.raises(InputError, match="shape"):
        small.client.encrypt(small.keys.secret, np.zeros((small.client.rows_per_job + 1, 3)))


def test_keys_of_another_network_are_refused_by_name(small: Halves) -> None:
    """Another shape needs other rotations: its keys say so, on both sides."""
    other = halves(drawn([64, 64, 10]))
    blob = small.client.encrypt(small.keys.secret, small.rows(1))
    with pytest.raises(EvaluationKeyError, match="other parameters"):
        small.server.evaluate(other.keys.evaluation, blob)
    with pytest.raises(EvaluationKeyError, match="none"):
        small.server.evaluate(None, blob)
    with pytest.raises(KeyStoreError):
        small.client.encrypt(other.keys.secret, small.rows(1))
    with pytest.raises(KeyStoreError):
        small.client.encrypt(small.keys.secret[:-1], small.rows(1))
    with pytest.raises(KeyStoreError):
        small.client.encrypt(small.keys.secret[:100] + b"\xff" * (len(small.keys.secret) - 100), small.rows(1))


def test_a_result_of_another_number_of_rows_is_refused(small: Halves) -> None:
    """The client holds the reply against what it sent."""
    blob = small.client.encrypt(small.keys.secret, small.rows(2))
    result = small.server.evaluate(small.keys.evaluation, blob)
    with pytest.raises(ResultError, match="rows"):
        small.client.decrypt(small.keys.secret, result, 1)


def test_networks_of_one_shape_share_keys(small: Halves) -> None:
    """Weights are no part of what determines a key."""
    other = halves(drawn([3, 4, 2], seed=9))
    if other.client.key_parameters == small.client.key_parameters:
        blob = other.client.encrypt(small.keys.secret, small.rows(1))
        other.server.evaluate(small.keys.evaluation, blob)
    assert {"degree", "data_bits", "special_bits", "rotations", "scheme"} == set(small.client.key_parameters)


def test_a_key_set_does_not_show_itself(small: Halves) -> None:
    """A key in a log would be a key lost."""
    assert "hidden" in repr(small.keys)
