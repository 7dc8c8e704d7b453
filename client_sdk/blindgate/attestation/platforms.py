"""Which platform a piece of evidence is of, told by its bytes, and its appraisal by that platform's verifier.

Evidence that was written down as hexadecimal or base64 is judged as the bytes that it stands for (`texts`).
"""

from types import ModuleType
from typing import Final

from blindgate.attestation import nitro, nvidia, sev_snp, simulated, tdx
from blindgate.attestation.appraisal import Appraisal, Asked
from blindgate.attestation.texts import from_text

VERIFIERS: Final[tuple[ModuleType, ...]] = (simulated, nitro, sev_snp, tdx, nvidia)
UNKNOWN: Final = "unknown"
MAX_BYTES: Final = 4 << 20


def appraise(data: bytes, asked: Asked) -> Appraisal:
    """Judge evidence, whatever its platform. Evidence of none that is known is not believed."""
    if len(data) <= MAX_BYTES:
        for form in (data, from_text(data)):
            for verifier in VERIFIERS if form is not None else ():
                if verifier.is_evidence(form):
                    found: Appraisal = verifier.appraise(form, asked)
                    return found
    found = Appraisal(UNKNOWN, asked.time)
    known = ", ".join(verifier.PLATFORM for verifier in VERIFIERS)
    found.disbelieve("form", f"{len(data)} bytes that are no evidence of a platform that is known ({known})")
    return found
