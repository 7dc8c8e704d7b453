"""Simulated evidence: told by its bytes, called what it is, and never affirmed.

A node without a trusted execution environment may have an attester that signs whatever it is asked to bind (tests and the demo use
it knowingly). Its evidence is a signed document of its own type, so that no platform's verifier ever reads it, and this one reads
nothing else.

1. The signature verifies, under the key that the document names, and the document is whole (`form`, `signature`);
2. it binds what was asked (`report-data`, `nonce`);
3. it is refused, always, by the rule `simulated`: without a policy, and by every policy that does not name its key;
4. a policy that names the key (`keys` under `[platforms.insecure-simulated]`) makes a warning of that refusal (`allow`), and never
   more: what nothing of hardware shows is not affirmed.

What is not proven is everything that evidence is for, and stands there in one line: `hardware`.
"""

from collections.abc import Container
from typing import Final

from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Reason, Tier
from blindgate_protocol.errors import BlindgateError, SignatureError
from blindgate_protocol.evidence import MAX_PLATFORM_BYTES, REPORT_DATA_BYTES
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.simulated_evidence import INSECURE_SIMULATED, SimulatedEvidence

PLATFORM: Final = INSECURE_SIMULATED
RULE: Final = "simulated"
_TOLD_BY: Final = SimulatedEvidence.media_type.encode()


def is_evidence(data: bytes) -> bool:
    """Whether these bytes are simulated evidence, or pass for some: JSON that names its type."""
    return data.lstrip()[:1] == b"{" and _TOLD_BY in data


def appraise(data: bytes, asked: Asked) -> Appraisal:
    """Judge simulated evidence: refused, and why. Never raises for what stands in `data`."""
    found = Appraisal(PLATFORM, asked.time)
    try:
        # 1.
        if len(data) > MAX_PLATFORM_BYTES:
            found.disbelieve("form", f"simulated evidence of {len(data)} bytes: at most {MAX_PLATFORM_BYTES}")
            return found
        evidence = open_signed(data, SimulatedEvidence)
    except SignatureError as error:
        found.disbelieve("signature", str(error))
        return found
    except BlindgateError as error:
        found.disbelieve("form", str(error))
        return found
    document = evidence.document
    found.facts = {
        "warning": document.warning,
        "key": evidence.signer,
        "report_data": document.report_data.hex(),
        "time": document.time,
    }
    found.affirm(
        Claim.INSTANCE_IDENTITY, "signature", "the key that the document names signed it; anybody can make one"
    )
    # 2.
    _hold_asked(found, evidence, asked)
    # 3.
    found.refuse(
        Claim.HARDWARE, RULE, "simulated evidence: a program wrote it, and no hardware vouches for anything in it"
    )
    found.leave_open(
        "hardware",
        "nothing of hardware is proven: not which machine this is, which program runs, or that its memory is closed to its owner",
    )
    return found


def allow(found: Appraisal, keys: Container[str]) -> None:
    """Make a warning of the refusal, where a policy names the key that signed."""
    if "key" not in found.facts:
        return
    if found.facts["key"] not in keys:
        found.refuse(
            Claim.INSTANCE_IDENTITY,
            "key",
            f"simulated evidence signed by {found.facts['key']}, which the policy does not name for it",
        )
        return
    # 4.
    found.reasons = [one for one in found.reasons if one.rule != RULE]
    text = "simulated evidence, which the policy knowingly takes from this key: no hardware vouches for anything in it"
    found.reasons.append(Reason(Claim.HARDWARE, Tier.WARNING, RULE, text))


def _hold_asked(found: Appraisal, evidence: Signed[SimulatedEvidence], asked: Asked) -> None:
    bound = evidence.document.report_data
    for rule, wanted in (("report-data", asked.report_data), ("nonce", asked.nonce)):
        if wanted is None:
            continue
        found.hold(
            Claim.SOURCED_DATA,
            rule,
            holds=any(wanted) and bound == wanted.ljust(REPORT_DATA_BYTES, b"\0"),
            shows="the report data is what was asked for",
            fails=f"the report data is {bound.hex()}; asked was {wanted.hex() or 'nothing'}",
        )
    if asked.report_data is None and asked.nonce is None:
        found.leave_open("binding", "nobody said what the report data must be")
        found.leave_open("freshness", "no nonce was asked for: it may be old")
