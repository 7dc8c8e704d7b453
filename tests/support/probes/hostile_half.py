"""Server halves for tests only: one that gives back what it gets, and one that does from inside a worker what it is told to.

The input of `Hostile` is JSON: `{"do": name, …}`. Each deed answers with what came of it, so a test sees from inside what a
worker can do. It is put behind the sandbox by `node_process`, and by no setting.
"""

import ctypes
import json
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from blindgate_models.halves import Part
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, PackageError

REPORT, RESULT = 4, 5


class Echo:
    """Gives back the input, or, where there is one, the evaluation key."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Refuse a part that says so."""
        if "refuse" in part:
            message = "refuse: this part is not to be used"
            raise PackageError(message)
        if "crash" in part:
            os.abort()
        if "hang" in part:
            time.sleep(3600)
        return cls()

    def prepare(self) -> None:
        """Nothing."""

    def rows(self, ciphertexts: bytes) -> int:
        """One, whatever it is."""
        del ciphertexts
        return 1

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Give back bytes."""
        return evaluation_key if evaluation_key is not None else ciphertexts


class Computing:
    """An index that says, before each result, who computed it."""

    def __init__(self, half: Any) -> None:
        self._half = half
        self.prepare, self.rows = half.prepare, half.rows

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build the family's own half."""
        from blindgate_models.search.server import SearchServer  # noqa: PLC0415  (the other probes need none of it)

        return cls(SearchServer.from_part(part))

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """A name of sixteen bytes, then the result."""
        name = type(self._half._product._arithmetic).__name__.encode()
        return name.ljust(16) + bytes(self._half.evaluate(evaluation_key, ciphertexts))


class Hostile:
    """Does what its input says."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Take any part."""
        del part
        return cls()

    def prepare(self) -> None:
        """Nothing."""

    def rows(self, ciphertexts: bytes) -> int:
        """One, whatever it is."""
        del ciphertexts
        return 1

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Do one deed and tell what came of it."""
        del evaluation_key
        order = json.loads(ciphertexts)
        deed: Callable[..., Any] = _DEEDS[order.pop("do")]
        try:
            answer = deed(**order)
        except OSError as error:
            answer = f"{type(error).__name__} {error.errno}"
        return json.dumps(answer).encode()


class Keyed:
    """A family whose keys are expanded once: `{"do": "mark"}` tells which expansion answers, and from which process."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Take any part."""
        del part
        return cls()

    def prepare(self) -> None:
        """Nothing."""

    def rows(self, ciphertexts: bytes) -> int:
        """One, whatever it is."""
        del ciphertexts
        return 1

    def direct(self, evaluation_key: bytes | None) -> Callable[[bytes], bytes]:
        """Expand a key: a number that no other expansion has."""
        if evaluation_key == b"refuse":
            message = "evaluation key: this one is not to be used"
            raise EvaluationKeyError(message)
        mark = os.urandom(8).hex()

        def evaluate(ciphertexts: bytes) -> bytes:
            if json.loads(ciphertexts) == {"do": "mark"}:
                return json.dumps({"mark": mark, "pid": os.getpid()}).encode()
            return Hostile().evaluate(None, ciphertexts)

        return evaluate


class Curious:
    """Looks around while its part is read, and tells by refusing it."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Try to open files and a socket, and to write."""
        told: dict[str, Any] = {"opened": [], "socket": "opened", "write": "written"}
        for path in part["open"]:
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError:
                continue
            told["opened"].append(path)
        try:
            socket.socket().close()
        except OSError as error:
            told["socket"] = type(error).__name__
        try:
            Path("/usr/lib/x").write_bytes(b"")
        except OSError as error:
            told["write"] = type(error).__name__
        told["user"] = "root" if os.getuid() == 0 else "other"
        raise PackageError(json.dumps(told))

    def prepare(self) -> None:
        """Nothing."""

    def rows(self, ciphertexts: bytes) -> int:
        """One, whatever it is."""
        del ciphertexts
        return 1

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Never get here."""
        raise NotImplementedError


def _open(path: str) -> str:
    return Path(path).read_bytes().hex()


def _write(path: str) -> str:
    Path(path).write_bytes(b"x")
    return "written"


def _listing(path: str) -> list[str]:
    return sorted(entry.name for entry in Path(path).iterdir())


def _socket(family: int, kind: int) -> str:
    with socket.socket(socket.AddressFamily(family), socket.SocketKind(kind)):
        return "opened"


def _socketpair() -> str:
    socket.socketpair()
    return "opened"


def _fork() -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return "forked"


def _thread() -> str:
    done: list[str] = []
    thread = threading.Thread(target=done.append, args=("ran",))
    thread.start()
    thread.join()
    return done[0]


def _execute(path: str) -> str:
    os.execv(path, [path])
    return "executed"


def _kill(pid: int) -> str:
    os.kill(pid, signal.SIGKILL)
    return "killed"


def _call(number: int, arguments: list[int]) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "done"


def _executable_memory() -> str:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return "mapped"


def _memory(mebibytes: int) -> str:
    return str(len(bytearray(mebibytes << 20)))


def _many(mebibytes: int) -> str:
    held = []
    while True:
        held.append(b"x" * (mebibytes << 20))


def _descriptors() -> list[int]:
    found = []
    for descriptor in range(1024):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found.append(descriptor)
    return found


def _hang() -> None:
    time.sleep(3600)


def _spin() -> None:
    while True:
        pass


def _crash() -> None:
    ctypes.string_at(0)


def _raise(kind: str) -> None:
    raise {"ciphertext": CiphertextError, "key": EvaluationKeyError, "value": ValueError}[kind]("words of the worker")


def _report(data: str) -> None:
    os.write(REPORT, bytes.fromhex(data))
    os._exit(0)


def _flood() -> None:
    while True:
        os.write(REPORT, b"{}" * 1000)


def _late(seconds: float) -> None:
    """Report a result, then go on and change it."""
    os.ftruncate(RESULT, 4096)
    held = mmap.mmap(RESULT, 4096)
    os.write(REPORT, b'{"done": true}')
    time.sleep(seconds)
    held[:4] = b"late"


def _big_result(mebibytes: int) -> None:
    for _ in range(mebibytes):
        os.write(RESULT, bytes(1 << 20))
    os.write(REPORT, b'{"done": true}')
    os._exit(0)


def _who() -> dict[str, Any]:
    status = Path("/proc/self/status").exists()
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "environ": dict(os.environ),
        "proc": status,
    }


def _work(seconds: float) -> str:
    """Compute for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return "worked"


_DEEDS: dict[str, Callable[..., Any]] = {
    "open": _open,
    "write": _write,
    "list": _listing,
    "socket": _socket,
    "socketpair": _socketpair,
    "fork": _fork,
    "thread": _thread,
    "execute": _execute,
    "kill": _kill,
    "call": _call,
    "executable memory": _executable_memory,
    "memory": _memory,
    "many": _many,
    "descriptors": _descriptors,
    "hang": _hang,
    "spin": _spin,
    "crash": _crash,
    "raise": _raise,
    "report": _report,
    "flood": _flood,
    "late": _late,
    "big result": _big_result,
    "who": _who,
    "work": _work,
}
