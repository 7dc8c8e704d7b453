"""Hostile bytes for both halves of an index.

Each campaign runs in a process of its own, so that native code that dies is seen, and reports what became of each blob: the named
error, or whole numbers where the bytes are a well-formed ciphertext of something else.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.search import search_parts
from blindgate_models.product.spec import HEADER_BYTES, INPUT, Privacy, header
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import rows_per_job
from blindgate_models.security import SEED_BYTES
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, ResultError

ROUNDS = 20
ANSWER = "an answer"

ANOTHER_CIPHERTEXT = {
    "payload flipped",
    "payload random",
    "payload zero",
    "payload ones",
    "seeds alike",
    "payload swapped",
}
"""What is as well-formed as any blob. The order's digest binds the blob of an honest asker."""


class Side(NamedTuple):
    """One half under attack: a well-formed blob for it, blobs that belong elsewhere, and what it does with bytes."""

    blob: bytes
    strangers: dict[str, bytes]
    take: Callable[[bytes], NDArray[Any]]
    error: type[Exception]


def halves(entries: int, width: int, privacy: Privacy, *, loudest: int = 127) -> tuple[SearchClient, SearchServer]:
    """Both halves of a random index."""
    index = np.random.default_rng(entries).integers(-loudest, loudest + 1, (entries, width)).astype(np.int8)
    client, server = search_parts(index, privacy=privacy)
    return SearchClient.from_part(client.model_dump()), SearchServer.from_part(server.model_dump())


def sides(privacy: Privacy) -> dict[str, Side]:
    """Both sides of a small index, at a job of two queries."""
    client, server = halves(300, 20, privacy)
    secret = client.make_keys().secret
    queries = np.random.default_rng(0).normal(size=(2, 20))
    blob = client.encrypt(secret, queries)
    result = server.evaluate(None, blob)
    strangers, results = {}, {}
    others: dict[str, tuple[int, int, Privacy, int]] = {
        "of another mode": (300, 20, "model_public" if privacy == "model_private" else "model_private", 127),
        "of another modulus": (300, 20, privacy, 3),
        "of a wider index": (300, 21, privacy, 127),
        "of a longer index": (301, 20, privacy, 127),
    }
    for name, (entries, width, mode, loudest) in others.items():
        other, node = halves(entries, width, mode, loudest=loudest)
        strangers[name] = other.encrypt(other.make_keys().secret, np.ones((2, width)))
        results[name] = node.evaluate(None, strangers[name])
    longer = client.encrypt(secret, np.tile(queries, (2, 1)))
    strangers |= {"result": result, "of another job": longer[:HEADER_BYTES] + blob[HEADER_BYTES:]}
    results |= {"input": blob, "of another job": server.evaluate(None, longer)}
    return {
        "input": Side(
            blob, strangers, lambda data: np.frombuffer(server.evaluate(None, data), np.uint8), CiphertextError
        ),
        "result": Side(result, results, lambda data: client.decrypt(secret, data, 2), ResultError),
    }


def mutations(side: Side, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Blobs that must be refused, and those of `ANOTHER_CIPHERTEXT`, which may be answered."""
    blob, size, body = side.blob, len(side.blob), len(side.blob) - HEADER_BYTES

    def flipped(low: int, high: int) -> bytes:
        at, bit = int(rng.integers(low, high)), int(rng.integers(8))
        return blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]

    yield "truncated", blob[: int(rng.integers(size))]
    yield "truncated by a byte", blob[:-1]
    yield "oversized", blob + rng.bytes(int(rng.integers(1, 10**5)))
    yield "self-appended", blob + blob
    yield "unseeded", blob + blob[HEADER_BYTES:]
    yield "empty", b""
    yield "header alone", blob[:HEADER_BYTES]
    yield "header flipped", flipped(0, 8)
    yield "rows flipped", flipped(8, 12)
    yield "digest flipped", flipped(12, HEADER_BYTES)
    yield "random", rng.bytes(size)
    yield "no rows", blob[:8] + bytes(4) + blob[12:]
    yield "shifted by a byte", blob[:HEADER_BYTES] + blob[HEADER_BYTES + 1 :]
    yield "SEAL's own format", blob[:HEADER_BYTES] + bytes.fromhex("5ea1100403020000") + rng.bytes(body)
    for name, stranger in side.strangers.items():
        yield f"stranger {name}", stranger
        if len(stranger) != size:
            yield f"header over {name}", blob[:HEADER_BYTES] + stranger[HEADER_BYTES:]
        yield f"header {name}", stranger[:HEADER_BYTES] + blob[HEADER_BYTES:]
    for _ in range(6):
        yield "payload flipped", flipped(HEADER_BYTES, size)
    yield "payload random", blob[:HEADER_BYTES] + rng.bytes(body)
    yield "payload zero", blob[:HEADER_BYTES] + bytes(body)
    yield "payload ones", blob[:HEADER_BYTES] + b"\xff" * body
    seed = blob[HEADER_BYTES : HEADER_BYTES + SEED_BYTES]
    yield "seeds alike", blob[:HEADER_BYTES] + seed + seed + blob[HEADER_BYTES + 2 * SEED_BYTES :]
    half = body // 2
    yield (
        "payload swapped",
        blob[:HEADER_BYTES] + blob[HEADER_BYTES + half :] + blob[HEADER_BYTES : HEADER_BYTES + half],
    )


def outcome(side: Side, data: bytes) -> str:
    """The name of what became of `data`."""
    try:
        answer = side.take(data)
    except side.error as error:
        return type(error).__name__
    return ANSWER if np.isfinite(answer).all() and (answer == np.rint(answer)).all() else "an answer that is none"


def campaign(which: str, privacy: Privacy, rounds: int) -> list[tuple[str, str]]:
    """What became of every mutation."""
    side = sides(privacy)[which]
    rng = np.random.default_rng(7)
    assert outcome(side, side.blob) == ANSWER
    outcomes = [(name, outcome(side, data)) for _ in range(rounds) for name, data in mutations(side, rng)]
    assert outcome(side, side.blob) == ANSWER
    return outcomes


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
@pytest.mark.parametrize("which", ["input", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str, privacy: Privacy) -> None:
    """Over 600 blobs a campaign: none kills the process or raises anything else, and the next good blob works."""
    done = subprocess.run(
        [sys.executable, __file__, which, privacy, str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = Counter(map(tuple, json.loads(done.stdout)))
    named = "CiphertextError" if which == "input" else "ResultError"
    assert outcomes.total() >= 600
    assert {what for _, what in outcomes} == {named, ANSWER}
    assert {name for name, what in outcomes if what == ANSWER} <= ANOTHER_CIPHERTEXT
    assert outcomes["payload flipped", ANSWER] > 0
    if which == "input":
        assert ("payload ones", ANSWER) not in outcomes  # words past the primes


def test_one_seed_for_two_groups_does_not_bring_the_index_out() -> None:
    """Opposite halves of an entry cancel the random half of a public sum: SEAL stops there, under our name."""
    client_part, server_part = search_parts(np.tile(np.array([[1, -1]], dtype=np.int8), (3, 1)), privacy="model_public")
    parameters = client_part.parameters.model_copy(update={"group": 1})
    client, server = (
        part.model_copy(update={"parameters": parameters}).model_dump() for part in (client_part, server_part)
    )
    asker, node = SearchClient.from_part(client), SearchServer.from_part(server)
    blob = asker.encrypt(asker.make_keys().secret, np.ones((1, 2)))
    seeds = blob[HEADER_BYTES : HEADER_BYTES + SEED_BYTES] * 2
    with pytest.raises(CiphertextError, match="without its random half"):
        node.evaluate(None, blob[:HEADER_BYTES] + seeds + blob[HEADER_BYTES + len(seeds) :])


def test_a_header_that_claims_millions_of_queries_costs_nothing() -> None:
    """The number of queries is held against the length before anything is made from it."""
    client, server = halves(300, 20, "model_private")
    most = client.rows_per_job
    assert most == rows_per_job(client._shape)
    assert server.rows(client.encrypt(client.make_keys().secret, np.ones((3, 20)))) == 3
    for rows in (most, most + 1, 2**32 - 1):
        for take in (server.rows, partial(server.evaluate, None)):
            with pytest.raises(CiphertextError, match=r"length|rows"):
                take(header(INPUT, client._shape, rows) + bytes(1000))


def test_an_evaluation_key_is_refused() -> None:
    """This family has none, so bytes that claim to be one belong to something else."""
    client, server = halves(5, 3, "model_public")
    secret = client.make_keys()
    assert secret.evaluation is None
    with pytest.raises(EvaluationKeyError, match="expected none"):
        server.evaluate(b"key", client.encrypt(secret.secret, np.ones((1, 3))))


def test_errors_do_not_repeat_what_they_were_given() -> None:
    """A message tells the field, never the bytes: they may be a secret that was sent by mistake."""
    _, server = halves(5, 3, "model_public")
    with pytest.raises(CiphertextError) as caught:
        server.evaluate(None, b"my secret text" * 10)
    assert "secret" not in str(caught.value)


if __name__ == "__main__":
    mode: Privacy = "model_private" if sys.argv[2] == "model_private" else "model_public"
    json.dump(campaign(sys.argv[1], mode, int(sys.argv[3])), sys.stdout)
