"""Where bytes lie: one seam, and behind it a local folder (`folder`) or an S3-compatible store (`bucket`).

The rooms know objects and rows. An object is bytes under a name that nothing had before; a row of the table `blobs` says which
object holds a tenant's blob. What follows:

1. a stored object is never overwritten, since no name is used twice, by whatever process;
2. an object counts for nothing until a row names it, so bytes may arrive, and be checked, before any transaction begins;
3. an object that no row names was left by a process that was killed, or by an upload that came to nothing: after a time of
   grace it is collected (`sweep`). What went wrong between the bytes and their row needs no other cure;
4. an object whose row was deleted may be deleted afterwards, for the same reason.

A name begins with the digest's hexadecimal digits, so everything that was ever stored of one blob can be found and purged.

A large blob arrives in parts. The store itself keeps them, and is asked which have come: an upload goes on after any process was
killed, and through any other. The part that counts is the first that came whole; an object is made of parts once.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import MalformedError

CHUNK = 1 << 18


class Source(Protocol):
    """What a body is read from."""

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes, none at the end."""
        ...


class Opened(Protocol):
    """A stored object, open for reading. A local file has a `fileno`, too, and leaves by sendfile."""

    def read(self, size: int = ..., /) -> bytes:
        """Give up to `size` bytes, none at the end."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Incoming(Protocol):
    """Bytes on their way to becoming an object."""

    @property
    def digest(self) -> str:
        """The digest of what came."""
        ...

    def fill(self, source: Source, length: int) -> None:
        """Take `length` bytes from `source`, all there will be. Raises `MalformedError` when it ends before."""
        ...

    def settle(self) -> str:
        """Make what came an object, which no crash forgets; gives its name."""
        ...


@dataclass(frozen=True, slots=True)
class Parted:
    """An upload in parts.

    Attributes:
        size: of the whole, in bytes.
        part: every part but the last has this many bytes.
        object: the name of the object that they become.
        multipart: the store's own id of the upload, where it has one.
    """

    tenant: str
    size: int
    part: int
    object: str
    multipart: str | None

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size // self.part)

    def length(self, number: int) -> int:
        """How many bytes part `number` has; the first is 1."""
        return min(self.part, self.size - (number - 1) * self.part)

    def whole(self) -> frozenset[int]:
        """The numbers of all parts."""
        return frozenset(range(1, self.count + 1))


@dataclass(frozen=True, slots=True)
class Stray:
    """Bytes in the store that may belong to nothing.

    Attributes:
        object: an object's name, or the name that an unfinished upload would get.
        multipart: the store's id of an unfinished upload; `None` for an object.
    """

    tenant: str
    object: str
    multipart: str | None = None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's name, and how many bytes it has."""

    name: str
    size: int


class Blobs(Protocol):
    """A store. Every method may raise `GatewayError` with the code `busy` when the store cannot answer now."""

    def prepare(self) -> None:
        """Make it ready, before anybody uses it. Raises `BlindgateError` when it cannot be used at all."""
        ...

    def drop_incoming_of(self, process: int) -> None:
        """Drop what a process that ended was receiving."""
        ...

    def incoming(self, tenant: str, digest: str) -> AbstractContextManager[Incoming]:
        """Begin a new object of a blob. It stays if the block settles it and raises no `BlindgateError`."""
        ...

    def begin(self, tenant: str, digest: str) -> tuple[str, str | None]:
        """Begin an upload in parts; gives the object's name and the store's id (`Parted`)."""
        ...

    def arrived(self, upload: Parted) -> frozenset[int]:
        """The numbers of the parts that came whole. Raises `NotFoundError` when the store knows neither upload nor object."""
        ...

    def take(self, upload: Parted, number: int, source: Source) -> None:
        """Store a part, if it did not come before. Raises `NotFoundError` when the upload ended meanwhile."""
        ...

    def urls(self, upload: Parted, numbers: Sequence[int]) -> tuple[str, ...]:
        """Where to PUT these parts straight to the store, if that is allowed: one for each, or none at all."""
        ...

    def finish(self, upload: Parted) -> None:
        """Make the object of parts that all came; again changes nothing. Raises `NotFoundError` when the upload ended."""
        ...

    def end(self, upload: Parted) -> None:
        """Drop an upload that nobody can complete any more: its parts, and the object if it was made."""
        ...

    def open(self, tenant: str, name: str) -> tuple[Opened, int]:
        """Open an object; gives its size, too. Raises `NotFoundError`."""
        ...

    def holds(self, tenant: str, name: str, size: int) -> bool:
        """Whether the object is there, in full length."""
        ...

    def remove(self, tenant: str, name: str) -> None:
        """Delete an object, if it is there."""
        ...

    def purge(self, tenant: str, digest: str) -> None:
        """Delete all that was ever stored of a blob, every version of it, and unfinished uploads. It is gone when this returns."""
        ...

    def listing(self, tenant: str) -> Iterator[StoredObject]:
        """Every object of a tenant, in the order of their names."""
        ...

    def strays(self, *, grace: int) -> Iterator[Stray]:
        """Objects and unfinished uploads that are older than `grace` milliseconds, by the store's clock."""
        ...

    def drop(self, stray: Stray) -> None:
        """Delete a stray."""
        ...

    def writable(self) -> bool:
        """Whether the store takes something now."""
        ...


def new_name(digest: str) -> str:
    """A name for an object that no other ever has."""
    return f"{name_prefix(digest)}-{secrets.token_hex(8)}"


def name_prefix(digest: str) -> str:
    """How the names of all objects of a blob begin. `digest` has passed its grammar (`values.Digest`)."""
    return digest.removeprefix(DIGEST_PREFIX)


def chunks(source: Source, length: int) -> Iterator[bytes]:
    """Read `length` bytes, a few at a time. Raises `MalformedError` when there are fewer."""
    left = length
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            message = f"the body ended {left} bytes before its Content-Length"
            raise MalformedError(message)
        yield chunk
        left -= len(chunk)


def digest_of(opened: Opened) -> str:
    """Read an object to its end and close it; gives its digest."""
    sha256 = hashlib.sha256()
    try:
        while chunk := opened.read(CHUNK):
            sha256.update(chunk)
    finally:
        opened.close()
    return DIGEST_PREFIX + sha256.hexdigest()
