"""AMD's recorded reports with their certificates, and a day on which each was good."""

from datetime import datetime

from blindgate.attestation.appraisal import Appraisal
from blindgate.attestation.chains import read_pem
from shared import shared

MILAN = ("milan_vcek.pem", "milan_ask.pem", "milan_ark.pem")
GENOA = ("genoa_vcek.pem", "genoa_ask.pem", "genoa_ark.pem")
LEGACY = ("legacy_vcek.der", "milan_ask.pem", "milan_ark.pem")
VLEK = ("vlek.der", "milan_asvk_ark.pem")
REAL = {"milan": MILAN, "genoa": GENOA, "legacy": LEGACY, "vlek": VLEK}
WHEN = {"milan": "2026-06-01", "genoa": "2026-06-01", "legacy": "2025-06-01", "vlek": "2025-06-01"}


def millis(day: str) -> int:
    """Midnight of a day, in Greenwich."""
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000)


def report_of(name: str) -> bytes:
    """A recorded report."""
    return shared(f"vectors/sev-snp/{name}_report.bin").read_bytes()


def certificates(*names: str) -> tuple[bytes, ...]:
    """The certificates of recorded files, in DER."""
    return tuple(one for name in names for one in read_pem(shared(f"vectors/sev-snp/{name}").read_bytes()))


def rules(found: Appraisal) -> set[str]:
    """What speaks against it."""
    return {one.rule for one in found.refusals()}


def open_codes(found: Appraisal) -> set[str]:
    """What it does not prove."""
    return {one.code for one in found.not_proven}
