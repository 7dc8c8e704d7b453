"""A family that computes nothing: it tries, in a real worker, what no worker may do, and tells what it could.

`trial` runs it when a node starts. It takes no part in any job.
"""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from blindgate_models.halves import Part


class Trespasser:
    """See `blindgate_models.halves.ServerHalf`."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from a part, which holds nothing."""
        del part
        return cls()

    def prepare(self) -> None:
        """Nothing: it tries when it is asked."""

    def rows(self, ciphertexts: bytes) -> int:
        """One, whatever it is."""
        del ciphertexts
        return 1

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Tell, for each thing that was tried, whether it could be done."""
        del evaluation_key
        folder = str(json.loads(ciphertexts)["folder"])
        tried: dict[str, Callable[[], object]] = {
            "socket": _socket,
            "fork": _fork,
            "execute": _execute,
            "folder": lambda: list(Path(folder).iterdir()),
        }
        told = {}
        for name, attempt in tried.items():
            told[name] = True
            try:
                attempt()
            except OSError:
                told[name] = False
        return json.dumps(told).encode()


def _socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _execute() -> None:
    # A system call that is filtered fails before anybody looks whether the file exists.
    with suppress(FileNotFoundError):
        os.execv("/nonexistent", ["nonexistent"])  # noqa: S606  (meant to fail)
