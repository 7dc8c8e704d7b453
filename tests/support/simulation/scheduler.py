"""One thing at a time, in an order that the seed decides, under a clock that only moves when nobody has anything to do.

Every actor is a greenlet: the product's code runs in it as it is, and wherever it would wait for the world (the database, the store
of blobs, the network, a clock) the stand-in calls `pause` or `Signal.wait`. Then somebody else goes on. Between two such points
nothing else happens, so the points are where processes interleave, and where they can die.

A process that is killed has `Died` raised in each of its greenlets where they wait. It is a `BaseException`: code that cleans up
after errors still runs, as it would not after a SIGKILL, so whatever has an effect asks `Process.check` first, and a dead process
has none.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any, Final

from greenlet import getcurrent, greenlet

SECOND: Final = 1_000_000
"""In the scheduler's unit, microseconds."""


class Died(BaseException):
    """The process that this ran in is no more."""


class Process:
    """What dies at once, and has one clock.

    Attributes:
        skew: how far its wall clock is ahead of the world's, in milliseconds. It may jump.
        hung_until: until when none of its threads gets a processor.
    """

    def __init__(self, name: str, died: Callable[[], None] | None = None) -> None:
        """`died` is called when it was killed."""
        self.name = name
        self.died = died
        self.alive = True
        self.skew = 0
        self.hung_until = 0
        self.tasks: list[Task] = []

    def check(self) -> None:
        """Raise `Died` in what a dead process still tries to do."""
        if not self.alive:
            raise Died


class Task:
    """One greenlet, and of which process it is."""

    __slots__ = ("greenlet", "over", "process", "turn")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.greenlet: Any = None
        self.turn = 0  # what is in the heap for an earlier turn is void
        self.over = False


class Scheduler:
    """The clock and the order of things.

    Attributes:
        now: microseconds since the world began.
        steps: how often somebody was let on.
    """

    def __init__(self, chance: random.Random, crashed: Callable[[str, BaseException], None]) -> None:
        """`crashed` is told of what an actor raised that nobody expected."""
        self.chance = chance
        self.now = 0
        self.steps = 0
        self._crashed = crashed
        self._heap: list[tuple[int, int, Task, int]] = []
        self._count = 0
        self._hub = getcurrent()
        self.tasks: list[Task] = []

    @property
    def current(self) -> Task:
        """Whose turn it is."""
        task: Task = getcurrent().task
        return task

    def spawn(self, process: Process, run: Callable[[], object], *, delay: int = 0) -> Task:
        """Let `run` begin in `process` after `delay` microseconds."""
        task = Task(process)

        def body() -> None:
            try:
                process.check()
                run()
            except Died:
                pass
            except Exception as error:  # noqa: BLE001
                self._crashed(process.name, error)
            finally:
                task.over = True

        task.greenlet = _Greenlet(body, parent=self._hub)
        task.greenlet.task = task
        process.tasks.append(task)
        self._push(task, self.now + delay)
        return task

    def pause(self, delay: int) -> None:
        """Let others on for `delay` microseconds. Raises `Died`."""
        task: Task = getcurrent().task
        task.process.check()
        self._push(task, self.now + delay)
        self._hub.switch()
        if not task.process.alive:
            raise Died

    def kill(self, process: Process) -> None:
        """End a process, wherever it is. Raises `Died` if that is where this was called from."""
        if process.alive and process.died is not None:
            process.died()
        process.alive = False
        mine = getattr(getcurrent(), "task", None)
        for task in process.tasks:
            if not task.over and task is not mine:
                self._push(task, self.now)
        process.tasks = []
        if mine is not None and mine.process is process:
            raise Died

    def run(self, *, until: Callable[[], bool], most: int) -> bool:
        """Let everybody on until `until` is true. False when `most` microseconds passed, or nobody is left, before."""
        end = self.now + most
        heap, hub = self._heap, heapq.heappop
        while not until():
            if not heap or heap[0][0] > end:
                return False
            due, _, task, turn = hub(heap)
            if turn != task.turn or task.over:
                continue
            process = task.process
            if due < process.hung_until and process.alive:
                self._push(task, process.hung_until)
                continue
            self.now = max(self.now, due)
            self.steps += 1
            task.greenlet.switch()
        return True

    def wake(self, task: Task) -> None:
        """Let on who waits."""
        self._push(task, self.now)

    def close(self) -> None:
        """End whatever is left."""
        while self._heap:
            task = self._heap.pop()[2]
            task.process.alive = False
            if not task.over and task.greenlet:
                task.greenlet.throw(Died)
            elif not task.over:
                task.over = True

    def _push(self, task: Task, due: int) -> None:
        task.turn += 1
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, task, task.turn))


class _Greenlet(greenlet):  # type: ignore[misc]  # greenlet has no types
    """A greenlet that knows its task."""

    task: Task


class Signal:
    """Something that is waited for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: list[Task] = []
        self.happened = False

    def set(self) -> None:
        """It happened."""
        self.happened = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            if not task.over:
                self._scheduler.wake(task)

    def clear(self) -> None:
        """It may happen again."""
        self.happened = False

    def wait(self, timeout: int) -> bool:
        """Wait until it happens, or `timeout` microseconds. Whether it did. Raises `Died`."""
        if not self.happened:
            task = self._scheduler.current
            self._waiting.append(task)
            try:
                self._scheduler.pause(timeout)
            finally:
                if task in self._waiting:
                    self._waiting.remove(task)
        return self.happened
