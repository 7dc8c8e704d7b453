"""The demo's trees under TFHE, one row on one core: the node's half against Concrete's own calls.

Peer: concrete-python's bindings called directly, without our checks and blobs: parse the row, call the circuit, serialise what
comes out. Ours: from the bytes of a job to the bytes of its result. Both in this process, on the same circuit and key, in turn;
process CPU time.

- *key in memory*: the key was used before, on both sides;
- *key from bytes*: the key is parsed and expanded too, as in a process that starts afresh for each job.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.rows import Row, row

from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.runtime import load_runtime
from blindgate_models.concrete.server import ConcreteServer, compile_circuit
from blindgate_models.concrete.spec import HEADER_BYTES
from blindgate_models.package import parse_part, read_package

RUNS: Final = 5
TARGET: Final = round(1 / 1.15, 3)
PACKAGE: Final = Path(__file__).resolve().parents[1] / "examples" / "models" / "breast-cancer-trees.bgmodel"


def rows(runs: int = RUNS) -> list[Row]:
    """Measure both. Raises `RuntimeError` when ours and the peer's answers are not the same."""
    files = read_package(PACKAGE)
    client_part, server_part = parse_part(files.client), parse_part(files.server)
    client, server = ConcreteClient.from_part(client_part), ConcreteServer.from_part(server_part)
    keys = client.make_keys()
    patient = np.zeros((1, client_part["features"]))
    job = client.encrypt(keys.secret, patient)
    key, ciphertext = (keys.evaluation or b"")[HEADER_BYTES:], job[HEADER_BYTES:]

    runtime = load_runtime()
    call = _library_circuit(runtime, server_part)
    parsed, direct = runtime.ServerKeyset.deserialize(key), server.direct(keys.evaluation)

    def peer(native_key: Any) -> bytes:
        (result,) = call([runtime.TransportValue.deserialize(ciphertext)], native_key)
        serialised: bytes = result.serialize()
        return serialised

    ours = direct(job)
    if not np.array_equal(
        client.decrypt(keys.secret, ours, 1), client.decrypt(keys.secret, ours[:HEADER_BYTES] + peer(parsed), 1)
    ):
        raise RuntimeError("ours and the peer's scores differ")
    warm = _seconds(lambda: direct(job), lambda: peer(parsed), runs)
    cold = _seconds(
        lambda: server.evaluate(keys.evaluation, job), lambda: peer(runtime.ServerKeyset.deserialize(key)), runs
    )
    return [
        row("TFHE trees, one row, key in memory", *warm, target=TARGET, unit="s CPU"),
        row("TFHE trees, one row, key from bytes", *cold, target=TARGET, unit="s CPU"),
    ]


def _library_circuit(runtime: Any, part: dict[str, Any]) -> Callable[..., Any]:
    """The same circuit, compiled once more and called without anything of ours."""
    with tempfile.TemporaryDirectory() as folder:
        library = compile_circuit(part["circuit"], part["p_error"], folder)
        program = runtime.ServerProgram(library, False)  # noqa: FBT003
        call: Callable[..., Any] = program.get_server_circuit(part["specs"]["circuits"][0]["name"]).call
    return call


def _seconds(ours: Callable[[], Any], peer: Callable[[], Any], runs: int) -> tuple[list[float], list[float]]:
    """CPU seconds of each run of both, taken in turn."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(runs):
        for work, times in zip((ours, peer), taken, strict=True):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
    return taken
