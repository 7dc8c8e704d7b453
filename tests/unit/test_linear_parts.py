"""Parts of linear models: data from somebody else, refused by the field that is wrong."""

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_protocol.errors import PackageError

Part = dict[str, Any]

CLIENT, SERVER = (
    part.model_dump()
    for part in linear_parts(
        np.array([[1.0, -2.0, 0.5], [0.25, 0.0, 3.0]]),
        np.array([0.5, -1.0]),
        np.array([[0.0, 1.0], [-1.0, 1.0], [10.0, 20.0]]),
        precision=1e-3,
    )
)


def changed(part: Part, path: str, value: object) -> Part:
    """A copy of `part` with the field at `path` set, or removed where `value` is `...`."""
    copy: Part = json.loads(json.dumps(part))
    *parents, last = path.split(".")
    place: Any = copy
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return copy


def test_parts_survive_json() -> None:
    """What is compiled is plain JSON: read back, it builds both halves."""
    LinearClient.from_part(json.loads(json.dumps(CLIENT)))
    LinearServer.from_part(json.loads(json.dumps(SERVER)))


PARAMETERS = [
    pytest.param("family", "concrete", id="another family"),
    pytest.param("version", 2, id="a later version"),
    pytest.param("note", "hello", id="an unknown field"),
    pytest.param("parameters", ..., id="no parameters"),
    pytest.param("parameters.scheme", "bfv", id="another scheme"),
    pytest.param("parameters.degree", 1024, id="a weaker ring"),
    pytest.param("parameters.modulus_bits", 60, id="another modulus"),
    pytest.param("parameters.input_scale_bits", 0, id="no input scale"),
    pytest.param("parameters.input_scale_bits", 20.5, id="a broken input scale"),
    pytest.param("parameters.weight_scale_bits", 10**6, id="a huge weight scale"),
    pytest.param("parameters.noise", 0, id="an unknown parameter"),
]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *PARAMETERS,
        pytest.param("outputs", 0, id="no outputs"),
        pytest.param("outputs", True, id="outputs as a truth value"),
        pytest.param("outputs", 10**9, id="too many outputs"),
        pytest.param("ranges", [], id="no columns"),
        pytest.param("ranges", [[0.0, 1.0]] * 16_385, id="too many columns"),
        pytest.param("ranges.1", [1.0, -1.0], id="a range upside down"),
        pytest.param("ranges.1", [0.0], id="half a range"),
        pytest.param("ranges.1.0", math.nan, id="a range from nowhere"),
        pytest.param("ranges.1.1", math.inf, id="a range without end"),
        pytest.param("ranges.1.0", "0", id="a range as text"),
        pytest.param("ranges.1", [-1e308, 1e308], id="a width beyond floating point"),
        pytest.param("error_bound.0", -1.0, id="a negative bound"),
        pytest.param("error_bound", [0.1], id="fewer bounds than outputs"),
    ],
)
def test_a_wrong_client_part_is_refused_by_its_field(path: str, value: object) -> None:
    """Nothing is built from it, and the publisher learns which field to mend."""
    with pytest.raises(PackageError, match=path.split(".", maxsplit=1)[0]):
        LinearClient.from_part(changed(CLIENT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *PARAMETERS,
        pytest.param("weights", [], id="no outputs"),
        pytest.param("weights", [[]], id="no columns"),
        pytest.param("weights", [[0.0] * 16_385] * 2, id="too many columns"),
        pytest.param("weights", [[0.0] * 2048] * 200, id="too many weights"),
        pytest.param("weights.1", [1.0], id="ragged weights"),
        pytest.param("weights.1.0", math.nan, id="a weight that is not a number"),
        pytest.param("weights.1.0", None, id="a missing weight"),
        pytest.param("intercept", [0.0], id="an intercept too few"),
        pytest.param("intercept.0", math.inf, id="an infinite intercept"),
    ],
)
def test_a_wrong_server_part_is_refused_by_its_field(path: str, value: object) -> None:
    """A node does not start a model that it could not compute."""
    with pytest.raises(PackageError, match=path.split(".", maxsplit=1)[0]):
        LinearServer.from_part(changed(SERVER, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("weights.0.0", 1e3, id="a weight too large"),
        pytest.param("weights.0.0", 1e300, id="a weight beyond floating point once scaled"),
        pytest.param("intercept.0", -1e4, id="an intercept too large"),
        pytest.param(
            "parameters.weight_scale_bits", SERVER["parameters"]["weight_scale_bits"] + 2, id="a scale too large"
        ),
    ],
)
def test_scales_that_let_a_sum_wrap_around_are_refused(path: str, value: object) -> None:
    """A score past q/2 would come back with its sign turned, so such a model is not started."""
    with pytest.raises(PackageError, match="scales"):
        LinearServer.from_part(changed(SERVER, path, value))


@pytest.mark.parametrize("part", [None, [], "linear", 7], ids=str)
def test_a_part_that_is_no_object_is_refused(part: Any) -> None:
    """JSON of another shape is a bad package too."""
    with pytest.raises(PackageError):
        LinearClient.from_part(part)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        pytest.param("spec", ["tenseal", "sklearn", "blindgate_models.linear.client"], id="the spec needs no SEAL"),
        pytest.param("packing", ["tenseal", "sklearn", "blindgate_models.linear.client"], id="nor does the packing"),
        pytest.param(
            "server", ["sklearn", "pandas", "blindgate_models.linear.client"], id="the server knows no client"
        ),
        pytest.param(
            "client", ["sklearn", "pandas", "blindgate_models.linear.server"], id="the client knows no server"
        ),
    ],
)
def test_a_module_imports_only_what_its_role_needs(module: str, absent: list[str]) -> None:
    """A fresh process that loads one half has neither the other nor a compiler's libraries."""
    program = f"import sys, blindgate_models.linear.{module}; sys.exit(any(m in sys.modules for m in {absent!r}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
