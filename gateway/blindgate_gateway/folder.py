"""Blobs in a local folder, written so that an object is whole and stays.

    data/blobs/<tenant>/<object>             a stored object: a file, or a folder of the parts that it came in
    data/incoming/<process>-<random>         bytes on their way in; no promise was made about them
    data/partial/<tenant>/<object>/<number>  a part of an upload, acknowledged once it is on the disk

A file is stored in four steps, and the third is the moment it exists:

1. write it to `incoming`, with a running SHA-256;
2. fsync the file;
3. link it to its final name, which never overwrites;
4. fsync the folder.

A part is stored by the same steps, so a late or hostile repetition of it changes nothing. When all are there their folder is moved
to its final name: bytes are written once, and none is copied. A part that comes later finds no folder.

obstore's `LocalStore` (0.12) does 1 and 3 but neither fsync, costs 0.15 ms a read, and starts a thread pool that does not
survive the fork of a worker, so the folder is written and read here directly (files leave by sendfile).
"""

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from blindgate_gateway.blobs import Opened, Parted, Source, StoredObject, Stray, chunks, name_prefix, new_name
from blindgate_gateway.problems import not_found
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import BlindgateError

_PAGE = 4096
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EMFILE}


class IncomingFile:
    """See `blobs.Incoming`."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.settled = False
        self._target = target
        self._sha256 = hashlib.sha256()
        self._file = path.open("xb", buffering=0)

    @property
    def digest(self) -> str:
        """The digest of what came."""
        return DIGEST_PREFIX + self._sha256.hexdigest()

    def fill(self, source: Source, length: int, *, hashing: bool = True) -> None:
        """Step 1. Raises `MalformedError` when the source ends before."""
        for chunk in chunks(source, length):
            left = memoryview(chunk)
            while left:  # a disk that fills up takes some of it, and says so by the number alone
                left = left[self._file.write(left) :]
            if hashing:
                self._sha256.update(chunk)

    def sync(self) -> None:
        """Step 2."""
        os.fsync(self._file.fileno())

    def settle(self) -> str:
        """Steps 2 to 4."""
        self.sync()
        try:
            os.link(self.path, self._target)
        except FileNotFoundError:
            self._target.parent.mkdir(exist_ok=True)
            _fsync_folder(self._target.parent.parent)
            os.link(self.path, self._target)
        _fsync_folder(self._target.parent)
        self.settled = True
        return self._target.name

    def settle_part(self) -> None:
        """Steps 2 to 4 for a part, whose folder is there as long as its upload is open. Raises `FileNotFoundError`."""
        self.sync()
        with suppress(FileExistsError):  # the first that came is the one that counts
            os.link(self.path, self._target)
        _fsync_folder(self._target.parent)

    def close(self) -> None:
        """Close the file and drop its first name."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class PartFiles:
    """The parts of an object, read as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(reversed(files))
        self._open: BinaryIO | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Give up to `size` bytes, none at the end."""
        while True:
            if self._open is None:
                if not self._files:
                    return b""
                self._open = self._files.pop().open("rb", buffering=0)
            data = self._open.read(size)
            if data:
                return data
            self.close()

    def close(self) -> None:
        """Close the part that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None


class FolderBlobs:
    """See `blobs.Blobs`."""

    def __init__(self, data: Path) -> None:
        self._stored = data / "blobs"
        self._incoming = data / "incoming"
        self._partial = data / "partial"

    def prepare(self) -> None:
        """Make the folders, and drop what was on its way when the last gateway stopped. Nobody else may be using them."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._stored, self._incoming, self._partial):
            folder.mkdir(parents=True, exist_ok=True)
            _fsync_folder(folder.parent)
        for left in self._partial.iterdir():
            if left.is_file():  # before 0008 an upload was one file
                left.unlink()

    def drop_incoming_of(self, process: int) -> None:
        """Drop what a process that ended was receiving."""
        for path in self._incoming.glob(f"{process}-*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def incoming(self, tenant: str, digest: str) -> Iterator[IncomingFile]:
        """Begin a new object of a blob."""
        target = self._stored / tenant / new_name(digest)
        with self._receiving(target) as incoming:
            try:
                yield incoming
            except BlindgateError:
                if incoming.settled:
                    target.unlink()
                raise

    def begin(self, tenant: str, digest: str) -> tuple[str, str | None]:
        """Begin an upload in parts."""
        name = new_name(digest)
        folder = self._partial / tenant / name
        folder.mkdir(parents=True)
        _fsync_folder(folder.parent)
        _fsync_folder(self._partial)
        return name, None

    def arrived(self, upload: Parted) -> frozenset[int]:
        """The numbers of the parts that came whole."""
        try:
            return frozenset(int(part.name) for part in self._parts_of(upload).iterdir())
        except FileNotFoundError:
            if self.holds(upload.tenant, upload.object, upload.size):
                return upload.whole()
            what = "upload"
            raise not_found(what) from None

    def take(self, upload: Parted, number: int, source: Source) -> None:
        """Store a part."""
        with self._receiving(self._parts_of(upload) / str(number)) as incoming:
            incoming.fill(source, upload.length(number), hashing=False)
            try:
                incoming.settle_part()
            except FileNotFoundError:
                if not self.holds(upload.tenant, upload.object, upload.size):
                    what = "upload"
                    raise not_found(what) from None

    def urls(self, upload: Parted, numbers: Sequence[int]) -> tuple[str, ...]:  # noqa: ARG002
        """Nobody but the gateway gets at its folder."""
        return ()

    def finish(self, upload: Parted) -> None:
        """Move the folder of parts to its final name."""
        target = self._stored / upload.tenant / upload.object
        target.parent.mkdir(exist_ok=True)
        try:
            # A part may be seen before it is on the disk: whoever stored it was killed in between.
            _fsync_folder(self._parts_of(upload))
            self._parts_of(upload).rename(target)
        except FileNotFoundError:
            if not target.is_dir():
                what = "upload"
                raise not_found(what) from None
        _fsync_folder(target.parent)
        _fsync_folder(self._stored)

    def end(self, upload: Parted) -> None:
        """Drop an upload."""
        shutil.rmtree(self._parts_of(upload), ignore_errors=True)
        self.remove(upload.tenant, upload.object)

    def open(self, tenant: str, name: str) -> tuple[Opened, int]:
        """Open an object."""
        path = self._stored / tenant / name
        try:
            if not path.is_dir():
                file = path.open("rb")
                return file, os.fstat(file.fileno()).st_size
            parts = _parts_in(path)
            return PartFiles(parts), sum(part.stat().st_size for part in parts)
        except FileNotFoundError:
            what = "blob"
            raise not_found(what) from None

    def holds(self, tenant: str, name: str, size: int) -> bool:
        """Whether the object is there, in full length."""
        path = self._stored / tenant / name
        try:
            return sum(part.stat().st_size for part in (_parts_in(path) if path.is_dir() else [path])) == size
        except FileNotFoundError:
            return False

    def remove(self, tenant: str, name: str) -> None:
        """Delete an object, if it is there."""
        path = self._stored / tenant / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def purge(self, tenant: str, digest: str) -> None:
        """Delete all that was ever stored of a blob."""
        for folder in (self._partial / tenant, self._stored / tenant):
            for path in folder.glob(f"{name_prefix(digest)}*"):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            if folder.is_dir():
                _fsync_folder(folder)

    def listing(self, tenant: str) -> Iterator[StoredObject]:
        """Every object of a tenant, in the order of their names."""
        for path in sorted((self._stored / tenant).glob("*")):
            with suppress(FileNotFoundError):
                parts = _parts_in(path) if path.is_dir() else [path]
                yield StoredObject(path.name, sum(part.stat().st_size for part in parts))

    def strays(self, *, grace: int) -> Iterator[Stray]:
        """Objects and unfinished uploads that are older than `grace` milliseconds."""
        before = time.time() - grace / 1000
        for root in (self._stored, self._partial):
            for path in root.glob("*/*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime <= before:
                        yield Stray(path.parent.name, path.name)

    def drop(self, stray: Stray) -> None:
        """Delete a stray."""
        shutil.rmtree(self._partial / stray.tenant / stray.object, ignore_errors=True)
        self.remove(stray.tenant, stray.object)

    def writable(self) -> bool:
        """Whether something can be written now."""
        try:
            with self._receiving(self._incoming / "never") as incoming:
                incoming.fill(BytesIO(bytes(_PAGE)), _PAGE)  # a full disk still takes an empty file
                incoming.sync()
        except OSError as error:
            if error.errno in _CANNOT_WRITE:
                return False
            raise
        return True

    @contextmanager
    def _receiving(self, target: Path) -> Iterator[IncomingFile]:
        incoming = IncomingFile(self._incoming / f"{os.getpid()}-{secrets.token_hex(8)}", target)
        try:
            yield incoming
        finally:
            incoming.close()

    def _parts_of(self, upload: Parted) -> Path:
        # Tenant and object have passed their grammar (values.Name, values.Digest): neither can leave the folder.
        return self._partial / upload.tenant / upload.object


def _parts_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: int(path.name))


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
