"""A part is data from somebody else: what is wrong with one is said by name, before anything is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from batch_forests import QUESTIONS, random_forest, random_rows
from blindgate_models.compilers.tree_batches import TreeBatch, compile_tree_batch
from blindgate_models.halves import Part
from blindgate_models.package import parse_part, serialise_part
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_models.trees_batch.spec import INPUT, RESULT, Parameters, Shape, header, open_blob
from blindgate_protocol.errors import PackageError


@pytest.fixture(scope="module")
def compiled() -> TreeBatch:
    """A small forest with products."""
    rng = np.random.default_rng(0)
    return compile_tree_batch(random_forest(rng, 4, 3, 2), QUESTIONS, random_rows(rng, 20), classifies=False)


def changed(part: Part, where: str, value: Any) -> Part:
    """`part` with another value at a dotted place."""
    *steps, last = where.split(".")
    at: Any = part
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = value
    return part


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        pytest.param("family", "linear", "family", id="another family"),
        pytest.param("version", 2, "version", id="another version"),
        pytest.param("surplus", 1, "surplus", id="a member too many"),
        pytest.param("bits", 5, r"products\.\d+.*: got \d, expected below 5", id="a bit that no row has"),
        pytest.param("products.0.bit", 10, r"products\.0\.bit: got 10, expected below 10", id="a product of no bit"),
        pytest.param("products.0.added", [0], r"products\.0: got product 0, expected one of the 0", id="a circle"),
        pytest.param("products.0.constant", 1, r"products\.0: expected no constant", id="a constant inside"),
        pytest.param("products.1.weights", [], r"products\.1\.weights: got 0 weights", id="bits without weights"),
        pytest.param("outputs.0.added", [0, 0], r"outputs\.0: a bit or a product occurs twice", id="a product twice"),
        pytest.param("outputs.1.constant", 1 << 40, r"outputs\.1: a weight is 0, or not between", id="past t/2"),
        pytest.param("outputs", [], "outputs", id="no outputs"),
        pytest.param("products.0.bits", [-1], r"products\.0\.bits\.0", id="a negative bit"),
        pytest.param("parameters.components", 9, r"components: got 9, expected the circuit's", id="other components"),
        pytest.param("parameters.kept", 8, r"parameters\.kept: got 8 primes, expected at most", id="kept too many"),
        pytest.param("parameters.data_bits", [56] * 4, "expected 1 to .* for 128-bit security", id="below 128 bits"),
        pytest.param("parameters.data_bits", [57], r"parameters\.data_bits\.0", id="a prime past the flood's"),
        pytest.param("parameters.flood_bits", 90, "an advantage of 2", id="too little flood"),
        pytest.param("parameters.flood_bits", 400, "standard deviations to decrypt by", id="too much flood"),
        pytest.param("parameters.plain_modulus", 65539, "expected a prime that is 1 modulo", id="t without slots"),
        pytest.param("parameters.scheme", "bfv", r"parameters\.scheme", id="another scheme"),
    ],
)
def test_a_server_part_that_is_wrong_is_refused_by_name(compiled: TreeBatch, where: str, value: Any, says: str) -> None:
    """Nothing that a node could not compute, and nothing that would not hide the forest."""
    with pytest.raises(PackageError, match=says):
        TreesBatchServer.from_part(changed(compiled.server.model_dump(), where, value))


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        pytest.param("family", "linear", "family", id="another family"),
        pytest.param("columns", 2, r"questions\.2\.column: got 2, expected below 2", id="a column that is not there"),
        pytest.param("questions", [], "questions", id="no questions"),
        pytest.param(
            "questions.0.values", [], "questions", id="fewer questions than the server's, which no half can see"
        ),
        pytest.param("questions.0.kind", "is_like", r"questions\.0\.kind", id="an unknown kind"),
        pytest.param("error_bound", [0.1], "error_bound: got 1 bounds, expected 2", id="bounds"),
        pytest.param("parameters.data_bits", [56] * 4, "expected 1 to .* for 128-bit security", id="below 128 bits"),
        pytest.param("parameters.plain_modulus", 65539, "expected a prime that is 1 modulo", id="t without slots"),
    ],
)
def test_a_client_part_that_is_wrong_is_refused_by_name(compiled: TreeBatch, where: str, value: Any, says: str) -> None:
    """Before a key is made."""
    part = changed(compiled.client.model_dump(), where, value)
    if where == "questions.0.values":
        assert TreesBatchClient.from_part(part).input_bytes(1) != TreesBatchClient(compiled.client).input_bytes(1)
        return
    with pytest.raises(PackageError, match=says):
        TreesBatchClient.from_part(part)


def test_parts_survive_their_way_as_json(compiled: TreeBatch) -> None:
    """What a package holds is what was compiled."""
    for part, half in ((compiled.client, TreesBatchClient), (compiled.server, TreesBatchServer)):
        again = parse_part(serialise_part(part.model_dump()))
        assert again == part.model_dump()
        half.from_part(again)


def test_both_bounds_are_what_the_manifest_says(compiled: TreeBatch) -> None:
    """And neither has much to spare: the ring is the smallest."""
    assert compiled.privacy.mode == "model_private"
    assert compiled.privacy.bits is not None
    assert 40 <= compiled.privacy.bits < 60
    assert compiled.encryption.levels == compiled.server.parameters.components - 2
    assert compiled.encryption.modulus_bits == sum(compiled.server.parameters.data_bits)


def test_more_replies_and_more_outputs_cost_privacy(compiled: TreeBatch) -> None:
    """Half a bit for twice as many words."""
    parameters: Parameters = compiled.server.parameters
    bits = parameters.distinguishing_bits(2.0**60, 1, 1 << 20)
    assert parameters.distinguishing_bits(2.0**60, 1, 1 << 22) == pytest.approx(bits - 1)
    assert parameters.distinguishing_bits(2.0**60, 4, 1 << 20) == pytest.approx(bits - 1)
    assert parameters.distinguishing_bits(2.0**61, 1, 1 << 20) == pytest.approx(bits - 1)


@pytest.mark.parametrize("magic", [INPUT, RESULT])
def test_blobs_are_of_one_length(compiled: TreeBatch, magic: bytes) -> None:
    """Whatever the number of rows, so that it does not show in them."""
    shape = Shape(compiled.server.parameters, 10, 2)
    size = shape.input_bytes if magic == INPUT else shape.result_bytes
    refusals: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("length: got", lambda blob: blob[:-1]),
        ("magic", lambda blob: b"BGLI" + blob[4:]),
        ("version: got 9, expected 1", lambda blob: blob[:4] + b"\x09\x00\x00\x00" + blob[8:]),
        ("rows: got 0", lambda blob: blob[:8] + bytes(4) + blob[12:]),
        ("rows: got 4294967295", lambda blob: blob[:8] + b"\xff" * 4 + blob[12:]),
        ("digest", lambda blob: blob[:12] + bytes(32) + blob[44:]),
    ]
    for rows in (1, shape.parameters.degree):
        blob = header(magic, shape, rows).ljust(size, b"\0")
        assert open_blob(magic, shape, blob)[0] == rows
        for says, break_it in refusals:
            with pytest.raises(ValueError, match=says):
                open_blob(magic, shape, break_it(blob))
