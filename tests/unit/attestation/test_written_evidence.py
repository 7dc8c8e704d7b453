"""Evidence comes as files that somebody wrote down: in hexadecimal or base64, with the host's certificates behind it or beside it.

Which bytes a text stands for changes nothing of what they are worth.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blindgate.attestation.appraisal import Appraisal, Asked
from blindgate.attestation.certificate_files import read_certificates
from blindgate.attestation.chains import ChainError
from blindgate.attestation.platforms import MAX_BYTES, appraise
from blindgate.attestation.texts import MAX_TEXT_BYTES
from blindgate.commands.trust import app
from recorded_tsm import certificate_table
from shared import shared
from snp_vectors import GENOA, VLEK, WHEN, certificates, millis, report_of, rules

NOW = millis(WHEN["genoa"])
WRITE: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "hexadecimal": lambda data: data.hex().encode(),
    "hexadecimal of capitals": lambda data: b"0x" + data.hex().upper().encode() + b"\r\n",
    "base64 in lines": base64.encodebytes,
    "base64 for addresses": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
}


def table(*, names: tuple[str, ...] = ("VCEK", "ASK", "ARK"), **more: bytes) -> bytes:
    """What a host of Genoa gives its guests beside a report."""
    return certificate_table(dict(zip(names, certificates(*GENOA), strict=True)) | more)


@pytest.mark.parametrize("write", WRITE.values(), ids=WRITE)
def test_evidence_that_was_written_down_is_judged_as_its_bytes(write: Callable[[bytes], bytes]) -> None:
    """Of each platform; and a bit that was changed before is found."""
    report, document = report_of("genoa"), shared("vectors/nitro/document.cbor").read_bytes()
    asked = Asked(now=NOW, chain=certificates(*GENOA))
    assert appraise(write(report), asked).affirms
    assert appraise(write(document), Asked(now=NOW)).affirms
    quote = appraise(write(shared("vectors/tdx/quote_v4.bin").read_bytes()), Asked(now=NOW))
    assert (quote.platform, rules(quote)) == ("intel-tdx", {"collateral"})
    changed = bytearray(report)
    changed[0x90] ^= 1
    assert rules(appraise(write(bytes(changed)), asked)) == {"signature"}


@pytest.mark.parametrize(
    "data",
    [b"QUJD" * 400, b"0x" + b"00" * 1184, b"zz" * 1184, b"A" * 1025, b"QUJD" * 2_000_000, b"QUJD" * 30 + b"\xff"],
    ids=["words", "zeros", "no hexadecimal", "no whole base64", "too long", "bytes behind"],
)
def test_text_that_stands_for_no_evidence_is_none(data: bytes) -> None:
    """It ends in a verdict, as all does."""
    assert rules(appraise(data, Asked(now=NOW))) == {"form"}


def test_how_long_evidence_may_be_is_decided_before_it_is_looked_into() -> None:
    """Genuine, and longer than any: as a text, and as whatever it is."""
    asked, text = Asked(now=NOW, chain=certificates(*GENOA)), report_of("genoa").hex().encode()
    assert appraise(text.ljust(MAX_TEXT_BYTES), asked).affirms
    gpu = shared("vectors/nvidia/hopper_evidence.json").read_bytes()
    assert appraise(gpu.ljust(MAX_BYTES), asked).platform == "nvidia-gpu"
    for data in (text.ljust(MAX_TEXT_BYTES + 1), gpu.ljust(MAX_BYTES + 1)):
        found = appraise(data, asked)
        assert (found.platform, rules(found)) == ("unknown", {"form"})
        known = "insecure-simulated, aws-nitro, amd-sev-snp, intel-tdx, nvidia-gpu"
        assert (
            found.refusals()[0].text == f"{len(data)} bytes that are no evidence of a platform that is known ({known})"
        )
    assert (MAX_TEXT_BYTES, MAX_BYTES) == (1 << 20, 4 << 20)


def test_a_report_may_have_its_hosts_certificates_behind_it() -> None:
    """An extended report, as guests get one; the host that wrote the table is not believed."""
    report, now = report_of("genoa"), Asked(now=NOW)
    assert appraise(report + table(CRL=b"a list", VLEK=b""), now).affirms
    assert rules(appraise(report + table()[:-1], now)) == {"form"}
    assert rules(appraise(report + table(names=("VCEK", "ASK", "CRL")), now)) == {"chain"}
    assert rules(appraise(report + report, now)) == {"form"}
    assert rules(appraise(report + certificates(*GENOA)[0], now)) == {"form"}
    other = certificate_table(dict(zip(("VLEK", "ASK", "ARK"), certificates(*VLEK), strict=True)))
    assert rules(appraise(report + other, now)) == {"signing-key"}


FORMS: dict[str, Callable[[], bytes]] = {
    "a table": lambda: table(CRL=b"a list"),
    "DER, one behind the other": lambda: b"".join(certificates(*GENOA)),
    "PEM": lambda: b"".join(shared(f"vectors/sev-snp/{name}").read_bytes() for name in GENOA),
    "PEM in base64": lambda: base64.encodebytes(FORMS["PEM"]()),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_certificates_beside_evidence_come_in_each_of_their_forms(tmp_path: Path, form: Callable[[], bytes]) -> None:
    """What a guest reads at `auxblob`, and what AMD and NVIDIA serve."""
    (tmp_path / "report").write_bytes(report_of("genoa"))
    (tmp_path / "chain").write_bytes(form())
    asked = ["appraise", str(tmp_path / "report"), "--chain", str(tmp_path / "chain"), "--at", WHEN["genoa"]]
    assert CliRunner().invoke(app, asked).exit_code == 0


@pytest.mark.parametrize(
    "data",
    [
        lambda: table()[:100],
        lambda: table()[:24] * 40,
        lambda: table()[:16] + b"\xff" * 8 + bytes(24),
        lambda: table(VLEK=b"no certificate"),
        lambda: certificates(*GENOA)[0] + b"x",
        lambda: certificates(*GENOA)[0] * 13,
        lambda: b"LS0tLS1CRUdJTi!",
        lambda: b"\x30\x82\0\0" * 9,
        lambda: bytes(1 << 20),
        lambda: b"",
    ],
    ids=["cut", "endless", "outside", "no certificate", "bytes behind", "many", "no base64", "empty", "big", "nothing"],
)
def test_what_is_no_file_of_certificates_is_refused(data: Callable[[], bytes]) -> None:
    """No offset and no length in it is believed."""
    with pytest.raises(ChainError) as caught:
        read_certificates(data())
    assert caught.value.rule == "form"


def _collection(nonce: bytes | None = None, **gpus: Any) -> Appraisal:
    """Blackwell's report in the newer form of NVIDIA's tools; `gpus` replace members. No bytes for a nonce: none is said of all."""
    report = bytes.fromhex(shared("vectors/nvidia/blackwell_report.txt").read_text())
    chain = shared("vectors/nvidia/blackwell_certs.txt").read_bytes()

    def message(kind: str, data: bytes) -> list[str]:
        return [f"application/{kind}", base64.urlsafe_b64encode(data).decode().rstrip("=")]

    one = {
        "__cmwc_t": "tag:nvidia.com,2026:evidence-item/v1",
        "evidence": message("vnd.nvidia.spdm-measurement-transcript", report),
        "certificate": message("vnd.nvidia.pem-cert-chain", chain),
        "nonce": message("octet-stream", report[4:36]),
    }
    whole = {"__cmwc_t": "tag:nvidia.com,2026:x", "nonce": message("octet-stream", nonce or report[4:36]), "gpu_0": one}
    if nonce == b"":
        del whole["nonce"]
    gpus = {name: one | value if isinstance(value, dict) else value for name, value in gpus.items()}
    return appraise(json.dumps(whole | gpus).encode(), Asked(now=NOW))


def test_a_gpus_report_is_read_in_the_newer_form_of_nvidias_tools() -> None:
    """A collection of messages, which says the same as the older form and is held to the same."""
    found = _collection()
    assert found.affirms, found.refusals()
    assert (found.facts["product"], found.facts["gpus"]) == ("GB100", 1)
    assert _collection(nonce=b"").affirms
    assert rules(_collection(nonce=b"", gpu_0={"nonce": ["application/octet-stream", "AAAA"]})) == {"form"}
    assert rules(_collection(gpu_1={})) == {"repeated"}
    assert rules(_collection(nonce=b"another" * 4 + b"asks")) == {"form"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpu_1": ["no", "collection"]}, "'gpu_1' is no collection"),
        ({"gpu_0": {"evidence": "EeAB"}}, "evidence is not there, or not base64"),
        ({"gpu_0": {"evidence": ["text/plain", "EeAB"]}}, "evidence is not there, or not base64"),
        ({"gpu_0": {"nonce": ["application/octet-stream", "\ud800"]}}, "nonce is not there, or not base64"),
        ({"gpu_0": {"nonce": ["application/octet-stream", "AAAA"]}}, "nonce: not 32 bytes"),
        ({"gpu_0": {"certificate": ["application/vnd.nvidia.pem-cert-chain", "?"]}}, "certificate is not there"),
        ({f"gpu_{place}": {} for place in range(17)}, "evidence about 17 GPUs"),
    ],
)
def test_a_collection_that_is_not_whole_is_refused(changed: dict[str, Any], said: str) -> None:
    """By the member that is wrong."""
    (refusal,) = _collection(**changed).refusals()
    assert refusal.rule == "form"
    assert said in refusal.text
