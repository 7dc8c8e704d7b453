"""Concrete's circuits in a node's workers: compiled in a confined zygote, evaluated in a worker that can start no process."""

from collections.abc import Iterator

import numpy as np
import pytest

from blindgate_models.halves import Part
from blindgate_models.package import serialise_part
from blindgate_node.settings import MEBI
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError

pytest.importorskip("mlir", reason="the extra `concrete` is not installed")

from blindgate_models.compilers.concrete_parts import Parts, make_parts
from blindgate_models.concrete.client import ConcreteClient
from worker_pool import Workers, workers

TABLE = [6, 1, 4, 7, 0, 5, 2, 3]
LOOK_UP = """module {{
  func.func @row(%arg0: tensor<1x{width}x!FHE.eint<{bits}>>) -> tensor<1x{width}x!FHE.eint<{bits}>> {{
    %cst = arith.constant dense<{table}> : tensor<{size}xi64>
    %0 = "FHELinalg.apply_lookup_table"(%arg0, %cst) : (tensor<1x{width}x!FHE.eint<{bits}>>, tensor<{size}xi64>) -> tensor<1x{width}x!FHE.eint<{bits}>>
    return %0 : tensor<1x{width}x!FHE.eint<{bits}>>
  }}
}}
"""  # noqa: E501  (the circuit's own lines)


def look_up(table: list[int]) -> Parts:
    """A circuit that looks one number up."""
    bits = (len(table) - 1).bit_length()
    quantiser: Part = {
        "kind": "uniform",
        "centre": [0],
        "spread": [1],
        "scale": 1,
        "zero_point": 0,
        "minimum": 0,
        "maximum": len(table) - 1,
    }
    scores: Part = {"scale": 1, "zero_point": [0], "trees": False, "bias": [0]}
    text = LOOK_UP.format(width=1, bits=bits, table=table, size=len(table))
    return make_parts(text, 2**-40, np.zeros((2, 1)), quantiser=quantiser, scores=scores)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A pool with a node's default bounds."""
    folder = tmp_path_factory.mktemp("node")
    with workers(folder, memory=6144 * MEBI, scratch=256 * MEBI, file=128 * MEBI, start_seconds=60.0) as rig:
        yield rig


def test_a_bootstrapped_circuit_runs_and_another_models_key_is_refused_by_name(rig: Workers) -> None:
    """A key set of another circuit ends native code by SIGSEGV; here it is an error, and the next job runs."""
    parts, other = look_up(TABLE), look_up([1, 0, 3, 2])
    client, stranger = ConcreteClient.from_part(parts.client), ConcreteClient.from_part(other.client)
    keys, strangers = client.make_keys(), stranger.make_keys()
    blob = client.encrypt(keys.secret, np.array([[5.0]]))
    model = rig.model("concrete", serialise_part(parts.server))
    result = rig.run(model, blob, keys.evaluation, seconds=60)
    assert client.decrypt(keys.secret, result, 1).tolist() == [[TABLE[5]]]
    with pytest.raises(EvaluationKeyError):
        rig.run(model, blob, strangers.evaluation, seconds=60)
    with pytest.raises(EvaluationKeyError):
        rig.run(model, blob, None, seconds=60)
    with pytest.raises(CiphertextError):
        rig.run(model, blob[:-1], keys.evaluation, seconds=60)
    result = rig.run(model, client.encrypt(keys.secret, np.array([[2.0]])), keys.evaluation, seconds=60)
    assert client.decrypt(keys.secret, result, 1).tolist() == [[TABLE[2]]]
