"""What a gateway was asked under load, what it answered, and whether all of that is so at the end.

Two tenants upload (in one part and in several) and submit; two nodes lease, store and commit; all of them sign real documents and
repeat what was not answered, as the SDK and the node do. A test breaks something meanwhile, again and again (`strike`). Whoever is
not answered then must see a connection that broke, or 503 with a problem document and `Retry-After`: a 500 ends the test.

Each client writes down what was answered. At the end everything that was answered must be so, once (`check`).
"""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import func, select

from blindgate_gateway.blobs import Blobs
from blindgate_gateway.parts import build_parts, connect, open_blobs
from blindgate_gateway.settings import Settings
from blindgate_gateway.sweep import sweep_strays
from blindgate_gateway.tables import all_jobs, attempts, blobs, jobs, stored_bytes, uploads
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobRequest, JobView, Lease, LeaseRequest, Problem
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
from whole_log import check_whole_log

PART = 64 * 1024
SIZES = (200, 1024, 3 * PART + 100)
ALONG = 0.5
"""How many of the small inputs go along with their order."""
APART = (300, 5 * PART)
"""The inputs of real nodes, and so their results: one goes along with its documents, the other apart from them."""
MOST_WAITING = 12
OPEN_JOBS = 4
PATIENCE_SECONDS = 60.0
SETTINGS = {"part": PART, "lease": 1500, "attempts": 10_000, "threads": 16}
"""A gateway's, for a campaign: leases that end soon, and no job that dies of what is broken."""

_COME_AGAIN = {(503, "busy"), (401, "clock-skew"), (422, "clock-skew")}


@dataclass
class Ledger:
    """What the gateway has answered, and what it was doing when it was struck.

    Attributes:
        refused: how many answers said to come again, by their problem's code.
    """

    uploads: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, tuple[Signed[Order], bytes]] = field(default_factory=dict)
    commits: dict[str, Signed[Receipt]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
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
        """Count what was under way when the gateway was struck."""
        with self.lock:
            self.hit.update(what for what, count in self.doing.items() if count)

    def answered(self) -> int:
        """How much was answered well."""
        return len(self.uploads) + len(self.jobs) + len(self.commits)


class Stopped(Exception):  # noqa: N818  (a signal, not an error)
    """The test is over."""


def insist(ledger: Ledger, what: str, send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Send until there is an answer that is not a broken gateway's."""
    while not ledger.stop.is_set():
        with ledger.busy(what):
            try:
                response = send()
                if not comes_again(ledger, response):
                    return response
            except httpx2.TransportError:
                pass
        time.sleep(0.005)
    raise Stopped


def comes_again(ledger: Ledger, response: httpx2.Response) -> bool:
    """Whether the answer says to come again, which must be said as the protocol has it."""
    if response.status_code < 500 and response.status_code not in {401, 422}:
        return False
    assert response.headers["Content-Type"] == "application/problem+json", response.text
    code = Problem.model_validate_json(response.content).code
    assert (response.status_code, code) in _COME_AGAIN, response.text
    if response.status_code == 503:
        assert int(response.headers["Retry-After"]) >= 1
    with ledger.lock:
        ledger.refused[code] += 1
    return True


def result_of(data: bytes) -> bytes:
    """What the nodes compute: the same for every attempt."""
    return hashlib.sha256(data).digest() * 40


def upload(ledger: Ledger, caller: Caller, data: bytes) -> BlobRef:
    """Upload until it is complete."""
    ref = blob_ref(data)
    while True:
        body = f'{{"size": {ref.size}, "sha256": "{ref.digest}"}}'.encode()
        standing = insist(ledger, "upload", partial(caller.send, "POST", "/v1/uploads", body)).json()
        while standing.get("missing"):
            number = standing["missing"][0]
            part = data[(number - 1) * PART : number * PART]
            path = f"/v1/uploads/{standing['upload']}/parts/{number}"
            answer = insist(ledger, "upload", partial(caller.send, "PUT", path, part))
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
        answer = insist(ledger, "submit", partial(tenant.send, "POST", "/v1/jobs", body))
        assert answer.status_code in {200, 201}, answer.text
        ledger.jobs[order.document.job] = (order, data)


def top_up(
    ledger: Ledger, tenant: Tenant, manifest: Signed[Manifest], settings: Settings, chance: random.Random
) -> None:
    """See that there is work for nodes that are not the ledger's."""
    if unfinished(settings) >= OPEN_JOBS:
        return
    data = random_bytes(chance.choice(APART))
    along = len(data) == APART[0]
    order = tenant.order(manifest, blob_ref(data) if along else tenant.upload(data))
    tenant.submit(order, data if along else None)
    ledger.jobs[order.document.job] = (order, data)


def work(ledger: Ledger, worker: Worker) -> None:
    """Lease, download, store, commit, or lease and commit where the bytes are few; give up a job only when the lease is lost."""
    poll = LeaseRequest(families=("echo",), wait=100)
    while not ledger.stop.is_set():
        leased = insist(ledger, "lease", partial(worker.send, "POST", "/v1/leases", poll))
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


def strike(ledger: Ledger, times: int, blow: Callable[[int], None]) -> None:
    """Strike so many times, each time after the gateway has answered something again."""
    chance = random.Random(times)
    for count in range(times):
        before = ledger.answered()
        wait(ledger, lambda before=before: ledger.answered() >= before + 3, "the gateway does not answer any more")  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.03))
        ledger.note_hit()
        blow(count)


def wait(ledger: Ledger, holds: Callable[[], bool], message: str) -> None:
    """Wait until `holds()`, or until a client saw what must not be."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert not ledger.errors, ledger.errors
        assert time.monotonic() < until, message
        time.sleep(0.002)


@contextmanager
def campaign(
    folder: Path, database: str | None, *, environment: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[tuple[Ledger, GatewayProcess]]:
    """Clients that are busy while the block runs; at its end all jobs end, and everything is checked."""
    keys = Keys()
    settings = make_settings(folder / "gateway", keys, **(SETTINGS | {"database": database} | changes))
    gateway = GatewayProcess(settings, environment=environment)
    brokerage = Brokerage(settings, keys)
    gateway.start()
    try:
        with under_load(brokerage, gateway.url) as ledger:
            yield ledger, gateway
    finally:
        if gateway.running:
            gateway.kill()


@contextmanager
def under_load(brokerage: Brokerage, url: str, *, nodes: int = 2, server: bytes = b"server part") -> Iterator[Ledger]:
    """The clients of a gateway, which are busy while the block runs; at its end all jobs end, and everything is checked."""
    ledger, settings = Ledger(), brokerage.settings
    with http_client(url) as http:
        manifest = brokerage.manifest(server=server)
        Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest, server=server)
        tenants = [Tenant(http, brokerage.api_key(name), name=name, keys=brokerage.keys) for name in ("bank", "clinic")]
        submits = [partial(submit_jobs, ledger, tenant, manifest, number) for number, tenant in enumerate(tenants)]
        works = [partial(work, ledger, Worker(http, brokerage, name=f"node-{number}")) for number in range(nodes)]
        with _running(ledger, works), _running(ledger, submits) as submitting:
            yield ledger
            ledger.stop_submitting.set()
            wait(ledger, lambda: not any(thread.is_alive() for thread in submitting), "a tenant is not answered")
            wait(ledger, lambda: not unfinished(settings), "jobs are left")
        assert not ledger.errors, ledger.errors
        check(ledger, tenants[0], settings)


@contextmanager
def _running(ledger: Ledger, runs: Sequence[Callable[[], None]]) -> Iterator[list[threading.Thread]]:
    def guard(run: Callable[[], None]) -> None:
        try:
            run()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001
            ledger.errors.append(error)
            ledger.stop.set()

    threads = [threading.Thread(target=guard, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        ledger.stop_submitting.set()
        ledger.stop.set()
        for thread in threads:
            thread.join()


def unfinished(settings: Settings) -> int:
    """How many jobs have not ended."""
    database = connect(settings)
    try:
        with database.read() as connection:
            return int(connection.execute(select(func.count().label("open")).select_from(jobs)).scalar())
    finally:
        database.close()


def collect(settings: Settings) -> None:
    """Do what the gateway does when such things are an hour old. What is in the store then is what blobs are in."""
    parts = build_parts(settings)
    object.__setattr__(parts, "settings", settings.model_copy(update={"grace": -60_000}))
    sweep_strays(parts)
    with parts.database.read() as connection:
        named = connection.execute(select(blobs.c.object).where(blobs.c.object.is_not(None))).scalars()
    assert sorted(stray.object for stray in parts.blobs.strays(grace=-60_000)) == sorted(named)
    parts.database.close()


def _read(store: Blobs, tenant: str, name: str) -> bytes:
    """All bytes of an object."""
    opened, size = store.open(tenant, name)
    try:
        data = b"".join(iter(partial(opened.read, 1 << 20), b""))
    finally:
        opened.close()
    assert len(data) == size
    return data


def check(ledger: Ledger, bank: Tenant, settings: Settings, *, result_of: Callable[[bytes], bytes] = result_of) -> None:
    """Hold everything that was answered against everything that is stored."""
    store, database = open_blobs(settings), connect(settings)
    with database.read() as connection:
        stored = {row.job: row for row in connection.execute(select(all_jobs)).all()}
        kept = {(row.tenant, row.digest): row for row in connection.execute(select(blobs)).all()}
        won = Counter(connection.execute(select(attempts.c.job).where(attempts.c.outcome == "succeeded")).scalars())
        counted = {row.tenant: row.bytes for row in connection.execute(select(stored_bytes)).all()}
        asked = connection.execute(select(uploads).where(uploads.c.status == "parts")).all()
    database.close()
    # Nothing that was answered is lost.
    assert ledger.uploads.items() <= {digest: row.size for (_, digest), row in kept.items()}.items()
    assert set(ledger.jobs) <= set(stored)
    for (tenant, digest), row in kept.items():
        content = row.data or _read(store, tenant, row.object)
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
    # Sums agree.
    sums = Counter[str]()
    for (tenant, _), row in kept.items():
        sums[tenant] += row.size
    assert (counted, asked) == (sums, [])
    # The log tells of each end once, without a gap, in a tree that is signed and on the disk.
    check_whole_log(settings)
    # What it was in the middle of is in nobody's way, and is collected.
    collect(settings)
    if settings.blobs is None:
        assert list((settings.data / "incoming").iterdir()) == []
