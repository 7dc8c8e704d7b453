"""A large upload over a wire that breaks at random bytes, to a gateway that is killed now and then, arrives whole.

`BLINDGATE_CAMPAIGN` makes it larger: from 10 on it is one of 1 GB that is cut 200 times.
"""

import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

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
    http_client,
    make_settings,
    random_bytes,
)
from cuts import Cutter

LARGE = int(os.environ.get("BLINDGATE_CAMPAIGN", "1")) >= 10
PART = (16 if LARGE else 1) << 20
SIZE = (1 << 30) if LARGE else (24 << 20) + 4321
CUTS = 200 if LARGE else 20
RESTARTS = 5


@pytest.mark.slow
def test_an_upload_that_is_cut_again_and_again_arrives_whole(tmp_path: Path, store: Mapping[str, Any]) -> None:
    """Only what is missing is sent again, by a client that remembers nothing, and what a node then reads is what was sent."""
    chance = random.Random(20 + LARGE)
    blob = random_bytes(SIZE)
    keys = Keys()
    settings = make_settings(tmp_path / "gateway", keys, part=PART, workers=2, **store)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        sent = 0
        with Cutter(settings.port, lambda: chance.randrange(1, PART + PART // 5), CUTS) as wire:
            key = brokerage.api_key("bank")
            restarts = threading.Thread(target=_restart, args=(gateway, wire))
            restarts.start()
            while True:
                transport = Transport(wire.url, key)
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
            assert digest(worker.command(lease, "GET", f"blobs/{ref.digest}").content) == digest(blob) == ref.digest
    finally:
        gateway.kill()


def _restart(gateway: GatewayProcess, wire: Cutter) -> None:
    """Kill the gateway and start it again, each time after so many cuts."""
    for restart in range(RESTARTS):
        while wire.cuts < restart * CUTS // RESTARTS:
            time.sleep(0.001)
        gateway.kill()
        gateway.start()
