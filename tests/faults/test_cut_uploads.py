"""A large upload over a wire that breaks at random bytes, to a gateway that is killed now and then, arrives whole.

By each way that bytes may take: through the gateway into its folder, through it into an S3 store, and straight to the store, whose
wire is then the one that breaks. The whole is an upload of 1 GB that is cut 200 times; `make test` has a slice of some MB.
"""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

import campaigns
from blindgate.transport import Transport
from blindgate.uploads import upload
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import GatewayError
from blindgate_protocol.manifest import Limits
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    free_port,
    http_client,
    make_settings,
    random_bytes,
)
from cuts import Cutter
from ledger import collect
from s3 import S3Server

PART = campaigns.of(16, slice_of=1) << 20
SIZE = campaigns.of(1 << 30, slice_of=(16 << 20) + 4321)
CUTS = campaigns.of(200, slice_of=8)
RESTARTS = campaigns.of(5, slice_of=2)
GROWTH = 128 << 20
"""Bytes by which a process may grow meanwhile, whatever the size of the upload."""

Way = Literal["folder", "s3", "straight to s3"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["folder", "s3", "straight to s3"])
def test_an_upload_that_is_cut_again_and_again_arrives_whole(
    way: Way, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Only what is missing is sent again, by a client that remembers nothing, and what a node then reads is what was sent.

    Neither client nor gateway holds more than a few parts of it, and nothing of what was cut is left in the store.
    """
    chance, blob, keys, port, sent = random.Random(CUTS), random_bytes(SIZE), Keys(), free_port(), 0
    server: S3Server | None = None if way == "folder" else request.getfixturevalue("s3_server")
    target = server.port if server is not None and way == "straight to s3" else port
    with Cutter(target, lambda: chance.randrange(1, PART + PART // 5), CUTS) as wire:
        store: Mapping[str, Any] = {} if server is None else server.new_bucket()
        if target != port:
            store = {**store, "s3_public": wire.url}
        settings = make_settings(tmp_path / "gateway", keys, port=port, part=PART, workers=2, **store)
        brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
        gateway.start()
        try:
            key = brokerage.api_key("bank")
            restarts = threading.Thread(target=_restart, args=(gateway, wire))
            restarts.start()
            with _watched(gateway) as grown:
                while True:
                    transport = Transport(wire.url if target == port else gateway.url, key)
                    try:
                        ref = upload(transport, blob)
                        break
                    except GatewayError:
                        continue  # it gave up, and another begins again
                    finally:
                        sent += transport.bytes_sent
                        transport.close()
            restarts.join()
            assert wire.cuts == CUTS
            assert sent < 2 * SIZE + CUTS * PART
            assert max(grown.values()) < GROWTH, grown
            with http_client(gateway.url) as http:
                manifest = brokerage.manifest(
                    limits=Limits(rows_per_job=1, input_bytes=SIZE, result_bytes=1, evaluation_key_bytes=1)
                )
                Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
                tenant = Tenant(http, key, name="bank", keys=keys)
                worker = Worker(http, brokerage)
                tenant.submit(tenant.order(manifest, ref))
                lease = worker.lease()
                assert lease is not None
                read = worker.command(lease, "GET", f"blobs/{ref.digest}").content
            assert digest(read) == digest(blob) == ref.digest
            collect(settings)
        finally:
            gateway.kill()


def _restart(gateway: GatewayProcess, wire: Cutter) -> None:
    """Kill the gateway and start it again, each time after so many cuts."""
    for restart in range(RESTARTS):
        while wire.cuts < restart * CUTS // RESTARTS:
            time.sleep(0.001)
        gateway.kill()
        gateway.start()


@contextmanager
def _watched(gateway: GatewayProcess) -> Iterator[Mapping[str, int]]:
    """By how many bytes this process, and the largest worker of the gateway, grow while the block runs."""
    grown, over = {"client": 0, "gateway": 0}, threading.Event()
    first: dict[str, int] = {}

    def watch() -> None:
        while not over.wait(0.02):
            for process in ("self", *map(str, gateway.workers())):
                with suppress(FileNotFoundError, ProcessLookupError):
                    size = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
                    who = "client" if process == "self" else "gateway"
                    grown[who] = max(grown[who], size - first.setdefault(process, size))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield grown
    finally:
        over.set()
        watching.join()
