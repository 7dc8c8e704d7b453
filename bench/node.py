"""What a node costs: at rest, and for a job with nothing to compute.

- *at rest*: a node that has served a job and has had none for its idle time; the resident memory of all its processes.
- *a worker*: one job of 1 KB through a zygote that is warm: a process of its own, confined, its result sealed and hashed.
- *a node's share*: from a lease's answer to the commit's request, over HTTP, with every check, the receipt signed and on disk; less
  the time of one bare `fdatasync` of as many bytes in the same folder. The gateway here answers at once.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from bench.rows import Row, row

from brokerage import Keys, random_bytes
from lying_gateway import LyingGateway
from node_process import ECHO, NodeProcess
from worker_pool import workers

RUNS = 200
WARM_UP = 20
JOB_BYTES = 1024
RECEIPT_BYTES = 4096
IDLE_SECONDS = 1.0
REST_MB, WORKER_MS = 200.0, 10.0


def rows(runs: int = RUNS) -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        Path(folder).chmod(0o711)
        worker = _worker_ms(Path(folder), runs)
        share, rest = _node(Path(folder), runs)
        floor = _median_ms(_sync(Path(folder)), runs)
    return [
        row("node at rest", rest, REST_MB, target=1.0, unit="MB", runs=1),
        row(
            "1 KB job with nothing to compute, in a worker of its own",
            worker,
            WORKER_MS,
            target=1.0,
            unit="ms",
            runs=runs,
        ),
        row("node's share of a 1 KB job, over one fsync", share - floor, WORKER_MS, target=1.0, unit="ms", runs=runs),
    ]


def _worker_ms(folder: Path, runs: int) -> float:
    given = random_bytes(JOB_BYTES)
    with workers(folder / "workers") as rig:
        model = rig.model(ECHO)
        return _median_ms(lambda: rig.run(model, given), runs)


def _node(folder: Path, runs: int) -> tuple[float, float]:
    """The median share of a job in milliseconds, and the megabytes at rest."""
    keys = Keys()
    gateway = LyingGateway(keys)
    node = NodeProcess(
        folder / "node",
        gateway.url,
        publisher=keys.publisher.id,
        operator=keys.operator,
        name="node-1",
        idle_seconds=IDLE_SECONDS,
    )
    node.start("enrolment-token-of-the-bench")
    try:
        manifest = gateway.manifest(family=ECHO)
        times = []
        for _ in range(runs):
            order = gateway.order(manifest, random_bytes(JOB_BYTES))
            began = time.perf_counter()
            gateway.offer(manifest.envelope, order)
            gateway.outcome()
            times.append((time.perf_counter() - began) * 1000)
        node.until(lambda: node.family() == [])
        rest = sum(process.memory_info().rss for process in [psutil.Process(node.pid), *node.family()])
    finally:
        node.stop()
        gateway.close()
    return statistics.median(times), rest / 1e6


def _sync(folder: Path) -> Callable[[], None]:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def sync() -> None:
        os.write(log, bytes(RECEIPT_BYTES))
        os.fdatasync(log)

    return sync


def _median_ms(work: Callable[[], object], runs: int) -> float:
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
