"""One schedule: gateways, nodes, clients and what befalls them, from a seed to a verdict.

    1. everything that the seed decides happens, for as long as clients have something to do;
    2. the faults stop, what is down is started again, and time goes on: whatever was accepted has to end by itself;
    3. time passes the deadlines of what still waits, then how long things are kept, and all is collected;
    4. what is there is held against what everybody was told (`invariants`).

The same seed is the same schedule, in any process. What an actor raises that nobody expected is a violation like any other.
"""

import hashlib
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blindgate_gateway.settings import Settings
from blindgate_gateway.sweep import sweep_bytes, sweep_leases, sweep_strays
from blindgate_protocol.signing import Envelope
from simulation import documents, invariants, seams
from simulation.audit import Audit
from simulation.chaos import LONGEST_HANG, Chaos
from simulation.database import Disk, Machine
from simulation.documents import EPOCH, HOUR
from simulation.faults import Faults, Tally
from simulation.gateways import Gateway
from simulation.ledger import Ledger
from simulation.nodes import SimulatedNode
from simulation.scheduler import SECOND, Process, Scheduler
from simulation.store import Shelf, Stored
from simulation.tenants import PART, SimulatedClient
from simulation.wire import LATEST

TENANTS: Final = ("bank", "clinic")
NODES: Final = ("node-1", "node-2", "node-3")
_BASE: Final = Settings(
    data=Path("nowhere"), publishers=(documents.PUBLISHER.id,), operators=(documents.OPERATOR.id,), grace=240_000
)
_WRONG: Final = 0.1
"""How many clocks are wrong from the beginning."""
_LONG: Final = 1800 * SECOND


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule: what was violated (nothing, it is hoped), how many steps it had, and its log where one was kept."""

    seed: int
    violations: tuple[str, ...]
    steps: int
    log: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of the log: the same for the same seed."""
        return hashlib.sha256("\n".join(self.log).encode()).hexdigest()


class World:
    """Everything of one schedule."""

    def __init__(self, machine: Machine, seed: int, tally: Tally, *, logged: bool) -> None:
        chance = random.Random(seed)
        self.tally = tally
        self.violations: list[str] = []
        self.log: list[str] = []
        self.say: Callable[[str], None] | None = self._say if logged else None
        self.scheduler = Scheduler(chance, self._crashed)
        self.faults = Faults(chance, tally)
        self.settings = _BASE.model_copy(
            update={
                "part": PART,
                "lease": chance.choice((4000, 8000, 20_000)),
                "attempts": chance.choice((1, 2, 2, 3)),
                "in_flight": chance.choice((1, 2, 4)),
                "quota": chance.choice((900, 2500, 1 << 20)),
                "waiting": chance.choice((3, 1000)),
                "retention": chance.choice((2000, 30_000, 120_000)),
                "records": 100 * HOUR,
            }
        )
        self.theme = chance.choice(("all", "all", "uploads", "keys"))
        self.leisure = int(chance.choice((0.01, 0.2, 2.0) if self.theme == "all" else (0.001, 0.03)) * SECOND)
        self.sweeping = self.leisure * chance.choice((3, 10, 50))
        self.answering = self.busy_clients = 0
        self.audit = Audit(
            now=self.clock, steps=lambda: self.scheduler.steps, broken=self.broken, tally=tally, say=self.say
        )
        self.audit.cap = self.settings.in_flight
        machine.renew(self.clock, self.audit.note)
        self.disk = Disk(machine, self.scheduler, self.faults, self.audit)
        self.shelf = Shelf(self.scheduler, self.faults, seams.Tokens(self.scheduler).token_hex)
        self.ledger = Ledger(self.broken)
        self._landlord = Process("landlord")
        self._found()
        self._journals: list[dict[tuple[str, int], Envelope]] = [{} for _ in NODES]
        self.gateways = [self._gateway(place) for place in range(chance.choice((1, 2, 2, 3)))]
        self.nodes = [self._node(place) for place in range(chance.choice((1, 1, 2, 3)))]
        self.clients = [
            SimulatedClient(self, tenant, number, chance.randint(2, 6))
            for tenant in TENANTS
            for number in range(chance.choice((1, 1, 2)))
        ]
        for process in self.processes():
            if chance.random() < _WRONG:
                process.skew = chance.choice((-HOUR, HOUR, 90_000))
        self._chaos = Chaos(self)

    def clock(self) -> int:
        """The database's time, in milliseconds since 1970."""
        return EPOCH + self.scheduler.now // 1000

    def run(self) -> None:
        """Steps 1 to 4."""
        # 1.
        self.scheduler.run(until=self._are_done, most=_LONG)
        # 2.
        self._heal()
        self._await(self._are_done, "clients have no answers, though all is well again")
        self._await(
            lambda: not self._open("leased_until IS NOT NULL AND state = 'leased' OR held = 0"), "a job does not end"
        )
        # 3.
        kept = {gateway.process for gateway in self.gateways}
        for process in (self._landlord, *self.processes()):
            if process not in kept:
                self.scheduler.kill(process)
        self.scheduler.run(until=lambda: bool(self.violations), most=LATEST + LONGEST_HANG)
        self._await(lambda: self.answering == 0, "a request has no end")
        self.scheduler.now = max(self.scheduler.now, HOUR * 1000 + SECOND)
        self._do(lambda gateway: sweep_leases(gateway.parts))
        if not self.violations:
            invariants.check_jobs(self)
        self.scheduler.now += (self.settings.retention + self.settings.grace + 1000) * 1000
        for _ in range(2):
            self._do(lambda gateway: sweep_bytes(gateway.parts))
            self._do(lambda gateway: sweep_strays(gateway.parts))
        # 4.
        if not self.violations:
            invariants.check_bytes(self)

    def close(self) -> None:
        """End what still runs."""
        self.scheduler.close()

    def broken(self, what: str) -> None:
        """Something is as it must never be."""
        self.violations.append(what)
        if self.say is not None:
            self.say(f"!! {what}")

    def processes(self) -> list[Process]:
        """Those of gateways, nodes and clients."""
        servers = [gateway.process for gateway in self.gateways] + [node.process for node in self.nodes]
        return servers + [client.process for client in self.clients]

    def some_gateway(self) -> Gateway | None:
        """One of those that run."""
        alive = [gateway for gateway in self.gateways if gateway.process.alive]
        return self.scheduler.chance.choice(alive) if alive else None

    def start_gateway(self, place: int) -> None:
        """Start a gateway that is down."""
        if not self.gateways[place].process.alive:
            self.gateways[place] = self._gateway(place)

    def start_node(self, place: int) -> None:
        """Start a node that is down or has drained."""
        old = self.nodes[place]
        if old.process.alive and old.loop._stopping.is_set():
            self.scheduler.kill(old.process)
        if not old.process.alive:
            self.nodes[place] = self._node(place)

    def skew_of(self, caller: Any) -> int:
        """How far a node's clock is off, in milliseconds."""
        return next(node.process.skew for node in self.nodes if node.caller.key == caller.key)

    def _gateway(self, place: int) -> Gateway:
        return Gateway(self, f"gateway-{place + 1}", lambda: self._later(10, lambda: self.start_gateway(place)))

    def _node(self, place: int) -> SimulatedNode:
        died = lambda: self._later(20, lambda: self.start_node(place))  # noqa: E731
        return SimulatedNode(self, NODES[place], self._journals[place], died)

    def _later(self, seconds: int, mend: Callable[[], None]) -> None:
        """Whoever runs the machines starts anew what has ended, after a while."""
        if self.faults.on:
            delay = int(self.scheduler.chance.random() * seconds * SECOND)
            self.scheduler.spawn(self._landlord, mend, delay=delay)

    def _heal(self) -> None:
        self.faults.on = False
        self.scheduler.kill(self._chaos.process)
        for place, gateway in enumerate(self.gateways):
            gateway.process.hung_until = 0
            self.start_gateway(place)
        for place, node in enumerate(self.nodes):
            node.process.hung_until = 0
            self.start_node(place)
        for node in self.nodes:
            node.process.skew = node.line.cut_until = 0
        for client in self.clients:
            client.line.cut_until = 0
        if self.say is not None:
            self.say("-- all is well again")

    def _await(self, reached: Callable[[], bool], otherwise: str) -> None:
        if not self.violations and not self.scheduler.run(until=lambda: bool(self.violations) or reached(), most=_LONG):
            self.broken(otherwise)

    def _do(self, work: Callable[[Gateway], Any]) -> None:
        """Let one gateway do something, to its end."""
        task = self.scheduler.spawn(self.gateways[0].process, lambda: work(self.gateways[0]))
        self._await(lambda: task.over, "a sweep does not end")

    def _are_done(self) -> bool:
        return self.busy_clients == 0 or bool(self.violations)

    def _open(self, which: str) -> int:
        if self.disk.in_use:
            return 1
        return int(self.disk.peek(f"SELECT count(*) FROM jobs WHERE {which}")[0][0])

    def _crashed(self, who: str, error: BaseException) -> None:
        self.broken(f"{who} failed: {''.join(traceback.format_exception(error)[-6:])}")

    def _say(self, what: str) -> None:
        self.log.append(f"{self.scheduler.now / SECOND:12.6f}  {what}")

    def _found(self) -> None:
        """Tenants, nodes, and two models."""
        execute = self.disk.driver.execute
        for tenant in ("models", *TENANTS):
            execute("INSERT INTO tenants (name, created) VALUES (?, ?)", (tenant, EPOCH))
        for name in NODES:
            signed = documents.certificate(name)
            execute(
                "INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?)",
                (signed.document.node, name, signed.signer, signed.document.expires, "", EPOCH),
            )
        for part in (documents.SERVER_PART, documents.CLIENT_PART):
            ref = documents.reference(part)
            name = f"{ref.digest.partition(':')[2]}-0"
            self.shelf.objects["models", name] = Stored({1: part}, 0)
            execute("INSERT INTO blobs VALUES ('models', ?, ?, ?, ?, NULL)", (ref.digest, ref.size, EPOCH, name))
        size = len(documents.SERVER_PART) + len(documents.CLIENT_PART)
        execute("INSERT INTO stored_bytes VALUES ('models', ?)", (size,))
        for keyed in (False, True):
            signed_manifest = documents.manifest(keyed=keyed)
            document = signed_manifest.document
            execute(
                "INSERT INTO manifests VALUES (?, ?, 1, 'models', ?, ?, ?, ?)",
                (
                    signed_manifest.digest,
                    document.name,
                    document.encrypted().client.digest,
                    document.server.digest,
                    signed_manifest.envelope.model_dump_json(),
                    EPOCH,
                ),
            )
        execute("COMMIT")
        execute("BEGIN")


class Simulator:
    """Runs schedules, one after the other, in this process.

    Attributes:
        tally: how often each thing happened in all of them.
        steps: of all of them.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.steps = 0
        self._machine = Machine()

    def run(self, seed: int, *, logged: bool = False) -> Outcome:
        """Run the schedule of `seed`; with `logged`, keep its log."""
        world = World(self._machine, seed, self.tally, logged=logged)
        with seams.fitted(world.scheduler):
            try:
                world.run()
            finally:
                world.close()
        self.steps += world.scheduler.steps
        return Outcome(seed, tuple(world.violations), world.scheduler.steps, tuple(world.log))
