"""Looks for values and keys where they must not be: files, and the memory of running processes.

**What is looked for.** A planted value as it could have been written down: its digits, and the packed double in either byte
order. A secret key by windows of its bytes that lie end to end, so that any stretch of two windows betrays it wherever it was
cut; each as it is, in hexadecimal and in base64. A window is as long as it takes to be nobody else's: 24 bytes of
random words, half a kilobyte of a TFHE key, whose 64-bit words are 0 or 1.

**Where.** Every file under a folder, names included. Of a process, every page that it has touched, in memory or swapped out, but
for those of a file that lies on disk and that the process cannot have changed; and the files without a name that it holds open.

All patterns are searched at once, by an Aho-Corasick automaton: a gigabyte of memory takes seconds, not minutes.

A search that finds nothing proves something only if it would have found it: plant the same in a control first.
"""

import base64
import itertools
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from ahocorasick_rs import BytesAhoCorasick

from blindgate_models.concrete.spec import HEADER_BYTES as CONCRETE_HEADER_BYTES
from blindgate_models.linear.spec import DEGREE as LINEAR_DEGREE
from blindgate_models.secret_keys import HEADER_BYTES as SECRET_HEADER_BYTES

_CHUNK: Final = 8 << 20
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_DIGITS: Final = 10
_WINDOW: Final = 24
_LONGEST_WINDOW: Final = 1024
_TELLING: Final = len(zlib.compress(bytes(range(_WINDOW))))
_LABEL: Final = re.compile(rb"[ -~]{12}")

_PRESENT: Final = np.uint64(0b11 << 62)  # in memory, or swapped out: /proc/PID/pagemap, Linux's documentation of it
_OF_A_FILE: Final = np.uint64(1 << 61)


@dataclass(frozen=True)
class Needle:
    """Something that must not be found.

    Attributes:
        name: what to call it when it is found.
        patterns: the byte strings that betray it.
    """

    name: str
    patterns: tuple[bytes, ...]


def number(name: str, value: float) -> Needle:
    """A number that was planted in a table. Choose one with many digits, so that it occurs by chance nowhere.

    Its first ten digits count, so that a rounded copy is found as well.
    """
    digits = repr(abs(value))[: _DIGITS + 1].encode()
    return Needle(name, (digits, struct.pack("<d", value), struct.pack(">d", value)))


def text(name: str, value: str) -> Needle:
    """A text that was planted."""
    return Needle(name, (value.encode(), value.encode("utf-16-le")))


def stored_key(name: str, stored: bytes) -> Needle:
    """A secret key as the SDK's key store keeps it, less its public header, and as SEAL holds its words in memory."""
    if stored.startswith(b"BGCS"):
        return secret(name, stored[CONCRETE_HEADER_BYTES:])
    if stored.startswith(b"BGLK"):
        words = np.frombuffer(stored, np.uint8, offset=SECRET_HEADER_BYTES).reshape(LINEAR_DEGREE, -1)
        return secret(name, words.tobytes(), np.pad(words, ((0, 0), (0, 8 - words.shape[1]))).tobytes())
    return secret(name, stored)


def secret(name: str, *forms: bytes) -> Needle:
    """A secret, in each of the `forms` in which a program may hold it. Labels within it are not looked for."""
    patterns = [encoded for form in forms for window in _windows(form) for encoded in _encodings(window)]
    if not patterns:
        message = f"{name}: nothing in it that could be told from chance"
        raise ValueError(message)
    return Needle(name, tuple(patterns))


class Search:
    """One search for all of some needles."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        """Prepare to look for `needles`."""
        owners: dict[bytes, str] = {pattern: needle.name for needle in needles for pattern in needle.patterns}
        self._automaton = BytesAhoCorasick(list(owners))
        self._owners = list(owners.values())
        self._overlap = max(len(pattern) for pattern in owners) - 1

    def in_bytes(self, data: bytes) -> set[str]:
        """The names of the needles in `data`."""
        return {self._owners[index] for index, _, _ in self._automaton.find_matches_as_indexes(data)}

    def in_files(self, folders: Iterable[Path]) -> list[str]:
        """Which needles lie in which files, file names included."""
        found = []
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                found += [f"{name} in the name {path}" for name in self.in_bytes(os.fsencode(path))]
                if path.is_file() and not path.is_symlink():
                    with path.open("rb") as file:
                        found += [f"{name} in {path}" for name in self._in_stream(_chunks(file))]
        return found

    def in_processes(self, pids: Iterable[int]) -> list[str]:
        """Which needles lie in the memory of which processes. Raises `PermissionError` where that may not be read."""
        found = []
        for pid in pids:
            try:
                for where, chunks in itertools.chain(_memory(pid), _nameless(pid)):
                    found += [f"{name} in {where} of process {pid}" for name in self._in_stream(chunks)]
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
        return found

    def _in_stream(self, chunks: Iterable[bytes]) -> list[str]:
        """The names of the needles in `chunks`, which may cut one in two."""
        found: set[str] = set()
        tail = b""
        for chunk in chunks:
            data = tail + chunk
            found |= self.in_bytes(data)
            tail = data[-self._overlap :]
        return sorted(found)


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as they are now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(status.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    members = [pid]
    for member in members:
        members += parents.get(member, [])
    return members


def _windows(form: bytes) -> Iterator[bytes]:
    """Cut `form` into windows that say enough to be told from chance."""
    start = 0
    while start < len(form):
        size = _WINDOW
        while size < _LONGEST_WINDOW and len(zlib.compress(form[start : start + size])) < _TELLING:
            size *= 2
        window = form[start : start + size]
        if len(zlib.compress(window)) >= _TELLING and not _LABEL.search(window):
            yield window
        start += size


def _encodings(window: bytes) -> Iterator[bytes]:
    """A window as it is, in hexadecimal, and in base64, where it may begin at any of three places in a group of four."""
    yield window
    yield window.hex().encode()
    yield window.hex().upper().encode()
    for phase in range(3):
        whole = window[phase : phase + (len(window) - phase) // 3 * 3]
        yield base64.b64encode(whole)
        yield base64.urlsafe_b64encode(whole)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _memory(pid: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """What a process may have written in its memory, each stretch with the name of its mapping."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        for line in maps.splitlines():
            span, permissions, _, _, inode, *path = line.split(maxsplit=5)
            name = path[0] if path else "anonymous memory"
            if "r" not in permissions or name.startswith(("[vvar", "[vsyscall")):
                continue
            start, end = (int(side, 16) for side in span.split("-"))
            on_disk = inode != "0" and "w" not in permissions and os.path.exists(name)  # noqa: PTH110
            for first, last in _touched(pagemap, start, end, unchanged_too=not on_disk):
                yield name, _region(memory, first, last)


def _touched(pagemap: BinaryIO, start: int, end: int, *, unchanged_too: bool) -> Iterator[tuple[int, int]]:
    """The stretches of `start` to `end` that hold something, without a file's own pages unless `unchanged_too`."""
    pagemap.seek(start // _PAGE * 8)
    entries = np.frombuffer(pagemap.read((end - start) // _PAGE * 8), np.uint64)
    wanted = (entries & _PRESENT) != 0
    if not unchanged_too:
        wanted &= (entries & _OF_A_FILE) == 0
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    for first, last in edges.reshape(-1, 2).tolist():
        yield start + first * _PAGE, start + last * _PAGE


def _region(memory: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        try:
            data = os.pread(memory.fileno(), min(_CHUNK, end - start), start)
        except OSError:  # unmapped since
            return
        if not data:
            return
        yield data
        start += len(data)


def _nameless(pid: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The open files of a process that no folder shows: memory files, and those deleted while open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(descriptor.readlink())
            if not re.search(r" \(deleted\)$", name) or not stat.S_ISREG(descriptor.stat().st_mode):
                continue
            file = descriptor.open("rb")
        except FileNotFoundError:  # closed since
            continue
        with file:
            yield name, _chunks(file)
