"""Quotes and collateral that somebody changed: 300 of each in `make test`, 10,000 in `make nightly`; each is refused by its rule.

The native verifier is tried alone as well, in a process of its own, with bytes that `blindgate.attestation.tdx` would not let
through: whether it can end the process that calls it.
"""

import json
import random
import subprocess
import sys
from collections import Counter
from itertools import accumulate, pairwise
from typing import Final

import pytest

import campaigns
from blindgate.attestation import tdx
from blindgate.attestation.appraisal import Asked
from blindgate.attestation.chains import ChainError, read_pem
from blindgate.attestation.tdx_quote import HEADER_BYTES, read_quote
from tdx_quotes import Genuine, rules

TRIES: Final = campaigns.of(10_000, slice_of=300)
SEED: Final = 0x7D
FORM, SIGNED, CHAIN = {"form"}, {"signature"}, {"form", "root", "chain"}

REGIONS: Final = (
    # In the order in which they lie in a quote of version 4: how many bytes, and by which rule a changed bit is refused.
    ("version, key type and TEE", 8, FORM),
    ("the rest of the header", HEADER_BYTES - 8, SIGNED),
    ("the guest's report", 584, SIGNED),
    ("the signatures' length", 4, FORM),
    ("the signature", 64, SIGNED),
    ("the attestation key", 64, SIGNED),
    ("kind and length of the enclave's part", 6, FORM),
    ("the enclave's report", 384, SIGNED),
    ("the enclave's signature", 64, SIGNED),
    ("the length of its data", 2, FORM),
    ("its data", 32, SIGNED),
    ("kind and length of the chain", 6, FORM),
    ("the chain", 3678, CHAIN),
    ("what follows", 70, FORM),
)
ENDS: Final = tuple(accumulate(size for _, size, _ in REGIONS))


@pytest.fixture(scope="module")
def good() -> Genuine:
    """The genuine quote of version 4."""
    return Genuine.named("quote_v4")


def certificates_in(quote: bytes) -> tuple[bytes, ...] | None:
    """The certificates of a quote, or `None` where they cannot be read."""
    try:
        return read_pem(read_quote(quote).chain.rstrip(b"\0"))
    except ChainError:
        return None


def test_a_bit_changed_anywhere_is_refused_by_the_rule_of_its_place(good: Genuine) -> None:
    """With collateral and without: the quote's own signatures are enough to see it.

    Of the chain, which is text, the certificates count: a changed line end changes none of them.
    """
    assert len(good.quote) == ENDS[-1]
    chosen, certificates = random.Random(SEED), certificates_in(good.quote)
    seen: Counter[str] = Counter()
    for number in range(TRIES):
        turn, place = divmod(number, len(REGIONS))
        name, size, expected = REGIONS[place]
        at = ENDS[place] - chosen.randint(1, size)
        quote = bytearray(good.quote)
        quote[at] ^= 1 << chosen.randrange(8)
        collateral = good.collateral if turn % 2 else None
        found = tdx.appraise(bytes(quote), Asked(now=good.issued, collateral=collateral))
        if expected is CHAIN and certificates_in(bytes(quote)) == certificates:
            assert rules(found) == ([] if collateral else ["collateral"]), at
            continue
        assert rules(found), (name, at)
        assert set(rules(found)) <= expected, (name, at, found.refusals())
        seen[name] += 1
    assert len(seen) == len(REGIONS)


def test_a_quote_cut_short_or_lengthened_is_refused_by_its_form(good: Genuine) -> None:
    """Wherever it is cut, and whatever is put behind it that is not zeros."""
    chosen = random.Random(SEED)
    for _ in range(TRIES):
        cut = good.quote[: chosen.randrange(ENDS[-2])]
        longer = good.quote + chosen.randbytes(chosen.randint(1, 64)) + b"\1"
        for quote in (cut, longer):
            found = tdx.appraise(quote, Asked(now=good.issued, collateral=good.collateral))
            assert rules(found) == ["form"], len(quote)


def test_parts_of_another_genuine_quote_are_refused(good: Genuine) -> None:
    """Each signed well, by another machine: report, signature, key, enclave, chain, one at a time and several at once."""
    other = Genuine.named("quote_outdated").quote
    body, shift = 584, 6 + 648 - 584
    cuts = [begin for begin, _ in pairwise((0, *ENDS[:-1]))]
    for place, begin in enumerate(cuts):
        name, size, expected = REGIONS[place]
        if expected is FORM or name == "the rest of the header":
            continue
        source = 48 + 6 if size == body else begin + shift
        quote = good.quote[:begin] + other[source : source + size] + good.quote[begin + size :]
        if quote == good.quote:
            continue
        found = tdx.appraise(quote, Asked(now=good.issued, collateral=good.collateral))
        assert set(rules(found)) <= {"signature", "validity"}, name
        assert rules(found), name
    signed = ENDS[2]
    relayed = good.quote[:signed] + other[signed + shift :]
    assert rules(tdx.appraise(relayed, Asked(now=good.issued, collateral=good.collateral)))[0] in {
        "signature",
        "validity",
    }


def test_changed_collateral_is_refused_or_says_the_same(good: Genuine) -> None:
    """Parts are signed or lists that are; only what is neither may be changed and change nothing."""
    chosen, genuine = random.Random(SEED), good.appraise()
    seen: Counter[str] = Counter()
    for _ in range(TRIES):
        parts = json.loads(good.collateral)
        name = chosen.choice(list(parts))
        text, at = parts[name], chosen.randrange(len(parts[name]))
        kind = chosen.randrange(3)
        new = chosen.choice('0123456789abcdef\n"{}é') if kind else ""
        parts[name] = text[:at] + new + text[at + (kind != 1) :]
        found = tdx.appraise(good.quote, Asked(now=good.issued, collateral=json.dumps(parts).encode()))
        assert set(rules(found)) <= {"collateral", "tcb", "revocation", "quoting-enclave"}, (name, at, found.refusals())
        if found.affirms:
            assert found.facts == genuine.facts
        else:
            seen[name] += 1
    assert {"tcb_info", "tcb_info_signature", "qe_identity", "pck_crl", "root_ca_crl"} <= set(seen)


NATIVE: Final = """
import json, random, sys, dcap_qvl
from collections import Counter
folder, tries, seed, now = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
quote, told = open(folder + "/quote_v4.bin", "rb").read(), json.load(open(folder + "/quote_v4_collateral.json"))
chosen, ended = random.Random(seed), Counter()
for number in range(tries):
    raw, parts = bytearray(quote), dict(told)
    for _ in range(chosen.randint(1, 8)):
        at = chosen.randrange(len(raw))
        what = chosen.randrange(5)
        if what == 0: raw[at] ^= 1 << chosen.randrange(8)
        elif what == 1: raw[at : at + 4] = chosen.choice((b"\\xff" * 4, bytes(4), b"\\0\\0\\0\\x80"))
        elif what == 2: del raw[at : at + chosen.randint(1, 64)]
        elif what == 3: raw[at:at] = chosen.randbytes(chosen.randint(1, 64))
        else: del raw[at:]
        if not raw: raw = bytearray(1)
    if number % 2:
        raw, name = bytearray(quote), chosen.choice(list(parts))
        text = parts[name]
        for _ in range(chosen.randint(1, 4)):
            at = chosen.randrange(len(text) + 1)
            new = chosen.choice(("", "0", "ff", "\\n", "{", "9" * 40, '"', "-"))
            text = text[:at] + new + text[at + chosen.choice((0, 1, 2)) :]
        parts[name] = text
    for act in (
        lambda: dcap_qvl.verify(bytes(raw), dcap_qvl.QuoteCollateralV3.from_json(json.dumps(parts)), now),
        lambda: dcap_qvl.parse_quote(bytes(raw)).pck_extension(),
        lambda: dcap_qvl.parse_pck_extension_from_pem(bytes(raw[1258:])),
    ):
        try:
            act()
            ended["no error"] += 1
        except BaseException as error:
            ended[type(error).__name__] += 1
print(json.dumps(ended))
"""


def test_the_native_verifier_cannot_end_the_process(good: Genuine) -> None:
    """Bytes that nobody signed, straight into it: an error each time, or at worst a panic, which is caught."""
    folder = str(Genuine.folder())
    given = [sys.executable, "-c", NATIVE, folder, str(TRIES), str(SEED), str(good.issued // 1000)]
    ended = subprocess.run(given, capture_output=True, check=False, timeout=900, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    kinds = json.loads(ended.stdout)
    assert set(kinds) <= {"no error", "ValueError", "PanicException"}
    assert kinds["ValueError"] > TRIES / 2
