"""Reports of AMD SEV-SNP and quotes of Intel TDX, from Linux's one interface for both: configfs-tsm.

Whoever asks makes a folder of their own below `/sys/kernel/config/tsm/report`, and the kernel fills it with attributes. Then:

1. `generation` is read: it counts what is written to this folder;
2. the report data goes into `inblob`; before it, where the kernel has a `privlevel_floor` above 0, that goes into `privlevel`: a
   guest under a paravisor may not ask for more privilege than it has;
3. `outblob` is the report, `auxblob` what the platform has beside it, `provider` which kind it is;
4. `generation` is read again. It must have grown by what was written here, and by nothing else. Otherwise somebody else wrote
   to this folder, or the kernel did not take what was written here: many kernels drop the result of a write to `inblob`, which
   happens when the file is closed. Then it is done again, in a new folder, a few times;
5. the folder is removed, whatever happened.

What came must be of the platform and bind the report data (`report_data`).

Never run on such a machine so far: held by a stand-in that counts, refuses and answers as the kernel's source says, with reports
recorded from real machines.

Sources: Linux, Documentation/ABI/testing/configfs-tsm-report; drivers/virt/coco/guest/report.c; fs/configfs/file.c.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from blindgate_node.attester.attesters import PlatformEvidence, check_report_data
from blindgate_node.attester.report_data import AMD_SEV_SNP, INTEL_TDX, check_bound
from blindgate_node.attester.snp_certificates import read_certificates
from blindgate_protocol.errors import AttesterError
from blindgate_protocol.evidence import MAX_PLATFORM_BYTES

FOLDER: Final = Path("/sys/kernel/config/tsm/report")
PLATFORMS: Final = {"sev_guest": AMD_SEV_SNP, "tdx_guest": INTEL_TDX}
"""The platform behind each of the kernel's providers that is known here."""

_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.1
_BUSY: Final = frozenset({errno.EBUSY, errno.EWOULDBLOCK, errno.EINTR, errno.ETIMEDOUT})
_NUMBER_BYTES: Final = 32


class ReportTree(Protocol):
    """The few things that are done to configfs. Each raises `OSError`, as the kernel does."""

    def make(self, entry: str) -> None:
        """Make an entry; the kernel fills it with attributes."""
        ...

    def write(self, entry: str, attribute: str, value: bytes) -> None:
        """Write an attribute that is there, in one piece."""
        ...

    def read(self, entry: str, attribute: str, most: int) -> bytes:
        """Read an attribute, up to `most` bytes."""
        ...

    def remove(self, entry: str) -> None:
        """Remove an entry; its attributes go with it."""
        ...


class KernelTree:
    """The kernel's own."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def make(self, entry: str) -> None:
        """As `ReportTree`."""
        (self._folder / entry).mkdir()

    def write(self, entry: str, attribute: str, value: bytes) -> None:
        """As `ReportTree`. Newer kernels tell of a refused `inblob` when the file is closed."""
        descriptor = os.open(self._folder / entry / attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.write(descriptor, value) != len(value):
                raise OSError(errno.EIO, os.strerror(errno.EIO), attribute)
        finally:
            os.close(descriptor)

    def read(self, entry: str, attribute: str, most: int) -> bytes:
        """As `ReportTree`."""
        with (self._folder / entry / attribute).open("rb", buffering=0) as opened:
            found = b""
            while len(found) < most and (more := opened.read(most - len(found))):
                found += more
        return found

    def remove(self, entry: str) -> None:
        """As `ReportTree`."""
        (self._folder / entry).rmdir()


class ConfigfsTsm:
    """Reports or quotes of the platform that this kernel has a provider for.

    Attributes:
        platform: `amd-sev-snp` or `intel-tdx`.
    """

    def __init__(self, tree: ReportTree | None = None, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Look which platform it is. Raises `AttesterError`: no such interface, no permission, an unknown provider."""
        self._tree = KernelTree() if tree is None else tree
        self._pause = pause
        with self._entry() as entry:
            self.platform = self._platform(entry)

    def attest(self, report_data: bytes) -> PlatformEvidence:
        """As `Attester`. Tried again, a few times, where the kernel is busy or another writer came between."""
        check_report_data(report_data)
        for place in range(_TRIES):
            if place:
                self._pause(_PAUSE_SECONDS * place)
            made = self._once(report_data)
            if made is not None:
                check_bound(self.platform, made.evidence, report_data)
                return made
        raise AttesterError(
            f"{self.platform}: the kernel was busy, or somebody else wrote to the same request, {_TRIES} times: ask again"
        )

    def _once(self, report_data: bytes) -> PlatformEvidence | None:
        """One try; `None` where it has to be done again. Raises `AttesterError`."""
        with self._entry() as entry:
            try:
                # 1.
                before, written = self._number(entry, "generation"), 0
                # 2.
                floor = self._privilege(entry)
                if floor:
                    self._tree.write(entry, "privlevel", b"%d" % floor)
                    written += 1
                self._tree.write(entry, "inblob", report_data)
                written += 1
                # 3.
                evidence = self._tree.read(entry, "outblob", MAX_PLATFORM_BYTES + 1)
                beside = self._beside(entry)
                platform = self._platform(entry)
                # 4.
                after = self._number(entry, "generation")
            except OSError as error:
                if error.errno in _BUSY:
                    return None
                raise AttesterError(f"{self.platform}: the kernel gives no report: {_said(error)}") from error
        if after != before + written:
            return None
        if platform != self.platform:
            raise AttesterError(f"{self.platform}: the kernel's provider is another one by now: {platform}")
        chain = read_certificates(beside) if platform == AMD_SEV_SNP else ()
        return PlatformEvidence(platform, evidence, chain)

    @contextmanager
    def _entry(self) -> Iterator[str]:
        entry = f"blindgate-{secrets.token_hex(8)}"
        try:
            self._tree.make(entry)
        except OSError as error:
            raise AttesterError(f"configfs-tsm: {_missing(error)}") from error
        try:
            yield entry
        finally:
            # 5. What is left behind costs the kernel a little memory, and nobody a report.
            with suppress(OSError):
                self._tree.remove(entry)

    def _platform(self, entry: str) -> str:
        try:
            provider = self._tree.read(entry, "provider", _NUMBER_BYTES).strip().decode("ascii", "replace")
        except OSError as error:
            raise AttesterError(f"configfs-tsm: the kernel names no provider of reports: {_said(error)}") from error
        if provider not in PLATFORMS:
            known = ", ".join(PLATFORMS)
            raise AttesterError(
                f"configfs-tsm: the kernel's provider is {provider!r}, which is not known here ({known})"
            )
        return PLATFORMS[provider]

    def _number(self, entry: str, attribute: str) -> int:
        text = self._tree.read(entry, attribute, _NUMBER_BYTES).strip()
        if not text.isdigit():
            raise AttesterError(f"configfs-tsm: {attribute} is {text!r}, which is no number")
        return int(text)

    def _privilege(self, entry: str) -> int:
        """The least level that may be asked for; 0 where the platform has none."""
        try:
            return self._number(entry, "privlevel_floor")
        except FileNotFoundError:
            return 0

    def _beside(self, entry: str) -> bytes:
        try:
            return self._tree.read(entry, "auxblob", MAX_PLATFORM_BYTES)
        except FileNotFoundError:
            return b""


def _missing(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return (
                f"this kernel has no {FOLDER}: no SEV-SNP or TDX guest, or configfs is not mounted, or the driver (sev-guest, "
                "tdx-guest) is not loaded"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"this process may not write below {FOLDER}: run the node as root there, or let its user make folders"
            )
        case errno.ENXIO | errno.ENOTTY:
            return "the kernel has the interface, and no provider of reports behind it"
        case _:
            return f"the kernel makes no request below {FOLDER}: {_said(error)}"


def _said(error: OSError) -> str:
    return error.strerror or str(error)
