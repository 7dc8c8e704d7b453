"""Genuine quotes from the shared folder, and what tests ask of an appraisal."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from blindgate.attestation import tdx
from blindgate.attestation.appraisal import Appraisal, Asked
from shared import shared
from tdx_platform import NOW_MILLIS, Platform

DAY: Final = 86_400_000


@dataclass(frozen=True)
class Genuine:
    """A quote from the shared folder, and Intel's word on its platform."""

    quote: bytes
    collateral: bytes

    @staticmethod
    def folder() -> Path:
        """Where they lie."""
        return shared("vectors/tdx")

    @classmethod
    def named(cls, name: str) -> "Genuine":
        """By the file's name without its ending."""
        return cls(
            shared(f"vectors/tdx/{name}.bin").read_bytes(), shared(f"vectors/tdx/{name}_collateral.json").read_bytes()
        )

    @property
    def issued(self) -> int:
        """When the collateral was complete: each part says when it was issued."""
        parts = json.loads(self.collateral)
        dates = (datetime.fromisoformat(json.loads(parts[part])["issueDate"]) for part in ("tcb_info", "qe_identity"))
        return int(max(one.timestamp() for one in dates)) * 1000

    def appraise(self, *, after: int = 0, **asked: Any) -> Appraisal:
        """As of so many milliseconds after it was issued."""
        at = self.issued + after
        return tdx.appraise(self.quote, Asked(now=at, **({"collateral": self.collateral} | asked)))


def judged(platform: Platform, quote: bytes | None = None, collateral: bytes | None = None) -> Appraisal:
    """What comes of a quote and collateral of a test's platform; good ones where nothing is given."""
    made = platform.collateral() if collateral is None else collateral
    return tdx.appraise(platform.quote() if quote is None else quote, Asked(now=NOW_MILLIS, collateral=made))


def rules(found: Appraisal) -> list[str]:
    """By which rules it was not affirmed."""
    return [one.rule for one in found.refusals()]


def open_questions(found: Appraisal) -> set[str]:
    """What it does not prove."""
    return {one.code for one in found.not_proven}
