"""Bytes that are no quote, or no collateral, are refused before native code sees them; what it then says is held to the quote."""

import json
from collections.abc import Callable

import dcap_qvl
import pytest

from blindgate.attestation import tdx
from blindgate.attestation.appraisal import Claim, Tier
from tdx_platform import Platform
from tdx_quotes import judged, rules


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
