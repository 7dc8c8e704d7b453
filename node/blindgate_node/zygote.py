"""The process that a model's jobs are forked from: it imports and compiles once, and forks in milliseconds.

It is started afresh by the node (`python -I -m blindgate_node.zygote`), so nothing of the node's memory is in it. It holds no
key, and computes nothing. A model's part may be hostile, so it confines itself before it reads one. In this order:

1. it receives its plan from the node, and ends with the node;
2. it moves into a process tree of its own (`sandbox.tree`), and puts on limits, Landlock and the system-call filter;
3. only then it imports the family, reads the part and compiles it;
4. for every job it forks a worker, which puts on more, and reports when that one has ended. Where it can, it has forked the
   next worker ahead of time: that one holds nothing, and waits.

It stays single-threaded: a fork of a process with several threads may never come out of a lock. Two threads are an error.

A *keyed* zygote serves one evaluation key of one tenant, of a family whose keys take as long to expand as a job to compute. It
lets go of what only compiling needs, and evaluates that key's first job itself: only a use expands a key. Later jobs are forked
from it, the key expanded in each. Concrete leaves idle threads behind then, which hold no lock and are not there in a child.
"""

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from blindgate_node import plan as wire
from blindgate_node import worker
from blindgate_node.sandbox import kernel, landlock, limits, tree
from blindgate_node.sandbox.landlock import Grants
from blindgate_node.sandbox.layers import Held, Layer
from blindgate_node.sandbox.root import SHARED_MEMORY, python_paths
from blindgate_protocol.errors import MalformedError, PackageError, SandboxError

_EXECUTABLE = ("/usr", "/bin", "/lib", "/lib64")
"""A zygote may run the linker, which Concrete's compiler calls. Its workers may run nothing."""

_HIDING = (Layer.ROOT, Layer.FILES)
_SEVERAL_THREADS = 72


@dataclass
class _Worker:
    """A worker; `number` and `report` are its job's, once it has one."""

    pid: int
    handle: int
    inbox: socket.socket
    number: int | None = None
    report: socket.socket | None = None


def main() -> NoReturn:
    """Serve the node that started this process (steps 1 to 4 above)."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # 1.
    control = socket.socket(fileno=int(sys.argv[1]))
    if os.getppid() != int(sys.argv[2]):
        os._exit(0)
    data, descriptors = wire.receive(control)
    plan = wire.Plan.from_bytes(data)
    held, rules, threads = _confine(plan)  # 2.
    try:
        half = _load(plan, descriptors[0])  # 3.
    except MalformedError as error:
        kind = error if isinstance(error, PackageError) else PackageError(str(error))
        wire.send(control, wire.failed(kind.code, str(kind)))
        os._exit(0)
    except MemoryError:
        wire.send(control, wire.failed(SandboxError.code, "the model's part needs more memory than a zygote has"))
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  (whatever it is, the node is told its kind)
        wire.send(control, wire.failed(SandboxError.code, f"loading the family raised {type(error).__name__}"))
        os._exit(0)
    os.close(descriptors[0])
    gc.collect()
    gc.freeze()
    wire.send(control, wire.ready(held))
    if plan.keyed:
        _KeyedServer(control, plan, rules, half).serve(None)
    serving = worker.Serving(half.prepare, half.rows, half.evaluate)
    _Server(control, plan, rules, serving).serve(threads)  # 4.


def _confine(plan: wire.Plan) -> tuple[tuple[Held, ...], int | None, int | None]:
    """Step 2. The layers, the rules for workers, and what to count threads by."""
    readable = python_paths(plan.readable)
    entered = tree.enter(readable=readable, work=plan.work, user=plan.user, scratch_bytes=plan.scratch_bytes)
    held = list(entered.held)
    os.chdir("/")
    os.environ["TMPDIR"] = entered.scratch
    threads = _own_threads()
    file = max(plan.scratch_bytes, plan.file_bytes)
    bounds = limits.Limits(memory=plan.memory, cpu=None, file=file, processes=True)
    held.append(_holds(Layer.LIMITS, lambda: limits.apply(bounds)))
    exchange = (SHARED_MEMORY,) if plan.shared_memory else ()
    rules = None
    with suppress(OSError):  # no Landlock: that layer says so below
        rules = landlock.prepare(
            Grants(read=tuple(path for path in entered.readable if path != "/proc"), exchange=exchange)
        )
    write = (entered.scratch, *exchange)
    grants = Grants(read=entered.readable, write=write, execute=_EXECUTABLE)
    held.append(_holds(Layer.FILES, lambda: landlock.restrict(grants)))
    inside = next((path for path in readable if Path(plan.hidden).is_relative_to(path)), None)
    if inside is not None:
        detail = f"the node's folder lies in {inside}, which Python reads from: move it elsewhere"
        held = [
            entry if entry.layer not in _HIDING else Held(entry.layer, holds=False, detail=detail) for entry in held
        ]
    if plan.zygote_filter:
        held.append(_holds(Layer.SYSCALLS, lambda: _filter(plan.zygote_filter)))
    else:
        held.append(Held(Layer.SYSCALLS, holds=False, detail="the node could not compile a filter"))
    return tuple(held), rules, threads


def _holds(layer: Layer, action: Callable[[], str]) -> Held:
    try:
        return Held(layer, holds=True, detail=action())
    except OSError as error:
        return Held(layer, holds=False, detail=error.strerror or str(error))


def _filter(program: str) -> str:
    kernel.load_filter(bytes.fromhex(program))
    return "a list of what is allowed"


def _load(plan: wire.Plan, part: int) -> Any:
    """Step 3. Import the family's server half and build it from the part. Raises whatever those raise."""
    from blindgate_models.package import parse_part  # noqa: PLC0415  (nothing of a family is imported before step 2)
    from blindgate_models.servers import server_half  # noqa: PLC0415

    if plan.half:
        module, _, name = plan.half.partition(":")
        half = getattr(import_module(module), name)
    else:
        half = server_half(plan.family)
    with os.fdopen(os.dup(part), "rb") as file:
        data = file.read()
    return half.from_part(parse_part(data))


def _own_threads() -> int | None:
    """A descriptor whose listing counts this process's threads; it has to be opened while /proc can be."""
    try:
        return os.open("/proc/self/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


class _Server:
    """Step 4: one loop, which waits for the node and for every worker at once."""

    def __init__(self, control: socket.socket, plan: wire.Plan, rules: int | None, serving: worker.Serving) -> None:
        self._control = control
        self._plan = plan
        self._rules = rules
        self._serving = serving
        self._workers: dict[int, _Worker] = {}
        self._spare: _Worker | None = None
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)

    def serve(self, threads: int | None) -> NoReturn:
        """Serve until the node hangs up, or until there is a second thread."""
        self._spare = self._fork_ahead()
        while True:
            for descriptor, _ in self._poller.poll():
                if descriptor != self._control.fileno():
                    self._reap(descriptor)
                    continue
                data, descriptors = wire.receive(self._control)
                if not data:
                    os._exit(0)
                if threads is not None and len(os.listdir(threads)) != 1:  # noqa: PTH208  (a descriptor, not a path)
                    os._exit(_SEVERAL_THREADS)
                self._obey(wire.parse_command(data), descriptors)

    def _obey(self, request: wire.Run | wire.Kill, descriptors: list[int]) -> None:
        if isinstance(request, wire.Run):
            self._hand_over(request, descriptors)
            return
        for started in self._workers.values():
            if started.number == request.number:
                signal.pidfd_send_signal(started.handle, signal.SIGKILL)

    def _hand_over(self, request: wire.Run, descriptors: list[int]) -> None:
        started = self._spare or self._fork()
        self._spare = None
        started.number = request.number
        started.report = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=os.dup(descriptors[0]))
        started.report.settimeout(0)  # a worker that fills it up must not hold up the others
        with suppress(OSError):  # it has ended: its end is what is reported
            wire.send(started.inbox, wire.job(request.rows), tuple(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        self._spare = self._fork_ahead()

    def _fork_ahead(self) -> _Worker | None:
        return self._fork()

    def _fork(self) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            worker.evaluate(self._serving, self._plan, theirs.fileno(), self._rules)
        theirs.close()
        started = _Worker(pid, os.pidfd_open(pid), ours)
        self._workers[started.handle] = started
        self._poller.register(started.handle, select.POLLIN)
        return started

    def _reap(self, handle: int) -> None:
        self._poller.unregister(handle)
        ended = self._workers.pop(handle)
        _, status = os.waitpid(ended.pid, 0)
        os.close(handle)
        ended.inbox.close()
        if ended.report is None:
            self._spare = None
            return
        with suppress(OSError), ended.report:
            wire.send(ended.report, wire.ended(os.waitstatus_to_exitcode(status)))


class _KeyedServer(_Server):
    """Step 4 for a keyed zygote: the first job here, the later ones in workers that are forked from what it left."""

    def __init__(self, control: socket.socket, plan: wire.Plan, rules: int | None, half: Any) -> None:
        super().__init__(control, plan, rules, worker.Serving(half.prepare, half.rows, self._first))
        self._half = half
        self._warm = False
        if rules is not None:
            landlock.enforce(rules)  # nothing to write to, nothing to execute: its compiler has done its work

    def _first(self, key: bytes | None, given: bytes) -> bytes:
        """Expand the key by its first use."""
        compute: Callable[[bytes], bytes] = self._half.direct(key)
        result = compute(given)
        self._serving = self._serving._replace(evaluate=lambda _key, given: compute(given))
        self._warm = True
        return result

    def _fork_ahead(self) -> _Worker | None:
        return self._fork() if self._warm else None

    def _hand_over(self, request: wire.Run, descriptors: list[int]) -> None:
        if self._warm:
            super()._hand_over(request, descriptors)
            return
        message = worker.answer(self._serving, self._plan, request.rows, descriptors)
        # LLVM takes this signal when Concrete first computes, and ends the process at a socket that was closed.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._spare = self._fork_ahead()
        with suppress(OSError):
            os.write(descriptors[0], message)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
