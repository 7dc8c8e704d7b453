"""Changed evidence of AMD's is refused, whatever was changed, and by the rule that the change breaks.

A slice in `make test`, 10,000 in `make nightly`. A change that came out otherwise is printed, so that it can be made again.
"""

import random

import campaigns
from blindgate.attestation import sev_snp
from blindgate.attestation.appraisal import Asked
from snp_vectors import REAL, WHEN, certificates, millis, report_of

NAMES = tuple(REAL)
AT = {name: millis(day) for name, day in WHEN.items()}
SEED = 20260601
EARLY_RESERVED = [*range(0x4C, 0x50), 0x1EB, 0x1EF, *range(0x1F8, 0x2A0), *range(0x330, 0x4A0)]

Evidence = tuple[bytes, tuple[bytes, ...]]


def test_changed_evidence_is_refused_by_the_rule_that_it_breaks() -> None:
    """Bits of report and certificates, lengths, and reports and certificates of other machines in their place."""
    chance = random.Random(SEED)
    real = {name: _recorded(name) for name in NAMES}
    wrong = []
    for number in range(campaigns.of(10_000, slice_of=300)):
        name = chance.choice(NAMES)
        what, (report, chain), expected = _changed(chance, name, real)
        found = sev_snp.appraise(report, Asked(now=AT[name], chain=chain))
        rules = {one.rule for one in found.refusals()}
        if found.affirms or found.facts or not rules <= expected or not rules:
            wrong.append(f"{number}: {name}, {what}: {sorted(rules)}, expected {sorted(expected)}")
    assert wrong == []


def test_unchanged_evidence_affirms() -> None:
    """Else the campaign would prove nothing."""
    for name in NAMES:
        report, chain = _recorded(name)
        assert sev_snp.appraise(report, Asked(now=AT[name], chain=chain)).affirms


def _recorded(name: str) -> Evidence:
    return report_of(name), certificates(*REAL[name])


def _changed(chance: random.Random, name: str, real: dict[str, Evidence]) -> tuple[str, Evidence, set[str]]:
    """What was changed, the evidence after it, and the rules that it may break."""
    report, chain = real[name]
    other = chance.choice([one for one in NAMES if one != name])
    after, expected = real[name], {"chain"}
    match chance.choice(
        ("bit", "bit", "bit", "certificate", "certificate", "length", "leaf", "chain", "report", "lost")
    ):
        case "bit":
            bit = chance.randrange(len(report) * 8)
            what, after, expected = (
                f"bit {bit:#x} of the report",
                (_flipped(report, bit), chain),
                _rules_of_bit(report, bit),
            )
        case "certificate":
            place = chance.randrange(3)
            bit = chance.randrange(len(chain[place]) * 8)
            what, expected = f"bit {bit} of certificate {place}", {"form", "chain", "root", "signing-key"}
            after = report, (*chain[:place], _flipped(chain[place], bit), *chain[place + 1 :])
        case "length":
            length = chance.choice([chance.randrange(len(report)), len(report) + chance.randrange(1, 4096)])
            what, after, expected = (
                f"a length of {length}",
                ((report + chance.randbytes(4096))[:length], chain),
                {"form"},
            )
        case "leaf":
            what, expected = f"the leaf of {other}", _rules_of_swap(name, other) | {"chain"}
            after = report, (real[other][1][0], *chain[1:])
        case "chain":
            what, after, expected = (
                f"the certificates of {other}",
                (report, real[other][1]),
                _rules_of_swap(name, other),
            )
        case "report":
            what, after, expected = f"the report of {other}", (real[other][0], chain), _rules_of_swap(name, other)
        case _:
            lost = chance.randrange(3)
            what, after = f"without certificate {lost}", (report, chain[:lost] + chain[lost + 1 :])
    return what, after, expected


def _flipped(data: bytes, bit: int) -> bytes:
    made = bytearray(data)
    made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def _rules_of_bit(report: bytes, bit: int) -> set[str]:
    byte = bit // 8
    if byte < 4:
        # 2 and 3 become each other by one bit: a version that is known, and which nobody signed.
        return {"version"} if _flipped(report, bit)[0] not in {2, 3} or byte else {"form", "signature"}
    if byte in range(0x34, 0x38):
        return {"signature-algorithm"}
    if byte in range(0x48, 0x4C):
        place = bit - 0x48 * 8
        return {"signature"} if place < 2 else {"signing-key"} if place < 5 else {"form"}
    reserved = [*EARLY_RESERVED, *range(0x188 if report[0] == 2 else 0x18B, 0x1A0)]
    return {"form"} if byte in reserved else {"signature"}


def _rules_of_swap(name: str, other: str) -> set[str]:
    # A key that is newer than the time for which the report is judged is refused for that before anybody looks at its signature.
    return {"signing-key"} if "vlek" in {name, other} else {"validity", "signature"}
