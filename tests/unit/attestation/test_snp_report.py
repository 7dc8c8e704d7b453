"""AMD's report as bytes, each place by itself: what is zero in which version, and which bit has which name.

Written from AMD's tables (56860, revision 1.58: table 10, table 23) beside the reader, since no real report has every bit set.
"""

import pytest

from blindgate.attestation.snp_report import REPORT_BYTES, Product, Report, ReportError, read_report
from snp_machine import report_body

OF_EVERY_VERSION = {*range(0x4C, 0x50), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x208, 0x2A0), *range(0x330, 0x4A0)}
BEFORE_VERSION_3 = {0x188, 0x189, 0x18A}
BEFORE_VERSION_5 = set(range(0x1F8, 0x208))
DECIDED_BEFORE = {*range(4), *range(0x34, 0x38), *range(0x48, 0x4C)}
"""Version, algorithm and signing key, which have rules of their own."""
POLICY = {
    16: "smt",
    18: "migration_agent",
    19: "debug",
    20: "single_socket",
    21: "cxl",
    22: "aes_256_xts",
    23: "rapl_disabled",
    24: "ciphertext_hiding",
    25: "page_swap_disabled",
}
PLATFORM = {
    0: "smt",
    1: "tsme",
    2: "ecc",
    3: "rapl_disabled",
    4: "ciphertext_hiding",
    5: "alias_check_complete",
    7: "trusted_io",
}


def report(version: int = 5, **fields: bytes) -> bytes:
    """A report without signature; `fields` by their place in hexadecimal, behind an `x`."""
    places = {int(place[1:], 16): value for place, value in fields.items()}
    return report_body(version, places).ljust(REPORT_BYTES, b"\0")


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_each_byte_that_a_version_has_nothing_for_is_zero(version: int) -> None:
    """And no other has to be: whoever writes into one of these has something to say that no reader of this version reads."""
    reserved = set(OF_EVERY_VERSION)
    reserved |= BEFORE_VERSION_3 if version < 3 else set()
    reserved |= BEFORE_VERSION_5 if version < 5 else set()
    for place in sorted(set(range(REPORT_BYTES)) - DECIDED_BEFORE):
        data = bytearray(report(version))
        data[place] = 0xFF
        if place not in reserved:
            assert read_report(bytes(data)).data == data
            continue
        with pytest.raises(ReportError, match="are not zero") as caught:
            read_report(bytes(data))
        assert caught.value.rule == "form"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (report()[:-1], "form"),
        (report() + b"\0", "form"),
        (report(1), "version"),
        (report(6), "version"),
        (report(5 + (1 << 24)), "version"),
        (report(x34=b"\0"), "signature-algorithm"),
        (report(x34=b"\2"), "signature-algorithm"),
        (report(x34=b"\1\0\0\1"), "signature-algorithm"),
        (report(x48=b"\x08"), "signing-key"),
        (report(x48=b"\x1c"), "signing-key"),
        (report(x48=b"\x20"), "form"),
        (report(x48=b"\0\0\0\x80"), "form"),
    ],
    ids=[
        "shorter", "longer", "before the first", "after the last", "with another byte", "no algorithm", "another algorithm",
        "an algorithm with another byte", "another key", "nobody's", "a bit that is zero", "the last bit that is zero",
    ],
)  # fmt: skip
def test_what_is_no_report_of_a_version_that_is_known_is_refused(data: bytes, rule: str) -> None:
    """By the rule that it breaks, before anything else in it is read."""
    with pytest.raises(ReportError) as caught:
        read_report(data)
    assert caught.value.rule == rule


def test_each_bit_of_the_guests_policy_has_its_name_or_is_a_fault() -> None:
    """Bits 0 to 15 are the oldest interface, 17 has to be set, and behind 25 stands what nobody has heard of."""
    for bit in range(16, 64):
        one = Report(report(x8=(1 << 17 | 1 << bit | 0x1F).to_bytes(8, "little")))
        assert [name for name, is_set in one.policy.items() if is_set] == [
            name for place, name in POLICY.items() if place == bit
        ]
        known = bit == 17 or bit in POLICY
        assert one.policy_faults == ([] if known else [f"bits {bit} are set, which are not known"])
        assert one.policy_abi == "0.31"
    assert Report(report(x8=bytes(8))).policy_faults == ["bit 17 is not set"]
    assert Report(report(x8=b"\2\1")).policy_abi == "1.2"


def test_each_bit_of_the_platform_has_its_name_or_is_a_fact() -> None:
    """Firmware adds some without another version. Of looking for aliases, a version before 3 cannot speak."""
    for bit in range(64):
        fields = (1 << bit).to_bytes(8, "little")
        one = Report(report(x40=fields))
        assert [name for name, is_set in one.platform.items() if is_set] == [
            name for place, name in PLATFORM.items() if place == bit
        ]
        assert one.platform_unknown == [bit] * (bit not in PLATFORM)
        assert [Report(report(version, x40=fields)).alias_check_complete for version in (2, 3, 4, 5)] == [
            False,
            *[bit == 5] * 3,
        ]


@pytest.mark.parametrize(
    ("family", "models", "product"),
    [
        (0x19, range(0x10), Product.MILAN),
        (0x19, range(0x10, 0x20), Product.GENOA),
        (0x19, range(0x20, 0xA0), None),
        (0x19, range(0xA0, 0xB0), Product.GENOA),
        (0x19, range(0xB0, 0x100), None),
        (0x1A, range(0x20), Product.TURIN),
        (0x1A, range(0x20, 0x100), None),
        (0x17, range(0x100), None),
    ],
)
def test_a_processor_is_of_its_generation(family: int, models: range, product: Product | None) -> None:
    """By family and model. One that nobody knows is of none, and a version before 3 does not say."""
    for model in models:
        assert Report(report(x188=bytes([family, model, 2]))).product == product
        assert Report(report(2, x188=bytes([family, model, 2]))).product is None
    assert Report(report(3, x188=bytes([family, models[0], 2]))).processor == (family, models[0], 2)


def test_numbers_are_read_from_their_lowest_byte() -> None:
    """The host's own reports say so by the highest level there is; versions are build, minor, major."""
    assert Report(report(x30=b"\xff" * 4)).vmpl == 0xFFFFFFFF
    assert Report(report(x30=b"\1\2\3\4")).vmpl == 0x04030201
    assert Report(report(x1E8=b"\x1d\x37\1")).firmware(0x1E8) == "1.55.29"
    assert [Report(report(version, x1F8=b"\1", x200=b"\2")).mitigations for version in (4, 5)] == [
        None,
        (b"\1".ljust(8, b"\0"), b"\2".ljust(8, b"\0")),
    ]
