"""A node's process: the product's own loop, jobs and pulse, over a worker that computes nothing.

What a node decides is the product's: when it asks, what it believes of a lease, what it refuses and what it gives back, that it
repeats a receipt and never signs two, when it gives up. What its sandbox would do is drawn: how long a job takes, that a worker
crashes, that bytes are none it can compute on. What it had written down outlives it (`journal`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from blindgate_gateway.identity import Node as Caller
from blindgate_node.blobs import Result, SealedBlob
from blindgate_node.families import Family
from blindgate_node.jobs import Jobs
from blindgate_node.loop import Node
from blindgate_node.pulse import HeldLease, Pulse
from blindgate_node.transport import Gateway, LeaseName
from blindgate_protocol.errors import CiphertextError, SandboxError
from blindgate_protocol.manifest import Manifest, check_manifest
from blindgate_protocol.signing import Envelope, Signed
from blindgate_protocol.values import Millis
from blindgate_telemetry import NO_TRACES
from brokerage import FAMILY
from simulation import documents, seams
from simulation.scheduler import SECOND, Process, Signal
from simulation.wire import Line

if TYPE_CHECKING:
    from simulation.world import World

SLOTS: Final = 2
_SETTINGS: Final = SimpleNamespace(
    data=None,
    poll_seconds=20.0,
    job_seconds=120.0,
    start_seconds=60.0,
    memory_bytes=1 << 20,
    scratch_bytes=1 << 20,
    publishers=(documents.PUBLISHER.id,),
)
_FAMILIES: Final = {FAMILY: Family("blindgate", key_expansion=1.0)}


class SimulatedNode:
    """One process of a node, from its start to its end."""

    def __init__(
        self, world: "World", name: str, journal: dict[tuple[str, int], Envelope], died: Callable[[], None]
    ) -> None:
        """`journal` is what lies on its disk."""
        self._world = world
        key, certificate = documents.signing_key(name), documents.certificate(name)
        self.process = Process(name, died)
        self.caller = Caller(key.id, name, documents.OPERATOR.id)
        self.line = Line(world, self.process, self.caller, twice=False)
        gateway = Gateway.__new__(Gateway)
        gateway.url = "http://gateway"
        vars(gateway).update(_key=None, _http=self.line, _traces=NO_TRACES)
        keys = Keys()
        log: Callable[..., None] = self._log
        self.loop = Node.__new__(Node)
        pulse = SimulatedPulse(gateway, world)
        made = Jobs(
            settings=_SETTINGS,  # type: ignore[arg-type]
            key=key,
            certificate=certificate,
            families=_FAMILIES,
            gateway=gateway,
            packages=Packages(),  # type: ignore[arg-type]
            keys=keys,  # type: ignore[arg-type]
            pool=Pool(world, self.process),  # type: ignore[arg-type]
            budgets=SimpleNamespace(spend=lambda *_: None),  # type: ignore[arg-type]
            journal=Journal(world, self.process, journal),  # type: ignore[arg-type]
            aside=seams.AtOnce(),  # type: ignore[arg-type]
            log=log,
        )
        vars(self.loop).update(
            _settings=_SETTINGS,
            _log=log,
            _stopping=Stopping(world),
            _failure=None,
            _slots=Slots(world),
            _gateway=gateway,
            _keys=keys,
            _pulse=pulse,
            _families=(FAMILY,),
            _jobs=made,
        )
        world.scheduler.spawn(self.process, self._serve)
        world.scheduler.spawn(self.process, pulse.run)

    def drain(self) -> None:
        """Ask for no more work, and finish what is being done."""
        self.loop.drain()

    def _serve(self) -> None:
        workers: Any = SimpleNamespace(
            submit=lambda run, *given: self._world.scheduler.spawn(self.process, partial(run, *given))
        )
        self.loop._poll(workers)

    def _log(self, event: str, **details: Any) -> None:
        if event == "job.ended":
            self._world.tally[f"node {details['outcome']}"] += 1
        elif event == "job.fault":
            self._world.broken(f"a fault of the node's own: {details['error']}")
        elif event not in {"gateway.unreachable", "clock.wrong"}:
            self._world.tally[f"node {event}"] += 1


class Stopping:
    """The event that a node ends by."""

    def __init__(self, world: "World") -> None:
        self._signal = Signal(world.scheduler)

    def is_set(self) -> bool:
        """Whether it ends."""
        return self._signal.happened

    def set(self) -> None:
        """End."""
        self._signal.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end."""
        return self._signal.wait(int(seconds * SECOND))


class Slots:
    """How many jobs a node does at once."""

    def __init__(self, world: "World") -> None:
        self._free = SLOTS
        self._freed = Signal(world.scheduler)

    def acquire(self, timeout: float) -> bool:
        """Take one, if one is free in time."""
        if self._free == 0:
            self._freed.clear()
            self._freed.wait(int(timeout * 20 * SECOND))  # the loop asks again anyway: seldom is enough
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def release(self) -> None:
        """Give one back."""
        self._free += 1
        self._freed.set()


class SimulatedPulse(Pulse):
    """The heartbeats, from a task of the node's in place of its thread."""

    def __init__(self, gateway: Gateway, world: "World") -> None:
        self._gateway, self._world = gateway, world
        self._held: set[HeldLease] = set()
        self._order: list[HeldLease] = []
        self._log = lambda event, _lease: world.tally.update([f"node {event}"])
        self._more = Signal(world.scheduler)

    def add(self, lease: HeldLease) -> None:
        """Keep a lease alive."""
        self._held.add(lease)
        self._order.append(lease)
        self._more.set()

    def remove(self, lease: HeldLease) -> None:
        """The job is over."""
        self._held.discard(lease)
        self._order = [held for held in self._order if held in self._held]

    def _lost(self, lease: HeldLease, event: str) -> None:
        if lease in self._held:
            self.remove(lease)
            lease.lose()
            self._log(event, lease.name)

    def run(self) -> None:
        """Renew what is due, for ever."""
        scheduler = self._world.scheduler
        while True:
            due = min((lease.next_beat for lease in self._order), default=None)
            if due is None or due > scheduler.now / SECOND:
                self._more.clear()
                self._more.wait(3600 * SECOND if due is None else int(due * SECOND) - scheduler.now + 1)
                continue
            for lease in [lease for lease in self._order if lease.next_beat <= scheduler.now / SECOND]:
                self._renew(lease)


class Packages:
    """The manifests that a node has looked at."""

    def open_manifest(self, envelope: Envelope, now: Millis) -> Signed[Manifest]:
        """Raises what `check_manifest` does."""
        manifest = seams._opened(envelope, Manifest)
        check_manifest(manifest, publishers=(documents.PUBLISHER.id,), now=now)
        return manifest

    def part(self, _ref: Any, fetch: Callable[[Callable[[Iterator[bytes]], None]], None]) -> bytes:
        """Fetch the server part."""
        got: list[bytes] = []
        fetch(lambda chunks: got.append(b"".join(chunks)))
        return got[-1]


class Keys:
    """The evaluation keys that a node has in memory."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}

    @contextmanager
    def using(self, name: Any, fetch: Callable[[], SealedBlob], **_: Any) -> Iterator[SealedBlob]:
        """Fetch a key, each time."""
        with fetch() as key:
            self._known[name.digest] = None
            yield key

    def digests(self) -> tuple[str, ...]:
        """Those that are here."""
        return tuple(self._known)


class Journal:
    """The receipts that a node signed: on its disk before they are sent."""

    def __init__(self, world: "World", process: Process, kept: dict[tuple[str, int], Envelope]) -> None:
        self._world, self._process, self._kept = world, process, kept

    def find(self, lease: LeaseName) -> Envelope | None:
        """The receipt that was signed for this lease."""
        return self._kept.get((lease.job, lease.generation))

    def keep(self, lease: LeaseName, receipt: Envelope, **_: Any) -> None:
        """Put a receipt on the disk."""
        scheduler = self._world.scheduler
        for _moment in ("before", "after"):
            scheduler.pause(200)
            if self._world.faults.strike("node dies at its journal"):
                scheduler.kill(self._process)
            if self._kept.setdefault((lease.job, lease.generation), receipt) is not receipt:
                self._world.broken(f"a node signed two receipts for generation {lease.generation} of job {lease.job}")


class Pool:
    """The workers: they take their time, and give bytes of no meaning."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world, self._process = world, process
        self._started: set[str] = set()

    @contextmanager
    def using(self, model: Any) -> Iterator["Pool"]:
        """A worker for a model, whose part is fetched for the first."""
        if model.manifest not in self._started:
            model.part()
            self._started.add(model.manifest)
        yield self

    def run(self, given: SealedBlob, _key: Any, *, started: Callable[[Any], None], **_: Any) -> Result:
        """Compute, as the seed decides."""
        world, chance = self._world, self._world.scheduler.chance
        killed = Signal(world.scheduler)
        started(SimpleNamespace(kill=killed.set))
        seconds = chance.choice((0.01, 0.2, 1.0, 5.0, 25.0))
        if killed.wait(int(seconds * chance.random() * SECOND)):
            raise SandboxError("the worker was killed")
        if world.faults.happens("worker crashes", 0.12):
            raise SandboxError("the worker ended by signal 11")
        if world.faults.happens("worker refuses", 0.04):
            raise CiphertextError("not a ciphertext")
        size = 40 if chance.random() < 0.5 else 40 + chance.randrange(160)
        data = documents.blob(f"{given.ref.digest} {chance.getrandbits(32)}", size)
        return Result(data, documents.reference(data))
