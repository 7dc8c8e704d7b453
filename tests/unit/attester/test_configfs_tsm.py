"""Reports from configfs-tsm: recorded bytes come out whole; what the kernel or its neighbours do wrong is said, or done again."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blindgate.attestation import sev_snp
from blindgate.attestation.appraisal import Asked
from blindgate_node.attester.configfs_tsm import ConfigfsTsm, KernelTree
from blindgate_protocol.errors import AttesterError
from recorded_tsm import Entry, RecordedTsm, certificate_table
from shared import shared
from snp_vectors import LEGACY, VLEK, certificates, millis, report_of

ANSWERED = slice(0x50, 0x90)


def snp(name: str = "legacy", **how: Any) -> tuple[RecordedTsm, bytes]:
    """A guest that answers with a recorded report, and what that binds."""
    report = report_of(name)
    return RecordedTsm("sev_guest", report, **how), report[ANSWERED]


def attester(tree: RecordedTsm) -> ConfigfsTsm:
    """The node's, which does not wait."""
    return ConfigfsTsm(tree, pause=lambda _: None)


@pytest.mark.parametrize(
    ("name", "kinds", "chain"), [("legacy", ("VCEK", "ASK", "ARK"), LEGACY), ("vlek", ("VLEK", "ASK", "ARK"), VLEK)]
)
def test_a_recorded_report_comes_out_whole_with_the_hosts_certificates_and_affirms(
    name: str, kinds: tuple[str, ...], chain: tuple[str, ...]
) -> None:
    """What the node hands out is what a client's verifier believes."""
    ders = certificates(*chain)
    tree, asked = snp(name, auxblob=certificate_table(dict(zip(kinds, ders, strict=True))))
    node = attester(tree)
    made = node.attest(asked)
    assert (node.platform, made.platform) == ("amd-sev-snp", "amd-sev-snp")
    assert made.evidence == report_of(name)
    assert made.chain == ders
    found = sev_snp.appraise(made.evidence, Asked(now=millis("2025-06-01"), report_data=asked, chain=made.chain))
    assert found.affirms, found.refusals()
    assert not tree.entries, "the request was not taken back"


@pytest.mark.parametrize(("name", "begin"), [("quote_v4", 568), ("quote_outdated", 574)])
def test_a_recorded_quote_comes_out_whole(name: str, begin: int) -> None:
    """Version 4 and 5; TDX has no certificates beside a quote, and no privilege levels."""
    quote = shared(f"vectors/tdx/{name}.bin").read_bytes()
    node = attester(RecordedTsm("tdx_guest", quote, auxblob=None))
    made = node.attest(quote[begin : begin + 64])
    assert (node.platform, made.evidence, made.chain) == ("intel-tdx", quote, ())


def test_a_report_that_binds_something_else_is_not_handed_out() -> None:
    """Whatever the platform signed there, it is no answer to this question."""
    tree, asked = snp()
    with pytest.raises(AttesterError, match="binds other report data"):
        attester(tree).attest(bytes([asked[0] ^ 1]) + asked[1:])
    assert not tree.entries


def test_a_guest_under_a_paravisor_asks_at_its_own_level() -> None:
    """The kernel refuses a level below the floor; without one, none is written."""
    for floor, level in ((2, 2), (0, 0), (None, 0)):
        tree, asked = snp(floor=floor)
        attester(tree).attest(asked)
        assert tree.asked[-1].privlevel == level


def meddler(times: int) -> Callable[[Entry], None]:
    """Somebody who writes to the same request while it is answered, the first few times."""
    left = [times]

    def meddle(entry: Entry) -> None:
        if left[0]:
            left[0] -= 1
            entry.written += 1

    return meddle


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"refuses": [errno.EBUSY, errno.EWOULDBLOCK, errno.EINTR]}, id="busy"),
        pytest.param({"meddles": meddler(3)}, id="another writer"),
    ],
)
def test_a_busy_kernel_is_asked_again(how: dict[str, Any]) -> None:
    """A few times, in a new request each."""
    tree, asked = snp(**how)
    assert attester(tree).attest(asked).evidence == report_of("legacy")
    assert not tree.entries


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"refuses": [errno.EBUSY] * 9}, id="busy for ever"),
        pytest.param({"meddles": meddler(9)}, id="another writer for ever"),
    ],
)
def test_a_kernel_that_stays_busy_is_given_up(how: dict[str, Any]) -> None:
    """And nothing is handed out that somebody else may have asked for."""
    tree, asked = snp(**how)
    with pytest.raises(AttesterError, match="5 times: ask again"):
        attester(tree).attest(asked)
    assert not tree.entries


def test_report_data_that_the_kernel_did_not_take_is_noticed() -> None:
    """Closing the file says nothing; the request has no data then, and gives no report."""
    tree, asked = snp(drops_inblob=True)
    with pytest.raises(AttesterError, match="gives no report: Invalid argument"):
        attester(tree).attest(asked)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.ENOENT, "no /sys/kernel/config/tsm/report"),
        (errno.EACCES, "may not write below"),
        (errno.EROFS, "may not write below"),
        (errno.ENXIO, "no provider of reports behind it"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_is_missing_is_said(error: int, said: str) -> None:
    """By what an operator can do about it."""
    with pytest.raises(AttesterError, match=said):
        attester(RecordedTsm("sev_guest", b"", makes=error))


def test_an_unknown_provider_is_named() -> None:
    """Such as that of another architecture."""
    tree = RecordedTsm("arm_cca_guest", b"")
    with pytest.raises(AttesterError, match="'arm_cca_guest', which is not known here"):
        attester(tree)
    assert not tree.entries


@pytest.mark.parametrize(
    ("outblob", "said"),
    [
        (b"", "evidence of 0 bytes"),
        (bytes(1184), "version 0 are no report"),
        (b"\x02" + bytes(1184), "1185 bytes"),
        (bytes(70_000), "1 to 65536"),
    ],
)
def test_what_is_no_report_is_not_handed_out(outblob: bytes, said: str) -> None:
    """Whatever the provider is called."""
    with pytest.raises(AttesterError, match=said):
        attester(RecordedTsm("sev_guest", outblob)).attest(bytes(63) + b"\1")


@pytest.mark.parametrize("asked", [b"", bytes(64), b"\1" * 63, b"\1" * 65])
def test_nothing_is_asked_that_would_bind_nothing(asked: bytes) -> None:
    """Zeros, or another length than the platform has room for."""
    tree, _ = snp()
    with pytest.raises(AttesterError, match="report data of"):
        attester(tree).attest(asked)
    assert not tree.asked


def _ders() -> dict[str, bytes]:
    return dict(zip(("VCEK", "ASK", "ARK"), certificates(*LEGACY), strict=True))


def _pem() -> dict[str, bytes]:
    return {"ARK": shared("vectors/sev-snp/milan_ark.pem").read_bytes()}


def test_the_hosts_table_may_hold_less_more_or_pem() -> None:
    """A list of revoked certificates is left out; certificates come as DER, the signing key's own first."""
    ders = _ders()
    for table, chain in (
        (b"", ()),
        (certificate_table({}), ()),
        (certificate_table({"CRL": b"list", "ARK": ders["ARK"], "VCEK": ders["VCEK"]}), (ders["VCEK"], ders["ARK"])),
        (certificate_table(_pem()), (ders["ARK"],)),
    ):
        tree, asked = snp(auxblob=table)
        assert attester(tree).attest(asked).chain == chain


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda table: table[:-1], "entry 2 lies at", id="cut off"),
        pytest.param(lambda table: table[:16] + b"\xff" * 8 + table[24:], "entry 0 lies at", id="points outside"),
        pytest.param(lambda table: (table[:20] + bytes(4)) * 40, "without an entry that ends it", id="no end"),
        pytest.param(lambda table: table[:20] + b"\5\0\0\0" + table[24:], "VCEK is no certificate", id="too short"),
        pytest.param(lambda table: table[:24] + table[:24] + table[48:], "VCEK is there twice", id="twice"),
        pytest.param(lambda _: b"\1" * 23, "without an entry that ends it", id="less than an entry"),
    ],
)
def test_a_hostile_hosts_table_is_refused(spoil: Callable[[bytes], bytes], said: str) -> None:
    """The host writes it, and the host is not trusted."""
    tree, asked = snp(auxblob=spoil(certificate_table(_ders())))
    with pytest.raises(AttesterError, match=said):
        attester(tree).attest(asked)


class FolderTsm(KernelTree):
    """Real files under the node's own calls: `mkdir` fills a folder, a written `inblob` is answered."""

    def __init__(self, folder: Path, report: bytes) -> None:
        super().__init__(folder)
        self.folder = folder
        self.report = report

    def make(self, entry: str) -> None:
        """As the kernel, which fills it."""
        super().make(entry)
        for name, value in (("provider", b"sev_guest\n"), ("generation", b"0\n"), ("inblob", b""), ("outblob", b"")):
            (self.folder / entry / name).write_bytes(value)

    def write(self, entry: str, attribute: str, value: bytes) -> None:
        """As the kernel, which answers."""
        super().write(entry, attribute, value)
        (self.folder / entry / "generation").write_bytes(b"1\n")
        (self.folder / entry / "outblob").write_bytes(self.report)

    def remove(self, entry: str) -> None:
        """As the kernel, whose attributes go with the folder."""
        for file in (self.folder / entry).iterdir():
            file.unlink()
        super().remove(entry)


def test_the_calls_to_the_kernel_are_made_on_real_files(tmp_path: Path) -> None:
    """Open, write, read to the end, remove; nothing stays behind."""
    report = report_of("legacy")
    assert ConfigfsTsm(FolderTsm(tmp_path, report)).attest(report[ANSWERED]).evidence == report
    assert not list(tmp_path.iterdir())


def test_what_this_machine_lacks_is_said(tmp_path: Path) -> None:
    """No such folder; a folder that no kernel fills."""
    with pytest.raises(AttesterError, match="no SEV-SNP or TDX guest"):
        ConfigfsTsm(KernelTree(tmp_path / "nowhere"))
    with pytest.raises(AttesterError, match="names no provider"):
        ConfigfsTsm(KernelTree(tmp_path))
    assert not list(tmp_path.iterdir())
