"""Where the product asks for the time, for random bits, or for a thread, the world answers while it runs.

All of it is here: a module's own name, and what stands there instead. Nothing else of the product is replaced but its parts,
which it is given anyway (`Parts`, and a node's `Jobs`), and the HTTP client inside both transports.

Signatures and documents that were verified once are not verified again: that is half of a schedule's time, and tested elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Self

import blindgate.transport
import blindgate.uploads
import blindgate_node.jobs
import blindgate_node.loop
import blindgate_node.pulse
import blindgate_node.transport
from blindgate_gateway import backpressure, jobs, keys, leases, sweep, transitions, uploads
from blindgate_protocol import receipts, signing
from simulation.documents import EPOCH
from simulation.scheduler import SECOND, Process, Scheduler, Signal

SMALL_BYTES: Final = 80
"""What nodes take for small, so that their results go both ways."""


class Clock:
    """Stands where a module has `time`: the clock of the process whose turn it is."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic(self) -> float:
        """Seconds since the world began."""
        return self._scheduler.now / SECOND

    def time_ns(self) -> int:
        """The process's wall clock, however wrong."""
        return (EPOCH + self._scheduler.now // 1000 + self._scheduler.current.process.skew) * 1_000_000

    def time(self) -> float:
        """The same, in seconds."""
        return self.time_ns() / 1e9

    def sleep(self, seconds: float) -> None:
        """Let others on."""
        self._scheduler.pause(int(seconds * SECOND))


class Tokens:
    """Stands where a module has `secrets`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._chance = scheduler.chance

    def token_hex(self, count: int) -> str:
        """So many bytes in hexadecimal digits."""
        return f"{self._chance.getrandbits(8 * count):0{2 * count}x}"


class Turns:
    """One at a time by name, in each process: `uploads` has it with a thread's lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._taken: dict[tuple[Process, str], Signal] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait for the others of this process."""
        mine = self._scheduler.current.process, name
        while mine in self._taken:
            self._taken[mine].wait(3600 * SECOND)
        signal = self._taken[mine] = Signal(self._scheduler)
        try:
            yield
        finally:
            del self._taken[mine]
            signal.set()


class AtOnce:
    """A pool of threads that has none: what is submitted is done there and then."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, run: Callable[..., Any], *given: Any, **named: Any) -> "Done":
        """Do it."""
        return Done(run(*given, **named))


class Done:
    """What was done."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def result(self) -> Any:
        """What came of it."""
        return self._result

    def cancel(self) -> bool:
        """It is too late for that."""
        return False


class _Silence:
    """Stands where the gateway logs."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _say_nothing


def _nothing_is_short(_folder: object) -> None:
    """A node has all that it needs."""


def _say_nothing(*_: Any, **__: Any) -> None:
    """Say nothing."""


_opened = lru_cache(maxsize=2048)(signing.open_signed)


@contextmanager
def fitted(scheduler: Scheduler) -> Iterator[None]:
    """Let the product live in the scheduler's world until the block ends."""
    clock, tokens, silence = Clock(scheduler), Tokens(scheduler), _Silence()
    stands: list[tuple[Any, dict[str, Any]]] = [
        (leases, {"time": clock, "open_signed": _opened, "log": silence}),
        (jobs, {"time": clock}),
        (keys, {"open_signed": _opened}),
        (backpressure, {"time": clock}),
        (sweep, {"log": silence}),
        (transitions, {"secrets": tokens}),
        (uploads, {"secrets": tokens, "_turns": Turns(scheduler)}),
        (receipts, {"open_signed": _opened}),
        (blindgate.transport, {"time": clock, "random": scheduler.chance}),
        (blindgate.uploads, {"ThreadPoolExecutor": AtOnce}),
        (blindgate_node.transport, {"time": clock, "random": scheduler.chance}),
        (blindgate_node.jobs, {"time": clock, "open_signed": _opened, "SMALL_BYTES": SMALL_BYTES}),
        (blindgate_node.pulse, {"time": clock}),
        (blindgate_node.loop, {"time": clock, "shortage": _nothing_is_short}),
    ]
    before = [(module, {name: getattr(module, name) for name in names}) for module, names in stands]
    try:
        for module, names in stands:
            vars(module).update(names)
        yield
    finally:
        for module, names in before:
            vars(module).update(names)
