"""Bytes that a worker is handed: in memory only, under a file descriptor, and unchangeable.

A blob lives in a memfd, so it can be passed to another process without a copy, never touches a disk, and counts nowhere as
the node's own memory. Once it is sealed nobody can change it any more, whoever holds the descriptor; only the node keeps a way
in, a mapping made before sealing (`F_SEAL_FUTURE_WRITE`), with which it wipes the blob when it lets it go.

A result goes the other way: the node makes the memfd, a worker writes it, and `seal_result` fails while anybody can still
write: what was hashed and signed is then what is sent.
"""

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterable
from typing import NamedTuple, Self

from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import SandboxError
from blindgate_protocol.values import BlobRef

_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW, _SEAL_WRITE, _SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16
_FIXED = _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW


class BlobMismatchError(ValueError):
    """The bytes that came are not the ones that were named: too many, too few, or others."""


class SealedBlob:
    """A blob in memory. Its repr shows its name and size only."""

    def __init__(self, descriptor: int, ref: BlobRef, way_in: mmap.mmap | None) -> None:
        self.descriptor = descriptor
        self.ref = ref
        self._way_in = way_in

    @classmethod
    def receive(cls, chunks: Iterable[bytes], *, digest: str, size: int | None, most: int) -> Self:
        """Take in `chunks` until they end, counting and hashing as they come.

        Args:
            chunks: the bytes, in pieces.
            digest: what they must hash to.
            size: how many there must be, where that is known.
            most: no more than this are ever taken in.

        Raises `BlobMismatchError` saying which of the three is not so; nothing is kept then.
        """
        descriptor = os.memfd_create("blob", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            length = _take_in(descriptor, chunks, digest=digest, size=size, most=most)
            way_in = mmap.mmap(descriptor, length) if length else None
            fcntl.fcntl(descriptor, _F_ADD_SEALS, _FIXED | _SEAL_FUTURE_WRITE)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, BlobRef(digest=digest, size=length), way_in)

    def wipe(self) -> None:
        """Overwrite the bytes and let them go. Nobody may be computing with them."""
        if self._way_in is not None:
            view = memoryview(self._way_in)
            zeros = bytes(1 << 20)
            for start in range(0, len(view), len(zeros)):
                part = view[start : start + len(zeros)]
                part[:] = zeros[: len(part)]
                part.release()
            view.release()
            self._way_in.close()
            self._way_in = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"SealedBlob({self.ref.digest}, {self.ref.size} bytes)"


def _take_in(descriptor: int, chunks: Iterable[bytes], *, digest: str, size: int | None, most: int) -> int:
    bound = most if size is None else min(most, size)
    length, running = 0, hashlib.sha256()
    for chunk in chunks:
        length += len(chunk)
        if length > bound:
            message = f"more than the {bound} bytes that were expected"
            raise BlobMismatchError(message)
        running.update(chunk)
        write_all(descriptor, chunk)
    if size is not None and length != size:
        message = f"{length} bytes, expected {size}"
        raise BlobMismatchError(message)
    if DIGEST_PREFIX + running.hexdigest() != digest:
        message = f"{length} bytes whose digest is not {digest}"
        raise BlobMismatchError(message)
    return length


class Result(NamedTuple):
    """A worker's result, mapped and fixed."""

    data: bytes
    ref: BlobRef


def new_result() -> int:
    """A descriptor for a worker to write its result to. The caller closes it."""
    return os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal_result(descriptor: int, most: int) -> Result:
    """Fix what a worker wrote, then read and hash it. Raises `SandboxError` when it can still change, is empty or too large."""
    try:
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _FIXED | _SEAL_WRITE)
    except OSError as error:
        message = "the worker holds on to its result"
        raise SandboxError(message) from error
    size = os.fstat(descriptor).st_size
    if not 0 < size <= most:
        message = f"a result of {size} bytes, expected 1 to {most}"
        raise SandboxError(message)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapping:
        data = mapping[:]
    return Result(data, BlobRef(digest=DIGEST_PREFIX + hashlib.sha256(data).hexdigest(), size=size))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data` to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
