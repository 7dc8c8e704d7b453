"""What a large blob costs the gateway: 256 MiB up in parts of 16 MiB, four at once, and down again, digests checked.

A real gateway process on this machine, on a local folder and on an S3 store (moto's server, another process). The clients are this
process; what is counted is the processor time of the gateway's worker, so a figure is megabytes for each second of one core. An
upload's time ends when the gateway has read the whole back, compared its digest and put its row on the disk.
What a reader spends on checking the digest of a download is its own.

The peers, in the same run: the figure that was asked for; SHA-256 alone, in memory; and a bare copy of a file with its fsync.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.rows import Row, row

from blindgate_protocol.manifest import Limits
from blindgate_protocol.messages import Upload, UploadRequest
from blindgate_protocol.values import BlobRef
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
    random_bytes,
)
from s3 import S3Server

RUNS = 5
SIZE = 256 << 20
PART = 16 << 20
AT_ONCE = 4
TARGET = 150.0
MEGA = 1e6


@dataclass
class Measured:
    """Megabytes for each second of a core, and mebibytes of memory beyond what the gateway had before."""

    up: list[float]
    down: list[float]
    memory: float


def rows(runs: int = RUNS) -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        here = Path(folder)
        local = measure(here / "local", {}, runs)
        copies = [rate(lambda: copy_file(here)) for _ in range(runs)]
        server = S3Server(here)
        server.start()
        try:
            stored = measure(here / "stored", server.new_bucket(), runs)
        finally:
            server.stop()
    data = random_bytes(SIZE)
    hashes = [rate(lambda: hashlib.sha256(data)) for _ in range(runs)]
    found = []
    for name, measured in (("a folder", local), ("S3", stored)):
        for way, figures in (("to", measured.up), ("from", measured.down)):
            of_core = f"256 MiB {way} {name}, MB/s of a gateway's core"
            asked: dict[str, Any] = {"unit": "MB/s", "more_is_better": True}
            found.append(row(f"{of_core}, against what was asked", figures, TARGET, target=1.0, **asked))
            found.append(row(f"{of_core}, against SHA-256 alone", figures, hashes, target=None, **asked))
            found.append(row(f"{of_core}, against copying a file", figures, copies, target=None, **asked))
        most = float(AT_ONCE * PART >> 20)
        in_all = f"memory for 256 MiB to and from {name}, against the parts under way"
        found.append(row(in_all, measured.memory, most, target=1.0, unit="MiB", runs=runs))
    return found


def measure(data: Path, store: Mapping[str, Any], runs: int) -> Measured:
    """Send blobs through a gateway on `store`."""
    with a_gateway(data, store) as (gateway, tenant, worker, submit):
        transfer(tenant, random_bytes(2 * PART))  # whatever it needs only once
        (process,) = gateway.workers()
        before = memory_of(process, "VmRSS")
        Path(f"/proc/{process}/clear_refs").write_text("5")
        up, down = [], []
        for _ in range(runs):
            blob = random_bytes(SIZE)
            began = seconds_of(process)
            ref = transfer(tenant, blob)
            up.append(SIZE / MEGA / (seconds_of(process) - began))
            submit(ref)
            lease = worker.lease()
            assert lease is not None
            began = seconds_of(process)
            got = worker.command(lease, "GET", f"blobs/{ref.digest}").content
            down.append(SIZE / MEGA / (seconds_of(process) - began))
            assert blob_ref(got) == ref
            worker.finish(lease, b"done", along=True)
        return Measured(up, down, float((memory_of(process, "VmHWM") - before) >> 20))


@contextmanager
def a_gateway(
    data: Path, store: Mapping[str, Any]
) -> Iterator[tuple[GatewayProcess, Tenant, Worker, Callable[[BlobRef], None]]]:
    """A running gateway with a tenant, a node, and what submits a job over a blob."""
    keys = Keys()
    brokerage = Brokerage(make_settings(data, keys, part=PART, **store), keys)
    gateway = GatewayProcess(brokerage.settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            limits = Limits(rows_per_job=1, input_bytes=SIZE, result_bytes=SIZE, evaluation_key_bytes=1)
            manifest = brokerage.manifest(limits=limits)
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)

            def submit(ref: BlobRef) -> None:
                tenant.submit(tenant.order(manifest, ref))

            yield gateway, tenant, Worker(http, brokerage), submit
    finally:
        gateway.stop()


def transfer(tenant: Tenant, blob: bytes) -> BlobRef:
    """Upload `blob`, several parts at once."""
    ref, view = blob_ref(blob), memoryview(blob)
    answer = tenant.ask("POST", "/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest))
    upload = Upload.model_validate_json(answer.content)

    def send(number: int) -> bool:
        part = bytes(view[(number - 1) * PART : number * PART])
        sent = tenant.ask("PUT", f"/v1/uploads/{upload.upload}/parts/{number}", part)
        return bool(sent.json()["status"] == "complete")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert any(pool.map(send, upload.missing))
    return ref


def copy_file(folder: Path) -> None:
    """Copy a file of the same size as a process would that looks at its bytes, onto the disk."""
    source, target = folder / "source", folder / "target"
    if not source.exists():
        source.write_bytes(random_bytes(SIZE))
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        while chunk := read.read(1 << 18):
            write.write(chunk)
        os.fsync(write.fileno())


def rate(work: Callable[[], object]) -> float:
    """Megabytes for each second of this process's time, where `work` handles `SIZE` bytes."""
    began = time.process_time()
    work()
    return SIZE / MEGA / (time.process_time() - began)


def seconds_of(process: int) -> float:
    """How much processor time a process has used, of all its threads, in user and kernel."""
    # The scheduler's own count, to the nanosecond; /proc/…/stat has ticks of ten milliseconds.
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def memory_of(process: int, what: str) -> int:
    """A figure of a process's memory, in bytes."""
    (kib,) = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(kib) << 10
