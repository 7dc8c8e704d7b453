"""What happens to processes and machines, in its own time: they die, hang, are cut off, lose their power or the time.

Everything that is broken here is made whole again after a while, by an operator or by nobody: a gateway and a node are started
anew, a network comes back; a client may be gone for good.
"""

from typing import TYPE_CHECKING, Final

from blindgate_gateway.dead_letters import resend
from blindgate_protocol.errors import BlindgateError
from simulation import documents
from simulation.database import SimulatedDatabase
from simulation.scheduler import SECOND, Process

if TYPE_CHECKING:
    from simulation.world import World

_EVENTS: Final = (
    ("gateway killed", 4),
    ("gateway hangs", 2),
    ("node killed", 4),
    ("node hangs", 3),
    ("node cut off", 3),
    ("node drained", 1),
    ("client dies", 1),
    ("client cut off", 1),
    ("power lost", 3),
    ("clock jumps", 2),
    ("time leaps", 2),
)
_KINDS: Final = tuple(kind for kind, _ in _EVENTS)
LONGEST_HANG: Final = 100 * SECOND
"""A request whose process hangs for a minute is taken up by whoever asks again."""
_OFTEN: Final = 0.3
_LEAP: Final = 600 * SECOND


class Chaos:
    """Somebody who has it in for everybody, and an operator who mends it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._chance = world.scheduler.chance
        self.process = Process("chaos")
        self._operator = Process("operator")
        self._weights = [weight * self._chance.choice((0, 1, 1, 3)) + 0.1 for _, weight in _EVENTS]
        self._mean = 1 + 30 * self._chance.random() ** 2
        world.scheduler.spawn(self.process, self._run)

    def _run(self) -> None:
        world, chance = self._world, self._chance
        while True:
            world.scheduler.pause(int(chance.expovariate(1 / self._mean) * SECOND))
            kind = "dead letter sent again" if chance.random() < _OFTEN else chance.choices(_KINDS, self._weights)[0]
            if world.faults.on and getattr(self, f"_{kind.replace(' ', '_')}")():
                world.tally[f"fault {kind}"] += 1
                if world.say is not None:
                    world.say(f"-- {kind}")

    def _gateway_killed(self) -> bool:
        return self._kill(self._chance.choice(self._world.gateways).process)

    def _gateway_hangs(self) -> bool:
        gateway = self._chance.choice(self._world.gateways)
        most = self._chance.choice((5 * SECOND, 30 * SECOND, LONGEST_HANG))
        gateway.process.hung_until = self._world.scheduler.now + int(self._chance.random() * most)
        return True

    def _node_killed(self) -> bool:
        return self._kill(self._chance.choice(self._world.nodes).process)

    def _node_hangs(self) -> bool:
        node = self._chance.choice(self._world.nodes)
        node.process.hung_until = self._world.scheduler.now + int(self._chance.random() * 60 * SECOND)
        return True

    def _node_cut_off(self) -> bool:
        line = self._chance.choice(self._world.nodes).line
        line.cut_until = self._world.scheduler.now + int(self._chance.random() * 60 * SECOND)
        return True

    def _node_drained(self) -> bool:
        node = self._chance.choice(self._world.nodes)
        node.drain()
        delay = int(self._chance.random() * 40 * SECOND)
        self._world.scheduler.spawn(self.process, lambda: self._kill(node.process), delay=delay)
        return True

    def _client_dies(self) -> bool:
        return self._kill(self._chance.choice(self._world.clients).process)

    def _client_cut_off(self) -> bool:
        line = self._chance.choice(self._world.clients).line
        line.cut_until = self._world.scheduler.now + int(self._chance.random() * 60 * SECOND)
        return True

    def _power_lost(self) -> bool:
        world = self._world
        for process in (*(gateway.process for gateway in world.gateways), self._operator):
            world.scheduler.kill(process)
        world.scheduler.pause(1)  # whatever they had begun is undone
        changes = world.disk.lose_power()
        world.tally["lost from the database"] += changes
        world.tally["lost from the store"] += world.shelf.lose_power()
        world.audit.remember(world.disk.peek("SELECT job, generation, leased_until FROM jobs WHERE state = 'leased'"))
        world.ledger.age += 1
        self._operator = Process("operator")
        return True

    def _clock_jumps(self) -> bool:
        world = self._world
        hour = documents.HOUR
        self._chance.choice(world.processes()).skew = self._chance.choice((-hour, hour, -90_000, 90_000, 0, 0, 0))
        return True

    def _time_leaps(self) -> bool:
        """The machines were suspended, while none of them was in the middle of something."""
        if self._world.answering:
            return False
        self._world.scheduler.now += _LEAP
        return True

    def _dead_letter_sent_again(self) -> bool:
        world = self._world
        dead = world.disk.peek("SELECT job FROM ended_jobs WHERE state = 'dead' ORDER BY job")
        if not dead:
            return False
        job = self._chance.choice(dead)[0]
        database = SimulatedDatabase(world.disk, self._operator)

        def send() -> None:
            try:
                resend(database, job, operators=(documents.OPERATOR.id,))
            except BlindgateError as error:
                world.tally[f"resend {error.code}"] += 1
            except Exception:  # noqa: BLE001
                world.tally["resend failed"] += 1
            if not self._operator.alive:
                self._operator = Process("operator")

        world.scheduler.spawn(self._operator, send)
        return True

    def _kill(self, process: Process) -> bool:
        if not process.alive:
            return False
        self._world.scheduler.kill(process)
        return True
