"""Models that stay hidden from those who ask them: private forests and additive models, one row on one core.

Peer of the forest: Concrete ML's own XGBoost of the same size at 3 bits, as its users run it, its key in memory; where there is no
compile environment, that row is left out. The additive model has no peer and is held against what was asked for. Process CPU time,
one thread. *Precomputation* is what a node does before there is a query: masks, covers, noise.

Rows of the forest say who computed: Blindgate's kernel in C, which users get where their wheel was built with one, or SEAL. SEAL
computes the additive model: it has few outputs.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.rows import Row, arithmetics, row

from blindgate.encryptors import Encryptors, cores
from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.compilers.compile_environment import find_compile_python
from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.package import serialise_part
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from models.breast_cancer import ADDITIVE, FOREST, build, patients

HERE: Final = Path(__file__).resolve().parent
WORKER: Final = HERE.parent / "fhe_models" / "blindgate_models" / "compilers" / "concrete_worker.py"
RUNS: Final = 9
PEER_RUNS: Final = 5
TARGET: Final = 300.0
MOST_PRECOMPUTATION_MS: Final = 50.0
MOST_ADDITIVE_MS: Final = 5.0
MOST_UP_KB, MOST_DOWN_KB = 100.0, 20.0
MOST_ENCRYPTION_MS: Final = 40.0
_CHUNKS: Final = 200


def rows(runs: int = RUNS) -> list[Row]:
    """Measure both families, and a client's encryption. Raises `RuntimeError` when a score is not the forest's."""
    python = find_compile_python()
    peer = None if python is None else _concrete_ml(python)
    found: list[Row] = []
    for who in arithmetics():
        found += _forest(runs, peer, who)
    return [*found, *_additive(runs), *_client(runs), *_encryption(runs)]


def _forest(runs: int, peer: list[float] | None, who: str) -> Iterator[Row]:
    compiled = build(FOREST)
    client, server = TreesClient.from_part(compiled.client), TreesServer.from_part(compiled.server)
    blob = client.encrypt(client.make_keys().secret, patients()[1].to_numpy()[:1])
    drawing, answering = _prepared(server, blob, runs)
    if peer is not None:
        name = f"private forest 50 x depth 4, one row, {who}, against Concrete ML at 3 bits"
        yield row(name, answering, peer, target=TARGET, unit="ms CPU")
    name = f"private forest, precomputation for a query, {who}"
    yield row(name, drawing, MOST_PRECOMPUTATION_MS, target=1.0, unit="ms CPU")


def _additive(runs: int) -> Iterator[Row]:
    compiled = build(ADDITIVE)
    client, server = AdditiveClient.from_part(compiled.client), AdditiveServer.from_part(compiled.server)
    blob = client.encrypt(client.make_keys().secret, patients()[1].to_numpy()[:1])
    _, answering = _prepared(server, blob, runs)
    yield row("additive, one row, model private", answering, MOST_ADDITIVE_MS, target=1.0, unit="ms CPU")


def _prepared(server: TreesServer | AdditiveServer, blob: bytes, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of what comes before a query, and of a query, each of its runs; the first does not count."""
    taken = [
        (_milliseconds(server.prepare), _milliseconds(lambda: server.evaluate(None, blob))) for _ in range(runs + 1)
    ]
    return [drawing for drawing, _ in taken[1:]], [answering for _, answering in taken[1:]]


def _client(runs: int) -> Iterator[Row]:
    patient = patients()[1].to_numpy()[:1]
    forest, additive = build(FOREST), build(ADDITIVE)
    client = TreesClient.from_part(forest.client)
    secret = client.make_keys().secret
    blob = client.encrypt(secret, patient)
    result = TreesServer.from_part(forest.server).evaluate(None, blob)
    yield row(
        "private forest, client: encrypt",
        _times(lambda: client.encrypt(secret, patient), runs),
        _times(lambda: client.decrypt(secret, result, 1), runs),
        target=None,
        unit="ms CPU (peer: decrypt)",
    )
    yield row("private forest, up", len(blob) / 1e3, len(result) / 1e3, target=None, unit="KB (peer: down)", runs=runs)
    asker = AdditiveClient.from_part(additive.client)
    blob = asker.encrypt(asker.make_keys().secret, patient)
    result = AdditiveServer.from_part(additive.server).evaluate(None, blob)
    yield row("additive, one row, up", len(blob) / 1e3, MOST_UP_KB, target=1.0, unit="KB", runs=runs)
    yield row("additive, one row, down", len(result) / 1e3, MOST_DOWN_KB, target=1.0, unit="KB", runs=runs)


def _concrete_ml(python: Path) -> list[float]:
    """Milliseconds of Concrete ML's forest of the same size for one row, its key used before."""
    train, _, known, _ = patients()
    given = {"rows": train.to_numpy().tolist(), "answers": known.tolist(), "worker": str(WORKER), "runs": PEER_RUNS}
    done = subprocess.run(
        [python, "-I", HERE / "concrete_ml_forest.py"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return [each * 1e3 for each in seconds]


def _encryption(runs: int) -> Iterator[Row]:
    ranges = np.array([[-1.0, 1.0]] * 30)
    part = linear_parts(np.ones((1, 30)), np.zeros(1), ranges, precision=1e-4)[0]
    client = LinearClient(part)
    table = np.random.default_rng(0).uniform(-1, 1, (4096, 30))
    secret = client.make_keys().secret
    each = [taken / 3 for taken in _times(lambda: client.encrypt(secret, table), runs)]
    yield row("client: encrypt 4096x30, each 10 ciphertexts", each, MOST_ENCRYPTION_MS, target=1.0, unit="ms CPU")

    chunks = [table] * _CHUNKS
    began = time.perf_counter()
    for chunk in chunks:
        client.encrypt(secret, chunk)
    alone = time.perf_counter() - began
    began = time.perf_counter()
    with Encryptors(client, "linear", serialise_part(part.model_dump()), secret, len(chunks)) as encryptors:
        together = list(encryptors.encrypt(chunks))
    taken = time.perf_counter() - began
    name = f"client: encrypt {len(together)} times 4096x30 by {cores()} cores, against one"
    yield row(name, taken, alone, target=None, unit="s", runs=1)


def _times(work: Callable[[], Any], runs: int) -> list[float]:
    """Milliseconds of CPU of each run, after one that does not count."""
    return [_milliseconds(work) for _ in range(runs + 1)][1:]


def _milliseconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3
