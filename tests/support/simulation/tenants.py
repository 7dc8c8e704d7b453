"""What clients do: a tenant's script, drawn by the seed and carried out by the SDK's own transport and uploads.

Each client is a process that may die in the middle and never come back; then nobody asks again. What it was told is in the ledger.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from blindgate.transport import Transport
from blindgate.uploads import upload
from blindgate_gateway.identity import Account, Scope
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import JobRequest, JobView, KeyRequest, KeyView
from blindgate_protocol.values import BlobRef
from blindgate_telemetry import NO_TRACES
from simulation import documents
from simulation.documents import LIFETIMES
from simulation.scheduler import SECOND, Process
from simulation.wire import Line

if TYPE_CHECKING:
    from simulation.world import World

_WHAT: Final = (
    ("submit", 6),
    ("submit again", 3),
    ("look", 4),
    ("cancel", 1),
    ("fetch", 3),
    ("upload", 2),
    ("tell", 3),
    ("rest", 2),
)
_KINDS: Final = tuple(kind for kind, _ in _WHAT)
_BIASES: Final = (0, 1, 1, 5)
"""Each client does some of it never and some of it most of the time: what all do a little of seldom meets itself."""
_THEMES: Final = {"uploads": {"upload": 20, "rest": 0}, "keys": {"tell": 20, "upload": 10, "rest": 0}}
"""Some schedules are about one thing, at which everybody meets."""
_NEXT: Final = {
    KeyState.REGISTERED: (KeyState.ACTIVE,),
    KeyState.ACTIVE: (KeyState.SUSPENDED, KeyState.DESTROYED, KeyState.SUPERSEDED, KeyState.SUSPENDED),
    KeyState.SUSPENDED: (KeyState.ACTIVE, KeyState.ACTIVE, KeyState.DESTROYED),
    KeyState.SUPERSEDED: (KeyState.DESTROYED,),
}
PART: Final = 64
"""How many bytes the parts of uploads have."""


class SimulatedClient:
    """One of a tenant's clients, from its start to its end."""

    def __init__(self, world: "World", tenant: str, number: int, steps: int) -> None:
        chance = world.scheduler.chance
        self._weights = [weight * chance.choice(_BIASES) for _, weight in _WHAT]
        self._weights[0] += 1
        if world.theme != "all":
            self._weights = [_THEMES[world.theme].get(kind, 1) for kind in _KINDS]
        self._world, self._tenant, self._number = world, tenant, number
        self.process = Process(f"{tenant}-{number}")
        account = Account(tenant, frozenset({Scope.JOBS}), f"{tenant}-{number}")
        self.line = Line(world, self.process, account, twice=True)
        self._transport = Transport.__new__(Transport)
        vars(self._transport).update(url="http://gateway", _http=self.line, _count=_nothing, traces=NO_TRACES)
        self._jobs: list[JobRequest] = []
        self._names: list[str] = []
        self.key: BlobRef | None = None
        self._states: list[KeyState] = []
        self._made = 0
        world.busy_clients += 1
        world.scheduler.spawn(self.process, partial(self._run, steps))

    def _run(self, steps: int) -> None:
        try:
            self._act(steps)
        finally:
            self._world.busy_clients -= 1

    def _act(self, steps: int) -> None:
        chance = self._world.scheduler.chance
        for _ in range(steps):
            self._world.scheduler.pause(int(chance.expovariate(1) * self._world.leisure))
            kind = chance.choices(_KINDS, self._weights)[0]
            act: Callable[[], None] = getattr(self, f"_{kind.replace(' ', '_')}")
            try:
                act()
            except BlindgateError as error:
                self._world.tally[f"client {error.code}"] += 1
            finally:
                self.line.idempotency = self.line.submitting = None

    def _submit(self) -> None:
        """A new job, with its input along or uploaded before, with or without a key."""
        chance = self._world.scheduler.chance
        self._made += 1
        number, keyed = 10 * self._made + self._number, bool(self._states) and chance.random() < 0.5
        lifetime = LIFETIMES[number % len(LIFETIMES)]
        key = self.key if keyed else None
        order, data = documents.order(self._tenant, number, lifetime=lifetime, size=(24, 70, 200)[number % 3], key=key)
        along = chance.random() < 0.6
        if not along:
            upload(self._transport, data)
        request = JobRequest(order=order.envelope, input_data=data if along else None, priority=number % 3 - 1)
        self._jobs.append(request)
        self._names.append(order.document.job)
        self._world.ledger.orders[order.document.job] = order.document
        self._send(request, order.document.job)

    def _submit_again(self) -> None:
        """An order that was sent before, perhaps under the same Idempotency-Key."""
        if self._jobs:
            place = self._world.scheduler.chance.randrange(len(self._jobs))
            self._send(self._jobs[place], self._names[place])

    def _send(self, request: JobRequest, job: str) -> None:
        if self._world.scheduler.chance.random() < 0.6:
            self.line.idempotency = f"order {job}"
        self.line.submitting = job
        self._transport.post("/v1/jobs", request, JobView)

    def _look(self) -> None:
        """How a job stands."""
        job = self._job()
        if job is not None:
            wait = self._world.scheduler.chance.choice((0, 0, 3000))
            self._transport.get(f"/v1/jobs/{job}?wait={wait}&inline=65536", JobView, wait=wait / 1000)

    def _cancel(self) -> None:
        """Call a job off."""
        job = self._job()
        if job is not None:
            self._transport.post(f"/v1/jobs/{job}/cancel", None, JobView)

    def _fetch(self) -> None:
        """Wait for a job's end, fetch its result, hold it against the receipt, and acknowledge it."""
        job = self._job()
        if job is None:
            return
        view = self._transport.get(f"/v1/jobs/{job}?wait=5000", JobView, wait=5.0)
        if view.result is None:
            return
        data = self._transport.download(f"/v1/jobs/{job}/result", view.result.size)
        if documents.reference(data) != view.result:
            self._world.broken(f"the result of job {job} is not the bytes that its receipt names")
        self._world.tally["result fetched"] += 1
        self._transport.post_only(f"/v1/jobs/{job}/acknowledge")

    def _upload(self) -> None:
        """A blob that no job needs yet, which another client of the tenant may be sending, too; or a key, perhaps destroyed."""
        about = {"all": (0, 0, 1, 1, 2, 3), "uploads": (1, 1, 1, 0, 2), "keys": (3,)}[self._world.theme]
        number = self._world.scheduler.chance.choice(about)
        if number == 3:
            data = _key_bytes(self._tenant, self._world.scheduler.chance.randrange(2))
        else:
            data = documents.blob(f"blob {self._tenant} {number}", (50, 100, 220)[number])
        upload(self._transport, data)
        self._world.tally["blob uploaded"] += 1

    def _tell(self) -> None:
        """The next thing in a key's life; the first is its upload."""
        chance = self._world.scheduler.chance
        if self.key is None:
            data = _key_bytes(self._tenant, self._number)
            self.key = documents.reference(data)
            upload(self._transport, data)
        if self._states and self._states[-1] is KeyState.DESTROYED:
            return
        following = _NEXT[self._states[-1]] if self._states else (KeyState.REGISTERED, KeyState.ACTIVE)
        state = chance.choice(following)
        statement = documents.statement(self._tenant, self.key, *self._states, state)
        if state is KeyState.DESTROYED:
            self._world.ledger.doomed.add((self._tenant, self.key.digest))
        self._transport.post("/v1/keys", KeyRequest(statement=statement.envelope), KeyView)
        self._states.append(state)
        if state is KeyState.DESTROYED:
            self._world.ledger.destroyed.add((self._tenant, self.key.digest))
        self._world.tally[f"key {state.value}"] += 1

    def _rest(self) -> None:
        """A while in which this client wants nothing."""
        self._world.scheduler.pause(int(self._world.scheduler.chance.random() * 40 * SECOND))

    def _job(self) -> str | None:
        return self._world.scheduler.chance.choice(self._names[-3:]) if self._names else None


def _key_bytes(tenant: str, number: int) -> bytes:
    return documents.blob(f"key {tenant} {number}", (150, 60)[number % 2])


def _nothing(**_: int) -> None:
    """Count nothing."""
