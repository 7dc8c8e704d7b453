"""Bytes that are no quote, or no collateral, are refused before native code sees them; what it then says is held to the quote."""

import json
from collections.abc import Callable
from typing import Final

import dcap_qvl
import pytest

from blindgate.attestation import tdx
from blindgate.attestation.appraisal import Asked, Claim, Tier
from blindgate.attestation.rules import PlatformRules, hold_to_policy
from tdx_platform import NOW_MILLIS, Platform
from tdx_quotes import judged, rules

POINT: Final = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""The curve's generator: everybody knows its private key, which is 1."""


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform under a root that is believed in place of Intel's."""
    made = Platform()
    monkeypatch.setattr(tdx, "INTEL", made.roots)
    return made


def changed(at: int, value: bytes) -> Callable[[bytes], bytes]:
    """Puts other bytes in a place."""
    return lambda quote: quote[:at] + value + quote[at + len(value) :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda _: b"", "no TDX quote", id="empty"),
        pytest.param(lambda quote: quote[:47], "no TDX quote", id="less than a header"),
        pytest.param(lambda quote: quote[:48], "584 more", id="a header alone"),
        pytest.param(lambda quote: quote[:-1], "more are said to follow", id="truncated"),
        pytest.param(lambda quote: quote + b"\1", "something other than zeros follows", id="trailing bytes"),
        pytest.param(lambda quote: quote + bytes(1 << 15), "at most 32768", id="too large"),
        pytest.param(changed(0, b"\6"), "no TDX quote", id="version 6"),
        pytest.param(changed(0, b"\3"), "no TDX quote", id="version 3"),
        pytest.param(changed(0, b"\5"), "the body is of type", id="version 5 without a body's kind"),
        pytest.param(
            lambda quote: b"\5" + quote[1:48] + b"\x09" + quote[49:],
            "the body is of type 9",
            id="a kind of body that is none",
        ),
        pytest.param(
            lambda quote: quote[:632] + (len(quote) - 635).to_bytes(4, "little") + quote[636:] + b"\1",
            "the quote's signatures ends at byte",
            id="something behind the signatures, inside",
        ),
        pytest.param(changed(2, b"\3"), "attestation key is of type 3", id="P-384"),
        pytest.param(changed(4, b"\x82"), "no TDX quote", id="another TEE"),
        pytest.param(changed(632, b"\xff\xff\xff\xff"), "4294967295 more", id="a length of 4 GB"),
        pytest.param(changed(764, b"\5"), "certification data of type 5", id="no enclave's report"),
        pytest.param(changed(766, b"\xff\xff\xff\xff"), "4294967295 more", id="a length of 4 GB inside"),
        pytest.param(changed(1252, b"\3"), "certification data of type 3", id="no chain"),
    ],
)
def test_what_is_no_whole_quote_is_refused_before_it_is_parsed(
    platform: Platform, change: Callable[[bytes], bytes], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its form, with the place; native code sees none of it."""
    monkeypatch.delattr(dcap_qvl, "verify_with_root_ca")
    found = judged(platform, change(platform.quote()))
    assert (rules(found), found.status) == (["form"], Tier.UNVERIFIED)
    assert said in found.refusals()[0].text


ENCLAVE: Final = "the signature of the quoting enclave's report does not verify under the platform's key"
BINDS: Final = "the quoting enclave's report binds another attestation key"
GUEST: Final = "the signature of the guest's report does not verify under the attestation key"


@pytest.mark.parametrize(
    ("at", "said"),
    [
        *((at, GUEST) for at in (8, 47, 48, 631, 636, 699)),
        *((at, BINDS) for at in (700, 763, 1220, 1251)),
        *((at, ENCLAVE) for at in (770, 1090, 1153, 1154, 1217)),
    ],
)
def test_who_changed_which_part_is_told_without_anybodys_collateral(platform: Platform, at: int, said: str) -> None:
    """By the signature that no longer holds: the first and the last byte of each part. Nothing in the quote becomes a fact."""
    quote = platform.quote()
    found = tdx.appraise(changed(at, bytes([quote[at] ^ 1]))(quote), Asked(now=NOW_MILLIS))
    ((rule, text),) = ((one.rule, one.text) for one in found.refusals())
    assert (rule, found.status, found.facts) == ("signature", Tier.UNVERIFIED, {})
    assert said in text


@pytest.mark.parametrize(
    ("bound", "said"),
    [(b"\1" * 64, "no point on P-256"), (bytes(64), "no point on P-256"), (POINT, GUEST)],
    ids=["no point", "zeros", "another point"],
)
def test_a_key_that_the_enclave_binds_has_to_be_one_and_to_sign(platform: Platform, bound: bytes, said: str) -> None:
    """However well the rest is signed."""
    found = judged(platform, platform.quote(bound=bound))
    assert (rules(found), found.status, found.facts) == (["signature"], Tier.UNVERIFIED, {})
    assert said in found.refusals()[0].text


def test_a_forged_quote_affirms_no_program_to_a_policy_that_names_it(platform: Platform) -> None:
    """Anybody can write the measurements that a policy wants: who reads the trust vector alone must not find them affirmed."""
    quote = platform.quote()
    asked = Asked(now=NOW_MILLIS, collateral=platform.collateral())
    rules_of = {"intel-tdx": PlatformRules(measurements={"mrtd": ("0d" * 48,)})}
    for made, tier in ((quote, Tier.AFFIRMING), (changed(699, bytes([quote[699] ^ 1]))(quote), Tier.CONTRAINDICATED)):
        found = tdx.appraise(made, asked)
        hold_to_policy(found, rules_of, asked)
        assert found.vector()[Claim.EXECUTABLES] is tier
        assert found.affirms == (tier is Tier.AFFIRMING)


def test_zeros_behind_a_quote_are_the_rest_of_its_buffer(platform: Platform) -> None:
    """Quoting services hand it out whole."""
    assert judged(platform, platform.quote() + bytes(70)).affirms


@pytest.mark.parametrize(
    ("collateral", "said"),
    [
        pytest.param(lambda _: b"", "no JSON", id="empty"),
        pytest.param(lambda _: b"\xff\xfe", "no JSON", id="no text"),
        pytest.param(lambda _: b"[" * 100_000, "no JSON", id="nested"),
        pytest.param(lambda _: b"[]", "another shape", id="a list"),
        pytest.param(lambda _: b"5", "another shape", id="a number"),
        pytest.param(lambda _: b"{}", "another shape", id="nothing in it"),
        pytest.param(lambda good: good + b" " * (1 << 20), "at most 1048576", id="too large"),
        pytest.param(lambda _: json.dumps(dict.fromkeys(tdx._COLLATERAL, "")).encode(), "serve", id="empty parts"),
        pytest.param(
            lambda _: json.dumps(dict.fromkeys(tdx._COLLATERAL, "\ud800")).encode(), "serve", id="half characters"
        ),
        pytest.param(lambda _: json.dumps(dict.fromkeys(tdx._COLLATERAL, 5)).encode(), "another shape", id="numbers"),
        pytest.param(
            lambda good: json.dumps(json.loads(good) | {"more": ""}).encode(), "another shape", id="one part more"
        ),
        pytest.param(
            lambda good: json.dumps({**json.loads(good), "pck_crl": None}).encode(), "another shape", id="null"
        ),
    ],
)
def test_collateral_of_another_shape_is_refused(
    platform: Platform, collateral: Callable[[bytes], bytes], said: str
) -> None:
    """By its rule, and native code sees none of it but texts by their names; the quote's own signatures still hold."""
    found = judged(platform, collateral=collateral(platform.collateral()))
    assert rules(found) == ["collateral"]
    assert said in found.refusals()[0].text
    assert found.vector()[Claim.INSTANCE_IDENTITY] is Tier.AFFIRMING


class PanicException(BaseException):
    """As `pyo3_runtime.PanicException`, which cannot be imported."""


def test_a_panic_in_native_code_is_an_answer_and_not_the_end(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No input is known that makes one: it is planted. An interrupt from the keyboard is still one."""

    def panics(*_: object) -> None:
        raise PanicException

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dcap_qvl, "verify_with_root_ca", panics)
    found = judged(platform)
    assert (rules(found), found.status) == (["form"], Tier.UNVERIFIED)
    monkeypatch.setattr(dcap_qvl, "verify_with_root_ca", interrupted)
    with pytest.raises(KeyboardInterrupt):
        judged(platform)


def test_a_verdict_on_another_report_is_none_on_this_one(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified must be what is said: two readers of one quote must find the same in it."""
    other, real = platform.quote(fields={"mrtd": b"\x0e" * 48}), dcap_qvl.verify_with_root_ca
    monkeypatch.setattr(dcap_qvl, "verify_with_root_ca", lambda _, *others: real(other, *others))
    found = judged(platform)
    assert (rules(found), found.status) == (["form"], Tier.UNVERIFIED)
