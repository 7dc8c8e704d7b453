"""Looks for values and keys where they must not be: files, and the memory of running processes.

A value is looked for as it could have been written down: as text, and as a packed number in either byte order and precision. A
secret is looked for by a window of its bytes, in the clear, in hexadecimal and in base64.

A search that finds nothing proves something only if it would have found it: plant the same in a control first.
"""

import base64
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_CHUNK = 8 << 20
_WINDOW = 24


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
    """A number that was planted in a table. Choose one with many digits, so that it occurs by chance nowhere."""
    packed = [struct.pack(form, value) for form in ("<d", ">d")]
    return Needle(name, (repr(value).encode(), *packed))


def text(name: str, value: str) -> Needle:
    """A text that was planted."""
    return Needle(name, (value.encode(), value.encode("utf-16-le")))


def secret(name: str, value: bytes, *, windows: int = 3, encoded: bool = True) -> Needle:
    """A secret key: several windows of its bytes, as they are, in hexadecimal and in base64."""
    step = max(1, (len(value) - _WINDOW) // windows)
    patterns: list[bytes] = []
    for start in range(0, len(value) - _WINDOW + 1, step):
        window = value[start : start + _WINDOW]
        if len(set(window)) > _WINDOW // 3:  # a run of zeros is in every process
            patterns.append(window)
            if encoded:
                patterns += [window.hex().encode(), base64.b64encode(window[start % 3 :])[: _WINDOW - 4]]
    return Needle(name, tuple(patterns))


def in_files(folders: Iterable[Path], needles: Iterable[Needle]) -> list[str]:
    """Which needles lie in which files, file names included."""
    wanted = list(needles)
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found += [f"{needle.name} in the name {path}" for needle in wanted if _in(str(path).encode(), needle)]
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    found += [f"{name} in {path}" for name in _scan(_chunks(file), wanted)]
    return found


def in_processes(pids: Iterable[int], needles: Iterable[Needle]) -> list[str]:
    """Which needles lie in the memory of which processes. Raises `PermissionError` where that may not be read."""
    wanted = list(needles)
    return [f"{name} in the memory of process {pid}" for pid in pids for name in _scan(_memory(pid), wanted)]


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as they are now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    members = [pid]
    for member in members:
        members += parents.get(member, [])
    return members


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _memory(pid: int) -> Iterator[bytes]:
    """The readable memory of a process, region by region, but for what is mapped from files and cannot be written."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        for line in maps.splitlines():
            span, permissions, *_ = line.split()
            if not permissions.startswith("r") or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            if "w" not in permissions and line.split(maxsplit=5)[-1].startswith(("/usr/", "/lib", "/opt/", sys.prefix)):
                continue
            start, end = (int(side, 16) for side in span.split("-"))
            yield from _region(memory, start, end)
    finally:
        os.close(memory)


def _region(memory: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        try:
            data = os.pread(memory, min(_CHUNK, end - start), start)
        except OSError:
            return
        if not data:
            return
        yield data
        start += len(data)


def _scan(chunks: Iterable[bytes], needles: list[Needle]) -> Iterator[str]:
    """The names of the needles in `chunks`, which may cut one in two."""
    longest = max((len(pattern) for needle in needles for pattern in needle.patterns), default=1)
    left = set(range(len(needles)))
    tail = b""
    for chunk in chunks:
        data = tail + chunk
        for index in sorted(left):
            if _in(data, needles[index]):
                left.discard(index)
                yield needles[index].name
        tail = data[-(longest - 1) :] if longest > 1 else b""


def _in(data: bytes, needle: Needle) -> bool:
    return any(pattern in data for pattern in needle.patterns)
