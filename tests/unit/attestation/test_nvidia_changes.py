"""Every change to genuine evidence about NVIDIA's GPUs is refused, by the rule of what was changed."""

import base64
import json
import random
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import campaigns
from blindgate.attestation import nvidia
from blindgate.attestation.appraisal import Appraisal, Asked
from blindgate.attestation.chains import read_pem
from shared import shared

NOW: Final = round(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
MUTATIONS: Final = campaigns.of(10_000, slice_of=300)


def _vector(name: str) -> bytes:
    return shared(f"vectors/nvidia/{name}").read_bytes()


def _appraise(data: bytes, **asked: Any) -> Appraisal:
    return nvidia.appraise(data, Asked(**{"now": NOW} | asked))


@cache
def _genuine() -> tuple[tuple[bytes, tuple[bytes, ...], bytes], ...]:
    """Reports, chains, nonces."""
    made = []
    for name in ("hopper_evidence.json", "hopper_evidence_cert_hold.json"):
        (entry,) = json.loads(_vector(name))
        chain = read_pem(base64.b64decode(entry["certificate"]))
        made.append((base64.b64decode(entry["evidence"]), chain, bytes.fromhex(entry["nonce"])))
    report = bytes.fromhex(_vector("blackwell_report.txt").decode())
    return (*made, (report, read_pem(_vector("blackwell_certs.txt")), report[4:36]))


def _flip(data: bytes, bit: int) -> bytes:
    made = bytearray(data)
    made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def _rule_at(report: bytes, place: int) -> str:
    """Which rule is broken by a change to a byte of a report."""
    opaque = 37 + 8 + int.from_bytes(report[42:45], "little") + 32
    if place in (0, 37):
        return "version"
    if place in (1, 2, 3, 38, 42, 43, 44, opaque, opaque + 1):
        return "form"
    return "signature"


def _file(which: int, report: bytes, chain: tuple[bytes, ...], nonce: bytes) -> bytes:
    """As NVIDIA's SDK writes it."""
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n" for der in chain
    )
    entry = {"arch": ("HOPPER", "HOPPER", "BLACKWELL")[which], "nonce": nonce.hex()}
    entry |= {"evidence": base64.b64encode(report).decode(), "certificate": base64.b64encode(pem).decode()}
    return json.dumps([entry]).encode()


def _mutated(rng: random.Random) -> tuple[bytes, dict[str, Any], set[str], str]:
    """Evidence, what is asked, the rules of which one is to refuse it, and what was done."""
    which = rng.randrange(3)
    report, chain, nonce = _genuine()[which]
    other_report, other_chain, _ = _genuine()[(which + rng.randrange(1, 3)) % 3]
    asked: dict[str, Any] = {"nonce": nonce}
    deed = rng.choice(("flip", "truncate", "extend", "certificate", "chain", "report", "nonce", "said"))
    said = nonce
    match deed:
        case "flip":
            bit = rng.randrange(len(report) * 8)
            rules, report = {_rule_at(report, bit // 8)}, _flip(report, bit)
        case "truncate":
            rules, report = {"form"}, report[: rng.randrange(len(report))]
        case "extend":
            rules, report = {"form"}, report + rng.randbytes(rng.randrange(1, 200))
        case "certificate":
            place = rng.randrange(len(chain))
            changed = _flip(chain[place], rng.randrange(len(chain[place]) * 8))
            chain = (*chain[:place], changed, *chain[place + 1 :])
            rules = {"form", "root" if place == len(chain) - 1 else "chain"}
        case "chain":
            rules, chain = {"signature"}, other_chain
        case "report":
            rules, report = {"signature"}, other_report
        case "nonce":
            rules, asked = {"nonce"}, {"nonce": _flip(nonce, rng.randrange(256))}
        case _:
            rules, said = {"nonce"}, _flip(nonce, rng.randrange(256))
    if which == 2 and deed != "said":
        return report, asked | {"chain": chain}, rules, deed
    return _file(which, report, chain, said), asked, rules, deed


def test_a_report_of_another_version_kind_or_length_is_told_so() -> None:
    """Before its signature is looked at: whoever cut it off learns that, and not that somebody forged it."""
    for which, (report, chain, nonce) in enumerate(_genuine()):
        for bit in range(8 * len(report)):
            if (rule := _rule_at(report, bit // 8)) != "signature":
                found = _appraise(_file(which, _flip(report, bit), chain, nonce)).refusals()
                assert {one.rule for one in found} == {rule}, bit


def test_every_change_to_genuine_evidence_is_refused_by_the_rule_that_it_breaks() -> None:
    """Flipped, cut, lengthened, with another GPU's report or certificates, for another nonce: seeded, to be told again."""
    for report, chain, nonce in _genuine():
        assert _appraise(report, chain=chain, nonce=nonce).affirms
    for seed in range(MUTATIONS):
        data, asked, rules, deed = _mutated(random.Random(seed))
        found = {one.rule for one in _appraise(data, **asked).refusals()}
        assert len(found) == 1, (seed, deed, found)
        assert found <= rules, (seed, deed, found, rules)
