"""Hostile bytes for both halves of an index.

What any campaign throws, and how it runs, stands in `hostile_blobs`. An answer here is whole numbers.
"""

import sys
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.search import search_parts
from blindgate_models.product.spec import INPUT, Privacy, header
from blindgate_models.search.client import SearchClient
from blindgate_models.search.server import SearchServer
from blindgate_models.search.spec import rows_per_job
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, ResultError
from campaigns import of
from hostile_blobs import ANSWER, HEADER, SEED, WELL_FORMED, Named, Side, campaign, require_named, run

ROUNDS = of(20, slice_of=5)
MAY_BE_ANSWERED = WELL_FORMED | {"payload ones", "seeds alike"}
"""What is as well-formed as any blob."""


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
    strangers |= {"result": result, "of another job": longer[:HEADER] + blob[HEADER:]}
    results |= {"input": blob, "of another job": server.evaluate(None, longer)}
    return {
        "input": Side(
            blob, strangers, lambda data: np.frombuffer(server.evaluate(None, data), np.uint8), CiphertextError
        ),
        "result": Side(result, results, lambda data: whole(client.decrypt(secret, data, 2)), ResultError),
    }


def whole(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """`scores`, which must be whole numbers, whatever was decrypted."""
    assert (scores == np.rint(scores)).all()
    return scores


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


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
@pytest.mark.parametrize("which", ["input", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str, privacy: Privacy) -> None:
    """Over 600 blobs a campaign: none kills the process or raises anything else, and the next good blob works."""
    outcomes = run(__file__, which, privacy, ROUNDS)
    require_named(outcomes, CiphertextError if which == "input" else ResultError, MAY_BE_ANSWERED, least=30 * ROUNDS)
    assert outcomes["payload flipped", ANSWER] > 0
    if which == "input":
        assert ("payload ones", ANSWER) not in outcomes  # words past the primes


def test_one_seed_for_two_groups_does_not_bring_the_index_out() -> None:
    """Opposite halves of an entry would cancel the random half of a public sum: the blob is refused before any is computed."""
    client_part, server_part = search_parts(np.tile(np.array([[1, -1]], dtype=np.int8), (3, 1)), privacy="model_public")
    parameters = client_part.parameters.model_copy(update={"group": 1})
    client, server = (
        part.model_copy(update={"parameters": parameters}).model_dump() for part in (client_part, server_part)
    )
    asker, node = SearchClient.from_part(client), SearchServer.from_part(server)
    blob = asker.encrypt(asker.make_keys().secret, np.ones((1, 2)))
    seeds = blob[HEADER : HEADER + SEED] * 2
    with pytest.raises(CiphertextError, match="seeds: one comes twice"):
        node.evaluate(None, blob[:HEADER] + seeds + blob[HEADER + len(seeds) :])


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
    attacked, rng = sides(mode)[sys.argv[1]], np.random.default_rng(7)
    campaign(attacked, (mutations(attacked, rng) for _ in range(int(sys.argv[3]))))
