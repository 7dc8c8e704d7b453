"""Processes that compute for this one and may crash, hang or lie: started, asked and ended, each wait with an end.

Native code that parses what strangers wrote (`parsing`), or that ends its process where others raise an error (`card_process`),
runs in one. It gets its words by standard input and answers by standard output; this module moves bytes, and knows none of them.
"""

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

_PIECE_BYTES = 1 << 20
_END_SECONDS = 10.0


def start(
    code: str, *arguments: str, environment: Mapping[str, str], errors: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Python, running `code`, which imports from where this process does and from nowhere else.

    Args:
        code: what to run, with `sys.path` set.
        arguments: what it finds from `sys.argv[1]` on.
        environment: its variables, all of them.
        errors: a file for its standard error; nowhere by default.
    """
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    launch = f"import sys; n = {len(arguments) + 1}; sys.path[:] = sys.argv[n:]; del sys.argv[n:]; {code}"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", launch, *arguments, *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if errors is None else errors,
        env=environment,
        cwd="/",
        bufsize=0,
        start_new_session=True,
    )
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and what it started. One that has ended keeps its status."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # one that a driver holds ends when the driver lets it
        process.wait(_END_SECONDS)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def send(process: subprocess.Popen[bytes], parts: Iterable[bytes | memoryview], deadline: float) -> None:
    """Write all of it. `deadline` is by `time.monotonic`.

    Raises `TimeoutError`, and `OSError` where it has let go of its pipe.
    """
    if process.stdin is None:
        raise OSError
    descriptor = process.stdin.fileno()
    for part in parts:
        view = memoryview(part)
        while view:
            _wait(descriptor, select.POLLOUT, deadline)
            view = view[os.write(descriptor, view[:_PIECE_BYTES]) :]


def receive(process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    """Read `size` bytes. Raises `TimeoutError`; `EOFError` or `OSError` where it has let go of its pipe."""
    if process.stdout is None:
        raise OSError
    descriptor = process.stdout.fileno()
    data = bytearray()
    while len(data) < size:
        _wait(descriptor, select.POLLIN, deadline)
        piece = os.read(descriptor, min(size - len(data), _PIECE_BYTES))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poller.poll(math.ceil(left * 1000)):
        raise TimeoutError
