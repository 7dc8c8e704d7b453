"""Where bytes lie: files named by tenant and digest, written so that a stored blob is whole and stays.

    data/blobs/<tenant>/<64 hexadecimal digits>     a stored blob: complete, its digest checked, never changed
    data/incoming/<process>-<random>                bytes on their way in; no promise was made about them
    data/partial/<upload>                           the parts of a large upload, each acknowledged once it is on the disk

A blob is stored in four steps, and the third is the moment it exists:

1. write it to `incoming`, with a running SHA-256;
2. fsync the file;
3. link it to its final name, which never overwrites;
4. fsync the folder.

A blob counts only with its row in the table `blobs`, which the caller inserts in the same transaction that surrounds 3 and 4;
a file without a row was left by a process that was killed, and gives way to the next upload of the same bytes.

obstore's `LocalStore` (0.12) does 1 and 3 but neither fsync, costs 0.15 ms a read, and starts a thread pool that does not
survive the fork of a worker, so the local folder is written and read here directly (reads leave by sendfile). The class below
is the seam: an S3 store has to offer the same methods.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from blindgate_gateway.problems import not_found
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import MalformedError

CHUNK = 1 << 18
_PAGE = 4096


class Source(Protocol):
    """What a body is read from."""

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes, none at the end."""
        ...


class Incoming:
    """A file on its way in.

    Attributes:
        size: how many bytes came so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._file = path.open("xb", buffering=0)

    @property
    def digest(self) -> str:
        """The digest of what came so far."""
        return DIGEST_PREFIX + self._sha256.hexdigest()

    def fill(self, source: Source, length: int, *, hashing: bool = True) -> None:
        """Take `length` bytes from `source`. Raises `MalformedError` when it ends before."""
        left = length
        while left:
            chunk = source.read(min(CHUNK, left))
            if not chunk:
                message = f"the body ended {left} bytes before its Content-Length"
                raise MalformedError(message)
            self._file.write(chunk)
            if hashing:
                self._sha256.update(chunk)
            left -= len(chunk)
        self.size += length

    def settle(self) -> None:
        """Wait until the bytes are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; its bytes stay until the folder drops the name."""
        self._file.close()


class Blobs:
    """A folder of blobs."""

    def __init__(self, data: Path) -> None:
        self._stored = data / "blobs"
        self._incoming = data / "incoming"
        self.partial = data / "partial"

    def prepare(self) -> None:
        """Make the folders, and drop what was on its way when the last gateway stopped. Nobody else may be using them."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._stored, self._incoming, self.partial):
            folder.mkdir(parents=True, exist_ok=True)
            _fsync_folder(folder.parent)

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A fresh file to write to; what was not stored when the block ends is gone."""
        incoming = Incoming(self._incoming / f"{os.getpid()}-{secrets.token_hex(8)}")
        try:
            yield incoming
        finally:
            incoming.close()
            incoming.path.unlink(missing_ok=True)

    def drop_incoming_of(self, process: int) -> None:
        """Drop what a process that ended was receiving."""
        for path in self._incoming.glob(f"{process}-*"):
            path.unlink(missing_ok=True)

    def keep(self, path: Path, tenant: str, digest: str) -> None:
        """Steps 3 and 4 for a settled file whose digest was checked, and for which there is no row yet.

        A file that has the name already was left by a gateway that was killed before its row was written. Nothing was
        promised about it, so it gives way.
        """
        target = self._path(tenant, digest)
        try:
            os.link(path, target)
        except FileNotFoundError:
            target.parent.mkdir(exist_ok=True)
            _fsync_folder(self._stored)
            os.link(path, target)
        except FileExistsError:
            target.unlink()
            os.link(path, target)
        _fsync_folder(target.parent)

    def open(self, tenant: str, digest: str) -> BinaryIO:
        """Open a stored blob. Raises `NotFoundError`."""
        try:
            return self._path(tenant, digest).open("rb")
        except FileNotFoundError:
            message = "blob"
            raise not_found(message) from None

    def holds(self, tenant: str, digest: str, size: int) -> bool:
        """Whether the file is there, in full length."""
        try:
            return self._path(tenant, digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def remove(self, tenant: str, digest: str) -> None:
        """Delete a blob's file, if it is there."""
        self._path(tenant, digest).unlink(missing_ok=True)

    def writable(self) -> bool:
        """Whether something can be written now."""
        try:
            with self.incoming() as incoming:
                incoming.fill(BytesIO(bytes(_PAGE)), _PAGE)  # a full disk still takes an empty file
                incoming.settle()
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EMFILE}:
                return False
            raise
        return True

    def _path(self, tenant: str, digest: str) -> Path:
        # Both have passed their grammar (values.Name, values.Digest): neither can leave the folder.
        return self._stored / tenant / digest.removeprefix(DIGEST_PREFIX)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
