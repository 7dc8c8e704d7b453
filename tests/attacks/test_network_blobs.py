"""Hostile bytes for a network's halves: inputs, evaluation keys, results; in process, and through a node's workers.

What any campaign throws, and how it runs, stands in `hostile_blobs`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blindgate_models.network.packing import EVALUATION_KEY, INPUT
from blindgate_models.package import serialise_part
from blindgate_node.key_cache import KeyName
from blindgate_node.settings import MEBI
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, ResultError
from campaigns import CAMPAIGN, of
from hostile_blobs import ANSWER, HEADER, SEED, WELL_FORMED, Named, Side, campaign, require_named, run
from square_networks import Halves, drawn, halves
from worker_pool import workers

ROUNDS = of(12 * CAMPAIGN, slice_of=4)
MAY_BE_ANSWERED = {
    "input": WELL_FORMED | {"seed random", "rows flipped", "rows rewritten", "header of more rows"},
    "key": WELL_FORMED | {"seed random"},
    "result": WELL_FORMED | {"seed random"},
}
"""What is as well-formed as any: another ciphertext or key, whose answer means nothing."""


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


def mutations(side: Side, rng: np.random.Generator) -> Named:
    """Blobs that must be refused, and those of `MAY_BE_ANSWERED`."""
    blob, size = side.blob, len(side.blob)
    yield from side.malformed(rng)
    yield "rows flipped", side.flipped(rng, 8, 12)
    yield "rows rewritten", blob[:8] + rng.bytes(4) + blob[12:]
    yield "words above the primes", blob[:HEADER] + b"\xff" * (size - HEADER)
    format_of_seal = bytes.fromhex("5ea1100403020000")
    yield "SEAL's own format, as long", blob[:HEADER] + format_of_seal + b"\xff" * (size - HEADER - len(format_of_seal))
    yield from side.well_formed(rng, flips=4)
    yield "seed random", blob[:HEADER] + rng.bytes(SEED) + blob[HEADER + SEED :]


@pytest.mark.parametrize("which", ["input", "key", "result"])
def test_every_hostile_blob_ends_in_its_named_error(which: str) -> None:
    """Hundreds a campaign: none kills the process or raises anything else, and the next good blob works."""
    outcomes = run(__file__, which, ROUNDS)
    named = {"input": CiphertextError, "key": EvaluationKeyError, "result": ResultError}[which]
    require_named(outcomes, named, MAY_BE_ANSWERED[which], least=20 * ROUNDS)
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
    attacked, rng = sides()[sys.argv[1]], np.random.default_rng(7)
    campaign(attacked, (mutations(attacked, rng) for _ in range(int(sys.argv[2]))))
