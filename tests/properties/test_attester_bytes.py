"""Whatever a host, a kernel or a device gives a node: it is a certificate, or bound, or refused, and never another error."""

from hypothesis import example, given
from hypothesis import strategies as st

from blindgate_node.attester.certificates import from_pem, is_der, to_pem
from blindgate_node.attester.report_data import AMD_SEV_SNP, AWS_NITRO, INTEL_TDX, bound_by
from blindgate_node.attester.snp_certificates import read_certificates
from blindgate_protocol.errors import AttesterError
from recorded_tsm import GUIDS, certificate_table

CERTIFICATES = st.binary(min_size=256, max_size=700).map(lambda body: b"\x30\x82" + len(body).to_bytes(2, "big") + body)
TABLES = st.dictionaries(st.sampled_from(list(GUIDS)), CERTIFICATES)


@given(TABLES)
def test_a_table_gives_back_what_was_put_in(blobs: dict[str, bytes]) -> None:
    """But for lists, which are no certificates."""
    wanted = [blobs[name] for name in ("VCEK", "VLEK", "ASK", "ARK") if name in blobs]
    assert list(read_certificates(certificate_table(blobs))) == wanted


@given(TABLES, st.data())
def test_a_spoilt_table_is_certificates_or_refused(blobs: dict[str, bytes], data: st.DataObject) -> None:
    """Any byte changed, cut off anywhere."""
    table = bytearray(certificate_table(blobs))
    for place in data.draw(st.lists(st.integers(0, len(table) - 1), max_size=4)):
        table[place] = data.draw(st.integers(0, 255))
    cut = bytes(table[: data.draw(st.integers(0, len(table)))])
    try:
        found = read_certificates(cut)
    except AttesterError:
        return
    assert all(is_der(one) for one in found)


@given(CERTIFICATES)
def test_pem_comes_back_as_it_was(certificate: bytes) -> None:
    """Both ways."""
    assert from_pem(to_pem(certificate)) == (certificate,)


@given(st.sampled_from([AMD_SEV_SNP, INTEL_TDX, AWS_NITRO]), st.binary(max_size=1300))
@example(AWS_NITRO, b"\x81" * 1300)
@example(AWS_NITRO, b"\x84\x40\xa0\x5b\xff\xff\xff\xff\xff\xff\xff\xff")
@example(INTEL_TDX, b"\x04\0\0\0\x81\0\0\0" + bytes(623))
def test_what_is_no_evidence_binds_nothing(platform: str, data: bytes) -> None:
    """It is told that it is none, or what it binds is somewhere in it."""
    try:
        found = bound_by(platform, data)
    except AttesterError:
        return
    assert found in data
