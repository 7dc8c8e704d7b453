"""Which zygotes there are: one for each model in use, at most so many, none for long without a job.

A keyed zygote is bounded otherwise: it lasts as long as its key does, and the key cache counts its memory and says when (`drop`).

Starting one is slow, so it happens outside the lock that everybody takes, under one of the model's own: two jobs of a new model
start one zygote, and jobs of other models go on. Each zygote gets its own folder and, where the node is root, its own user id,
so that a hostile package of one publisher meets nothing of another's.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from blindgate_node.key_cache import KeyName
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
        before = time.monotonic() - (self._idle if idle_seconds is None else idle_seconds)
        self._end(lambda zygote: not zygote.alive or (zygote.key is None and zygote.used <= before))

    def drop(self, key: KeyName) -> None:
        """End the zygotes that keep `key` expanded. No job may be using it."""
        self._end(lambda zygote: zygote.key == key)

    def close(self) -> None:
        """End every zygote, and every job in one."""
        with self._lock:
            ended = [zygote for _, zygote in self._zygotes.values()]
            self._zygotes.clear()
        for zygote in ended:
            zygote.close()
        self._spawner.shutdown()
        shutil.rmtree(self._work, ignore_errors=True)

    def _end(self, over: Callable[[Zygote], bool]) -> None:
        with self._lock:
            names = [name for name, (_, zygote) in self._zygotes.items() if zygote.busy == 0 and over(zygote)]
            ended = [self._zygotes.pop(name)[1] for name in names]
            for name in names:
                self._starting.pop(name, None)
        for zygote in ended:
            zygote.close()

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
            crowded = [self._zygotes.pop(name)[1] for name in self._crowded(model)]
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

    def _crowded(self, model: Model) -> list[str]:
        """Whom `model` pushes out: those that were not used for longest, as many as there are too many."""
        if model.key is not None:
            return []
        unkeyed = {name: zygote for name, (_, zygote) in self._zygotes.items() if zygote.key is None}
        idle = sorted((name for name in unkeyed if unkeyed[name].busy == 0), key=lambda name: unkeyed[name].used)
        return idle[: max(0, len(unkeyed) + 1 - self._most)]
