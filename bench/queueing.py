"""What the broker bears: jobs a second with four nodes, requests a second of a core, and a claim among a million waiting jobs.

- *jobs*: a real gateway; two tenants and four nodes, each a process with its own connection (`lean`), signing and verifying real
  documents. A job is submitted with its input, leased by a long poll, committed with its result; everything shares this machine's
  cores. The peer is the rate at which the same database, on the same disk, takes the two durable transactions of a lease and a
  commit bare, from four connections at once where it has several writers; half of it was asked for.
- *requests*: one caller that asks for its own account again and again over one connection; requests by the processor seconds that
  the gateway's processes spent.
- *claim*: choosing the tenant and taking its first job, among a million jobs of fifty tenants and among one of each; p99 of both.
  A thread tidies the database every second, as in a gateway.

PostgreSQL is Debian's, with its defaults, started here; where it is not installed its rows are left out.
"""

import multiprocessing
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import psutil
from bench.forgetful import forgetful_gateway
from bench.lean import lean_client
from bench.rows import Row, row
from sqlalchemy import bindparam, update

from blindgate_gateway import queues, transitions
from blindgate_gateway.database import Database, clock, prepared
from blindgate_gateway.opening import migrate
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.sweep import LEASE_SECONDS
from blindgate_gateway.tables import jobs
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed
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
from postgresql import PostgresqlServer, find_programs

SECONDS: Final = 8.0
NODES: Final = 4
TENANTS: Final = ("bank", "clinic")
JOB_BYTES: Final = 1024
AHEAD: Final = 16
"""How many jobs a tenant has waiting or running: enough that no node is idle."""
REQUESTS: Final = 4000
WAITING: Final = 1_000_000
OWNERS: Final = 50
CLAIMS: Final = 5000
JOBS_TARGET: Final = 0.5
REQUESTS_TARGET: Final = 1000.0
CLAIM_TARGET: Final = 0.5


def rows() -> list[Row]:
    """Measure, on each database."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with _databases(folder) as databases:
            for database, url in databases.items():
                place = folder / database
                place.mkdir()
                measured += [
                    row(
                        f"jobs through submit, lease and commit, 4 nodes, {database}, against bare leases and commits",
                        _jobs_a_second(place, url()),
                        _bare_rate(place, url()),
                        target=JOBS_TARGET,
                        unit="jobs/s",
                        more_is_better=True,
                    ),
                    row(
                        f"claim among {WAITING:,} waiting jobs, p99, {database}, against an empty queue's",
                        _claims(place / "many", url(), WAITING),
                        _claims(place / "few", url(), OWNERS),
                        target=CLAIM_TARGET,
                        unit="ms",
                    ),
                ]
        measured.append(
            row(
                "jobs through a gateway that checks and keeps nothing, 4 nodes, against bare leases and commits of SQLite",
                _jobs_a_second_forgotten(folder / "forgetful"),
                _bare_rate(folder / "forgetful", None),
                target=None,
                unit="jobs/s",
                more_is_better=True,
            )
        )
        measured.append(
            row(
                "JSON requests of a core",
                _requests(folder / "requests"),
                REQUESTS_TARGET,
                target=1.0,
                unit="requests/s",
                more_is_better=True,
                runs=REQUESTS,
            )
        )
    return measured


@contextmanager
def _databases(folder: Path) -> Iterator[dict[str, Callable[[], str | None]]]:
    """What makes a fresh database of each kind: `None` for the embedded one, else its URI."""
    programs = find_programs()
    if programs is None:
        yield {"SQLite": lambda: None}
        return
    place = folder / "server"
    place.mkdir()
    server = PostgresqlServer(place, programs)
    server.start()
    try:
        yield {"SQLite": lambda: None, "PostgreSQL": server.new_database}
    finally:
        server.stop()


def _jobs_a_second(place: Path, url: str | None) -> float:
    keys = Keys()
    settings = make_settings(place / "gateway", keys, database=url, workers=1 if url is None else 2)
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            manifest = brokerage.manifest()
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
        return _rate(gateway.url, brokerage, manifest)
    finally:
        gateway.stop()


def _jobs_a_second_forgotten(place: Path) -> float:
    """The same callers, and a gateway that only speaks HTTP."""
    keys = Keys()
    settings = make_settings(place, keys)
    migrate(settings)
    brokerage = Brokerage(settings, keys)
    manifest = brokerage.manifest()
    with forgetful_gateway(manifest.envelope.model_dump(mode="json")) as url:
        return _rate(url, brokerage, manifest)


def _rate(url: str, brokerage: Brokerage, manifest: Signed[Manifest]) -> float:
    fork = multiprocessing.get_context("fork")
    ended, over = fork.Value("i", 0), fork.Event()
    processes = [fork.Process(target=_submit, args=(url, brokerage, name, manifest, over)) for name in TENANTS] + [
        fork.Process(target=_work, args=(url, brokerage, number, ended, over)) for number in range(NODES)
    ]
    for process in processes:
        process.start()
    time.sleep(SECONDS / 4)
    before, began = ended.value, time.perf_counter()
    time.sleep(SECONDS)
    rate = (ended.value - before) / (time.perf_counter() - began)
    over.set()
    for process in processes:
        process.join()
    return float(rate)


def _submit(url: str, brokerage: Brokerage, name: str, manifest: Signed[Manifest], over: Event) -> None:
    waiting: list[str] = []
    with lean_client(url) as http:
        tenant = Tenant(http, brokerage.api_key(name), name=name, keys=brokerage.keys)
        while not over.is_set():
            while len(waiting) < AHEAD:
                data = random_bytes(JOB_BYTES)
                waiting.append(tenant.submit(tenant.order(manifest, blob_ref(data)), data).job)
            tenant.job(waiting.pop(0), wait=1000)


def _work(url: str, brokerage: Brokerage, number: int, ended: "Synchronized[int]", over: Event) -> None:
    with lean_client(url) as http:
        worker = Worker(http, brokerage, name=f"node-{number}")
        while not over.is_set():
            lease = worker.lease(wait=500)
            if lease is not None and lease.input_data is not None:
                worker.finish(lease, lease.input_data[::-1], along=True)
                with ended.get_lock():
                    ended.value += 1


def _bare_rate(place: Path, url: str | None) -> float:
    """Leases and commits a second: two durable transactions each, of one short row, and nothing else."""
    if url is None:
        driver = sqlite3.connect(place / "bare.sqlite", isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _BARE_TABLE):
            driver.execute(statement)
        return _pairs(lambda number: [driver.execute(one, (number,)) for one in _BARE])
    import psycopg  # noqa: PLC0415  (an extra)

    connections = [psycopg.connect(url, autocommit=True) for _ in range(NODES)]
    connections[0].execute(_BARE_TABLE.encode())
    made: list[float] = []

    def run(first: int) -> None:
        connection = connections[first]
        texts = [one.replace("?", "%s").encode() for one in _BARE]
        made.append(_pairs(lambda number: [connection.execute(one, (number * NODES + first,)) for one in texts]))

    threads = [threading.Thread(target=run, args=(first,)) for first in range(NODES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()
    return sum(made)


_BARE_TABLE = "CREATE TABLE bare (job INTEGER PRIMARY KEY, state TEXT)"
_BARE = (
    "INSERT INTO bare (job, state) VALUES (?, 'leased')",
    "UPDATE bare SET state = 'succeeded' WHERE job = ?",
)


def _pairs(once: Callable[[int], object]) -> float:
    began, number = time.perf_counter(), 0
    while time.perf_counter() < began + SECONDS / 2:
        once(number)
        number += 1
    return number / (time.perf_counter() - began)


def _claims(place: Path, url: str | None, waiting: int) -> float:
    settings = make_settings(place, Keys(), database=url)
    migrate(settings)
    _fill(settings, waiting)
    database = connect(settings)
    _claim(database, CLAIMS // 10)
    over = threading.Event()
    tidying = threading.Thread(target=_tidy, args=(database, over))
    tidying.start()
    times = sorted(_claim(database, CLAIMS))
    over.set()
    tidying.join()
    database.close()
    return times[int(len(times) * 0.99)]


def _tidy(database: Database, over: threading.Event) -> None:
    while not over.wait(LEASE_SECONDS):
        database.tidy()


def _fill(settings: Settings, waiting: int) -> None:
    """So many jobs that wait, of `OWNERS` tenants in turn."""
    numbers = (
        f"(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {waiting}) SELECT i FROM s) AS numbers"
        if settings.database is None
        else f"generate_series(1, {waiting}) AS i"
    )
    owner = f"(i - {OWNERS} * (i / {OWNERS}))"
    digest = f"'sha256:{'0' * 57}' || (1000000 + i)"
    with connect(settings).migrating() as connection:
        run = connection.exec_driver_sql
        run(
            "INSERT INTO nodes (key, name, operator, expires, certificate, enrolled) "
            "VALUES ('node', 'node', 'operator', 99999999999999, '', 1)"
        )
        for number in range(OWNERS):
            run(f"INSERT INTO tenants (name, created) VALUES ('tenant-{number}', 1)")
            run(f"INSERT INTO queues (id, tenant, family) VALUES ('queue-{number}', 'tenant-{number}', 'echo')")
            run(f"INSERT INTO queue_operators (queue, operator) VALUES ('queue-{number}', 'operator')")
        run(
            "INSERT INTO manifests (digest, name, version, tenant, client_digest, server_digest, envelope, published) "
            "VALUES ('manifest', 'model', 1, 'tenant-0', 'c', 's', '{}', 1)"
        )
        run(
            "INSERT INTO jobs (job, tenant, queue, state, manifest, input_digest, submitted, deadline) "
            f"SELECT 'job-' || i, 'tenant-' || {owner}, 'queue-' || {owner}, 'queued', 'manifest', {digest}, i, "
            f"99999999999999 FROM {numbers}"
        )
        run("ANALYZE")


_BACK = prepared(
    update(jobs)
    .where(jobs.c.job == bindparam("of_job"))
    .values(state="queued", submitted=clock(), leased_until=None, token=None)
)


def _claim(database: Database, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        turn = queues.choose(database, node="node", operator="operator", families=["echo"], in_flight=64)
        with database.write(durable=False) as connection:
            leased = transitions.claim(connection, turn, node="node", under=(), duration=60_000)
            queues.note_served(connection, leased.tenant)
        times.append((time.perf_counter() - began) * 1000)
        with database.write(durable=False) as connection:  # it waits again, behind the others
            connection.execute(_BACK, {"of_job": leased.job})
    return times


def _requests(place: Path) -> float:
    keys = Keys()
    brokerage = Brokerage(make_settings(place, keys), keys)
    gateway = GatewayProcess(brokerage.settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            tenant = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            for _ in range(REQUESTS // 10):
                tenant.ask("GET", "/v1/tenant")
            before = _cpu_seconds(gateway)
            for _ in range(REQUESTS):
                tenant.ask("GET", "/v1/tenant")
            return REQUESTS / (_cpu_seconds(gateway) - before)
    finally:
        gateway.stop()


def _cpu_seconds(gateway: GatewayProcess) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in (gateway.pid, *gateway.workers())]
    return sum(one.user + one.system for one in times)
