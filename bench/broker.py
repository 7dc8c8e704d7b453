"""What brokering costs: a job of 1 KB with nothing to compute, from its upload to its result.

A real gateway (gunicorn, SQLite with `synchronous=FULL`) on this machine, one tenant and one node, each an HTTP client with a
connection kept alive, signing and verifying real documents. A run is nine requests: upload (two), submit, lease (a long poll that
was waiting), download of the input, upload of the result, commit, the job's end (a long poll that was waiting), download of the
result.

The peer is what this machine's disk asks for the promises made on the way: `DURABLE_STEPS`, done bare, in the same folder, in turn
with the runs, so that a disk that others use is as slow for both. What the target bounds is the rest: the medians' difference.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rows import Row, row

from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    http_client,
    make_settings,
    opened_order,
    random_bytes,
)

RUNS = 200
WARM_UP = 20
JOB_BYTES = 1024
TARGET_MS = 10.0
DURABLE_STEPS = {"file, name and folder": 2, "append to a log": 5}
"""Input and result are each a file, a name in a folder and a row; order, lease and commit are each a row."""
LOG_BYTES = 4 * 4120
"""What SQLite appends for one of these transactions: some four pages with their headers."""


def rows(runs: int = RUNS) -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        steps = durable_steps(Path(folder))
        with one_job(Path(folder) / "gateway") as job:
            for _ in range(WARM_UP):
                job()
            pairs = [(milliseconds(job), milliseconds(steps)) for _ in range(runs)]
    over = [whole - disk for whole, disk in pairs]
    name = "submit → lease → commit → result of a 1 KB job"
    return [
        row(f"{name}, over the machine's own fsync time", over, TARGET_MS, target=1.0, unit="ms"),
        row(f"{name}, in all, against fsync alone", *zip(*pairs, strict=True), target=None, unit="ms"),
    ]


@contextmanager
def one_job(data: Path) -> Iterator[Callable[[], None]]:
    """A running gateway with a tenant and a node; gives what does one job."""
    keys = Keys()
    brokerage = Brokerage(make_settings(data, keys), keys)
    gateway = GatewayProcess(brokerage.settings)
    gateway.start()
    stop = threading.Event()
    try:
        with http_client(gateway.url) as tenant_http, http_client(gateway.url) as node_http:
            manifest = brokerage.manifest()
            Publisher(tenant_http, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(tenant_http, brokerage.api_key("bank"), name="bank", keys=keys)
            node = threading.Thread(target=_work, args=(Worker(node_http, brokerage), stop))
            node.start()

            def job() -> None:
                order = tenant.order(manifest, tenant.upload(random_bytes(JOB_BYTES)))
                view = tenant.job(tenant.submit(order).job, wait=30_000)
                assert len(tenant.ask("GET", f"/v1/jobs/{view.job}/result").content) == JOB_BYTES

            try:
                yield job
            finally:
                stop.set()
                node.join()
    finally:
        gateway.stop()


def _work(worker: Worker, stop: threading.Event) -> None:
    while not stop.is_set():
        lease = worker.lease(wait=500)
        if lease is not None:
            digest = opened_order(lease.order).document.input.digest
            data = worker.command(lease, "GET", f"blobs/{digest}").content
            worker.finish(lease, data[::-1])


def durable_steps(folder: Path) -> Callable[[], None]:
    """What has to reach the disk for one job, and nothing else."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    place = os.open(folder, os.O_RDONLY)
    numbers = iter(range(1 << 30))

    def steps() -> None:
        for _ in range(DURABLE_STEPS["file, name and folder"]):
            name = folder / f"blob-{next(numbers)}"
            file = os.open(name, os.O_WRONLY | os.O_CREAT)
            os.write(file, bytes(JOB_BYTES))
            os.fsync(file)
            os.close(file)
            name.with_suffix(".kept").hardlink_to(name)
            os.fsync(place)
        for _ in range(DURABLE_STEPS["append to a log"]):
            os.write(log, bytes(LOG_BYTES))
            os.fdatasync(log)

    return steps


def milliseconds(work: Callable[[], None]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
