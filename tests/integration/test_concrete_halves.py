"""The two halves of a Concrete model, on circuits small enough to read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_models.clients import client_half
from blindgate_models.halves import KeySet, Part
from blindgate_models.package import parse_part, serialise_part
from blindgate_models.servers import server_half
from blindgate_protocol.errors import InputError, KeyStoreError, ResultError

pytest.importorskip("mlir", reason="the extra `concrete` is not installed")

from blindgate_models.compilers.concrete_parts import Parts, make_parts
from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.server import ConcreteServer

TABLE = [2, 0, 3, 1]
LOOK_UP = f"""module {{
  func.func @row(%arg0: tensor<1x3x!FHE.eint<2>>) -> tensor<1x3x!FHE.eint<2>> {{
    %cst = arith.constant dense<{TABLE}> : tensor<4xi64>
    %0 = "FHELinalg.apply_lookup_table"(%arg0, %cst) : (tensor<1x3x!FHE.eint<2>>, tensor<4xi64>) -> tensor<1x3x!FHE.eint<2>>
    return %0 : tensor<1x3x!FHE.eint<2>>
  }}
}}
"""
ADD = """module {
  func.func @row(%arg0: tensor<1x2x!FHE.esint<7>>) -> tensor<1x2x!FHE.esint<7>> {
    %cst = arith.constant dense<[[1, -2]]> : tensor<1x2xi8>
    %0 = "FHELinalg.add_eint_int"(%arg0, %cst) : (tensor<1x2x!FHE.esint<7>>, tensor<1x2xi8>) -> tensor<1x2x!FHE.esint<7>>
    return %0 : tensor<1x2x!FHE.esint<7>>
  }
}
"""


def uniform(features: int, low: int, high: int) -> Part:
    """A quantiser that rounds to integers."""
    ranges: Part = {"centre": [0] * features, "spread": [1] * features, "minimum": low, "maximum": high}
    return {"kind": "uniform", "scale": 1, "zero_point": 0, **ranges}


def plain(outputs: int) -> Part:
    """Scores that are the circuit's integers."""
    return {"scale": 1, "zero_point": [0], "trees": False, "bias": [0] * outputs}


@pytest.fixture(scope="module")
def look_up() -> Parts:
    """A circuit with three bootstraps."""
    rows = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0]])
    return make_parts(LOOK_UP, 2**-40, rows, quantiser=uniform(3, 0, 3), scores=plain(3))


@pytest.fixture(scope="module")
def keys(look_up: Parts) -> KeySet:
    """For it. Shared, since they take longer than what is done with them."""
    return ConcreteClient.from_part(look_up.client).make_keys()


@pytest.fixture(scope="module")
def add() -> Parts:
    """A circuit without bootstraps, which needs no evaluation key."""
    return make_parts(ADD, 2**-40, np.zeros((2, 2)), quantiser=uniform(2, -60, 60), scores=plain(2))


def test_a_row_comes_back_as_the_circuit_has_it(look_up: Parts, keys: KeySet) -> None:
    """Parts that went through their bytes encrypt, evaluate and decrypt to the table's values."""
    part = {**look_up.client, "rows_per_job": 8}
    client = client_half("concrete").from_part(parse_part(serialise_part(part)))
    server = server_half("concrete").from_part(parse_part(serialise_part(look_up.server)))
    rows = np.array([[3.0, 2.0, 1.0], [0.0, -3.0, 99.0]])
    told: list[tuple[int, int]] = []
    blob = client.encrypt(keys.secret, rows, lambda done, total: told.append((done, total)))
    result = server.evaluate(keys.evaluation, blob)
    assert client.decrypt(keys.secret, result, 2).tolist() == [[1, 3, 0], [2, 2, 1]]
    assert told == [(1, 2), (2, 2)]


def test_a_circuit_without_bootstraps_needs_no_evaluation_key(add: Parts) -> None:
    """Nothing is uploaded for it, and its results are the same bytes every time."""
    client, server = ConcreteClient.from_part(add.client), ConcreteServer.from_part(add.server)
    keys = client.make_keys()
    assert keys.evaluation is None
    blob = client.encrypt(keys.secret, np.array([[10.0, -20.0]]))
    result = server.evaluate(None, blob)
    assert client.decrypt(keys.secret, result, 1).tolist() == [[11, -22]]
    assert server.evaluate(None, blob) == result


def test_two_key_sets_and_two_encryptions_share_nothing(look_up: Parts) -> None:
    """Keys come from fresh randomness, and the same row never gives the same bytes."""
    client = ConcreteClient.from_part(look_up.client)
    first, second = client.make_keys(), client.make_keys()
    assert first.secret != second.secret
    row = np.array([[1.0, 2.0, 3.0]])
    assert client.encrypt(first.secret, row) != client.encrypt(first.secret, row)


def test_the_evaluation_key_does_not_hold_the_secret_key(keys: KeySet) -> None:
    """No run of 16 bytes of the secret key is in what is uploaded."""
    assert keys.evaluation is not None
    body = keys.secret[100:]
    windows = {body[i : i + 16] for i in range(0, len(body) - 16, 16)}
    found = [window for window in windows if len(set(window)) > 4 and window in keys.evaluation]
    assert found == []


def test_models_of_the_same_key_set_share_keys(look_up: Parts, keys: KeySet, add: Parts) -> None:
    """A model owner who changes the table but not the parameters does not make every client upload again."""
    client = ConcreteClient.from_part(look_up.client)
    assert client.key_parameters != ConcreteClient.from_part(add.client).key_parameters
    circuit = LOOK_UP.replace(str(TABLE), str(TABLE[::-1]))
    other = ConcreteServer.from_part({**look_up.server, "circuit": circuit})  # whose parameters are compared
    blob = client.encrypt(keys.secret, np.array([[0.0, 1.0, 2.0]]))
    assert client.decrypt(keys.secret, other.evaluate(keys.evaluation, blob), 1).tolist() == [TABLE[::-1][:3]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(np.zeros((1, 4)), "shape", id="another width"),
        pytest.param(np.zeros(3), "shape", id="one dimension"),
        pytest.param(np.zeros((65, 3)), "expected 1 to 64", id="more rows than a job takes"),
        pytest.param(np.zeros((0, 3)), "expected 1 to 64", id="no row"),
        pytest.param(np.array([[0.0, np.nan, 0.0]]), "row 0", id="not a number"),
        pytest.param(np.array([[0.0, np.inf, 0.0]]), "row 0", id="infinity"),
    ],
)
def test_rows_that_the_model_does_not_take_are_refused(look_up: Parts, rows: Any, message: str) -> None:
    """Nothing is encrypted that could not be meant."""
    client = ConcreteClient.from_part(look_up.client)
    with pytest.raises(InputError, match=message):
        client.encrypt(b"", rows)


def test_a_secret_key_of_other_parameters_is_refused(look_up: Parts, keys: KeySet, add: Parts) -> None:
    """Encrypting under another model's key would give the node noise, and the client wrong numbers."""
    client, other = ConcreteClient.from_part(look_up.client), ConcreteClient.from_part(add.client)
    for secret in (other.make_keys().secret, b"", keys.secret[:-1], keys.secret + b"x"):
        with pytest.raises(KeyStoreError):
            client.encrypt(secret, np.zeros((1, 3)))


def test_a_result_for_other_rows_is_refused(look_up: Parts, keys: KeySet) -> None:
    """A node cannot answer one row with two."""
    client, server = ConcreteClient.from_part(look_up.client), ConcreteServer.from_part(look_up.server)
    result = server.evaluate(keys.evaluation, client.encrypt(keys.secret, np.zeros((1, 3))))
    with pytest.raises(ResultError, match="got 1, expected 2"):
        client.decrypt(keys.secret, result, 2)


FRESH = """
import json, os, pathlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "jsonpickle", "z3", "networkx"} or name == "concrete.fhe" or name.endswith("concrete.client"):
            raise AssertionError(f"imported {name}")
sys.meta_path.insert(0, Refuse())
import pickle, threading
def refuse(*_, **__): raise AssertionError("unpickled")
pickle.load = pickle.loads = pickle.Unpickler = refuse
from blindgate_models.servers import server_half
folder = pathlib.Path(sys.argv[1])
server = server_half("concrete").from_part(json.loads((folder / "server.json").read_text()))
left = os.listdir(os.environ["TMPDIR"])
threads = len(os.listdir("/proc/self/task"))
result = server.evaluate((folder / "key").read_bytes(), (folder / "row").read_bytes())
(folder / "result").write_bytes(result)
print(json.dumps({"left": left, "threads": threads, "after": os.listdir(os.environ["TMPDIR"])}))
"""


def test_a_fresh_worker_serves_without_torch_pickle_or_files(look_up: Parts, keys: KeySet, tmp_path: Path) -> None:
    """Neither half's frontend, unpickler or client is loaded; no file is left behind, and no thread started before the job."""
    client = ConcreteClient.from_part(look_up.client)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "server.json").write_bytes(serialise_part(look_up.server))
    (tmp_path / "key").write_bytes(keys.evaluation or b"")
    (tmp_path / "row").write_bytes(client.encrypt(keys.secret, np.array([[2.0, 2.0, 0.0]])))
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    worker = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert worker.returncode == 0, worker.stderr
    seen = json.loads(worker.stdout)
    assert seen == {"left": [], "threads": 1, "after": []}
    assert client.decrypt(keys.secret, (tmp_path / "result").read_bytes(), 1).tolist() == [[3, 3, 2]]


EVALUATE_AND_FAIL = """
import json, pathlib, sys
from blindgate_models.servers import server_half
folder = pathlib.Path(sys.argv[1])
server = server_half("concrete").from_part(json.loads((folder / "server.json").read_text()))
server.evaluate((folder / "key").read_bytes(), (folder / "row").read_bytes())
sys.exit(3)
"""


def test_a_process_that_evaluated_still_says_how_it_ended(look_up: Parts, keys: KeySet, tmp_path: Path) -> None:
    """Concrete's own exit handler ends such a process with 0: a failed command, or a failed run of tests, would look right."""
    client = ConcreteClient.from_part(look_up.client)
    (tmp_path / "server.json").write_bytes(serialise_part(look_up.server))
    (tmp_path / "key").write_bytes(keys.evaluation or b"")
    (tmp_path / "row").write_bytes(client.encrypt(keys.secret, np.array([[2.0, 2.0, 0.0]])))
    ended = subprocess.run([sys.executable, "-c", EVALUATE_AND_FAIL, str(tmp_path)], capture_output=True, check=False)
    assert ended.returncode == 3


EVALUATE_AND_BE_INTERRUPTED = """
import json, pathlib, signal, sys
from blindgate_models.servers import server_half

def dispositions():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    ignored, caught = (int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigCgt")))
    return ignored, caught & (1 << 31) - 1  # no realtime signals: libc takes those for its threads

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background was started with it ignored
before = dispositions()
folder = pathlib.Path(sys.argv[1])
server = server_half("concrete").from_part(json.loads((folder / "server.json").read_text()))
server.evaluate((folder / "key").read_bytes(), (folder / "row").read_bytes())
assert dispositions() == before, (dispositions(), before)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("cleaned up")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell what becomes of signals")
def test_signals_stay_what_they_were(look_up: Parts, keys: KeySet, tmp_path: Path) -> None:
    """Concrete takes nearly all when it is loaded: Ctrl-C would end a program that has no chance to cancel its jobs."""
    client = ConcreteClient.from_part(look_up.client)
    (tmp_path / "server.json").write_bytes(serialise_part(look_up.server))
    (tmp_path / "key").write_bytes(keys.evaluation or b"")
    (tmp_path / "row").write_bytes(client.encrypt(keys.secret, np.array([[2.0, 2.0, 0.0]])))
    ended = subprocess.run(
        [sys.executable, "-c", EVALUATE_AND_BE_INTERRUPTED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "cleaned up\n"), ended.stderr


def test_secrets_never_touch_the_disk(look_up: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making keys, encrypting and decrypting leave no file, and open none to write."""
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            opened.append(str(arguments[0]))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    client = ConcreteClient.from_part(look_up.client)
    watching = True
    sys.addaudithook(lambda event, arguments: watch(event, arguments) if watching else None)
    keys = client.make_keys()
    client.encrypt(keys.secret, np.zeros((1, 3)))
    watching = False
    assert opened == []
    assert list(tmp_path.iterdir()) == []
