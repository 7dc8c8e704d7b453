"""Hostile bytes for both halves of a linear model.

What any campaign throws, and how it runs, stands in `hostile_blobs`.
"""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.packing import Magic
from blindgate_models.linear.server import LinearServer
from blindgate_protocol.errors import CiphertextError, ResultError
from campaigns import of
from hostile_blobs import ANSWER, HEADER, SEED, WELL_FORMED, Named, Side, campaign, require_named, run

ROUNDS = of(30, slice_of=8)
MAY_BE_ANSWERED = {
    "input": WELL_FORMED | {"rows flipped", "stranger of another job", "header of another job"},
    "result": WELL_FORMED,
}
"""What is as well-formed as any blob. Rows that share a polynomial share a length, so a node cannot tell their number from
it; the order's digest binds the blob, and the client holds the result against its own number of rows."""


def halves(
    weights: NDArray[np.float64], *, precision: float = 1e-2, shift: float = 0.0
) -> tuple[LinearClient, LinearServer]:
    """Both halves of a model with columns from -1 to 1 + `shift`."""
    ranges = np.array([[-1.0, 1.0 + shift]] * weights.shape[1])
    client, server = linear_parts(weights, np.zeros(len(weights)), ranges, precision=precision)
    return LinearClient.from_part(client.model_dump()), LinearServer.from_part(server.model_dump())


def sides(rows: int) -> dict[str, Side]:
    """Both sides of a model of 3 columns and 2 outputs, at a job of `rows` rows."""
    client, server = halves(np.array([[1.0, -2.0, 0.5], [0.5, 0.25, 4.0]]))
    secret = client.make_keys().secret
    table = np.random.default_rng(rows).uniform(-1, 1, (rows, 3))
    blob = client.encrypt(secret, table)
    result = server.evaluate(None, blob)
    strangers, results = {}, {}
    for name, (other, node) in {
        "of another modulus": halves(np.array([[1.0, -2.0, 0.5], [0.5, 0.25, 4.0]]), precision=0.0),
        "of another scale": halves(np.array([[64.0, -2.0, 0.5], [0.5, 0.25, 4.0]]), precision=1e-1),
        "of more columns": halves(np.ones((2, 4))),
        "of more outputs": halves(np.ones((3, 3))),
    }.items():
        width = 4 if name == "of more columns" else 3
        strangers[name] = other.encrypt(other.make_keys().secret, np.zeros((rows, width)))
        results[name] = node.evaluate(None, strangers[name])
    longer = client.encrypt(secret, np.tile(table, (2, 1)))
    strangers |= {"result": result, "of another job": longer[:HEADER] + blob[HEADER:]}
    results |= {"input": blob, "of another job": server.evaluate(None, longer)}
    return {
        "input": Side(
            blob, strangers, lambda data: np.frombuffer(server.evaluate(None, data), np.uint8), CiphertextError
        ),
        "result": Side(result, results, lambda data: client.decrypt(secret, data, rows), ResultError),
    }


def mutations(side: Side, rng: np.random.Generator) -> Named:
    """Blobs that must be refused, and those of `MAY_BE_ANSWERED`."""
    blob, size = side.blob, len(side.blob)
    yield from side.malformed(rng)
    yield "rows flipped", side.flipped(rng, 8, 12)
    yield "rows rewritten", blob[:8] + rng.bytes(4) + blob[12:]
    yield "no rows", blob[:8] + bytes(4) + blob[12:]
    yield "words above the modulus", blob[:HEADER] + b"\xff" * (size - HEADER)
    yield from side.well_formed(rng, flips=8)


@pytest.mark.parametrize("rows", [pytest.param(1, id="one row"), pytest.param(4096, id="a block of columns")])
@pytest.mark.parametrize("which", ["input", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str, rows: int) -> None:
    """Over 900 blobs a campaign: none kills the process or raises anything else, and the next good blob works."""
    outcomes = run(__file__, which, rows, ROUNDS)
    require_named(
        outcomes, CiphertextError if which == "input" else ResultError, MAY_BE_ANSWERED[which], least=20 * ROUNDS
    )
    assert outcomes["payload flipped", ANSWER] > 0


def test_one_seed_for_two_columns_is_refused() -> None:
    """With opposite weights the sum would lose its c1 and stand in clear: SEAL stops there, under our name."""
    client, server = halves(np.array([[1.0, -1.0]]))
    blob = client.encrypt(client.make_keys().secret, np.zeros((4096, 2)))
    polynomial = server.packing.input_polynomial_bytes
    doubled = blob[: HEADER + polynomial] + blob[HEADER : HEADER + polynomial]
    assert len(doubled) == len(blob)
    with pytest.raises(CiphertextError, match="transparent"):
        server.evaluate(None, doubled)


def test_a_client_cannot_choose_the_second_polynomial() -> None:
    """A polynomial is a seed and c0: there is no length at which a c1 of the client's choice is taken."""
    client, server = halves(np.array([[1.0, -1.0]]))
    blob = client.encrypt(client.make_keys().secret, np.zeros((1, 2)))
    word_bytes = client.key_parameters["modulus_bits"] // 8
    assert len(blob) == HEADER + SEED + 4096 * word_bytes
    for polynomials in (2, 3):
        unseeded = blob[:HEADER] + blob[HEADER + SEED :] * polynomials
        with pytest.raises(CiphertextError, match="length"):
            server.evaluate(None, unseeded)


def test_a_header_that_claims_millions_of_rows_costs_nothing() -> None:
    """The number of rows is held against the length before anything is made from it."""
    _, server = halves(np.array([[1.0, -1.0]]))
    for rows in (server.packing.rows_per_blob, server.packing.rows_per_blob + 1, 2**32 - 1):
        with pytest.raises(CiphertextError, match=r"length|rows"):
            server.evaluate(None, server.packing.header(Magic.INPUT, rows) + bytes(1000))


def test_errors_do_not_repeat_what_they_were_given() -> None:
    """A message tells the field, never the bytes: they may be a secret that was sent by mistake."""
    _, server = halves(np.array([[1.0, -1.0]]))
    with pytest.raises(CiphertextError) as caught:
        server.evaluate(None, b"my secret text" * 10)
    assert "secret" not in str(caught.value)


if __name__ == "__main__":
    chosen, count, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    attacked, drawn = sides(count)[chosen], np.random.default_rng(count)
    campaign(attacked, (mutations(attacked, drawn) for _ in range(rounds)))
