"""What came of looking at evidence: an attestation result in the words of AR4SI and the shape of EAR, and what it does not prove.

A verifier looks at one thing after the other and says what each shows (`Appraisal.affirm`), speaks against (`Appraisal.refuse`), or
leaves open (`Appraisal.leave_open`). AR4SI's trust vector has a claim for each part of a machine; a claim's value is the worst
that was said of it. The verdict is *affirming* when something was affirmed and nothing was refused or warned of. A part of which
nothing was said stays *none*: that is no refusal, and `not_proven` names it.

Sources: draft-ietf-rats-ar4si (the trust vector and its values), draft-ietf-rats-ear (the result's form).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final

from blindgate_protocol.values import Millis

EAR_PROFILE: Final = "tag:ietf.org,2026:rats/ear#01"


class Claim(StrEnum):
    """A part of the trust vector."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"
    SOURCED_DATA = "sourced-data"


class Tier(IntEnum):
    """How much is to be thought of a claim, by AR4SI's values."""

    NONE = 0
    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96
    UNVERIFIED = 99
    """What should show that the evidence is genuine does not verify."""

    @property
    def word(self) -> str:
        """As EAR writes a status."""
        return "contraindicated" if self >= Tier.CONTRAINDICATED else self.name.lower()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a claim has its value.

    Attributes:
        rule: what was held, by a name that scripts may read, such as `signature` or `debug`.
    """

    claim: Claim
    tier: Tier
    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Unproven:
    """What the evidence does not show, by a name that scripts may read."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the evidence is held against.

    Attributes:
        at: for which time it is judged, in milliseconds since 1970; `None`: for now; where the evidence has a time of its own, for
            that.
        now: the time here.
        report_data: what the evidence must bind, 64 bytes or fewer (shorter ones are filled up with zeros); `None` where nobody
            said.
        nonce: the challenge that it must answer, likewise.
        chain: certificates that came beside the evidence, in DER.
        collateral: what the platform's maker says of it (TDX: JSON with the signed TCB information), as it came.
        references: signed reference measurements (NVIDIA: RIM files), as they came.
    """

    now: Millis
    at: Millis | None = None
    report_data: bytes | None = None
    nonce: bytes | None = None
    chain: tuple[bytes, ...] = ()
    collateral: bytes | None = None
    references: tuple[bytes, ...] = ()

    @property
    def time(self) -> Millis:
        """The time to judge for, where the evidence has none of its own."""
        return self.now if self.at is None else self.at


@dataclass
class Appraisal:
    """What was found of one piece of evidence so far.

    Attributes:
        platform: by its name, such as `amd-sev-snp`.
        facts: what the evidence says, by name, for people and policies: measurement, versions, product. Bytes are in hexadecimal.
        at: for which time it was judged.
    """

    platform: str
    at: Millis
    facts: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    not_proven: list[Unproven] = field(default_factory=list)

    def affirm(self, claim: Claim, rule: str, text: str) -> None:
        """This holds."""
        self.reasons.append(Reason(claim, Tier.AFFIRMING, rule, text))

    def warn(self, claim: Claim, rule: str, text: str) -> None:
        """This holds, and somebody should know it: the result is not affirming."""
        self.reasons.append(Reason(claim, Tier.WARNING, rule, text))

    def refuse(self, claim: Claim, rule: str, text: str) -> None:
        """This does not hold."""
        self.reasons.append(Reason(claim, Tier.CONTRAINDICATED, rule, text))

    def disbelieve(self, rule: str, text: str) -> None:
        """A signature, a chain or the form is wrong: nothing that the evidence says is believed."""
        self.reasons.append(Reason(Claim.INSTANCE_IDENTITY, Tier.UNVERIFIED, rule, text))

    def leave_open(self, code: str, text: str) -> None:
        """This is not shown."""
        self.not_proven.append(Unproven(code, text))

    def hold(self, claim: Claim, rule: str, *, holds: bool, shows: str, fails: str) -> bool:
        """Affirm or refuse. Gives `holds`."""
        if holds:
            self.affirm(claim, rule, shows)
        else:
            self.refuse(claim, rule, fails)
        return holds

    def vector(self) -> Mapping[Claim, Tier]:
        """The trust vector: the worst that was said of each claim."""
        return {
            claim: max((one.tier for one in self.reasons if one.claim is claim), default=Tier.NONE) for claim in Claim
        }

    @property
    def status(self) -> Tier:
        """The verdict."""
        return max(self.vector().values())

    @property
    def affirms(self) -> bool:
        """Whether the evidence is to be believed."""
        return self.status is Tier.AFFIRMING

    def refusals(self) -> list[Reason]:
        """What speaks against it."""
        return [one for one in self.reasons if one.tier > Tier.AFFIRMING]

    def to_ear(self) -> dict[str, Any]:
        """As an EAR claims set, with what it does not prove and the reasons in members of our own."""
        return {
            "eat_profile": EAR_PROFILE,
            "iat": self.at // 1000,
            "ear.verifier-id": {"developer": "blindgate", "build": "blindgate"},
            "submods": {
                self.platform: {
                    "ear.status": self.status.word,
                    "ear.trustworthiness-vector": {claim.value: int(tier) for claim, tier in self.vector().items()},
                    "blindgate.facts": self.facts,
                    "blindgate.reasons": [
                        {"claim": one.claim.value, "status": one.tier.word, "rule": one.rule, "text": one.text}
                        for one in self.reasons
                    ],
                    "blindgate.not-proven": [{"code": one.code, "text": one.text} for one in self.not_proven],
                }
            },
        }
