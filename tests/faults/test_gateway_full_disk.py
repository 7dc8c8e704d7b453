"""A disk that is full: what needs room is told to come again, what does not is answered, and room heals everything."""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from blindgate_gateway.folder import FolderBlobs
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRequest, UploadRequest
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Running,
    Tenant,
    Worker,
    blob_ref,
    http_client,
    make_settings,
    random_bytes,
)
from disks import fill, small_disk


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 12 MiB."""
    with small_disk(12) as made:
        yield made


@pytest.fixture
def running(disk: Path) -> Iterator[Running]:
    """A gateway on the small disk, which writes its log there, too."""
    keys = Keys()
    settings = make_settings(disk / "gateway", keys, threads=8, log_file=disk / "log.jsonl")
    brokerage = Brokerage(settings, keys)
    gateway = GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            manifest = brokerage.manifest()
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            yield Running(brokerage, gateway, manifest, tenant, Worker(http, brokerage))
    finally:
        if gateway.running:
            gateway.kill()


def test_a_gateway_on_a_full_disk_says_so_and_heals_when_there_is_room(running: Running, disk: Path) -> None:
    """No worker dies of it, reading goes on, and the commit that was refused is taken later."""
    tenant, worker = running.tenant, running.worker
    job = tenant.submit(tenant.order(running.manifest, tenant.upload(b"input"))).job
    lease = worker.lease()
    assert lease is not None
    output = random_bytes(60_000)
    receipt = worker.receipt(lease, output)
    workers = running.gateway.workers()
    fill(disk)
    tenant.send("GET", "/readyz")
    for _ in range(20):
        filler = fill(disk)  # a database that tidies up may have made room
        small, large = random_bytes(30_000), blob_ref(random_bytes(100_000))
        order = tenant.order(running.manifest, blob_ref(small))
        refused = (
            tenant.send("GET", "/readyz"),
            tenant.send("POST", "/v1/uploads", UploadRequest(size=large.size, sha256=large.digest)),
            tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=small)),
            worker.commit(lease, receipt, output),
        )
        assert [(answer.status_code, answer.headers.get("Retry-After")) for answer in refused] == [(503, "1")] * 4
        assert tenant.job(job).state is JobState.LEASED
        assert tenant.send("GET", "/metrics").status_code == 200
    filler.unlink()
    assert worker.commit(lease, receipt, output).status_code == 200
    assert tenant.job(job).state is JobState.SUCCEEDED
    assert tenant.send("GET", "/readyz").status_code == 200
    assert running.gateway.workers() == workers


def test_bytes_of_which_the_disk_takes_only_some_are_not_taken(disk: Path) -> None:
    """The system says so by a number, and no error comes: what was cut off must not be acknowledged."""
    blobs, data = FolderBlobs(disk), random_bytes(64 * 1024)
    blobs.prepare()
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - 3 * 4096)
    with blobs.incoming("bank", blob_ref(data).digest) as incoming, pytest.raises(OSError, match="No space left"):
        incoming.fill(BytesIO(data), len(data))


def test_the_files_of_the_counts_have_no_holes(running: Running) -> None:
    """They are mapped into memory: a hole that a full disk cannot fill would end the process that counts."""
    running.tenant.ask("GET", "/v1/jobs")
    files = list((running.brokerage.settings.data / "metrics").glob("*.db"))
    assert len(files) == 2
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0


def test_a_log_that_cannot_be_written_costs_no_request(tmp_path: Path) -> None:
    """Its lines are lost, and nothing else."""
    keys = Keys()
    gateway = GatewayProcess(make_settings(tmp_path / "gateway", keys, log_file=Path("/dev/full")))
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            assert http.get("/v1/jobs").status_code == 401
    finally:
        assert gateway.stop() == 0
