"""Hostile bytes for both halves of a private forest and of an additive model, and for a node that serves them.

What any campaign throws, and how it runs, stands in `hostile_blobs`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.bits import Questions
from blindgate_models.package import serialise_part
from blindgate_models.product.spec import Need, Privacy, choose, prime_below
from blindgate_protocol.errors import CiphertextError, ResultError
from campaigns import CAMPAIGN, of
from hostile_blobs import ANSWER, HEADER, SEED, WELL_FORMED, Named, Side, campaign, require_named, run
from private_forests import one_sum
from worker_pool import workers

ROUNDS = of(10 * CAMPAIGN, slice_of=4)
MAY_BE_ANSWERED = WELL_FORMED | {"seed flipped", "rows swapped"}
"""What is as well-formed as any blob: nobody but the owner of the key can tell."""


class Halves(NamedTuple):
    """A model from both sides, with three rows for it."""

    client: Any
    server: Any
    part: dict[str, Any]
    rows: NDArray[np.float64]


def forest(seed: int = 0, bits: int = 12) -> Halves:
    """A small forest."""
    it = one_sum(6, 3, bits, seed=seed)
    return Halves(it.client, it.server, it.parts[1], np.ones((3, bits)))


def additive(privacy: Privacy = "model_private", columns: int = 12) -> Halves:
    """A small additive model."""
    weights = np.random.default_rng(0).integers(-30_000, 30_000, (2, columns))
    square = float((weights**2).sum(axis=1).max())
    parameters = choose(Need(columns, 2, prime_below(16), square, privacy)).model_dump()
    common = {"family": "additive", "version": 1, "parameters": parameters}
    questions = [Questions(column=place, kind="at_least", values=[0.5]).model_dump() for place in range(columns)]
    about = {"columns": columns, "questions": questions, "pairs": [], "outputs": 2, "scale_bits": 4, "error_bound": 0.1}
    part = common | {"weights": weights.tolist(), "constants": [1, 2]}
    return Halves(AdditiveClient.from_part(common | about), AdditiveServer.from_part(part), part, np.ones((3, columns)))


MODELS: dict[str, Callable[[], Halves]] = {
    "forest": forest,
    "additive": additive,
    "public additive": lambda: additive("model_public"),
}
STRANGERS: dict[str, Callable[[], Halves]] = MODELS | {
    "forest of fewer bits": lambda: forest(bits=11),
    "wider additive": lambda: additive(columns=13),
    "wider public additive": lambda: additive("model_public", columns=13),
}


def sides(name: str) -> dict[str, Side]:
    """Both sides of a model."""
    it = MODELS[name]()
    secret = it.client.make_keys().secret
    blob = it.client.encrypt(secret, it.rows)
    result = it.server.evaluate(None, blob)
    inputs, results = {"result": result}, {"input": blob}
    for stranger, make in STRANGERS.items():
        if stranger != name:
            other = make()
            inputs[stranger] = other.client.encrypt(other.client.make_keys().secret, other.rows)
            results[stranger] = other.server.evaluate(None, inputs[stranger])
    fewer = it.client.encrypt(secret, it.rows[:2])
    inputs["body of fewer rows"] = blob[:HEADER] + fewer[HEADER:]
    inputs["header of fewer rows"] = fewer[:HEADER] + blob[HEADER:]
    results["of fewer rows"] = it.server.evaluate(None, fewer)
    return {
        "input": Side(
            blob, inputs, lambda data: np.frombuffer(it.server.evaluate(None, data), np.uint8), CiphertextError
        ),
        "result": Side(result, results, lambda data: it.client.decrypt(secret, data, 3), ResultError),
    }


def mutations(side: Side, rng: np.random.Generator) -> Named:
    """Blobs that must be refused, and those of `MAY_BE_ANSWERED`."""
    blob, size = side.blob, len(side.blob)
    yield from side.malformed(rng)
    yield "rows flipped", side.flipped(rng, 8, 12)
    yield "rows rewritten", blob[:8] + rng.bytes(3) + b"\1" + blob[12:]
    yield "no rows", blob[:8] + bytes(4) + blob[12:]
    yield from side.well_formed(rng, flips=6)
    yield "seed flipped", side.flipped(rng, HEADER, HEADER + SEED)
    third = (size - HEADER) // 3
    yield "rows swapped", blob[:HEADER] + blob[HEADER + third :] + blob[HEADER : HEADER + third]


@pytest.mark.parametrize("which", ["input", "result"])
@pytest.mark.parametrize("name", MODELS)
def test_every_hostile_blob_ends_in_its_named_error(name: str, which: str) -> None:
    """Hundreds of blobs a campaign: none kills the process or raises anything else, and the next good blob works."""
    outcomes = run(__file__, name, which, ROUNDS)
    require_named(outcomes, CiphertextError if which == "input" else ResultError, MAY_BE_ANSWERED, least=35 * ROUNDS)
    assert outcomes["payload flipped", ANSWER] > 0


@pytest.mark.parametrize("name", ["forest", "additive"])
def test_a_node_refuses_hostile_blobs_by_name_and_goes_on(name: str, tmp_path: Path) -> None:
    """Through real workers, each with a draw made ahead: refused with the family's own code, and the honest job is right."""
    it = MODELS[name]()
    secret = it.client.make_keys().secret
    blob = it.client.encrypt(secret, it.rows)
    expected = it.client.decrypt(secret, it.server.evaluate(None, blob), 3)
    side = Side(
        blob, {"result": it.server.evaluate(None, blob)}, lambda data: np.frombuffer(data, np.uint8), CiphertextError
    )
    refused = 0
    with workers(tmp_path / "node", memory=2 << 30, file=64 << 20, result=32 << 20) as rig:
        model = rig.model("trees" if name == "forest" else "additive", serialise_part(it.part))
        for how, data in mutations(side, np.random.default_rng(1)):
            if not data:
                continue  # no blob is empty: it never gets as far as a worker
            try:
                rig.run(model, data)
            except CiphertextError as error:
                refused += 1
                assert str(error).startswith("input: ")  # noqa: PT017  (either way is right for some)
            else:
                assert how in MAY_BE_ANSWERED
        np.testing.assert_array_equal(it.client.decrypt(secret, rig.run(model, blob), 3), expected)
    assert refused >= 15


def test_a_header_that_claims_millions_of_rows_costs_nothing() -> None:
    """The number of rows is held against the length before anything is made from it."""
    it = forest()
    blob = it.client.encrypt(it.client.make_keys().secret, it.rows)
    for rows in (it.client.rows_per_job, 2**31, 2**32 - 1):
        with pytest.raises(CiphertextError, match=r"length|rows"):
            it.server.evaluate(None, blob[:8] + rows.to_bytes(4, "little") + blob[12:])


def test_errors_do_not_repeat_what_they_were_given() -> None:
    """A message tells the field, never the bytes: they may be a secret that was sent by mistake."""
    it = forest()
    for refused in (it.server.evaluate, lambda _, data: it.client.decrypt(it.client.make_keys().secret, data, 1)):
        with pytest.raises((CiphertextError, ResultError)) as caught:
            refused(None, b"my secret text" * 10)
        assert "secret" not in str(caught.value)


if __name__ == "__main__":
    attacked, drawn = sides(sys.argv[1])[sys.argv[2]], np.random.default_rng(len(sys.argv[1]))
    campaign(attacked, (mutations(attacked, drawn) for _ in range(int(sys.argv[3]))))
