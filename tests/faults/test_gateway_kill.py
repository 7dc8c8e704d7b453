"""A gateway is killed again and again in the middle of uploads, leases and commits, and keeps every word it gave.

Two tenants upload (in one part and in several) and submit; two nodes lease, store and commit; all of them sign real documents and
repeat what was not answered, as the SDK and the node do. Meanwhile SIGKILL goes to the worker, the process that holds whatever
transaction there is, and every now and then to the whole group, master included. The master forks a new worker at once.

In another campaign PostgreSQL is killed under a gateway that lives on. 200 kills on each database and 50 are the whole; `make test`
has a slice of each.

Each client writes down what was answered. At the end everything that was answered must be so, once.
"""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

import campaigns
from blindgate_gateway.parts import build_parts, connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.sweep import sweep_strays
from blindgate_gateway.tables import all_jobs, attempts, blobs, jobs
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobRequest, JobView, Lease, LeaseRequest
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import SMALL_BYTES, BlobRef
from brokerage import (
    Brokerage,
    Caller,
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
from postgresql import PostgresqlServer, running_server

KILLS = campaigns.of(200, slice_of=60)
DATABASE_KILLS = campaigns.of(50, slice_of=12)
WHOLE = 5
"""How many of the kills take the master, too."""
PART = 64 * 1024
SIZES = (200, 1024, 3 * PART + 100)
ALONG = 0.5
"""How many of the small inputs go along with their order."""
MOST_WAITING = 12
PATIENCE_SECONDS = 60.0


@dataclass
class Ledger:
    """What the gateway has answered, and what it was doing when it was killed."""

    uploads: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, tuple[Signed[Order], bytes]] = field(default_factory=dict)
    commits: dict[str, Signed[Receipt]] = field(default_factory=dict)
    doing: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    stop_submitting: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Count that `what` is under way."""
        with self.lock:
            self.doing[what] += 1
        try:
            yield
        finally:
            with self.lock:
                self.doing[what] -= 1

    def note_hit(self) -> None:
        """Count what was under way when the gateway was killed."""
        with self.lock:
            self.hit.update(what for what, count in self.doing.items() if count)


class Stopped(Exception):  # noqa: N818  (a signal, not an error)
    """The test is over."""


def insist(ledger: Ledger, what: str, send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Send until there is an answer that is not the dying gateway's."""
    while not ledger.stop.is_set():
        with ledger.busy(what):
            try:
                response = send()
                if response.status_code < 500:
                    return response
            except httpx2.TransportError:
                pass
        time.sleep(0.005)
    raise Stopped


def result_of(data: bytes) -> bytes:
    """What the nodes compute: the same for every attempt."""
    return hashlib.sha256(data).digest() * 40


def upload(ledger: Ledger, caller: Caller, data: bytes) -> BlobRef:
    """Upload until it is complete."""
    ref = blob_ref(data)
    while True:
        body = f'{{"size": {ref.size}, "sha256": "{ref.digest}"}}'.encode()
        standing = insist(ledger, "upload", lambda body=body: caller.send("POST", "/v1/uploads", body)).json()  # type: ignore[misc]
        while standing.get("missing"):
            number = standing["missing"][0]
            part = data[(number - 1) * PART : number * PART]
            path = f"/v1/uploads/{standing['upload']}/parts/{number}"
            answer = insist(ledger, "upload", lambda path=path, part=part: caller.send("PUT", path, part))  # type: ignore[misc]
            assert answer.status_code in {200, 404}, answer.text
            standing = answer.json()
        if standing.get("status") in {"exists", "complete"}:
            ledger.uploads[ref.digest] = ref.size
            return ref


def submit_jobs(ledger: Ledger, tenant: Tenant, manifest: Signed[Manifest], seed: int) -> None:
    """Submit, with the input along or uploaded before, not too far ahead of the nodes."""
    chance = random.Random(seed)
    while not ledger.stop_submitting.is_set():
        if len(ledger.jobs) - len(ledger.commits) > MOST_WAITING:
            time.sleep(0.005)
            continue
        data = random_bytes(chance.choice(SIZES))
        along = len(data) <= SMALL_BYTES and chance.random() < ALONG
        order = tenant.order(manifest, blob_ref(data) if along else upload(ledger, tenant, data))
        body = JobRequest(order=order.envelope, input_data=data if along else None)
        answer = insist(ledger, "submit", lambda body=body: tenant.send("POST", "/v1/jobs", body))  # type: ignore[misc]
        assert answer.status_code in {200, 201}, answer.text
        ledger.jobs[order.document.job] = (order, data)


def work(ledger: Ledger, worker: Worker) -> None:
    """Lease, download, store, commit, or lease and commit where the bytes are few; give up a job only when the lease is lost."""
    poll = LeaseRequest(families=("echo",), wait=100)
    while not ledger.stop.is_set():
        leased = insist(ledger, "lease", lambda: worker.send("POST", "/v1/leases", poll))
        if leased.status_code == 200:
            finish(ledger, worker, Lease.model_validate_json(leased.content))


def finish(ledger: Ledger, worker: Worker, lease: Lease) -> None:
    """Compute one job, or lose its lease."""
    digest = open_signed(lease.order, Order).document.input.digest
    data = lease.input_data
    if data is None:
        download = insist(ledger, "download", lambda: worker.command(lease, "GET", f"blobs/{digest}"))
        if download.status_code == 409:
            return
        data = download.content
    assert blob_ref(data).digest == digest
    output, along = result_of(data), lease.input_data is not None
    if (
        not along
        and insist(ledger, "result", lambda: worker.command(lease, "PUT", "result", output)).status_code == 409
    ):
        return
    receipt = worker.receipt(lease, output)
    answer = insist(ledger, "commit", lambda: worker.commit(lease, receipt, output if along else None))
    assert answer.status_code in {200, 409}, answer.text
    if answer.status_code == 200:
        assert lease.job not in ledger.commits, "two commits of one job were answered"
        ledger.commits[lease.job] = receipt


def guarded(ledger: Ledger, run: Callable[[], None]) -> Callable[[], None]:
    """Keep what a thread raised for the test to raise."""

    def guard() -> None:
        try:
            run()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001
            ledger.errors.append(error)
            ledger.stop.set()

    return guard


def kill(ledger: Ledger, times: int, strike: Callable[[int], None]) -> None:
    """Strike so many times, each time after the gateway has answered something again."""
    chance = random.Random(times)
    for count in range(times):
        before = len(ledger.uploads) + len(ledger.commits)
        until = time.monotonic() + PATIENCE_SECONDS
        while len(ledger.uploads) + len(ledger.commits) < before + 2:
            assert time.monotonic() < until, "the gateway does not answer any more"
            assert not ledger.errors, ledger.errors
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.03))
        ledger.note_hit()
        strike(count)


def kill_gateway(gateway: GatewayProcess) -> Callable[[int], None]:
    """The worker, or now and then the whole group, which is then started again."""

    def strike(count: int) -> None:
        if count % (KILLS // WHOLE) == KILLS // WHOLE - 1:
            gateway.kill()
            gateway.start()
        else:
            while gateway.kill_worker() is None:
                time.sleep(0.001)

    return strike


@pytest.mark.slow
def test_a_gateway_that_is_killed_again_and_again_keeps_its_word(tmp_path: Path, database_url: str | None) -> None:
    """No acknowledged upload, job or result is lost, none is doubled, and every job ends once."""
    with campaign(tmp_path, database_url) as (ledger, gateway):
        kill(ledger, KILLS, kill_gateway(gateway))
    assert min(ledger.hit[what] for what in ("upload", "lease", "commit")) >= KILLS // 20, ledger.hit


@pytest.mark.slow
def test_a_database_that_is_killed_loses_no_word_of_the_gateways(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """The gateway says that it is busy meanwhile, and goes on by itself."""
    with (
        running_server(postgresql_server.programs) as server,
        campaign(tmp_path, server.new_database()) as (ledger, gateway),
    ):

        def strike(_: int) -> None:
            server.kill()
            server.start()
            assert gateway.running

        kill(ledger, DATABASE_KILLS, strike)


@contextmanager
def campaign(folder: Path, database: str | None) -> Iterator[tuple[Ledger, GatewayProcess]]:
    """Clients that are busy while the block runs; at its end all jobs end, and everything is checked."""
    keys = Keys()
    given = {"part": PART, "lease": 1500, "attempts": 10_000, "threads": 16, "database": database}
    settings = make_settings(folder / "gateway", keys, **given)
    brokerage, ledger = Brokerage(settings, keys), Ledger()
    gateway = GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http:
            manifest = brokerage.manifest()
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            runs: list[Callable[[], None]] = []
            for number, name in enumerate(("bank", "clinic")):
                tenant = Tenant(http, brokerage.api_key(name), name=name, keys=keys)
                worker = Worker(http, brokerage, name=f"node-{number}")
                runs.append(lambda tenant=tenant, number=number: submit_jobs(ledger, tenant, manifest, number))  # type: ignore[misc]
                runs.append(lambda worker=worker: work(ledger, worker))  # type: ignore[misc]
            threads = [threading.Thread(target=guarded(ledger, run)) for run in runs]
            for thread in threads:
                thread.start()
            try:
                yield ledger, gateway
                ledger.stop_submitting.set()
                until = time.monotonic() + PATIENCE_SECONDS
                while unfinished(settings) and time.monotonic() < until and not ledger.errors:
                    time.sleep(0.1)
            finally:
                ledger.stop_submitting.set()
                ledger.stop.set()
                for thread in threads:
                    thread.join()
            assert not ledger.errors, ledger.errors
            check(ledger, Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys), settings)
    finally:
        if gateway.running:
            gateway.kill()


def unfinished(settings: Settings) -> int:
    """How many jobs have not ended."""
    database = connect(settings)
    try:
        with database.read() as connection:
            return int(connection.execute(select(func.count().label("open")).select_from(jobs)).scalar())
    finally:
        database.close()


def collect(settings: Settings) -> None:
    """Do what the gateway does when such things are an hour old."""
    parts = build_parts(settings)
    object.__setattr__(parts, "settings", settings.model_copy(update={"grace": -60_000}))
    sweep_strays(parts)
    parts.database.close()


def _read(stored: Path) -> bytes:
    """A blob's file, or the files of its parts."""
    parts = sorted(stored.iterdir(), key=lambda part: int(part.name)) if stored.is_dir() else [stored]
    return b"".join(part.read_bytes() for part in parts)


def check(ledger: Ledger, bank: Tenant, settings: Settings) -> None:
    """Hold everything that was answered against everything that is stored."""
    data, database = settings.data, connect(settings)
    with database.read() as connection:
        stored = {row.job: row for row in connection.execute(select(all_jobs)).all()}
        kept = {(row.tenant, row.digest): row for row in connection.execute(select(blobs)).all()}
        won = Counter(connection.execute(select(attempts.c.job).where(attempts.c.outcome == "succeeded")).scalars())
    database.close()
    # Nothing that was answered is lost.
    assert ledger.uploads.items() <= {digest: row.size for (_, digest), row in kept.items()}.items()
    assert set(ledger.jobs) <= set(stored)
    for (tenant, digest), row in kept.items():
        content = row.data or _read(data / "blobs" / tenant / row.object)
        assert (blob_ref(content).digest, len(content)) == (digest, row.size)
    assert {row.data is None for row in kept.values()} == {True, False}, "both ways were taken"
    # Nothing is doubled, and nothing is left.
    assert {row.state for row in stored.values()} == {JobState.SUCCEEDED.value}
    assert won == dict.fromkeys(stored, 1)
    for job, (order, given) in ledger.jobs.items():
        assert stored[job].result_digest == blob_ref(result_of(given)).digest
        if order.document.tenant == "bank":
            view: JobView = bank.job(job)
            assert view.receipt is not None
            if job in ledger.commits:
                assert view.receipt == ledger.commits[job].envelope
            assert bank.ask("GET", f"/v1/jobs/{job}/result").content == result_of(given)
    # What it was in the middle of is in nobody's way, and is collected.
    collect(settings)
    assert list((data / "partial").glob("*/*")) == []
    assert len(list((data / "blobs").glob("*/*"))) == sum(row.data is None for row in kept.values())
    assert list((data / "incoming").iterdir()) == []
