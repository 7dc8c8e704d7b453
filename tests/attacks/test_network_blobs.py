"""Hostile bytes for a network's halves: inputs, evaluation keys, results; in process, and through a node's workers.

Each campaign runs in a process of its own, so that native code that dies is seen, and reports what became of each blob: the
named error, or a finite answer where the bytes are a well-formed ciphertext or key of something else.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.network.packing import EVALUATION_KEY, INPUT
from blindgate_models.package import serialise_part
from blindgate_node.key_cache import KeyName
from blindgate_node.settings import MEBI
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, ResultError
from square_networks import Halves, drawn, halves
from worker_pool import workers

HEADER = 44
SEED = 64
ROUNDS = 12
ANSWER = "finite answer"

ANOTHER = {"payload flipped", "seed random", "payload zero", "payload swapped"}
"""What is as well-formed as any: another ciphertext or key, whose answer means nothing. The order's digest binds both."""
MAY_BE_ANSWERED = {
    "input": ANOTHER | {"rows flipped", "rows rewritten", "header of more rows"},
    "key": ANOTHER,
    "result": ANOTHER,
}


class Side(NamedTuple):
    """Something that takes bytes: a well-formed blob for it, blobs that belong elsewhere, and what it does."""

    blob: bytes
    strangers: dict[str, bytes]
    take: Callable[[bytes], NDArray[Any]]
    error: type[Exception]


def small() -> Halves:
    """Three columns, eight squares, two scores."""
    return halves(drawn([3, 8, 2]))


def sides() -> dict[str, Side]:
    """The three of a small network."""
    made, other, scaled = small(), halves(drawn([64, 64, 10])), halves(drawn([3, 8, 2], size=5.0), precision=1.0)
    secret, key = made.keys
    assert key is not None
    assert other.keys.evaluation is not None
    blob = made.client.encrypt(secret, made.rows(2))
    compute = made.server.direct(key)
    result = compute(blob)
    theirs = other.client.encrypt(other.keys.secret, other.rows(1))
    more = made.client.encrypt(secret, made.rows(made.client_part.shape.rows + 1))
    inputs = {
        "of another shape": theirs,
        "of other scales": scaled.client.encrypt(scaled.keys.secret, scaled.rows(2)),
        "a result": result,
        "a key": key,
        "of more rows": more[:HEADER] + blob[HEADER:],
    }
    return {
        "input": Side(blob, inputs, lambda data: np.frombuffer(compute(data), np.uint8), CiphertextError),
        "key": Side(
            key,
            {"of another shape": other.keys.evaluation, "an input": blob, "a secret": secret},
            lambda data: np.frombuffer(made.server.evaluate(data, blob), np.uint8),
            EvaluationKeyError,
        ),
        "result": Side(
            result,
            {"an input": blob, "of another shape": other.server.evaluate(other.keys.evaluation, theirs)},
            lambda data: made.client.decrypt(secret, data, 2),
            ResultError,
        ),
    }


def mutations(side: Side, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Blobs that must be refused, and those of `ANOTHER`."""
    blob, size = side.blob, len(side.blob)

    def flipped(low: int, high: int) -> bytes:
        at, bit = int(rng.integers(low, high)), int(rng.integers(8))
        return blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]

    yield "truncated", blob[: int(rng.integers(size))]
    yield "truncated by a byte", blob[:-1]
    yield "oversized", blob + rng.bytes(int(rng.integers(1, 10**5)))
    yield "self-appended", blob + blob
    yield "empty", b""
    yield "header alone", blob[:HEADER]
    yield "header flipped", flipped(0, 8)
    yield "digest flipped", flipped(12, HEADER)
    yield "rows flipped", flipped(8, 12)
    yield "rows rewritten", blob[:8] + rng.bytes(4) + blob[12:]
    yield "random", rng.bytes(size)
    yield "words above the primes", blob[:HEADER] + b"\xff" * (size - HEADER)
    yield "shifted by a byte", blob[:HEADER] + blob[HEADER + 1 :]
    yield "SEAL's own format", blob[:HEADER] + bytes.fromhex("5ea1100403020000") + b"\xff" * (size - HEADER - 8)
    for name, stranger in side.strangers.items():
        yield f"stranger {name}", stranger
        if len(stranger) != size:
            yield f"header over {name}", blob[:HEADER] + stranger[HEADER:]
    for _ in range(4):
        yield "payload flipped", flipped(HEADER, size)
    yield "seed random", blob[:HEADER] + rng.bytes(SEED) + blob[HEADER + SEED :]
    yield "payload zero", blob[:HEADER] + bytes(size - HEADER)
    half = (size - HEADER) // 2
    yield "payload swapped", blob[:HEADER] + blob[HEADER + half :] + blob[HEADER : HEADER + half]


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
    rng = np.random.default_rng(7)
    assert outcome(side, side.blob) == ANSWER
    outcomes = [(name, outcome(side, data)) for _ in range(rounds) for name, data in mutations(side, rng)]
    assert outcome(side, side.blob) == ANSWER
    return outcomes


@pytest.mark.parametrize("which", ["input", "key", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str) -> None:
    """Hundreds a campaign: none kills the process or raises anything else, and the next good blob works."""
    rounds = ROUNDS * int(os.environ.get("BLINDGATE_CAMPAIGN", "1"))
    support = str(Path(__file__).parent.parent / "support")
    done = subprocess.run(
        [sys.executable, __file__, which, str(rounds)],
        env=os.environ | {"PYTHONPATH": support},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = Counter(map(tuple, json.loads(done.stdout)))
    named = {"input": "CiphertextError", "key": "EvaluationKeyError", "result": "ResultError"}[which]
    assert outcomes.total() >= 250
    assert {what for _, what in outcomes} == {named, ANSWER}
    surviving = {name for name, what in outcomes if what == ANSWER}
    assert surviving <= MAY_BE_ANSWERED[which]
    assert outcomes["seed random", ANSWER] > 0 or which == "result"


def test_a_client_cannot_choose_the_second_polynomial() -> None:
    """A ciphertext is a seed and c0, in keys too: there is no length at which a c1 of the sender's choice is taken."""
    made = small()
    blob = made.client.encrypt(made.keys.secret, made.rows(1))
    assert len(blob) == HEADER + made.server.packing.inputs * made.server.packing.input_ciphertext_bytes
    for copies in (2, 3):
        with pytest.raises(CiphertextError, match="length"):
            made.server.evaluate(made.keys.evaluation, blob[:HEADER] + blob[HEADER + SEED :] * copies)


def test_a_header_that_claims_billions_of_rows_costs_nothing() -> None:
    """The number of rows is held against the length before anything is made from it; a key has none."""
    made = small()
    packing = made.server.packing
    for rows in (0, packing.rows_per_blob, packing.rows_per_blob + 1, 2**32 - 1):
        with pytest.raises(CiphertextError, match=r"length|rows"):
            made.server.evaluate(made.keys.evaluation, packing.header(INPUT, rows) + bytes(1000))
    with pytest.raises(EvaluationKeyError, match="rows"):
        made.server.evaluate(packing.header(EVALUATION_KEY, 7) + bytes(1000), b"")


def test_errors_do_not_repeat_what_they_were_given() -> None:
    """A message tells the field, never the bytes: they may be a secret that was sent by mistake."""
    made = small()
    with pytest.raises(EvaluationKeyError) as caught:
        made.server.evaluate(made.keys.secret + b"my secret text", b"")
    assert "my secret" not in str(caught.value)


def test_a_nodes_worker_refuses_by_name_and_the_next_job_runs(tmp_path: Path) -> None:
    """In a keyed zygote, which loads the key itself: a bad key, a bad input first, and then good ones in forked workers."""
    made = small()
    secret, key = made.keys
    assert key is not None
    blob = made.client.encrypt(secret, made.rows(2))
    expected = made.server.evaluate(key, blob)
    hostile = [blob[:-1], blob[:HEADER] + b"\xff" * (len(blob) - HEADER), blob + blob, b""]
    bad_key = key[:HEADER] + b"\xff" * (len(key) - HEADER)
    with workers(tmp_path / "node", memory=1024 * MEBI, file=64 * MEBI, start_seconds=60.0) as rig:
        model = rig.model("network", serialise_part(made.server_part.model_dump()))
        with pytest.raises(EvaluationKeyError):
            rig.run(replace(model, key=KeyName("bank", digest(bad_key))), blob, bad_key, seconds=60)
        keyed = replace(model, key=KeyName("hospital", digest(key)))
        for data in hostile:
            with pytest.raises(CiphertextError):
                rig.run(keyed, data, key, seconds=60)
            assert rig.run(keyed, blob, key, seconds=60) == expected


if __name__ == "__main__":
    json.dump(campaign(sys.argv[1], int(sys.argv[2])), sys.stdout)
