"""Hostile bytes for both halves of a table of records. What any campaign throws, and how it runs, stands in `hostile_blobs`."""

import sys

import numpy as np
import pytest

from blindgate_models.compilers.lookup import lookup_parts
from blindgate_models.lookup.client import LookupClient
from blindgate_models.lookup.server import LookupServer
from blindgate_models.product.spec import Privacy
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, ResultError
from campaigns import of
from hostile_blobs import ANSWER, HEADER, SEED, WELL_FORMED, Named, Side, campaign, require_named, run

ROUNDS = of(8, slice_of=4)
MAY_BE_ANSWERED = WELL_FORMED | {"payload ones", "seeds alike"}


def halves(records: int, size: int, privacy: Privacy) -> tuple[LookupClient, LookupServer]:
    """Both halves of a random table."""
    table = np.random.default_rng(records).integers(0, 256, (records, size), dtype=np.uint8)
    client, server = lookup_parts(table, privacy=privacy)
    return LookupClient.from_part(client.model_dump()), LookupServer.from_part(server.model_dump())


def sides(privacy: Privacy) -> dict[str, Side]:
    """Both sides of a small table, at a job of two fetches."""
    client, server = halves(60, 40, privacy)
    secret = client.make_keys().secret
    positions = np.array([[3.0], [-1.0]])
    blob = client.encrypt(secret, positions)
    result = server.evaluate(None, blob)
    strangers, results = {}, {}
    others: dict[str, tuple[int, int, Privacy]] = {
        "of another mode": (60, 40, "model_public" if privacy == "model_private" else "model_private"),
        "of longer records": (60, 41, privacy),
        "of more records": (61, 40, privacy),
    }
    for name, other in others.items():
        asker, node = halves(*other)
        strangers[name] = asker.encrypt(asker.make_keys().secret, positions)
        results[name] = node.evaluate(None, strangers[name])
    longer = client.encrypt(secret, np.tile(positions, (2, 1)))
    strangers |= {"result": result, "of another job": longer[:HEADER] + blob[HEADER:]}
    results |= {"input": blob, "of another job": server.evaluate(None, longer)}
    return {
        "input": Side(
            blob, strangers, lambda data: np.frombuffer(server.evaluate(None, data), np.uint8), CiphertextError
        ),
        "result": Side(result, results, lambda data: read(client, secret, data), ResultError),
    }


def read(client: LookupClient, secret: bytes, data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The records that a result says: always two, always of one size."""
    records = client.records(client.decrypt(secret, data, 2))
    assert [len(one) for one in records] == [client.size] * 2
    return np.frombuffer(b"".join(records), np.uint8)


def mutations(side: Side, rng: np.random.Generator) -> Named:
    """Blobs that must be refused, and those of `MAY_BE_ANSWERED`."""
    blob, body = side.blob, len(side.blob) - HEADER
    yield from side.malformed(rng)
    yield "rows flipped", side.flipped(rng, 8, 12)
    yield "no rows", blob[:8] + bytes(4) + blob[12:]
    yield from side.well_formed(rng, flips=6)
    yield "payload ones", blob[:HEADER] + b"\xff" * body
    seed = blob[HEADER : HEADER + SEED]
    yield "seeds alike", blob[:HEADER] + seed + seed + blob[HEADER + 2 * SEED :]


@pytest.mark.parametrize(
    ("which", "privacy"), [("input", "model_private"), ("input", "model_public"), ("result", "model_private")]
)
def test_every_hostile_blob_ends_in_its_named_error(which: str, privacy: Privacy) -> None:
    """None kills the process or raises anything else, and the next good blob works."""
    outcomes = run(__file__, which, privacy, ROUNDS)
    require_named(outcomes, CiphertextError if which == "input" else ResultError, MAY_BE_ANSWERED, least=25 * ROUNDS)
    assert outcomes["payload flipped", ANSWER] > 0
    if which == "input":
        assert ("payload ones", ANSWER) not in outcomes  # words past the primes


def test_an_evaluation_key_is_refused() -> None:
    """This family has none, so bytes that claim to be one belong to something else."""
    client, server = halves(5, 3, "model_public")
    with pytest.raises(EvaluationKeyError, match="expected none"):
        server.evaluate(b"key", client.encrypt(client.make_keys().secret, np.zeros((1, 1))))


if __name__ == "__main__":
    mode: Privacy = "model_private" if sys.argv[2] == "model_private" else "model_public"
    attacked, rng = sides(mode)[sys.argv[1]], np.random.default_rng(7)
    campaign(attacked, (mutations(attacked, rng) for _ in range(int(sys.argv[3]))))
