"""Hostile bytes for both halves of a batch.

Each campaign runs in a process of its own, so that native code that dies is seen, and reports what became of each blob: the named
error, or a finite answer where the bytes are a well-formed ciphertext of something else.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batch_forests import QUESTIONS, random_forest, random_rows
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.tree_batches import compile_tree_batch
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import INPUT, Shape, header
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, PackageError, ResultError

HEADER = 44
SEED = 64
ROUNDS = 12
ANSWER = "finite answer"

MAY_BE_ANSWERED = {"payload flipped", "payload zero", "payload swapped", "seeds random", "rows rewritten to fit"}
"""What is as well-formed as any blob. The order's digest binds the blob, and the client holds the result against its own rows."""


class Side(NamedTuple):
    """One half under attack: a well-formed blob for it, blobs that belong elsewhere, and what it does with bytes."""

    blob: bytes
    strangers: dict[str, bytes]
    take: Callable[[bytes], NDArray[Any]]
    error: type[Exception]
    seeds: int


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
            blob,
            strangers,
            lambda data: np.frombuffer(server.evaluate(None, data), np.uint8),
            CiphertextError,
            SEED * (1 + len(QUESTIONS)),
        ),
        "result": Side(result, results, lambda data: client.decrypt(secret, data, 100), ResultError, 0),
    }


def mutations(side: Side, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Blobs that must be refused, and those of `MAY_BE_ANSWERED`."""
    blob, size = side.blob, len(side.blob)

    def flipped(low: int, high: int) -> bytes:
        at, bit = int(rng.integers(low, high)), int(rng.integers(8))
        return blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]

    yield "truncated", blob[: int(rng.integers(size))]
    yield "truncated by a byte", blob[:-1]
    yield "oversized", blob + rng.bytes(int(rng.integers(1, 10**5)))
    yield "self-appended", blob + blob
    yield "body appended", blob + blob[HEADER:]
    yield "empty", b""
    yield "header alone", blob[:HEADER]
    yield "header flipped", flipped(0, 8)
    yield "digest flipped", flipped(12, HEADER)
    yield "random", rng.bytes(size)
    yield "rows rewritten", blob[:8] + (1 << 20 | int(rng.integers(1 << 30))).to_bytes(4, "little") + blob[12:]
    yield "no rows", blob[:8] + bytes(4) + blob[12:]
    yield "words above the modulus", blob[:HEADER] + b"\xff" * (size - HEADER)
    at = HEADER + side.seeds + 7 * int(rng.integers(4096))
    yield "a word above the modulus", blob[:at] + b"\xff" * 7 + blob[at + 7 :]
    yield "shifted by a byte", blob[:HEADER] + blob[HEADER + 1 :]
    yield "SEAL's own format", blob[:HEADER] + bytes.fromhex("5ea1100403020000") + rng.bytes(size - HEADER)
    for name, stranger in side.strangers.items():
        yield f"stranger {name}", stranger
        if len(stranger) != size:
            yield f"header over {name}", blob[:HEADER] + stranger[HEADER:]
        yield f"header {name}", stranger[:HEADER] + blob[HEADER:]
    for _ in range(8):
        yield "payload flipped", flipped(HEADER, size)
    if side.seeds:
        yield "rows rewritten to fit", blob[:8] + int(rng.integers(1, 4096)).to_bytes(4, "little") + blob[12:]
        yield "seeds random", blob[:HEADER] + rng.bytes(side.seeds) + blob[HEADER + side.seeds :]
    yield "payload zero", blob[: HEADER + side.seeds] + bytes(size - HEADER - side.seeds)
    half = (size - HEADER - side.seeds) // 2 // 8 * 8
    start = HEADER + side.seeds
    yield "payload swapped", blob[:start] + blob[start + half :] + blob[start : start + half]


def outcome(side: Side, data: bytes) -> str:
    """The name of what became of `data`."""
    try:
        answer = side.take(data)
    except side.error as error:
        return type(error).__name__
    return ANSWER if np.isfinite(answer).all() else "an answer that is not finite"


def campaign(which: str, rounds: int) -> list[tuple[str, str]]:
    """What became of every mutation."""
    side = sides()[which]
    rng = np.random.default_rng(1)
    assert outcome(side, side.blob) == ANSWER
    outcomes = [(name, outcome(side, data)) for _ in range(rounds) for name, data in mutations(side, rng)]
    assert outcome(side, side.blob) == ANSWER
    return outcomes


@pytest.mark.parametrize("which", ["input", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str) -> None:
    """Hundreds of blobs a campaign: none kills the process or raises anything else, and the next good blob works."""
    done = subprocess.run(
        [sys.executable, __file__, which, str(ROUNDS)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = Counter(map(tuple, json.loads(done.stdout)))
    assert outcomes.total() >= 300
    assert {what for _, what in outcomes} == {"CiphertextError" if which == "input" else "ResultError", ANSWER}
    assert {name for name, what in outcomes if what == ANSWER} <= MAY_BE_ANSWERED
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
    json.dump(campaign(sys.argv[1], int(sys.argv[2])), sys.stdout)
