"""A machine whose evidence affirms, without hardware: a processor and GPUs under roots of our own, behind a node's real interface.

A test pins the roots knowingly (`pin`), and no other reader believes them.
"""

import hashlib
import json
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from blindgate.attestation import nvidia, roots
from blindgate.attestation.chains import fingerprint
from blindgate.attestation.rules import PlatformRules
from blindgate_node.attester.attesters import PlatformEvidence
from made_gpu import MadeGpu
from snp_machine import SnpMaker, report_body

_TCB = bytes([10, 0, 0, 0, 0, 0, 23, 84])
_LEVELS = {1: 10, 2: 0, 3: 23, 8: 84}
_CHIP = bytes(range(64))
MEASUREMENT = "aa" * 48
SNP_RULES = PlatformRules(measurements={"measurement": (MEASUREMENT,)})
GPU_RULES = PlatformRules(measurements={"firmware_id": ("0f" * 48,)})


@dataclass
class MadeProcessor:
    """A Genoa of our own maker, as a node's attester.

    Attributes:
        fields: what is written over its reports, by place: a guest under debug, another measurement.
    """

    fields: dict[int, bytes] = field(default_factory=dict)
    platform: str = "amd-sev-snp"

    def __post_init__(self) -> None:
        self._maker = SnpMaker("Genoa")
        leaf = self._maker.leaf("VCEK", _LEVELS, hardware_id=_CHIP)
        self._chain = self._maker.chain(leaf)

    def attest(self, report_data: bytes) -> PlatformEvidence:
        """As `Attester`."""
        places = dict.fromkeys((0x38, 0x180, 0x1E0, 0x1F0), _TCB) | {0x188: b"\x19\xa0\x02", 0x1A0: _CHIP}
        report = self._maker.sign(report_body(5, places | {0x50: report_data} | self.fields))
        return PlatformEvidence(self.platform, report, self._chain)

    def pin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this test's readers believe its root."""
        monkeypatch.setattr(roots, "AMD", self._maker.pins)


@dataclass
class MadeGpus:
    """GPUs under a root of our own each, as a node's attester of GPUs."""

    gpus: tuple[MadeGpu, ...] = field(default_factory=lambda: (MadeGpu(),))
    platform: str = "nvidia-gpu"

    def leaves(self) -> tuple[str, ...]:
        """As `GpuAttester`."""
        ders = (one.leaf.public_bytes(Encoding.DER) for one in self.gpus)
        return tuple("sha256:" + hashlib.sha256(der).hexdigest() for der in ders)

    def attest(self, nonce: bytes) -> bytes:
        """As `GpuAttester`."""
        return json.dumps([one.entry(one.report(nonce=nonce), nonce=nonce.hex()) for one in self.gpus]).encode()

    def pin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this test's readers believe their roots."""
        monkeypatch.setattr(nvidia, "NVIDIA", {fingerprint(one.root): "ours" for one in self.gpus})
