"""Linux's configfs-tsm, standing in: it counts, caches and refuses as the kernel's source says, and answers with recorded bytes.

It cannot sign, so what it answers binds what was bound when it was recorded, whatever is asked. Source of the rules:
drivers/virt/coco/guest/report.c (`try_advance_write_generation`, `tsm_report_read`), fs/configfs/file.c (`release`).
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

GUIDS = {
    "VCEK": "63da758d-e664-4564-adc5-f4b93be8accd",
    "VLEK": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
    "ASK": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "ARK": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
    "CRL": "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
}


def certificate_table(blobs: dict[str, bytes]) -> bytes:
    """As a host gives it: GUID, offset and length of each, an entry of zeros, then the blobs."""
    offset, entries = 24 * (len(blobs) + 1), b""
    for name, blob in blobs.items():
        entries += UUID(GUIDS[name]).bytes + offset.to_bytes(4, "little") + len(blob).to_bytes(4, "little")
        offset += len(blob)
    return entries + bytes(24) + b"".join(blobs.values())


@dataclass
class Entry:
    """One request for a report."""

    inblob: bytes = b""
    privlevel: int = 0
    written: int = 0
    read: int = 0
    outblob: bytes | None = None


@dataclass
class RecordedTsm:
    """The tree, as `ReportTree`.

    Attributes:
        provider: what the kernel calls the platform.
        outblob: the report; a function is given what was asked.
        auxblob: what lies beside it; `None`: the kernel has no such attribute.
        floor: the least privilege level; `None`: the platform has none.
        refuses: how often reading a report ends in this error of the kernel's.
        meddles: called with each entry when its report is being read: another writer.
        drops_inblob: whether a written `inblob` is lost, silently.
        makes: the error that making an entry ends in.
    """

    provider: str
    outblob: bytes | Callable[[Entry], bytes]
    auxblob: bytes | None = b""
    floor: int | None = None
    refuses: list[int] = field(default_factory=list)
    meddles: Callable[[Entry], None] | None = None
    drops_inblob: bool = False
    makes: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    asked: list[Entry] = field(default_factory=list)

    def make(self, entry: str) -> None:
        """Mkdir."""
        if self.makes:
            raise _error(self.makes)
        if entry in self.entries:
            raise _error(errno.EEXIST)
        self.entries[entry] = Entry()

    def write(self, entry: str, attribute: str, value: bytes) -> None:
        """Store an attribute, and count it."""
        found = self.entries[entry]
        if attribute == "inblob":
            if self.drops_inblob or len(value) > 64:
                return  # the file's close returns no error
            found.inblob = value
        elif attribute == "privlevel" and self.floor is not None:
            if not self.floor <= int(value) <= 3:
                raise _error(errno.EINVAL)
            found.privlevel = int(value)
        else:
            raise _error(errno.ENOENT)
        found.written += 1

    def read(self, entry: str, attribute: str, most: int) -> bytes:
        """Show an attribute; a report is made where what is there is older than what was written."""
        found = self.entries[entry]
        match attribute:
            case "provider":
                return f"{self.provider}\n".encode()
            case "generation":
                return f"{found.written}\n".encode()
            case "privlevel_floor" if self.floor is not None:
                return f"{self.floor}\n".encode()
            case "outblob":
                return self._report(found)[:most]
            case "auxblob" if self.auxblob is not None:
                return self.auxblob[:most]
        raise _error(errno.ENOENT)

    def remove(self, entry: str) -> None:
        """Rmdir."""
        del self.entries[entry]

    def _report(self, found: Entry) -> bytes:
        if not found.inblob:
            raise _error(errno.EINVAL)
        if found.outblob is None or found.read != found.written:
            if self.refuses:
                raise _error(self.refuses.pop())
            if self.meddles is not None:
                self.meddles(found)
            found.outblob = self.outblob(found) if callable(self.outblob) else self.outblob
            found.read = found.written
            self.asked.append(found)
        return found.outblob


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
