"""What gives evidence about a machine: one interface for what the processor signs, one for GPUs.

An attester asks the platform and hands on what came, with the certificates that came along. It judges nothing: whoever is to send
something here does that. Three things it does hold, since evidence without them is of no use to anybody, and a node that hands it
out would learn so from its clients alone:

1. the evidence has a size that the protocol allows;
2. it is of the platform that the attester is for;
3. it binds the report data, or answers the nonce, that was asked for just now.

What breaks one of them is not handed out: `AttesterError`.
"""

from dataclasses import dataclass
from typing import Protocol

from blindgate_protocol.errors import AttesterError
from blindgate_protocol.evidence import (
    MAX_CERTIFICATE_BYTES,
    MAX_PLATFORM_BYTES,
    MOST_CERTIFICATES,
    REPORT_DATA_BYTES,
)


@dataclass(frozen=True, slots=True)
class PlatformEvidence:
    """What a platform signed about this machine.

    Attributes:
        platform: by the name that policies use, such as `amd-sev-snp`.
        evidence: the report, quote or document, as it came; at most 64 KiB.
        chain: the certificates that came beside it, in DER; none where they are inside it, or where the host gave none.
    """

    platform: str
    evidence: bytes
    chain: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        # 1.
        if not 1 <= len(self.evidence) <= MAX_PLATFORM_BYTES:
            raise AttesterError(f"{self.platform}: evidence of {len(self.evidence)} bytes: 1 to {MAX_PLATFORM_BYTES}")
        if len(self.chain) > MOST_CERTIFICATES:
            raise AttesterError(f"{self.platform}: {len(self.chain)} certificates: at most {MOST_CERTIFICATES}")
        for one in self.chain:
            if not 1 <= len(one) <= MAX_CERTIFICATE_BYTES:
                raise AttesterError(f"{self.platform}: a certificate of {len(one)} bytes: 1 to {MAX_CERTIFICATE_BYTES}")


class Attester(Protocol):
    """Gives what the processor, or the hypervisor under it, signs about this machine."""

    @property
    def platform(self) -> str:
        """Which platform, by the name that policies use."""
        ...

    def attest(self, report_data: bytes) -> PlatformEvidence:
        """Evidence that binds `report_data`, 64 bytes. May be called from several threads. Raises `AttesterError`."""
        ...


class GpuAttester(Protocol):
    """Gives what the GPUs of this machine sign about themselves."""

    @property
    def platform(self) -> str:
        """Which platform, by the name that policies use."""
        ...

    def leaves(self) -> tuple[str, ...]:
        """The digest of each GPU's own certificate in DER, in the order of the evidence: what a binding names as `gpus`.

        Raises `AttesterError`.
        """
        ...

    def attest(self, nonce: bytes) -> bytes:
        """Evidence of every GPU that answers `nonce`, 32 bytes, in NVIDIA's JSON. Raises `AttesterError`."""
        ...


def check_report_data(report_data: bytes) -> None:
    """Refuse report data of another length than platforms have room for, or that binds nothing. Raises `AttesterError`."""
    if len(report_data) != REPORT_DATA_BYTES or not any(report_data):
        empty = "" if any(report_data) else ", all zero"
        raise AttesterError(
            f"report data of {len(report_data)} bytes{empty}: {REPORT_DATA_BYTES} that say something are asked for"
        )
