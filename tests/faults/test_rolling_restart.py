"""Gateways behind nginx are restarted one after the other, and nobody sees a failed request.

The nginx is real and has the configuration of `deploy/`; the gateways work on one PostgreSQL and one bucket. Tenants and nodes
send every request once: what is not answered as it would be at any other time fails the test, and so does a job that does not end
once. The whole campaign restarts three gateways five times each; `make test` has two, and restarts one once.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

import campaigns
from blindgate.transport import Transport
from blindgate.uploads import upload
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import all_jobs, attempts
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import Lease, LeaseRequest
from brokerage import (
    FAMILY,
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    blob_ref,
    make_settings,
    opened_order,
    random_bytes,
)
from nginx import Nginx, find_nginx
from postgresql import PostgresqlServer
from runs import running, wait_until
from s3 import S3Server

GATEWAYS = campaigns.of(3, slice_of=2)
RESTARTED = campaigns.of(3, slice_of=1)
ROUNDS = campaigns.of(5, slice_of=1)
DRAIN = 3000
LARGE = 200_000
PART = 64 * 1024
HUGE = 48 << 20


class Counting(httpx2.BaseTransport):
    """Sends every request once and keeps what came of it."""

    def __init__(self, nginx: Nginx) -> None:
        self._inner = httpx2.HTTPTransport(verify=nginx.context())
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it."""
        try:
            response = self._inner.handle_request(request)
        except httpx2.TransportError as error:
            self._count(f"{request.method} {request.url.path}: {type(error).__name__}")
            raise
        self._count(
            "good" if response.status_code < 400 else f"{request.method} {request.url.path}: {response.status_code}"
        )
        return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1


@dataclass
class Fleet:
    """Gateways behind nginx, and one client for everybody."""

    nginx: Nginx
    gateways: list[GatewayProcess]
    settings: Settings
    brokerage: Brokerage
    counting: Counting
    http: httpx2.Client
    submitted: list[str] = field(default_factory=list)


@pytest.fixture
def fleet(tmp_path: Path, postgresql_server: PostgresqlServer, s3_server: S3Server) -> Iterator[Fleet]:
    """All of them running."""
    program = find_nginx()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("nginx is not installed (Debian: nginx-light)")
    keys = Keys()
    given: dict[str, Any] = {"database": postgresql_server.new_database(), **s3_server.new_bucket()}
    given |= {"drain": DRAIN, "part": PART, "max_blob": 64 << 20, "proxies": ("127.0.0.1",), "threads": 16}
    settings = [make_settings(tmp_path / f"gateway-{number}", keys, **given) for number in range(GATEWAYS)]
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(folder, program, [one.port for one in settings])
    settings = [one.model_copy(update={"addresses": (nginx.url,)}) for one in settings]
    gateways = [GatewayProcess(one) for one in settings]
    nginx.start()
    try:
        for gateway in gateways:
            gateway.start()
        counting = Counting(nginx)
        with httpx2.Client(transport=counting, base_url=nginx.url, timeout=60) as http:
            yield Fleet(nginx, gateways, settings[0], Brokerage(settings[0], keys), counting, http)
    finally:
        for gateway in gateways:
            if gateway.running:
                gateway.kill()
        nginx.stop()


@pytest.mark.slow
def test_gateways_are_restarted_one_after_the_other_and_nobody_notices(fleet: Fleet) -> None:
    """Not one request fails, not one connection breaks, and every job ends once."""
    manifest = fleet.brokerage.manifest()
    Publisher(fleet.http, fleet.brokerage.api_key("models", publish=True)).publish(manifest)
    over = threading.Event()
    runs: list[Callable[[], None]] = []
    for name in ("bank", "clinic"):
        tenant = Tenant(fleet.http, fleet.brokerage.api_key(name), name=name, keys=fleet.brokerage.keys)
        runs.append(partial(_submit, fleet, tenant, manifest, over))
    workers = [Worker(fleet.http, fleet.brokerage, name=f"node-{number}") for number in range(3)]
    over_too = threading.Event()
    with running([partial(_work, worker, over_too) for worker in workers], over_too) as node_errors:
        with running(runs, over) as errors:
            time.sleep(1)
            for _ in range(ROUNDS):
                for gateway in fleet.gateways[:RESTARTED]:
                    assert gateway.stop() == 0
                    gateway.start()
                    time.sleep(1.1)  # for a second nginx passes over whoever did not answer
                    assert not errors, errors
        wait_until(lambda: _ended(fleet.settings) == len(fleet.submitted) or bool(node_errors), seconds=60)
    assert not errors, errors
    assert not node_errors, node_errors
    assert set(fleet.counting.outcomes) == {"good"}, fleet.counting.outcomes
    _check(fleet)
    print(f"{fleet.counting.outcomes['good']} requests, {len(fleet.submitted)} jobs, {ROUNDS * RESTARTED} restarts")
    assert "buffered to a temporary file" not in fleet.nginx.errors()


def test_large_bodies_stream_through_and_leave_no_trace_on_the_proxys_disk(fleet: Fleet) -> None:
    """Up in parts and down in one piece; what is for the operator's machinery alone is not given out."""
    manifest = fleet.brokerage.manifest()
    Publisher(fleet.http, fleet.brokerage.api_key("models", publish=True)).publish(manifest)
    tenant = Tenant(fleet.http, fleet.brokerage.api_key("bank"), name="bank", keys=fleet.brokerage.keys)
    worker = Worker(fleet.http, fleet.brokerage)
    data = random_bytes(4 << 20)
    job = tenant.submit(tenant.order(manifest, tenant.upload(data))).job
    lease = worker.lease(wait=5000)
    assert lease is not None
    assert worker.command(lease, "GET", f"blobs/{blob_ref(data).digest}").content == data
    result = random_bytes(HUGE)
    worker.finish(lease, result)
    assert tenant.ask("GET", f"/v1/jobs/{job}/result").content == result
    assert "buffered to a temporary file" not in fleet.nginx.errors()
    for path in ("/metrics", "/readyz"):
        assert fleet.http.get(path).status_code == 404
    answer = fleet.http.get("/healthz")
    assert (answer.status_code, "max-age" in answer.headers["Strict-Transport-Security"]) == (200, True)


def _submit(fleet: Fleet, tenant: Tenant, manifest: Any, over: threading.Event) -> None:
    """Submit and wait; every tenth input is uploaded by the SDK."""
    transport = Transport(fleet.nginx.url, tenant.token or "", ca=str(fleet.nginx.certificate))
    transport._http._transport = fleet.counting
    number = 0
    while not over.is_set():
        large = number % 10 == 0
        data = random_bytes(LARGE if large else 64)
        if large:
            upload(transport, data)
        order = tenant.order(manifest, blob_ref(data))
        view = tenant.submit(order, None if large else data)
        fleet.submitted.append(view.job)
        tenant.job(view.job, wait=2000)
        number += 1


def _work(worker: Worker, over: threading.Event) -> None:
    """Lease and finish; a large result is stored before."""
    poll = LeaseRequest(families=(FAMILY,), wait=1000)
    while not over.is_set():
        leased = worker.ask("POST", "/v1/leases", poll)
        if leased.status_code != 200:
            continue
        lease = Lease.model_validate_json(leased.content)
        data = lease.input_data
        if data is None:
            data = worker.command(lease, "GET", f"blobs/{opened_order(lease.order).document.input.digest}").content
        worker.finish(lease, data, along=len(data) < 1000)


def _check(fleet: Fleet) -> None:
    database = connect(fleet.settings)
    with database.read() as connection:
        stored = connection.execute(select(all_jobs.c.job, all_jobs.c.state)).all()
        tried = Counter(connection.execute(select(attempts.c.job)).scalars())
    database.close()
    assert {row.state for row in stored} == {JobState.SUCCEEDED.value}
    assert tried == dict.fromkeys(fleet.submitted, 1)
    assert len(stored) == len(fleet.submitted) > 20 * ROUNDS


def _ended(settings: Settings) -> int:
    database = connect(settings)
    try:
        with database.read() as connection:
            return int(connection.execute(select(func.count()).where(all_jobs.c.ended.is_not(None))).scalar())
    finally:
        database.close()
