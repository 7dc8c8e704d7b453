"""The node's side of its zygotes: one for each model in use, started at the first job, retired when idle.

Starting one takes as long as the family's import and the model's compilation; running a job in one takes a fork. A node at
rest has none. The node never waits without end: a zygote that does not get ready, and a worker that does not end, is killed
after its time, and with the zygote's process tree everything in it.

What comes back from either is hostile: see `plan`. The result is read only after it was sealed (`blobs`).
"""

import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from blindgate_node import blobs
from blindgate_node import plan as wire
from blindgate_node.blobs import Result, SealedBlob
from blindgate_node.families import Family
from blindgate_node.key_cache import KeyName
from blindgate_node.sandbox.layers import Held
from blindgate_node.sandbox.syscalls import Programs
from blindgate_protocol.errors import MalformedError, SandboxError

_GRACE_SECONDS = 2.0
_MAX_REPORTS = 4
_LAUNCH = "import sys; sys.path += sys.argv[3:]; from blindgate_node.zygote import main; main()"
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "1",
}


@dataclass(frozen=True)
class Bounds:
    """What a zygote and its workers may use.

    Attributes:
        memory: bytes of address space of each process.
        scratch: bytes of temporary files in all.
        start_seconds: how long a zygote may take until it is ready.
        job_seconds: how long a job may take.
        result: bytes of the largest result.
        file: bytes of the largest file a worker may write.
    """

    memory: int
    scratch: int
    start_seconds: float
    job_seconds: float
    result: int
    file: int


@dataclass(frozen=True)
class Model:
    """What a zygote is started for.

    Attributes:
        manifest: the manifest's digest.
        key: whose key and which, where a zygote serves that key alone; `None` where it serves every job of the model.
        part: gives the file with the server part, checked; asked only when a zygote has to be started.
    """

    manifest: str
    family: str
    kind: Family
    part: Callable[[], Path]
    bounds: Bounds
    key: KeyName | None = None

    @property
    def zygote(self) -> str:
        """The zygote's name."""
        return self.manifest if self.key is None else f"{self.manifest} {self.key.tenant} {self.key.digest}"


class RunningJob:
    """A job in a worker. `kill` may be called from any thread."""

    def __init__(self, zygote: "Zygote", number: int) -> None:
        self._zygote = zygote
        self._number = number

    def kill(self) -> None:
        """End the worker now."""
        self._zygote.kill(self._number)


Started: TypeAlias = Callable[[RunningJob], None]


class Zygote:
    """A zygote's process, from the node's side."""

    def __init__(self, model: Model, programs: Programs | None, work: Path, user: int, spawner: Executor) -> None:
        """Start it. Raises `PackageError` when it refuses the model's part, and `SandboxError` when it does not get ready.

        `spawner` has a thread that lasts as long as the node: a zygote ends with the thread that started it.
        """
        self.busy = 0
        self.used = time.monotonic()
        self.key = model.key
        self.bounds = model.bounds
        self._work = work
        self._lock = threading.Lock()
        self._number = 0
        self._warm = model.key is None
        self._warming: int | None = None
        self._first = threading.Lock()
        work.mkdir(mode=0o711)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        with theirs:
            self._process = spawner.submit(_start, theirs.fileno(), model.kind.paths).result()
        try:
            self.held = self._prepare(model, programs, user)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process that keeps the zygote's tree."""
        return self._process.pid

    def run(
        self,
        given: SealedBlob,
        key: SealedBlob | None,
        *,
        seconds: float,
        started: Started,
        rows: int | None = None,
    ) -> Result:
        """Run one job and give its result. `rows`: how many its order says that it holds, which is refused where it holds others.

        `started` is told the running job, so that another thread can kill it. Raises the worker's refusal, a
        `MalformedError`, or `SandboxError` when the worker ended without one, or not in `seconds`.

        A keyed zygote computes its first job itself; others wait for that one.
        """
        if not self._warm:
            with self._first:
                if not self._warm:
                    return self._run(given, key, seconds, started, rows)
        return self._run(given, key, seconds, started, rows)

    def _run(
        self, given: SealedBlob, key: SealedBlob | None, seconds: float, started: Started, rows: int | None
    ) -> Result:
        result = blobs.new_result()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = self._next()
        self._warming = None if self._warm else number
        try:
            with ours:
                with theirs:
                    descriptors = [theirs.fileno(), result, given.descriptor]
                    if key is not None:
                        descriptors.append(key.descriptor)
                    self._send(wire.command(wire.Run(number, rows)), tuple(descriptors))
                job = RunningJob(self, number)
                started(job)
                self._wait(ours, job, seconds)
            self._warm, self._warming = True, None
            return blobs.seal_result(result, self.bounds.result)
        except MalformedError:
            self._warming = None  # it refused, and is as it was
            raise
        finally:
            self.kill(number)  # whatever it said, it computes no further
            os.close(result)

    def kill(self, number: int) -> None:
        """End one job. The first of a keyed zygote ends with the zygote."""
        if number == self._warming:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)  # so that the next job starts another
        with suppress(SandboxError):
            self._send(wire.command(wire.Kill(number)))

    def close(self) -> None:
        """End the zygote, its jobs and its files."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self.busy else 0.2)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._work, ignore_errors=True)

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def _prepare(self, model: Model, programs: Programs | None, user: int) -> tuple[Held, ...]:
        bounds = model.bounds
        plan = wire.Plan(
            family=model.family,
            half=model.kind.half,
            keyed=model.key is not None,
            shared_memory=model.kind.shared_memory,
            readable=model.kind.paths,
            hidden=str(self._work.parent.parent),
            work=str(self._work),
            user=user,
            scratch_bytes=bounds.scratch,
            memory=bounds.memory,
            job_seconds=int(bounds.job_seconds) + 1,
            file_bytes=bounds.file,
            result_bytes=bounds.result,
            zygote_filter="" if programs is None else programs.zygote.hex(),
            job_filter="" if programs is None else programs.job.hex(),
        )
        with model.part().open("rb") as part:
            self._send(plan.to_bytes(), (part.fileno(),))
        if not _readable(self._control, bounds.start_seconds):
            message = f"the model was not ready after {bounds.start_seconds:.0f} s"
            raise SandboxError(message)
        answer = self._control.recv(wire.MAX_MESSAGE_BYTES)
        if not answer:
            message = "the zygote ended before it was ready"
            raise SandboxError(message)
        return wire.parse_answer(answer)

    def _wait(self, report: socket.socket, job: RunningJob, seconds: float) -> None:
        """Read what is said about the job until it is done, refused, or all who could say something have ended."""
        deadline = time.monotonic() + seconds
        status: int | None = None
        for _ in range(_MAX_REPORTS):
            if not _readable(report, deadline - time.monotonic()):
                job.kill()
                if not _readable(report, _GRACE_SECONDS):
                    self._process.kill()
                message = f"the worker was still running after {seconds:.0f} s"
                raise SandboxError(message)
            data = report.recv(wire.MAX_MESSAGE_BYTES)
            if not data:
                break
            said = wire.parse_report(data)
            if said is None:
                return
            if isinstance(said, Exception):
                raise said
            status = said
        raise SandboxError(_how(status))

    def _send(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        try:
            wire.send(self._control, data, descriptors)
        except OSError as error:
            message = "the zygote has ended"
            raise SandboxError(message) from error


def _start(control: int, paths: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _LAUNCH, str(control), str(os.getpid()), *paths],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=(control,),
        start_new_session=True,
    )


def _readable(channel: socket.socket, seconds: float) -> bool:
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    return bool(poller.poll(max(seconds, 0) * 1000))


def _how(status: int | None) -> str:
    if status is None:
        return "the worker's zygote ended"
    if status < 0:
        return f"the worker was ended by signal {-status}"
    return f"the worker ended with exit code {status} and no word"
