"""What is large passes through a gateway process without staying in it."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from blindgate_protocol.manifest import Limits
from blindgate_protocol.messages import Upload, UploadRequest
from brokerage import Brokerage, GatewayProcess, Keys, Publisher, Running, Tenant, Worker, http_client, make_settings

PART = 16 << 20
SIZE = 256 << 20
MOST = 40 << 20
"""What a gateway may need beside what it has: less than the four parts that are on their way at once."""


@pytest.fixture
def running(tmp_path: Path, store: Mapping[str, Any]) -> Iterator[Running]:
    """A gateway of one worker on each store."""
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys, part=PART, **store)
    brokerage = Brokerage(settings, keys)
    gateway = GatewayProcess(settings, fresh=True)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            limits = Limits(rows_per_job=1, input_bytes=SIZE, result_bytes=SIZE, evaluation_key_bytes=1)
            manifest = brokerage.manifest(limits=limits)
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            yield Running(brokerage, gateway, manifest, tenant, Worker(http, brokerage))
    finally:
        gateway.kill()


def _part(number: int) -> bytes:
    """A part's bytes, the same each time."""
    return hashlib.shake_128(number.to_bytes(4, "big")).digest(1 << 16) * (PART >> 16)


def _memory(gateway: GatewayProcess, what: str) -> int:
    """A figure of the worker's memory, in bytes."""
    (worker,) = gateway.workers()
    (kib,) = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    return int(kib) << 10


@pytest.mark.slow
def test_memory_stays_flat_while_a_large_blob_comes_and_goes(running: Running) -> None:
    """256 MiB up in sixteen parts, four at once, down again, and back as a result."""
    sha256 = hashlib.sha256()
    for number in range(1, SIZE // PART + 1):
        sha256.update(_part(number))
    digest = f"sha256:{sha256.hexdigest()}"
    running.tenant.upload(_part(1))  # whatever it needs only once
    (worker,) = running.gateway.workers()
    before = _memory(running.gateway, "VmRSS")
    Path(f"/proc/{worker}/clear_refs").write_text("5")
    answer = running.tenant.ask("POST", "/v1/uploads", UploadRequest(size=SIZE, sha256=digest))
    upload = Upload.model_validate_json(answer.content)
    assert len(upload.missing) == 16

    def send(number: int) -> str:
        sent = running.tenant.ask("PUT", f"/v1/uploads/{upload.upload}/parts/{number}", _part(number))
        return str(sent.json()["status"])

    with ThreadPoolExecutor(4) as pool:
        assert "complete" in set(pool.map(send, upload.missing))
    up = _memory(running.gateway, "VmHWM") - before
    ref = running.tenant.upload(_part(1)).model_copy(update={"size": SIZE, "digest": digest})
    running.tenant.submit(running.tenant.order(running.manifest, ref))
    lease = running.worker.lease()
    assert lease is not None
    got = running.worker.command(lease, "GET", f"blobs/{digest}").content
    assert hashlib.sha256(got).hexdigest() == sha256.hexdigest()
    assert running.worker.command(lease, "PUT", "result", got).status_code == 204
    both = _memory(running.gateway, "VmHWM") - before
    print(f"a 256 MiB blob took {up >> 20} MiB of the gateway's memory on its way in, {both >> 20} in all")
    assert both < MOST
