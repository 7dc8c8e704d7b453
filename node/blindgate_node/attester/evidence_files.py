"""Evidence as files, for an operator and whoever they send it to: `blindgate trust appraise` reads each as it is.

    FOLDER/amd-sev-snp.bin     the platform's evidence, under the platform's name
    FOLDER/chain.pem           the certificates that came beside it, where there are some
    FOLDER/nvidia-gpu.json     the GPUs'

Nothing in them is secret. A folder that holds something is refused: evidence of two questions in one folder would be mistaken.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindgate_node.attester.attesters import PlatformEvidence
from blindgate_node.attester.certificates import to_pem
from blindgate_node.attester.challenge import Challenge
from blindgate_node.attester.choice import Attesters
from blindgate_protocol.errors import AttesterError, InputError


@dataclass(frozen=True, slots=True)
class Shown:
    """What this machine answers to a challenge.

    Attributes:
        challenge: what was asked.
        platform: the platform's evidence; `None`: it has none.
        gpu_platform: the name of the GPUs' platform; `None`: there is no evidence about GPUs.
        gpus: their evidence; empty where there is none.
        missing: what was looked for and is not there, in words.
    """

    challenge: Challenge
    platform: PlatformEvidence | None
    gpu_platform: str | None
    gpus: bytes
    missing: tuple[str, ...]

    def write(self, folder: Path) -> list[Path]:
        """Write the files into a folder that is empty or not there. Raises `InputError`, `OSError`."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            message = f"--out: {folder} is not empty: name a folder that is, or that does not exist"
            raise InputError(message)
        written = []
        for name, data in self._files():
            (folder / name).write_bytes(data)
            written.append(folder / name)
        return written

    def appraisals(self, folder: Path) -> list[str]:
        """The commands that judge the files, for a shell."""
        commands = []
        if self.platform is not None:
            chain = f" --chain {shlex.quote(str(folder / 'chain.pem'))}" if self.platform.chain else ""
            file = shlex.quote(str(folder / f"{self.platform.platform}.bin"))
            commands.append(
                f"blindgate trust appraise {file}{chain} --report-data {self.challenge.report_data().hex()}"
            )
        if self.gpus:
            file = shlex.quote(str(folder / f"{self.gpu_platform}.json"))
            commands.append(f"blindgate trust appraise {file} --nonce {self.challenge.gpu_nonce().hex()}")
        return commands

    def to_json(self, written: list[Path]) -> dict[str, Any]:
        """For scripts: what there is, what it binds, and what is missing."""
        return {
            "nonce": self.challenge.nonce.hex(),
            "platform": None
            if self.platform is None
            else {
                "name": self.platform.platform,
                "report_data": self.challenge.report_data().hex(),
                "evidence": self.platform.evidence.hex(),
                "chain": [one.hex() for one in self.platform.chain],
            },
            "gpus": None
            if not self.gpus
            else {
                "name": self.gpu_platform,
                "nonce": self.challenge.gpu_nonce().hex(),
                "evidence": self.gpus.decode(),
            },
            "missing": list(self.missing),
            "files": [str(file) for file in written],
        }

    def _files(self) -> list[tuple[str, bytes]]:
        made: list[tuple[str, bytes]] = []
        if self.platform is not None:
            made.append((f"{self.platform.platform}.bin", self.platform.evidence))
            if self.platform.chain:
                made.append(("chain.pem", b"".join(to_pem(one) for one in self.platform.chain)))
        if self.gpus:
            made.append((f"{self.gpu_platform}.json", self.gpus))
        return made


def ask(attesters: Attesters, challenge: Challenge) -> Shown:
    """What the attesters answer. Raises `AttesterError`, also where there is none at all: it says what is missing."""
    if attesters.platform is None and attesters.gpus is None:
        looked = "".join(f"\n  - {one}" for one in attesters.missing)
        raise AttesterError(f"this machine proves nothing: no trusted execution environment was found.{looked}")
    platform = None if attesters.platform is None else attesters.platform.attest(challenge.report_data())
    gpus = b"" if attesters.gpus is None else attesters.gpus.attest(challenge.gpu_nonce())
    named = None if attesters.gpus is None else attesters.gpus.platform
    return Shown(challenge, platform, named, gpus, attesters.missing)
