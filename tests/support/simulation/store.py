"""A store of blobs in memory that is slow, refuses, dies half-way, and forgets what was not synced when the power fails.

It keeps to `blindgate_gateway.blobs.Blobs`. Each change is made in two steps, like a folder's: it is seen by everybody at once,
and is confirmed later, when it was synced; others go on in between. `lose_power` undoes some of what was not confirmed, the
latest first. Deletions of single objects are never confirmed, as the folder does not sync for them. What was being received is
dropped with its process.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from blindgate_gateway.blobs import Opened, Parted, Source, StoredObject, Stray, chunks, name_prefix
from blindgate_gateway.problems import not_found, refusal
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import BlindgateError
from simulation.faults import Faults
from simulation.scheduler import Process, Scheduler

_Name = tuple[str, str]


@dataclass
class Stored:
    """An object, or an upload that is not one yet: its parts, and when it last changed, in the world's milliseconds."""

    parts: dict[int, bytes]
    changed: int

    def whole(self) -> bytes:
        """All bytes, in order."""
        return b"".join(self.parts[number] for number in sorted(self.parts))


@dataclass
class Shelf:
    """The bytes of one schedule: what all gateways share."""

    scheduler: Scheduler
    faults: Faults
    token: Callable[[int], str]
    objects: dict[_Name, Stored] = field(default_factory=dict)
    partial: dict[_Name, Stored] = field(default_factory=dict)
    _unconfirmed: list[Callable[[], object]] = field(default_factory=list)
    _of: dict[_Name, list[Callable[[], object]]] = field(default_factory=dict)

    def now(self) -> int:
        """The store's own clock, in milliseconds."""
        return self.scheduler.now // 1000

    def reach(self, process: Process, *kinds: str) -> None:
        """Take as long as the store takes. Raises `GatewayError` where it refuses, and `Died`."""
        process.check()
        self.scheduler.pause(int(self.scheduler.chance.random() * 3000) + 50)
        what = self.faults.strike("store busy", "store slow", "process dies at the store", *kinds)
        if not what:
            return
        if what == "store slow":
            self.scheduler.pause(int(self.scheduler.chance.random() * 20_000_000))
        elif what.startswith("process dies"):
            self.scheduler.kill(process)
        else:
            raise refusal("busy", "the store of blobs cannot answer now")

    def unconfirmed(self, name: _Name, undo: Callable[[], object]) -> None:
        """Note how a change of `name` is undone if the power fails before it is confirmed."""
        self._unconfirmed.append(undo)
        self._of.setdefault(name, []).append(undo)

    def confirm(self, name: _Name) -> None:
        """All that was done to `name` is on the disk."""
        for undo in self._of.pop(name, ()):
            if undo in self._unconfirmed:
                self._unconfirmed.remove(undo)

    def lose_power(self) -> int:
        """Undo some of what was not confirmed. Gives how many changes."""
        lost = self.scheduler.chance.randint(0, len(self._unconfirmed))
        for undo in reversed(self._unconfirmed[len(self._unconfirmed) - lost :]):
            undo()
        self._unconfirmed.clear()
        self._of.clear()
        return lost

    def take_away(self, where: dict[_Name, Stored], name: _Name) -> None:
        """Delete an object or an upload, without confirmation."""
        gone = where.pop(name, None)
        if gone is not None:
            self.unconfirmed(name, lambda: where.setdefault(name, gone))


class ReceivedBytes:
    """See `blobs.Incoming`."""

    def __init__(self, shelf: Shelf, process: Process, name: _Name) -> None:
        self._shelf, self._process, self._name = shelf, process, name
        self._data = bytearray()
        self._sha256 = hashlib.sha256()
        self.settled = False

    @property
    def digest(self) -> str:
        """The digest of what came."""
        return DIGEST_PREFIX + self._sha256.hexdigest()

    def fill(self, source: Source, length: int) -> None:
        """Take `length` bytes."""
        for chunk in chunks(source, length):
            self._shelf.reach(self._process, "process dies with half a write")
            self._data += chunk
            self._sha256.update(chunk)

    def settle(self) -> str:
        """Make it an object, then confirm it."""
        shelf, objects = self._shelf, self._shelf.objects
        shelf.reach(self._process)
        objects[self._name] = Stored({1: bytes(self._data)}, shelf.now())
        self.settled = True
        shelf.unconfirmed(self._name, lambda: objects.pop(self._name, None))
        shelf.reach(self._process, "store does it and refuses")
        shelf.confirm(self._name)
        return self._name[1]


class Reader:
    """See `blobs.Opened`."""

    def __init__(self, shelf: Shelf, process: Process, data: bytes) -> None:
        self._shelf, self._process, self._data = shelf, process, data

    def read(self, size: int = -1, /) -> bytes:
        """Give up to `size` bytes."""
        self._shelf.reach(self._process)
        size = len(self._data) if size < 0 else size
        given, self._data = self._data[:size], self._data[size:]
        return given

    def close(self) -> None:
        """Nothing is held."""


class SimulatedBlobs:
    """One process's way to the shelf: see `blobs.Blobs`."""

    def __init__(self, shelf: Shelf, process: Process) -> None:
        self._shelf, self._process = shelf, process

    def prepare(self) -> None:
        """Nothing is to be made."""

    def drop_incoming_of(self, process: int) -> None:
        """What a process was receiving went with it."""

    @contextmanager
    def incoming(self, tenant: str, digest: str) -> Iterator[ReceivedBytes]:
        """Begin a new object of a blob."""
        name = tenant, self._new_name(digest)
        incoming = ReceivedBytes(self._shelf, self._process, name)
        try:
            yield incoming
        except BlindgateError:
            self._process.check()
            if incoming.settled:
                self._shelf.take_away(self._shelf.objects, name)
            raise

    def begin(self, tenant: str, digest: str) -> tuple[str, str | None]:
        """Begin an upload in parts."""
        name = self._new_name(digest)
        self._shelf.reach(self._process)
        self._shelf.partial[tenant, name] = Stored({}, self._shelf.now())
        self._shelf.reach(self._process)
        return name, None

    def arrived(self, upload: Parted) -> frozenset[int]:
        """The numbers of the parts that came whole."""
        self._shelf.reach(self._process)
        found = self._shelf.partial.get((upload.tenant, upload.object))
        if found is not None:
            return frozenset(found.parts)
        if self._whole(upload):
            return upload.whole()
        what = "upload"
        raise not_found(what)

    def take(self, upload: Parted, number: int, source: Source) -> None:
        """Store a part."""
        data = bytearray()
        for chunk in chunks(source, upload.length(number)):
            self._shelf.reach(self._process, "process dies with half a write")
            data += chunk
        name = upload.tenant, upload.object
        found = self._shelf.partial.get(name)
        if found is None:
            if self._whole(upload):
                return
            what = "upload"
            raise not_found(what)
        if number not in found.parts:  # the first that came is the one that counts
            found.parts[number] = bytes(data)
            found.changed = self._shelf.now()
            self._shelf.unconfirmed(name, lambda: found.parts.pop(number, None))
        self._shelf.reach(self._process, "store does it and refuses")
        self._shelf.confirm(name)

    def urls(self, upload: Parted, numbers: Sequence[int]) -> tuple[str, ...]:  # noqa: ARG002
        """Parts go through the gateway."""
        return ()

    def finish(self, upload: Parted) -> None:
        """Make the object of parts that all came."""
        name, shelf = (upload.tenant, upload.object), self._shelf
        shelf.reach(self._process)
        found = shelf.partial.pop(name, None)
        if found is None and name not in shelf.objects:
            what = "upload"
            raise not_found(what)
        if found is not None:
            shelf.objects[name] = found

            def undo() -> None:
                if shelf.objects.pop(name, None) is not None:
                    shelf.partial[name] = found

            shelf.unconfirmed(name, undo)
        shelf.reach(self._process, "store does it and refuses")
        shelf.confirm(name)

    def end(self, upload: Parted) -> None:
        """Drop an upload."""
        self._shelf.reach(self._process)
        self._shelf.take_away(self._shelf.partial, (upload.tenant, upload.object))
        self._shelf.take_away(self._shelf.objects, (upload.tenant, upload.object))

    def open(self, tenant: str, name: str) -> tuple[Opened, int]:
        """Open an object."""
        self._shelf.reach(self._process)
        found = self._shelf.objects.get((tenant, name))
        if found is None:
            what = "blob"
            raise not_found(what)
        data = found.whole()
        return Reader(self._shelf, self._process, data), len(data)

    def holds(self, tenant: str, name: str, size: int) -> bool:
        """Whether the object is there, in full length."""
        self._shelf.reach(self._process)
        found = self._shelf.objects.get((tenant, name))
        return found is not None and len(found.whole()) == size

    def listing(self, tenant: str) -> Iterator[StoredObject]:
        """Every object of a tenant, in the order of their names."""
        for owner, name in sorted(self._shelf.objects):
            if owner == tenant:
                yield StoredObject(name, len(self._shelf.objects[owner, name].whole()))

    def remove(self, tenant: str, name: str) -> None:
        """Delete an object, if it is there."""
        self._shelf.reach(self._process)
        self._shelf.take_away(self._shelf.objects, (tenant, name))

    def purge(self, tenant: str, digest: str) -> None:
        """Delete all that was ever stored of a blob; confirmed when this returns."""
        for where in (self._shelf.partial, self._shelf.objects):
            self._shelf.reach(self._process)
            for name in [name for name in where if name[0] == tenant and name[1].startswith(name_prefix(digest))]:
                del where[name]
        self._shelf.reach(self._process)

    def strays(self, *, grace: int) -> Iterator[Stray]:
        """Objects and unfinished uploads that are older than `grace` milliseconds."""
        for where in (self._shelf.objects, self._shelf.partial):
            for name in sorted(where):
                found = where.get(name)
                if found is not None and found.changed <= self._shelf.now() - grace:
                    self._shelf.reach(self._process)
                    yield Stray(*name)

    def drop(self, stray: Stray) -> None:
        """Delete a stray."""
        self._shelf.reach(self._process)
        self._shelf.take_away(self._shelf.partial, (stray.tenant, stray.object))
        self._shelf.take_away(self._shelf.objects, (stray.tenant, stray.object))

    def writable(self) -> bool:
        """Whether something can be written now."""
        return True

    def _whole(self, upload: Parted) -> bool:
        found = self._shelf.objects.get((upload.tenant, upload.object))
        return found is not None and len(found.whole()) == upload.size

    def _new_name(self, digest: str) -> str:
        return f"{name_prefix(digest)}-{self._shelf.token(8)}"
