"""Hostile bytes for both halves of a batch.

What any campaign throws, and how it runs, stands in `hostile_blobs`.
"""

import json
import sys
from typing import Any

import numpy as np
import pytest

from batch_forests import QUESTIONS, random_forest, random_rows
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.tree_batches import compile_tree_batch
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import INPUT, Shape, header
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, PackageError, ResultError
from campaigns import of
from hostile_blobs import ANSWER, HEADER, SEED, WELL_FORMED, Named, Side, campaign, require_named, run

ROUNDS = of(12, slice_of=4)
MAY_BE_ANSWERED = WELL_FORMED | {"seeds random", "rows rewritten to fit"}
"""What is as well-formed as any blob; the client holds the result against its own rows."""


def halves(trees: int, depth: int, outputs: int = 1) -> tuple[TreesBatchClient, TreesBatchServer]:
    """Both halves of a random forest."""
    rng = np.random.default_rng(depth)
    forest = random_forest(rng, trees, depth, outputs)
    compiled = compile_tree_batch(forest, QUESTIONS, random_rows(rng, 10), classifies=False)
    return TreesBatchClient(compiled.client), TreesBatchServer(compiled.server)


def sides() -> dict[str, Side]:
    """Both sides of a forest of depth 2, at a job of 100 rows."""
    client, server = halves(5, 2)
    secret = client.make_keys().secret
    blob = client.encrypt(secret, random_rows(np.random.default_rng(0), 100))
    result = server.evaluate(None, blob)
    strangers, results = {"result": result}, {"input": blob}
    for name, (other, node) in {"of another ring": halves(5, 4), "of more outputs": halves(5, 2, 2)}.items():
        strangers[name] = other.encrypt(other.make_keys().secret, random_rows(np.random.default_rng(0), 100))
        results[name] = node.evaluate(None, strangers[name])
    return {
        "input": Side(
            blob, strangers, lambda data: np.frombuffer(server.evaluate(None, data), np.uint8), CiphertextError
        ),
        "result": Side(result, results, lambda data: client.decrypt(secret, data, 100), ResultError),
    }


def mutations(side: Side, rng: np.random.Generator, seeds: int) -> Named:
    """Blobs that must be refused, and those of `MAY_BE_ANSWERED`. `seeds`: how many bytes of them a blob begins with."""
    blob, size, start = side.blob, len(side.blob), HEADER + seeds
    yield from side.malformed(rng)
    yield "rows rewritten", blob[:8] + (1 << 20 | int(rng.integers(1 << 30))).to_bytes(4, "little") + blob[12:]
    yield "no rows", blob[:8] + bytes(4) + blob[12:]
    yield "words above the modulus", blob[:HEADER] + b"\xff" * (size - HEADER)
    at = start + 7 * int(rng.integers(4096))
    yield "a word above the modulus", blob[:at] + b"\xff" * 7 + blob[at + 7 :]
    yield from side.well_formed(rng, flips=8, start=start)
    if seeds:
        yield "rows rewritten to fit", blob[:8] + int(rng.integers(1, 4096)).to_bytes(4, "little") + blob[12:]
        yield "seeds random", blob[:HEADER] + rng.bytes(seeds) + blob[start:]


@pytest.mark.parametrize("which", ["input", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str) -> None:
    """Hundreds of blobs a campaign: none kills the process or raises anything else, and the next good blob works."""
    outcomes = run(__file__, which, ROUNDS)
    require_named(outcomes, CiphertextError if which == "input" else ResultError, MAY_BE_ANSWERED, least=25 * ROUNDS)
    assert outcomes["payload flipped", ANSWER] > 0


def test_one_seed_for_two_bits_is_refused() -> None:
    """With opposite weights their sum would lose its c1 and stand in clear: SEAL stops there, under our name."""
    interval = (
        Leaf((0, 1), (False, False), (0.0,)),
        Leaf((0, 1), (True, False), (1.0,)),
        Leaf((0, 1), (True, True), (0.0,)),
    )
    rest = (*interval, Leaf((0, 1), (False, True), (0.0,)))
    path = tuple(leaf._replace(bits=(7, *leaf.bits), wanted=(True, *leaf.wanted)) for leaf in rest)
    forest = BitForest(((*path, Leaf((7,), (False,), (0.0,))),), 10, (0.0,))
    compiled = compile_tree_batch(forest, QUESTIONS, np.zeros((1, 3)))
    client, server = TreesBatchClient(compiled.client), TreesBatchServer(compiled.server)
    blob = client.encrypt(client.make_keys().secret, np.zeros((1, 3)))
    first, second = (HEADER + SEED * number for number in (1, 2))
    doubled = blob[:second] + blob[first:second] + blob[second + SEED :]
    with pytest.raises(CiphertextError, match="without its random half"):
        server.evaluate(None, doubled)


def test_a_client_cannot_choose_the_second_polynomial() -> None:
    """A ciphertext is a seed and c0: there is no length at which a c1 of the client's choice is taken."""
    client, server = halves(5, 2)
    blob = client.encrypt(client.make_keys().secret, np.zeros((1, 3)))
    for polynomials in (2, 3):
        unseeded = blob[:HEADER] + blob[HEADER + SEED * 11 :] * polynomials
        with pytest.raises(CiphertextError, match="length"):
            server.evaluate(None, unseeded)


def test_evaluation_keys_are_never_parsed() -> None:
    """Not even looked at: there is nothing that a node would do with one."""
    client, server = halves(5, 2)
    blob = client.encrypt(client.make_keys().secret, np.zeros((1, 3)))
    for key in (b"", b"\x5e\xa1\x10\x04", np.random.default_rng(0).bytes(1 << 16)):
        with pytest.raises(EvaluationKeyError, match="expected none"):
            server.evaluate(key, blob)


def test_a_header_that_claims_millions_of_rows_costs_nothing() -> None:
    """The length is held against the parameters before anything is made from it."""
    client, server = halves(5, 2)
    shape: Shape = client._shape
    for rows in (1, 1 << 20, 2**32 - 1):
        with pytest.raises(CiphertextError, match="length"):
            server.evaluate(None, header(INPUT, shape, rows) + bytes(1000))


def test_hostile_parts_are_refused_by_name() -> None:
    """Random numbers in every place of a part that holds one: refused, or a model like any other."""
    rng = np.random.default_rng(3)
    forest = random_forest(rng, 3, 3)
    part = compile_tree_batch(forest, QUESTIONS, random_rows(rng, 10)).server.model_dump()
    refused = 0
    for _ in range(300):
        broken = json.loads(json.dumps(part))
        at = (
            broken["products"][int(rng.integers(len(part["products"])))]
            if rng.uniform() < 0.6
            else broken["parameters"]
        )
        name = list(at)[int(rng.integers(len(at)))]
        value: Any = int(rng.choice([-1, 0, 1, 3, 9, 11, 4095, 1 << 20, 1 << 52]))
        at[name] = [value] if isinstance(at[name], list) else value
        try:
            TreesBatchServer.from_part(broken)
        except PackageError:
            refused += 1
    assert refused > 200


def test_errors_do_not_repeat_what_they_were_given() -> None:
    """A message tells the field, never the bytes: they may be a secret that was sent by mistake."""
    _, server = halves(5, 2)
    with pytest.raises(CiphertextError) as caught:
        server.evaluate(None, b"my secret text" * 10)
    assert "secret" not in str(caught.value)


if __name__ == "__main__":
    attacked, rng = sides()[sys.argv[1]], np.random.default_rng(1)
    of_seeds = SEED * (1 + len(QUESTIONS)) if sys.argv[1] == "input" else 0
    campaign(attacked, (mutations(attacked, rng, of_seeds) for _ in range(int(sys.argv[2]))))
