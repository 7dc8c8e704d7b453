"""Hostile bytes against the Concrete family: parts, keys, ciphertexts and results that are not what they claim to be."""

import json
import os
import pickle
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import campaigns
from blindgate_models.halves import KeySet, Part
from blindgate_models.package import parse_part, serialise_part
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, PackageError, ResultError

pytest.importorskip("mlir", reason="the extra `concrete` is not installed")

from blindgate_models.compilers.concrete_parts import Parts, make_parts
from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.server import ConcreteServer
from blindgate_models.concrete.spec import HEADER_BYTES

MUTATIONS = campaigns.of(420, slice_of=140)
HEAVY_EVERY = campaigns.of(14, slice_of=70)  # a mutation in a random word runs the whole evaluation
WIDTH = campaigns.of(3, slice_of=1)
"""Bits of the integers that are looked up: fewer of them have shorter keys of the same form."""


def look_up(width: int) -> str:
    """A circuit of two bootstraps over integers of `width` bits."""
    table = list(range(1 << width))[::-1]
    tensor = f"tensor<1x2x!FHE.eint<{width}>>"
    return f"""module {{
  func.func @row(%arg0: {tensor}) -> {tensor} {{
    %cst = arith.constant dense<{table}> : tensor<{1 << width}xi64>
    %0 = "FHELinalg.apply_lookup_table"(%arg0, %cst) : ({tensor}, tensor<{1 << width}xi64>) -> {tensor}
    return %0 : {tensor}
  }}
}}
"""


def parts_of(width: int) -> Parts:
    """Both parts of `look_up`."""
    quantiser: Part = {"kind": "uniform", "centre": [0, 0], "spread": [1, 1], "scale": 1, "zero_point": 0}
    quantiser |= {"minimum": 0, "maximum": (1 << width) - 1}
    scores: Part = {"scale": 1, "zero_point": [0], "trees": False, "bias": [0, 0]}
    return make_parts(look_up(width), 2**-40, np.zeros((2, 2)), quantiser=quantiser, scores=scores)


@pytest.fixture(scope="module")
def parts() -> Parts:
    """The model under attack."""
    return parts_of(WIDTH)


@pytest.fixture(scope="module")
def other() -> Parts:
    """A model of other parameters."""
    return parts_of(WIDTH + 1)


@pytest.fixture(scope="module")
def keys(parts: Parts) -> KeySet:
    """A key set of the model under attack."""
    return ConcreteClient.from_part(parts.client).make_keys()


@pytest.fixture(scope="module")
def other_keys(other: Parts) -> KeySet:
    """A well-formed key set of the other model."""
    return ConcreteClient.from_part(other.client).make_keys()


def changed(part: Part, path: str, value: Any) -> Part:
    """A copy of `part` with one member changed."""
    copy = deepcopy(part)
    target: Any = copy
    *above, last = path.split("/")
    for name in above:
        target = target[int(name) if isinstance(target, list) else name]
    target[int(last) if isinstance(target, list) else last] = value
    return copy


SERVER_ATTACKS = [
    pytest.param("concrete_python", "2.9.0", "concrete_python: got '2.9.0'", id="another release"),
    pytest.param("concrete_python", 2.10, "concrete_python", id="a number for a release"),
    pytest.param("shared_library", "f0VM", "shared_library", id="an unknown member"),
    pytest.param("circuit", "", "circuit", id="no circuit"),
    pytest.param(
        "circuit", "module { func.func @row() { llvm.call @system() } }", "llvm.call", id="a call to the C library"
    ),
    pytest.param("circuit", look_up(WIDTH + 1), "specs: not the parameters", id="another circuit"),
    pytest.param(
        "circuit", look_up(WIDTH).replace("-> tensor", "-> tensor<1x", 1), "circuit", id="a circuit that does not parse"
    ),
    pytest.param("p_error", 0.5, "p_error", id="a circuit that is wrong half of the time"),
    pytest.param("p_error", 2**-30, "specs: not the parameters", id="another chance of errors"),
    pytest.param(
        "specs/keyset/lweSecretKeys/0/params/lweDimension",
        64,
        "specs: not the parameters",
        id="a key too short to be secret",
    ),
    pytest.param("specs/keyset/lweBootstrapKeys/0/params/variance", 0.0, "specs: not the parameters", id="no noise"),
    pytest.param(
        "specs/circuits/0/inputs/0/typeInfo/lweCiphertext/compression", "none", "specs: not", id="another compression"
    ),
    pytest.param("specs/circuits/0/name", "main", "function named 'main'", id="another function"),
    pytest.param("specs/circuits", [], "one circuit", id="no circuit in the parameters"),
    pytest.param("specs/keyset", {}, "specs", id="no key set"),
    pytest.param("specs/tfhers_specs", {}, "specs", id="a member that Concrete would read"),
    pytest.param("evaluation_key", None, "evaluation_key", id="no frame for the key"),
    pytest.param("evaluation_key/sha256", "0" * 63, "evaluation_key.sha256", id="half a digest"),
    pytest.param("evaluation_key/size", -8, "evaluation_key.size", id="a negative size"),
    pytest.param("ciphertext/holes", [[0, 8], [0, 8]], "ciphertext", id="holes that overlap"),
    pytest.param("ciphertext/holes/0", [0, 1 << 40], "ciphertext", id="a hole past the end"),
]


@pytest.mark.parametrize(("path", "value", "message"), SERVER_ATTACKS)
def test_an_altered_server_part_is_refused_by_name(parts: Parts, path: str, value: Any, message: str) -> None:
    """A publisher's mistake or malice in one member is found when the part is loaded, and the error names it."""
    with pytest.raises(PackageError, match=message):
        ConcreteServer.from_part(changed(parts.server, path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param("concrete_python", "2.11.0", "concrete_python", id="another release"),
        pytest.param("configuration", {}, "configuration", id="an unknown member"),
        pytest.param("features", 3, "features: got 3", id="another width"),
        pytest.param("rows_per_job", 0, "rows_per_job", id="no row"),
        pytest.param("quantiser/maximum", 8, "quantiser: reaches", id="numbers that do not fit"),
        pytest.param("quantiser/spread", [1, 0], "quantiser", id="a division by zero"),
        pytest.param("quantiser/kind", "code", "quantiser", id="an unknown quantiser"),
        pytest.param("quantiser/centre", [0], "quantiser: got 0 features", id="a column missing"),
        pytest.param("scores/bias", [0, 0, 0], "scores.bias: got 3", id="an output too many"),
        pytest.param("scores/zero_point", [0, 0, 0], "scores.zero_point", id="a zero point too many"),
        pytest.param("scores/scale", "1", "scores.scale", id="a text for a number"),
        pytest.param("specs/circuits/0/inputs/0/typeInfo", {"plaintext": {}}, "specs", id="an input in the clear"),
        pytest.param(
            "specs/circuits/0/outputs/0/typeInfo/lweCiphertext/abstractShape/dimensions",
            [1 << 30],
            "specs|bias",
            id="a result of gigabytes",
        ),
    ],
)
def test_an_altered_client_part_is_refused_by_name(parts: Parts, path: str, value: Any, message: str) -> None:
    """The client does not make keys or encrypt for parameters that do not fit together."""
    with pytest.raises(PackageError, match=message):
        ConcreteClient.from_part(changed(parts.client, path, value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"py/object": "concrete.fhe.Configuration"}, "jsonpickle", id="jsonpickle's object"),
        pytest.param(
            {"py/reduce": [{"py/function": "posix.system"}, {"py/tuple": ["id"]}]}, "jsonpickle", id="jsonpickle's call"
        ),
        pytest.param("\x7fELF\x02\x01\x01", "ELF", id="an ELF executable"),
        pytest.param("f0VMRgIBAQA=", "ELF", id="an ELF executable in base64"),
    ],
)
def test_a_part_that_carries_code_is_refused_by_name(parts: Parts, value: Any, message: str) -> None:
    """Wherever it stands, before any family looks at the part."""
    with pytest.raises(PackageError, match=message):
        parse_part(json.dumps(changed(parts.server, "circuit", value)).encode())


def test_concretes_own_loaders_are_never_called(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every unpickler of this process broken, a model loads."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    before = {"jsonpickle", "torch"} & sys.modules.keys()  # another test of this process may have wanted one
    ConcreteServer.from_part(parts.server)
    assert {"jsonpickle", "torch"} & sys.modules.keys() == before


def test_a_key_set_of_another_model_is_refused_by_name(
    parts: Parts, keys: KeySet, other: Parts, other_keys: KeySet
) -> None:
    """Under its own header, and under a forged one: native code would follow it out of its arrays."""
    server = ConcreteServer.from_part(parts.server)
    row = ConcreteClient.from_part(parts.client).encrypt(keys.secret, np.zeros((1, 2)))
    assert other_keys.evaluation is not None
    assert keys.evaluation is not None
    with pytest.raises(EvaluationKeyError, match="parameters"):
        server.evaluate(other_keys.evaluation, row)
    forged = keys.evaluation[:HEADER_BYTES] + other_keys.evaluation[HEADER_BYTES:]
    with pytest.raises(EvaluationKeyError, match="bytes"):
        server.evaluate(forged, row)
    size = len(keys.evaluation)
    with pytest.raises(EvaluationKeyError, match="not a key set of this circuit"):
        server.evaluate(forged[:size].ljust(size, b"\0"), row)
    with pytest.raises(EvaluationKeyError, match="needs one"):
        server.evaluate(None, row)
    other_row = ConcreteClient.from_part(other.client).encrypt(other_keys.secret, np.zeros((1, 2)))
    with pytest.raises(CiphertextError, match="parameters"):
        server.evaluate(keys.evaluation, other_row)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Concrete's parser takes many gigabytes for one wrong bit of a size: end this process first."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_anything_but_a_result_is_refused_before_it_is_parsed(parts: Parts, keys: KeySet, bounded_memory: None) -> None:
    """A node that answers with anything else gets a named refusal, and no native parser of the client sees it."""
    client = ConcreteClient.from_part(parts.client)
    result = ConcreteServer.from_part(parts.server).evaluate(
        keys.evaluation, client.encrypt(keys.secret, np.zeros((1, 2)))
    )
    generator = np.random.default_rng(5)
    frame = parts.client["result"]
    for _ in range(300):
        blob = bytearray(result)
        at = int(generator.integers(len(blob)))
        blob[at] ^= 1 << int(generator.integers(8))
        inside = any(start <= at - HEADER_BYTES < start + length for start, length in frame["holes"])
        if inside:
            client.decrypt(keys.secret, bytes(blob), 1)
        else:
            with pytest.raises(ResultError):
                client.decrypt(keys.secret, bytes(blob), 1)
    for bad in (b"", result[:-8], result + result, result + b"\0", bytes(len(result))):
        with pytest.raises(ResultError):
            client.decrypt(keys.secret, bad, 1)
    for start in range(frame["holes"][0][0] + HEADER_BYTES):
        blob = bytearray(result)
        blob[start] ^= 0x80
        with pytest.raises(ResultError):
            client.decrypt(keys.secret, bytes(blob), 1)


WORKER = """
import json, os, pathlib, sys
import numpy as np
folder, seed, count, heavy_every = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5])
from blindgate_models.concrete.server import ConcreteServer
from blindgate_models.concrete.spec import HEADER_BYTES
from blindgate_protocol.errors import BlindgateError
part = json.loads((folder / "server.json").read_text())
server = ConcreteServer.from_part(part)
good = {name: (folder / name).read_bytes() for name in ("key", "row", "other-key", "other-row")}
generator = np.random.default_rng(seed)
def outside(frame):
    spans, position = [], 0
    for start, length in frame["holes"]:
        spans.append((position, start)); position = start + length
    spans.append((position, frame["size"]))
    return [HEADER_BYTES + at for low, high in spans for at in range(low, high)]
places = {"key": outside(part["evaluation_key"]), "row": outside(part["ciphertext"])}
def mutate(name, kind):
    data = bytearray(good[name])
    if kind == "flip-header": data[int(generator.integers(HEADER_BYTES))] ^= 1 << int(generator.integers(8))
    elif kind == "flip-frame": data[int(generator.choice(places[name]))] ^= 1 << int(generator.integers(8))
    elif kind == "flip-anywhere": data[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
    elif kind == "truncate": del data[int(generator.integers(len(data))):]
    elif kind == "append": data += generator.bytes(int(generator.integers(1, 4096)))
    elif kind == "twice": data += good[name]
    elif kind == "zeros": data[HEADER_BYTES:] = bytes(len(data) - HEADER_BYTES)
    elif kind == "noise": data[HEADER_BYTES:] = generator.bytes(len(data) - HEADER_BYTES)
    elif kind == "other": data = bytearray(good["other-" + name])
    elif kind == "other-body": data[HEADER_BYTES:] = good["other-" + name][HEADER_BYTES:]
    elif kind == "other-cut":
        body = good["other-" + name][HEADER_BYTES:len(data)]
        data[HEADER_BYTES:HEADER_BYTES + len(body)] = body
    elif kind == "swap": data = bytearray(good["row" if name == "key" else "key"])
    elif kind == "count": data[40:44] = generator.bytes(4)
    return bytes(data)
kinds = ["flip-header", "flip-frame", "truncate", "append", "twice", "zeros", "noise"]
kinds += ["other", "other-body", "other-cut", "swap", "count"]
for number in range(count):
    name = ("key", "row")[number % 2]
    kind = "flip-anywhere" if number % heavy_every < 2 else kinds[int(generator.integers(len(kinds)))]
    sent = dict(good); sent[name] = mutate(name, kind)
    try:
        outcome = f"result {len(server.evaluate(sent['key'], sent['row']))}"
    except BlindgateError as error:
        outcome = error.code
    print(json.dumps([name, kind, outcome]), flush=True)
result = server.evaluate(good["key"], good["row"])
(folder / "result").write_bytes(result)
"""


def test_mutated_keys_and_rows_are_refused_and_the_worker_lives(
    parts: Parts, keys: KeySet, other: Parts, other_keys: KeySet, tmp_path: Path
) -> None:
    """Of many mutations each gets its named error, or changes random words only; the next job runs."""
    client, neighbour = ConcreteClient.from_part(parts.client), ConcreteClient.from_part(other.client)
    (tmp_path / "server.json").write_bytes(serialise_part(parts.server))
    (tmp_path / "key").write_bytes(keys.evaluation or b"")
    (tmp_path / "row").write_bytes(client.encrypt(keys.secret, np.array([[1.0, 0.0]])))
    (tmp_path / "other-key").write_bytes(other_keys.evaluation or b"")
    (tmp_path / "other-row").write_bytes(neighbour.encrypt(other_keys.secret, np.array([[1.0, 5.0]])))
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path), "1", str(MUTATIONS), str(HEAVY_EVERY)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert worker.returncode == 0, (worker.returncode, worker.stdout[-300:], worker.stderr[-2000:])
    seen = [tuple(json.loads(line)) for line in worker.stdout.splitlines()]
    assert len(seen) == MUTATIONS
    result = (tmp_path / "result").read_bytes()
    assert client.decrypt(keys.secret, result, 1).tolist() == [[(1 << WIDTH) - 2, (1 << WIDTH) - 1]]
    own = {"key": EvaluationKeyError.code, "row": CiphertextError.code}
    for name, kind, outcome in seen:
        allowed = {own[name]} if kind != "flip-anywhere" else {own[name], f"result {len(result)}"}
        assert outcome in allowed, (name, kind, outcome)
    assert Counter(kind == "flip-anywhere" for _, kind, _ in seen)[False] >= MUTATIONS * 5 // 7
