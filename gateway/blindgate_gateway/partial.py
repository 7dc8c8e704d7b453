"""The file in which a large upload's parts come together.

Each part is received into a file of its own and then copied to its place here, under a lock on this file, once: a part that was
acknowledged is never written again, so a late or hostile repetition of a PUT cannot change bytes whose digest was taken.

The SHA-256 of the whole follows the parts: as soon as the next bytes in order are here they are hashed, in this process's
memory. After a restart, or when another process took some of the parts, it starts again from the file. So the last part of an
upload costs little, and losing the memory costs time only.
"""

import fcntl
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blindgate_protocol.canonical import DIGEST_PREFIX

MOST_RUNNING = 256
_CHUNK = 1 << 20

_running: OrderedDict[Path, tuple[int, Any]] = OrderedDict()
_running_lock = threading.Lock()


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the partial file at `path` alone, across threads and processes; gives its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def place(descriptor: int, part: Path, *, at: int) -> None:
    """Copy a part's bytes to offset `at`, onto the disk."""
    source = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        left, position = os.fstat(source).st_size, 0
        while left:
            copied = os.copy_file_range(source, descriptor, left, position, at + position)
            left -= copied
            position += copied
    finally:
        os.close(source)
    os.fsync(descriptor)


def whole_prefix(numbers: Iterable[int], *, part: int, size: int) -> int:
    """How many bytes from the start are covered by the parts of these `numbers`, from 1."""
    have = set(numbers)
    count = 0
    while count + 1 in have:
        count += 1
    return min(count * part, size)


def follow(path: Path, descriptor: int, *, to: int) -> str:
    """Hash the file's first `to` bytes, starting where this process left off. Gives their digest."""
    with _running_lock:
        done, state = _running.pop(path, (0, None))
    sha256 = hashlib.sha256() if state is None or done > to else state
    done = 0 if state is None or done > to else done
    while done < to:
        chunk = os.pread(descriptor, min(_CHUNK, to - done), done)
        if not chunk:
            break
        sha256.update(chunk)
        done += len(chunk)
    with _running_lock:
        _running[path] = (done, sha256)
        while len(_running) > MOST_RUNNING:
            _running.popitem(last=False)
    return DIGEST_PREFIX + sha256.hexdigest()


def forget(path: Path) -> None:
    """Drop the file and what is remembered of it."""
    with _running_lock:
        _running.pop(path, None)
    path.unlink(missing_ok=True)
