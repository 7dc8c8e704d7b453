"""Gateways, nodes and commands that start in a fifth of the time: what imported all that they need forks, and the fork is one.

It is a process like any that `python -m blindgate_gateway serve` makes, a child of the test's, in a session of its own, with the
environment that was given; it has executed no program of its own, and saves the two seconds that Python takes to import. What looks
at how a gateway or a node starts, at what it loads or at its memory starts one as an operator would.

1. **The process that forks** imports nothing that looks at the environment meanwhile (Prometheus' client does), and has no
   threads but those of NumPy's BLAS, which ends them before a fork.
2. **The fork** forks once more and ends at once, so that its child has no parent. Linux gives it to the test's process, which asks
   to be given such children for as long as this takes.
3. **What was imported is not taken apart at the end.** Threads are waited for, what was to happen at the exit happens, and what was
   said is written; then the process is gone. To let go of a thousand modules, Python copies every page that they share with the
   process that forks: half a second for each command.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, NoReturn

GATEWAY: Final = (
    "alembic.context",
    "apiflask",
    "blindgate_gateway.commands",
    "blindgate_gateway.console",
    "blindgate_gateway.documentation",
    "blindgate_gateway.evictions",
    "blindgate_gateway.leases",
    "blindgate_gateway.server",
    "blindgate_gateway.sweep",
    "gunicorn.workers.gthread",
    "quick_routes",
)
"""What a gateway imports before it looks at its settings, and what makes its application at once."""
NODE: Final = ("blindgate_node.commands", "psutil")
"""What a node does."""
OWNER: Final = (
    "blindgate.commands.jobs",
    "blindgate.commands.models",
    "blindgate.commands.predict",
    "blindgate.commands.publisher",
    "blindgate.commands.search",
    "blindgate_audit.commands",
    "blindgate_models.compilers.estimators",
    "blindgate_node.commands",
    "pandas",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "tenseal",
    "quick_skops",
    "quick_stores",
)
"""What the commands of clients, of a model's owner, of a node and of an auditor do, with key stores as the tests have them."""
_NOT_YET: Final = "prometheus_client"
_PR_SET_CHILD_SUBREAPER: Final = 36
_MOST: Final = 1 << 20


class Forked(subprocess.Popen[bytes]):
    """A child of this process that another one made for it."""

    def __init__(self, pid: int, arguments: list[str]) -> None:
        # What a `Popen` knows of a process that it did not start itself.
        self.args, self.pid, self.returncode = arguments, pid, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = True
        self._waitpid_lock: Any = threading.Lock()


class Preloaded:
    """The process that forks. It is started when it is needed first, and ends with this one."""

    def __init__(self, runs: str, modules: Sequence[str]) -> None:
        """`runs` is the module, or the file, that its forks run; they have imported `modules`."""
        self._runs, self._modules = runs, modules
        self._environment = _for_the_interpreter(os.environ)
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        output: IO[bytes],
        *,
        errors: IO[bytes] | None = None,
        folder: Path | None = None,
    ) -> Forked | None:
        """Start what it runs with arguments, in `folder` or this process's; `errors` go to the output too, unless told otherwise.

        `None` where the environment wants another interpreter than this one's.
        """
        if _for_the_interpreter(environment) != self._environment:
            return None
        if self._process is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, __file__, str(theirs.fileno()), self._runs, *self._modules]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        request = {"arguments": arguments, "environment": dict(environment), "folder": str(folder or Path.cwd())}
        control = ctypes.CDLL(None).prctl
        control(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            descriptors = [output.fileno(), (errors or output).fileno()]
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            pid = int(self._socket.recv(64))
        finally:
            control(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        return Forked(pid, arguments)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._socket.close()
            self._process.wait()


def _for_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LD_"))}


def _fork_on_request(requests: socket.socket) -> dict[str, Any] | None:
    """Give a request to the child that it is for; `None` to the process itself, once nobody is left to ask."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _MOST, 2)
        if not message:
            return None
        pids, pid_of_child = os.pipe()
        between = os.fork()
        if between == 0:
            if pid := os.fork():
                os.write(pid_of_child, str(pid).encode())
                os._exit(0)
            os.setsid()
            for number, given in enumerate(descriptors, 1):
                os.dup2(given, number)
            for number in (*descriptors, pids, pid_of_child, requests.detach()):
                os.close(number)
            request: dict[str, Any] = json.loads(message)
            return request
        os.waitpid(between, 0)
        requests.send(os.read(pids, 64))
        for number in (*descriptors, pids, pid_of_child):
            os.close(number)


def _end(status: int) -> NoReturn:
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(status & 0xFF)


def _main() -> None:
    descriptor, runs, *modules = sys.argv[1:]
    is_file = Path(runs).is_absolute()
    sys.path[0] = str(Path(runs).parent if is_file else Path.cwd())  # as Python has it
    sys.path.append(str(Path(__file__).parent))
    for name in modules:
        import_module(name)
    sys.path.pop()
    if _NOT_YET in sys.modules:
        message = f"{_NOT_YET} looks at the environment when it is imported, which a gateway sets first"
        raise AssertionError(message)
    gc.freeze()
    with socket.socket(fileno=int(descriptor)) as requests:
        request = _fork_on_request(requests)
    if request is not None:
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # tests that run in the background were started with it ignored
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv[:] = [runs, *request["arguments"]]
        try:
            if is_file:
                runpy.run_path(runs, run_name="__main__")
            else:
                runpy.run_module(runs, run_name="__main__", alter_sys=True)
        except SystemExit as ends:
            if not isinstance(ends.code, int | None):
                raise
            _end(ends.code or 0)
        _end(0)


if __name__ == "__main__":
    _main()
