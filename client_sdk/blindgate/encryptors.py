"""Processes that encrypt beside this one, so that a long table is encrypted by every core.

SEAL's calls hold Python's lock, so threads do not help. Forking the caller's process, with whatever threads and libraries it has,
would be a gamble; so each encryptor is a Python of its own that is told the family, the client part and the secret key through a
pipe. Nothing of that stands in its arguments, its environment or a file. It encrypts chunk after chunk and ends when the pipe
closes, however this process ended.

An encryptor that cannot start or dies costs time and nothing else: its chunk is encrypted by the caller. A chunk that is refused
is also the caller's to encrypt, and to be refused in its words.
"""

import contextlib
import os
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models import clients
from blindgate_models.halves import ClientHalf
from blindgate_models.package import parse_part

Rows = NDArray[np.float64]

WORTH_SECONDS: Final = 2.0
"""Encryptors take up to half a second to start: they are not worth it for less than this."""

_LENGTH: Final = struct.Struct("<Q")
_SHAPE: Final = struct.Struct("<QQ")
_CLOSING_SECONDS: Final = 5


class Encrypted(NamedTuple):
    """A chunk's ciphertexts, and how many seconds they took."""

    ciphertexts: bytes
    seconds: float


class Encryptors:
    """As many processes as cores, or as there are chunks. A context manager: leaving it ends them."""

    def __init__(self, half: ClientHalf, family: str, part: bytes, secret: bytes, chunks: int) -> None:
        """Take what `half` was made from: it encrypts what no process did."""
        self._half, self._secret = half, secret
        self._hello = (family.encode(), part, secret)
        self._count = min(chunks, cores())
        self._idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()
        self._started: list[subprocess.Popen[bytes]] = []
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="blindgate-encrypt")

    def __enter__(self) -> Self:
        for _ in range(self._count):
            process = _start()
            if process is not None:
                self._started.append(process)
            self._idle.put(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()  # a blocked write or read ends with it
        self._threads.shutdown(cancel_futures=True)
        for process in self._started:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not yet written has nowhere to go
                        pipe.close()
            process.wait(_CLOSING_SECONDS)

    def encrypt(self, chunks: Sequence[Rows]) -> Iterator[Encrypted]:
        """Encrypt the chunks, in order, a few ahead of whoever takes them. Raises what `half.encrypt` raises."""
        greeted: set[int] = set()
        ahead: deque[tuple[Rows, Future[Encrypted | None]]] = deque()
        for chunk in chunks:
            ahead.append((chunk, self._threads.submit(self._encrypt, chunk, greeted)))
            if len(ahead) > self._count:
                yield self._taken(*ahead.popleft())
        while ahead:
            yield self._taken(*ahead.popleft())

    def _taken(self, chunk: Rows, future: Future[Encrypted | None]) -> Encrypted:
        found = future.result()
        if found is not None:
            return found
        started = time.monotonic()
        return Encrypted(self._half.encrypt(self._secret, chunk), time.monotonic() - started)

    def _encrypt(self, chunk: Rows, greeted: set[int]) -> Encrypted | None:
        """In the next idle process; `None` where there is none, or it failed."""
        process = self._idle.get()
        found = None
        try:
            if process is not None and process.stdin is not None and process.stdout is not None:
                started = time.monotonic()
                if process.pid not in greeted:
                    for part in self._hello:
                        _write(process.stdin, part)
                    greeted.add(process.pid)
                _write(process.stdin, _SHAPE.pack(*chunk.shape) + np.ascontiguousarray(chunk).tobytes())
                ciphertexts = _read(process.stdout)
                found = Encrypted(ciphertexts, time.monotonic() - started) if ciphertexts else None
        except (OSError, ValueError, EOFError):
            process = None
        self._idle.put(process)
        return found


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _start() -> subprocess.Popen[bytes] | None:
    if not sys.executable:
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "blindgate.encryptors"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is the caller's
        )
    except OSError:
        return None


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    """Raises `EOFError` at the end."""
    header = pipe.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(header)
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Be an encryptor: answer each chunk with its ciphertexts, or with nothing where it is refused."""
    given, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not answer
    try:
        family, part, secret = (_read(given) for _ in range(3))
        half = clients.client_half(family.decode()).from_part(parse_part(part))
        while True:
            data = _read(given)
            rows, columns = _SHAPE.unpack_from(data)
            chunk = np.frombuffer(data, dtype=np.float64, offset=_SHAPE.size).reshape(rows, columns)
            _write(answers, _ciphertexts(half, secret, chunk))
    except (EOFError, BrokenPipeError):
        return


def _ciphertexts(half: ClientHalf, secret: bytes, chunk: Rows) -> bytes:
    try:
        return half.encrypt(secret, chunk)
    except Exception:  # noqa: BLE001  (the caller encrypts this chunk itself and meets it again)
        return b""


if __name__ == "__main__":
    main()
