"""A gateway inside the test's own process, with one of everybody: for what needs no second process to be true."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from apiflask import APIFlask
from sqlalchemy import update

from blindgate_gateway.app import create_app
from blindgate_gateway.identity import Scope, StaffRole
from blindgate_gateway.opening import prepare
from blindgate_gateway.parts import Parts
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import jobs
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobView, Lease
from blindgate_protocol.signing import Signed, SigningKey
from brokerage import Brokerage, Caller, Keys, Publisher, Tenant, Worker, make_settings, random_bytes
from migrated import lay_database

OTHER_OPERATOR = SigningKey.generate()
"""Somebody whom the gateway would take nodes of, and who has none."""


@dataclass
class Desk:
    """A gateway and its callers: a publisher with one model, two tenants and a reader of one, one node, and staff."""

    brokerage: Brokerage
    app: APIFlask
    http: httpx2.Client
    publisher: Publisher
    tenant: Tenant
    stranger: Tenant
    worker: Worker
    reader: Caller
    operator: Caller
    auditor: Caller
    manifest: Signed[Manifest]

    @property
    def parts(self) -> Parts:
        """The application's own parts."""
        parts: Parts = self.app.extensions["blindgate"]
        return parts

    def submit(self, data: bytes | None = None, **changes: Any) -> JobView:
        """Submit a job of fresh bytes."""
        ref = self.tenant.upload(random_bytes(64) if data is None else data)
        return self.tenant.submit(self.tenant.order(self.manifest, ref, **changes))

    def leased(self) -> Lease:
        """Submit a job and lease it."""
        job = self.submit().job
        lease = self.worker.lease()
        assert lease is not None
        assert lease.job == job
        return lease

    def state(self, job: str) -> JobState:
        """Where a job stands."""
        return self.tenant.job(job).state

    def let_pass(self, job: str, what: str = "leased_until", *, to: Any = 1) -> None:
        """Let the time of a job's lease, or its deadline, be over, or be another."""
        with self.parts.database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.job == job).values({what: to}))


@contextmanager
def connection_to(app: APIFlask, settings: Settings) -> Iterator[httpx2.Client]:
    """An HTTP client of an application in this process."""
    url = f"http://127.0.0.1:{settings.port}"
    with httpx2.Client(transport=httpx2.WSGITransport(app), base_url=url) as http:
        yield http


@contextmanager
def open_desk(folder: Path, **changes: Any) -> Iterator[Desk]:
    """A desk in `folder`; `changes` are settings."""
    keys = Keys()
    operators = (keys.operator.id, OTHER_OPERATOR.id)
    settings = make_settings(folder / "gateway", keys, **{"operators": operators} | changes)
    if settings.database is None:
        lay_database(settings.data)
    lock = prepare(settings)
    app = create_app(settings)
    brokerage = Brokerage(settings, keys, app.extensions["blindgate"].database)
    with connection_to(app, settings) as http:
        publisher = Publisher(http, brokerage.api_key("models", publish=True))
        manifest = brokerage.manifest()
        publisher.publish(manifest)
        desk = Desk(
            brokerage=brokerage,
            app=app,
            http=http,
            publisher=publisher,
            tenant=Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys),
            stranger=Tenant(http, brokerage.api_key("clinic"), name="clinic", keys=keys),
            worker=Worker(http, brokerage),
            reader=Caller(http, brokerage.api_key("bank", scopes=(Scope.READ,))),
            operator=Caller(http, brokerage.staff_key(StaffRole.OPERATOR)),
            auditor=Caller(http, brokerage.staff_key(StaffRole.AUDITOR)),
            manifest=manifest,
        )
        brokerage.database = None
        yield desk
    app.extensions["blindgate"].database.close()
    app.extensions["blindgate"].wakeups.close()
    lock.close()
