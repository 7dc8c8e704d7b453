"""Which attesters a node has: what its operator named, or what the machine has.

`auto` looks at the machine: configfs-tsm, then the Nitro enclave's device; and for GPUs, the driver. It finds what is there or
nothing, and never comes to the simulated one, which has to be named. What is named and not there is an error: a node that should
prove something, and silently proves nothing, would be noticed by nobody but its clients.

An AMD host may give no certificates to its guests, or not all. Then the operator fetches them once, from AMD, and names the file
(`attester_certificates`); they go beside every report. Whether they are the right ones the reader of the evidence finds out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blindgate_node.attester.attesters import Attester, GpuAttester, PlatformEvidence
from blindgate_node.attester.certificates import from_pem
from blindgate_node.attester.configfs_tsm import ConfigfsTsm
from blindgate_node.attester.gpu import NvidiaGpus
from blindgate_node.attester.nitro import NitroAttester
from blindgate_node.attester.report_data import AWS_NITRO
from blindgate_node.attester.simulated import InsecureSimulatedAttester
from blindgate_node.settings import Settings
from blindgate_protocol.errors import AttesterError
from blindgate_protocol.evidence import MAX_CERTIFICATE_BYTES, MOST_CERTIFICATES
from blindgate_protocol.simulated_evidence import INSECURE_SIMULATED
from blindgate_protocol.values import Millis

_MAX_FILE_BYTES: Final = 2 * MAX_CERTIFICATE_BYTES * MOST_CERTIFICATES


@dataclass(frozen=True, slots=True)
class Attesters:
    """What this node can prove.

    Attributes:
        platform: what attests the machine; `None`: nothing.
        gpus: what attests its GPUs; `None`: nothing.
        missing: why there is nothing, in words: a sentence for each thing that was looked for.
    """

    platform: Attester | None
    gpus: GpuAttester | None
    missing: tuple[str, ...] = ()


def choose(settings: Settings, log: Callable[..., None], now: Callable[[], Millis]) -> Attesters:
    """The attesters that the settings name, or that this machine has.

    Raises `AttesterError` where one that is named is not there, or the file of certificates cannot be read, and `KeyStoreError`.
    """
    missing: list[str] = []
    platform = _platform(settings, log, now, missing)
    if platform is not None and settings.attester_certificates is not None:
        platform = _Accompanied(platform, _read_certificates(settings.attester_certificates))
    return Attesters(platform, _gpus(settings, missing), tuple(missing))


def _platform(
    settings: Settings, log: Callable[..., None], now: Callable[[], Millis], missing: list[str]
) -> Attester | None:
    named = settings.attester
    if named == "none":
        missing.append("the setting `attester` is none")
        return None
    if named == INSECURE_SIMULATED:
        return InsecureSimulatedAttester(settings.data, log, now)
    if named == AWS_NITRO:
        return NitroAttester()
    if named != "auto":
        found = ConfigfsTsm()
        if found.platform != named:
            raise AttesterError(f"the setting `attester` is {named}, and this machine is {found.platform}")
        return found
    makers: tuple[Callable[[], Attester], ...] = (ConfigfsTsm, NitroAttester)
    for make in makers:
        try:
            return make()
        except AttesterError as error:
            missing.append(str(error))
    return None


def _gpus(settings: Settings, missing: list[str]) -> GpuAttester | None:
    if settings.gpu_attester == "none":
        missing.append("the setting `gpu_attester` is none")
        return None
    try:
        return NvidiaGpus()
    except AttesterError as error:
        if settings.gpu_attester != "auto":
            raise
        missing.append(str(error))
        return None


class _Accompanied:
    """An attester whose evidence goes with certificates from a file, besides those that it has itself."""

    def __init__(self, attester: Attester, certificates: tuple[bytes, ...]) -> None:
        self._attester = attester
        self._certificates = certificates

    @property
    def platform(self) -> str:
        return self._attester.platform

    def attest(self, report_data: bytes) -> PlatformEvidence:
        made = self._attester.attest(report_data)
        return replace(made, chain=tuple(dict.fromkeys((*made.chain, *self._certificates))))


def _read_certificates(file: Path) -> tuple[bytes, ...]:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise AttesterError(f"attester_certificates: {file} has more than {_MAX_FILE_BYTES} bytes")
        return from_pem(data)
    except OSError as error:
        raise AttesterError(f"attester_certificates: {file}: {error.strerror}") from error
    except ValueError as error:
        raise AttesterError(f"attester_certificates: {file} is no file of certificates in PEM") from error
