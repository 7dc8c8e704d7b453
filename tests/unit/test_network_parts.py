"""Parts of networks: data from somebody else, refused by the field that is wrong."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest

from blindgate_models.network.client import NetworkClient
from blindgate_models.network.server import NetworkServer
from blindgate_protocol.errors import PackageError
from square_networks import drawn, halves

Part = dict[str, Any]

_MADE = halves(drawn([3, 4, 2]))
CLIENT, SERVER = _MADE.client_part.model_dump(), _MADE.server_part.model_dump()


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
    NetworkClient.from_part(json.loads(json.dumps(CLIENT)))
    NetworkServer.from_part(json.loads(json.dumps(SERVER)))


BOTH = [
    pytest.param("family", "linear", id="another family"),
    pytest.param("version", 2, id="a later version"),
    pytest.param("note", "hello", id="an unknown field"),
    pytest.param("parameters", ..., id="no parameters"),
    pytest.param("parameters.scheme", "bfv", id="another scheme"),
    pytest.param("parameters.degree", 4096, id="a smaller ring"),
    pytest.param("parameters.data_bits", [60, 60, 60, 60], id="a modulus beyond 128-bit security"),
    pytest.param("parameters.data_bits", [], id="no primes"),
    pytest.param("parameters.data_bits.0", 61, id="a prime too long"),
    pytest.param("parameters.special_bits", 10, id="a prime that SEAL does not find"),
    pytest.param("parameters.input_scale_bits", 99, id="a huge input scale"),
    pytest.param("parameters.weight_scale_bits", [30], id="a scale too few"),
    pytest.param("parameters.drops", [[2, 2]], id="more primes dropped than there are"),
    pytest.param("parameters.drops", [[0, 0], [0, 0]], id="drops of a layer that is not there"),
    pytest.param("shape.widths", [3, 4], id="a layer too few"),
    pytest.param("shape.widths", [3, 4, 4, 2], id="a layer too many"),
    pytest.param("shape.widths.1", 10**6, id="a layer too wide"),
    pytest.param("shape.rows", 3, id="rows that are no power of two"),
    pytest.param("shape.rows", 1 << 13, id="more rows than slots"),
    pytest.param("shape.fan_in", -1, id="a negative fan-in"),
]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *BOTH,
        pytest.param("reads", [], id="no reads"),
        pytest.param("reads.0", [0], id="reads too few"),
        pytest.param("reads.0.0", 3, id="a feature that is not there"),
        pytest.param("reads.0.0", -2, id="a feature below none"),
        pytest.param("ranges", [[0.0, 1.0]], id="ranges too few"),
        pytest.param("ranges.1", [1.0, -1.0], id="a range upside down"),
        pytest.param("ranges.1.0", math.nan, id="a range from nowhere"),
        pytest.param("error_bound.0", -1.0, id="a negative bound"),
        pytest.param("error_bound", [0.1], id="fewer bounds than outputs"),
    ],
)
def test_a_wrong_client_part_is_refused_by_its_field(path: str, value: object) -> None:
    """Nothing is built from it, and the publisher learns which field to mend."""
    with pytest.raises(PackageError, match=path.split(".", maxsplit=1)[0]):
        NetworkClient.from_part(changed(CLIENT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *BOTH,
        pytest.param("layers", [], id="no layers"),
        pytest.param("layers.0.bias", [0.0], id="biases too few"),
        pytest.param("layers.1.weights", [[1.0] * 4], id="units too few"),
        pytest.param("layers.1.weights.0", [1.0], id="ragged weights"),
        pytest.param("layers.0.weights.0.0", math.nan, id="a weight that is not a number"),
        pytest.param("layers.0.weights.0.0", None, id="a missing weight"),
        pytest.param("layers.1.bias.0", math.inf, id="an infinite bias"),
        pytest.param("layers.0.weights", [[0.0] * 3] * 4, id="a layer without weights"),
        pytest.param("layers.1.weights", [[0.0] * 4] * 2, id="scores without weights"),
    ],
)
def test_a_wrong_server_part_is_refused_by_its_field(path: str, value: object) -> None:
    """A node does not start a model that it could not compute."""
    with pytest.raises(PackageError, match=path.split(".", maxsplit=1)[0]):
        NetworkServer.from_part(changed(SERVER, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("layers.0.weights.0.0", 1e6, id="a weight too large"),
        pytest.param("layers.0.weights.0.0", 1e300, id="a weight whose square is no double"),
        pytest.param("layers.0.bias.1", -1e9, id="a hidden bias too large"),
        pytest.param("layers.1.weights.0.0", 1e12, id="a score too large"),
        pytest.param("layers.1.bias.0", -1e12, id="a bias too large"),
        pytest.param("parameters.input_scale_bits", 60, id="a scale too large"),
    ],
)
def test_a_circuit_whose_values_could_wrap_around_is_refused(path: str, value: object) -> None:
    """A value past half of its modulus would come back as another, so such a model is not started."""
    with pytest.raises(PackageError, match="scales"):
        NetworkServer.from_part(changed(SERVER, path, value))


def test_primes_that_do_not_exist_are_a_bad_package_too() -> None:
    """Sixteen primes of 22 bits that are 1 modulo 65,536: SEAL finds fewer, and says so under our name."""
    part = changed(CLIENT, "parameters.degree", 32768)
    part = changed(part, "parameters.data_bits", [22] * 16)
    with pytest.raises(PackageError, match="data_bits"):
        NetworkClient.from_part(part)


@pytest.mark.parametrize("part", [None, [], "network", 7], ids=str)
def test_a_part_that_is_no_object_is_refused(part: Any) -> None:
    """JSON of another shape is a bad package too."""
    with pytest.raises(PackageError):
        NetworkClient.from_part(part)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        pytest.param("spec", ["tenseal", "sklearn", "blindgate_models.network.client"], id="the spec needs no SEAL"),
        pytest.param("noise", ["tenseal", "sklearn", "blindgate_models.network.client"], id="nor does the noise"),
        pytest.param(
            "server", ["sklearn", "pandas", "blindgate_models.network.client"], id="the server knows no client"
        ),
        pytest.param(
            "client", ["sklearn", "pandas", "blindgate_models.network.server"], id="the client knows no server"
        ),
    ],
)
def test_a_module_imports_only_what_its_role_needs(module: str, absent: list[str]) -> None:
    """A fresh process that loads one half has neither the other nor a compiler's libraries."""
    program = f"import sys, blindgate_models.network.{module}; sys.exit(any(m in sys.modules for m in {absent!r}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
