"""A gateway's process: the product's rooms over parts that the simulation gives it.

Who calls is known from the line that the request came by; signatures have tests of their own. Whether a node's clock is right is
asked of the product. Everything else between the request and the answer is the product's: routes, bodies, idempotency, rooms,
refusals.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from flask import Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request

from blindgate_gateway.app import ROUTES
from blindgate_gateway.backpressure import Backpressure
from blindgate_gateway.idempotency import sweep_answers
from blindgate_gateway.identity import Node, check_clock
from blindgate_gateway.log.keeper import LogKeeper
from blindgate_gateway.parts import Leaving, Parts
from blindgate_gateway.problems import problem_of, problem_response
from blindgate_gateway.routing import respond
from blindgate_gateway.sweep import sweep_bytes, sweep_leases, sweep_records, sweep_strays
from blindgate_protocol.errors import BlindgateError, GatewayError
from blindgate_telemetry import NO_TRACES
from simulation.database import SimulatedDatabase
from simulation.scheduler import SECOND, Process, Signal
from simulation.store import SimulatedBlobs
from simulation.wire import Answer, Asked

if TYPE_CHECKING:
    from simulation.world import World

_BY_NAME: Final = {route.name: route for route in ROUTES}
_MAP: Final = Map([Rule(route.rule, endpoint=route.name, methods=[route.method]) for route in ROUTES]).bind("gateway")
_CHUNK: Final = 48
"""How many bytes of a body arrive at once."""
_INTERNAL: Final = 500
_SELDOM: Final = 20 * SECOND
_FALLBACK: Final = 7 * SECOND
"""After this long, who waits looks again: a quarter of a second in earnest."""


class Gateway:
    """One process of a gateway, from its start to its end."""

    def __init__(self, world: "World", name: str, died: Callable[[], None]) -> None:
        self._world = world
        self.process = Process(name, died)
        database = SimulatedDatabase(world.disk, self.process)
        self.parts = Parts(
            settings=world.settings,
            database=database,
            blobs=SimulatedBlobs(world.shelf, self.process),
            wakeups=SimulatedWakeups(world),  # type: ignore[arg-type]
            backpressure=Backpressure(database, world.settings),
            doorkeeper=SimulatedDoorkeeper(world),  # type: ignore[arg-type]
            rates=None,  # type: ignore[arg-type]
            leaving=Leaving(),
            traces=NO_TRACES,
            log=LogKeeper(database, world.settings),
        )
        world.scheduler.spawn(self.process, self._sweep)

    def answer(self, asked: Asked) -> Answer:
        """Answer a request."""
        self._world.answering += 1
        try:
            return self._answer(asked)
        finally:
            self._world.answering -= 1

    def _answer(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": asked.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "gateway",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "CONTENT_LENGTH": str(len(asked.body)),
            "wsgi.input": Body(self._world, asked),
            "simulation.caller": asked.caller,
        }
        for name, value in asked.headers.items():
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        try:
            endpoint, found = _MAP.match(path, asked.method)
            response = respond(_BY_NAME[endpoint], self.parts, Request(environ), found)
            body = b"".join(response.iter_encoded())
        except Exception as error:  # noqa: BLE001
            response = self._refusal(error, asked)
            body = response.get_data()
        return Answer(response.status_code, dict(response.headers), body)

    def _refusal(self, error: Exception, asked: Asked) -> Response:
        problem = problem_of(error, "request")
        expected = isinstance(error, BlindgateError | HTTPException) and problem.status != _INTERNAL
        if problem.status == _INTERNAL and not expected:
            told = "".join(traceback.format_exception(error)[-3:])
            self._world.broken(f"{asked.method} {asked.path}: a fault of the gateway:\n{told}")
        return problem_response(problem, retry_after=error.retry_after if isinstance(error, GatewayError) else None)

    def _sweep(self) -> None:
        """As `sweep` does from its thread: leases often, the rest seldom; whatever goes wrong is tried again."""
        world = self._world
        chance, pause = world.scheduler.chance, world.sweeping
        while True:
            world.scheduler.pause(int((0.2 + chance.random()) * pause))
            pause = min(pause * 3 // 2, _SELDOM)  # who has been busy for long is waiting for something slow
            seldom = chance.random()
            try:
                sweep_leases(self.parts)
                if seldom < 0.15:
                    sweep_answers(self.parts.database)
                    world.tally["swept blobs"] += sweep_bytes(self.parts)
                    world.tally["swept records"] += sweep_records(self.parts)
                elif seldom < 0.3:
                    world.tally["swept strays"] += sweep_strays(self.parts)
            except Exception as error:  # noqa: BLE001
                if problem_of(error, "").status == _INTERNAL:
                    world.broken(f"a sweep failed: {error!r}")


class Body:
    """The bytes of a request as they come in: some at once, and perhaps not all."""

    def __init__(self, world: "World", asked: Asked) -> None:
        self._world = world
        self._left = asked.body if asked.cut is None else asked.body[: asked.cut]

    def read(self, size: int = -1, /) -> bytes:
        """Give what has come."""
        if len(self._left) > _CHUNK:
            self._world.scheduler.pause(300)
        size = len(self._left) if size < 0 else size
        given, self._left = self._left[:size], self._left[size:]
        return given


class SimulatedDoorkeeper:
    """Lets in whoever has a line; a node only while its clock is right."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def admit(self, request: Request, _roles: Any) -> Any:
        """Who calls. Raises `ClockSkewError`."""
        caller = request.environ["simulation.caller"]
        if isinstance(caller, Node):
            now = self._world.clock()
            check_clock(now + self._world.skew_of(caller), now)
        return caller


class SimulatedWakeups:
    """See `wakeups.Wakeups`: who waits is woken when somebody of the same process wakes them, and looks again after a while."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._watches: list[tuple[tuple[str, ...], Signal]] = []
        self._patient = world.scheduler.chance.random() < 0.5

    @contextmanager
    def watch(self, *topics: str) -> Iterator["SimulatedWatch"]:
        """Watch topics until the block ends."""
        signal = Signal(self._world.scheduler)
        self._watches.append((topics, signal))
        try:
            yield SimulatedWatch(self._world, signal, patient=self._patient)
        finally:
            self._watches.remove((topics, signal))

    def wake(self, *topics: str) -> None:
        """Tell whoever watches."""
        for watched, signal in tuple(self._watches):
            if not set(topics).isdisjoint(watched):
                signal.set()


class SimulatedWatch:
    """See `wakeups.Watch`."""

    def __init__(self, world: "World", signal: Signal, *, patient: bool) -> None:
        self._world, self._signal, self._patient = world, signal, patient

    def wait(self, until: float) -> bool:
        """Wait, not past `until`."""
        left = int(until * SECOND) - self._world.scheduler.now
        if left <= 0 or not self._patient:
            return False
        self._signal.wait(min(left, _FALLBACK))
        self._signal.clear()
        return True
