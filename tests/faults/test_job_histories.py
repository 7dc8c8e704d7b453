"""What many callers at once saw of each job can be explained by one order, whatever answers were lost on the way.

Nodes and tenants meet on a few jobs, use each other's leases, cancel what others compute, and look. Every request is noted with
the time before and after it and its answer; one in four is hung up on before its answer can come, and has none. Then each job's
history is searched for an order that a job alone could have had (`histories`). That the search finds what is wrong is shown on
histories that are.
"""

import copy
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest

import campaigns
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import JobRequest, Lease, LeaseRequest, Refusal, Release
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from brokerage import (
    FAMILY,
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
)
from histories import LATE, OK, UNKNOWN, Kind, Operation, explained

SECONDS = float(campaigns.of(8, slice_of=4))
MOST_SECONDS = 60.0
"""A machine that is slow, or busy, goes on until everything happened that is to be explained."""
FEWEST = 500
ANSWERS = {OK, LATE, UNKNOWN, "queued", "leased", "succeeded", "cancelled"}
HASTE_SECONDS = 0.001
"""How long an answer is waited for that is to be missed; the gateway mostly has the request by then."""


CallerT = TypeVar("CallerT", bound=Caller)


class Notes:
    """What was done and answered, and what callers know of each other's jobs and leases."""

    def __init__(self) -> None:
        self.done: list[Operation] = []
        self.jobs: list[str] = []
        self.submitted: set[str] = set()
        self.requests: dict[str, JobRequest] = {}

    def ask(
        self, job: str, kind: Kind, send: Callable[[], httpx2.Response], *, generation: int = 0
    ) -> httpx2.Response | None:
        """Send a request about a job and note it; `None` where it was cut off."""
        began = time.monotonic()
        try:
            response = send()
        except httpx2.TransportError:
            response = None
        if response is None or response.status_code >= 500:
            self.done.append(Operation(job, kind, UNKNOWN, began, generation=generation))
            return None
        assert response.status_code in {200, 201, 409}, response.text
        answer = LATE if response.status_code == 409 else OK
        if kind == "view":
            answer = response.json()["state"]
        if kind == "submit":
            self.submitted.add(job)
        self.done.append(Operation(job, kind, answer, began, time.monotonic(), generation))
        return response


@dataclass
class Asker:
    """A tenant, in two moods."""

    notes: Notes
    patient: Tenant
    hasty: Tenant
    manifest: Signed[Manifest]
    chance: random.Random

    def act(self) -> None:
        """Submit, submit again, look, cancel."""
        notes, chance = self.notes, self.chance
        tenant = self.hasty if chance.random() < 0.25 else self.patient
        if len(notes.jobs) < 3 or chance.random() < 0.08:
            data = chance.randbytes(8)
            order = self.patient.order(self.manifest, blob_ref(data))
            notes.requests[order.document.job] = JobRequest(order=order.envelope, input_data=data)
            notes.jobs.append(order.document.job)
        job = chance.choice(notes.jobs[-4:])
        kind = chance.choices(("submit", "view", "cancel"), (4, 6, 1))[0]
        path = f"/v1/jobs/{job}"
        if kind == "submit":
            notes.ask(job, "submit", lambda: tenant.send("POST", "/v1/jobs", notes.requests[job]))
        elif job in notes.submitted and kind == "view":
            notes.ask(job, "view", lambda: tenant.send("GET", path))
        elif job in notes.submitted:
            notes.ask(job, "cancel", lambda: tenant.send("POST", f"{path}/cancel"))


@dataclass
class Computer:
    """A node, in two moods."""

    notes: Notes
    patient: Worker
    hasty: Worker
    chance: random.Random
    leases: list[Lease] = field(default_factory=list)
    receipts: dict[str, Signed[Receipt]] = field(default_factory=dict)

    def act(self) -> None:
        """Lease, or send a command about one of the leases that this node had last."""
        notes, chance = self.notes, self.chance
        if not self.leases or chance.random() < 0.4:
            began = time.monotonic()
            response = self.patient.send("POST", "/v1/leases", LeaseRequest(families=(FAMILY,), wait=0))
            if response.status_code == 200:
                lease = Lease.model_validate_json(response.content)
                notes.done.append(Operation(lease.job, "lease", OK, began, time.monotonic(), lease.generation))
                self.leases.append(lease)
            return
        worker = self.hasty if chance.random() < 0.25 else self.patient
        lease = chance.choice(self.leases[-3:])
        receipt = self.receipts.setdefault(
            lease.token, self.receipts.get(lease.token) or worker.receipt(lease, b"result")
        )
        sends: dict[Kind, Callable[[], httpx2.Response]] = {
            "heartbeat": lambda: worker.command(lease, "POST", "heartbeat"),
            "commit": lambda: worker.commit(lease, receipt, b"result"),
            "release": lambda: worker.command(lease, "POST", "release", Release(code="worker-ended", reason="")),
            "refuse": lambda: worker.command(lease, "POST", "refuse", Refusal(code="ciphertext", reason="")),
        }
        kind = chance.choices(tuple(sends), (3, 2, 4, 1))[0]
        notes.ask(lease.job, kind, sends[kind], generation=lease.generation)


def test_every_jobs_history_has_an_explanation(tmp_path: Path, database_url: str | None) -> None:
    """Three nodes and three tenants' threads, two processes of the gateway."""
    keys, notes = Keys(), Notes()
    settings = make_settings(
        tmp_path / "gateway", keys, workers=2, threads=16, lease=600_000, attempts=1000, database=database_url
    )
    brokerage, gateway = Brokerage(settings, keys), GatewayProcess(settings)
    gateway.start()
    try:
        with http_client(gateway.url) as http, httpx2.Client(base_url=gateway.url, timeout=HASTE_SECONDS) as in_haste:
            manifest = brokerage.manifest()
            Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
            bank = Tenant(http, brokerage.api_key("bank"), name="bank", keys=keys)
            actors: list[Asker | Computer] = []
            for number in range(3):
                chance = random.Random(number)
                actors.append(Asker(notes, bank, _with(bank, in_haste), manifest, chance))
                worker = Worker(http, brokerage, name=f"node-{number}")
                actors.append(Computer(notes, worker, _with(worker, in_haste), chance))
            _run(actors, lambda: len(notes.done) > FEWEST and {done.answer for done in list(notes.done)} >= ANSWERS)
    finally:
        gateway.kill()
    histories: dict[str, list[Operation]] = defaultdict(list)
    for done in notes.done:
        histories[done.job].append(done)
    assert len(notes.done) > FEWEST
    assert {done.answer for done in notes.done} >= ANSWERS
    for history in histories.values():
        assert explained(history), "\n".join(map(str, sorted(history, key=lambda done: done.began)))


def _run(actors: list[Asker | Computer], enough: Callable[[], bool]) -> None:
    began, errors, over = time.monotonic(), [], threading.Event()

    def act(actor: Asker | Computer) -> None:
        try:
            while not over.is_set():
                actor.act()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=act, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    while (took := time.monotonic() - began) < SECONDS or (took < MOST_SECONDS and not errors and not enough()):
        over.wait(0.1)
    over.set()
    for thread in threads:
        thread.join()
    assert not errors, errors


def _with(caller: CallerT, http: httpx2.Client) -> CallerT:
    made = copy.copy(caller)
    made.http = http
    return made


def _then(*done: tuple[Kind, str, int]) -> list[Operation]:
    """Operations one after the other."""
    return [
        Operation("job", kind, answer, began=2 * place, ended=2 * place + 1, generation=generation)
        for place, (kind, answer, generation) in enumerate(done)
    ]


GOOD = _then(
    ("submit", OK, 0),
    ("lease", OK, 1),
    ("release", OK, 1),
    ("view", "queued", 0),
    ("lease", OK, 2),
    ("heartbeat", LATE, 1),
    ("commit", OK, 2),
    ("commit", OK, 2),
    ("cancel", LATE, 0),
    ("view", "succeeded", 0),
)


def test_a_good_history_is_explained() -> None:
    """Also when operations overlap, and when some have no answer."""
    assert explained(GOOD)
    cancelled = [Operation("job", "cancel", UNKNOWN, began=5.5), Operation("job", "view", "cancelled", 30, 31)]
    assert explained([*GOOD[:5], *cancelled])
    assert explained([*GOOD, Operation("job", "cancel", UNKNOWN, began=5.5)])
    both = [Operation("job", "commit", OK, 9, 12, 2), Operation("job", "cancel", LATE, 9.5, 11)]
    assert explained([*GOOD[:5], *both])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([*GOOD[:3], *_then(("lease", OK, 1))], id="a generation given twice"),
        pytest.param([*GOOD, Operation("job", "view", "queued", 40, 41)], id="a result that is gone again"),
        pytest.param([*GOOD[:7], Operation("job", "commit", OK, 40, 41, 1)], id="two that succeeded"),
        pytest.param([*GOOD[:3], Operation("job", "heartbeat", OK, 40, 41, 1)], id="a lease that outlives its end"),
        pytest.param(
            [*GOOD[:5], Operation("job", "cancel", OK, 20, 21), Operation("job", "commit", OK, 30, 31, 2)],
            id="a result after the cancellation was answered",
        ),
        pytest.param([*GOOD, Operation("job", "cancel", OK, 40, 41)], id="a cancelled result"),
        pytest.param([Operation("job", "view", "queued", 0, 1)], id="shown, never submitted"),
        pytest.param([*GOOD[:2], Operation("job", "lease", OK, 10, 11, 2)], id="leased to two"),
        pytest.param([*GOOD[:1], Operation("job", "view", "leased", 10, 11)], id="leased to nobody"),
    ],
)
def test_a_planted_bad_history_is_caught(bad: list[Operation]) -> None:
    """No order explains it."""
    assert not explained(bad)
