"""Which zygotes there are: one a model in use, or a key of it; at most so many, none for long without a job.

Starting one is slow, so it happens outside the lock that everybody takes, under one of the model's own: two jobs of a new model
start one zygote, and jobs of other models go on. Each zygote gets its own folder and, where the node is root, its own user id,
so that a hostile package of one publisher meets nothing of another's.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from blindgate_node.sandbox.layers import Held
from blindgate_node.sandbox.syscalls import Programs
from blindgate_node.zygotes import Model, Zygote


class Pool:
    """The node's zygotes."""

    def __init__(
        self, work: Path, programs: Programs | None, *, first_user: int, most: int, idle_seconds: float
    ) -> None:
        """Keep zygotes in `work`, which is emptied: what lies there was left by a node that was killed."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o711, parents=True)
        self._work = work
        self._programs = programs
        self._first_user = first_user
        self._most = most
        self._idle = idle_seconds
        self._zygotes: dict[str, tuple[int, Zygote]] = {}
        self._starting: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
        self._reserved: set[int] = set()
        self._count = 0

    @contextmanager
    def using(self, model: Model) -> Iterator[Zygote]:
        """Lend the model's zygote, started where there is none. Raises `PackageError` or `SandboxError` when it cannot be."""
        zygote = self._take(model.zygote)
        if zygote is None:
            with self._lock:
                starting = self._starting.setdefault(model.zygote, threading.Lock())
            with starting:
                zygote = self._take(model.zygote) or self._start(model)
        try:
            yield zygote
        finally:
            with self._lock:
                zygote.busy -= 1
                zygote.used = time.monotonic()

    def try_out(self, model: Model) -> tuple[Held, ...]:
        """Start a zygote, ask which layers hold, and end it."""
        with self.using(model) as zygote:
            held = zygote.held
        self.retire(0.0)
        return held

    def retire(self, idle_seconds: float | None = None) -> None:
        """End the zygotes that had no job for so long, or have ended themselves."""
        idle = self._idle if idle_seconds is None else idle_seconds
        with self._lock:
            now = time.monotonic()
            over = [
                name
                for name, (_, zygote) in self._zygotes.items()
                if zygote.busy == 0 and (not zygote.alive or now - zygote.used >= idle)
            ]
            ended = [self._zygotes.pop(name)[1] for name in over]
            for name in over:
                self._starting.pop(name, None)
        for zygote in ended:
            zygote.close()

    def close(self) -> None:
        """End every zygote, and every job in one."""
        with self._lock:
            ended = [zygote for _, zygote in self._zygotes.values()]
            self._zygotes.clear()
        for zygote in ended:
            zygote.close()
        self._spawner.shutdown()
        shutil.rmtree(self._work, ignore_errors=True)

    def _take(self, name: str) -> Zygote | None:
        with self._lock:
            _, zygote = self._zygotes.get(name, (0, None))
            if zygote is None or not zygote.alive:
                return None
            zygote.busy += 1
            return zygote

    def _start(self, model: Model) -> Zygote:
        with self._lock:
            dead = self._zygotes.pop(model.zygote, None)
            idle = [name for name, (_, zygote) in self._zygotes.items() if zygote.busy == 0]
            idle.sort(key=lambda name: self._zygotes[name][1].used)
            crowded = [self._zygotes.pop(name)[1] for name in idle[: max(0, len(self._zygotes) + 1 - self._most)]]
            taken = self._reserved | {place for place, _ in self._zygotes.values()}
            place = next(number for number in range(len(taken) + 1) if number not in taken)
            self._reserved.add(place)
            self._count += 1
            work = self._work / f"zygote-{self._count}"
        for zygote in (*crowded, *((dead[1],) if dead else ())):
            zygote.close()
        try:
            zygote = Zygote(model, self._programs, work, self._first_user + place, self._spawner)
            with self._lock:
                zygote.busy += 1
                self._zygotes[model.zygote] = (place, zygote)
        finally:
            with self._lock:
                self._reserved.discard(place)
        return zygote
