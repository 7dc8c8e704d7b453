"""What brokering costs: a job of 1 KB with nothing to compute, from its upload to its result.

A real gateway (gunicorn, SQLite with `synchronous=FULL`) on this machine, one tenant and one node, each an HTTP client with a
connection kept alive, signing and verifying real documents. A run is four requests: submit, with the input; lease (a long poll that
was waiting), with the input; commit, with the result; the job's end (a long poll that was waiting), with the result.

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

from blindgate_protocol.canonical import digest
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import open_signed
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    blob_ref,
    http_client,
    make_settings,
    opened_order,
    random_bytes,
)

RUNS = 200
WARM_UP = 20
JOB_BYTES = 1024
TARGET_MS = 10.0
DURABLE_STEPS = 3
"""The order with its input, the lease, the receipt with its result: each one transaction."""
LOG_BYTES = 9 * 4120
"""What SQLite appends for one of these transactions: some nine pages with their headers."""


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
                data = random_bytes(JOB_BYTES)
                order = tenant.order(manifest, blob_ref(data))
                view = tenant.job(tenant.submit(order, data).job, wait=30_000, inline=JOB_BYTES)
                assert view.receipt is not None
                receipt = open_signed(view.receipt, Receipt)
                assert view.result_data is not None
                assert digest(view.result_data) == receipt.document.output.digest

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
            assert lease.input_data is not None
            assert digest(lease.input_data) == opened_order(lease.order).document.input.digest
            worker.finish(lease, lease.input_data[::-1], along=True)


def durable_steps(folder: Path) -> Callable[[], None]:
    """What has to reach the disk for one job, and nothing else."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def steps() -> None:
        for _ in range(DURABLE_STEPS):
            os.write(log, bytes(LOG_BYTES))
            os.fdatasync(log)

    return steps


def milliseconds(work: Callable[[], None]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
