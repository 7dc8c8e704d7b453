"""NVIDIA's GPU evidence: real reports come to what they are, and every change to one is refused, by the rule that it breaks."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from blindgate.attestation import nvidia
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.chains import fingerprint, read_pem
from blindgate.attestation.roots import NVIDIA
from made_gpu import FIELDS, FIRMWARE, NONCE, MadeGpu, blocks, der, packed, packed_newer, tcb_info
from shared import FOLDER, shared

NOW: Final = round(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
HOPPER_NONCE: Final = bytes.fromhex("e97b23a1718095a0e9e35edca810768c70a6a5a389b705e753b197912bc11576")
ALWAYS_OPEN: Final = {"measurement", "tcb-policy", "revocation", "gpu-binding", "mode"}


def _vector(name: str) -> bytes:
    return shared(f"vectors/nvidia/{name}").read_bytes()


def _appraise(data: bytes, **asked: Any) -> Appraisal:
    return nvidia.appraise(data, Asked(**{"now": NOW} | asked))


def _rules(appraisal: Appraisal) -> set[str]:
    return {one.rule for one in appraisal.refusals()}


def _open(appraisal: Appraisal) -> set[str]:
    return {one.code for one in appraisal.not_proven}


def _blackwell(**asked: Any) -> Appraisal:
    return _appraise(_vector("blackwell_report.txt"), chain=read_pem(_vector("blackwell_certs.txt")), **asked)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MadeGpu]:
    """Makes a GPU whose root is believed for the length of a test."""
    pinned: dict[str, str] = {}
    monkeypatch.setattr(nvidia, "NVIDIA", pinned)

    def make(**as_told: Any) -> MadeGpu:
        gpu = MadeGpu(**as_told)
        pinned[fingerprint(gpu.root)] = "a root of our own"
        return gpu

    return make


def test_a_hopper_report_is_believed_for_the_nonce_that_it_answers() -> None:
    """With its driver, VBIOS and measurements as facts."""
    appraisal = _appraise(_vector("hopper_evidence.json"), nonce=HOPPER_NONCE)
    assert appraisal.affirms, appraisal.refusals()
    gpu = appraisal.facts
    assert gpu["product"] == "GH100"
    assert gpu["device"] == "NVIDIA:GH100:48B02DF44660DA06"
    assert (gpu["driver_version"], gpu["vbios_version"]) == ("590.12", "96.00.A5.00.01")
    assert gpu["nonce"] == HOPPER_NONCE.hex()
    assert gpu["gpus"] == 1
    assert gpu["ueid"] == "655333107904478077882826344426270545524203067314"
    assert len(gpu["measurements"]) == 28
    assert gpu["measurements"]["2"].startswith("f21c16b08086efe555ff")
    assert gpu["feature"] == "protected-pcie"
    assert {"chain", "signature", "product", "firmware-id", "nonce"} <= {one.rule for one in appraisal.reasons}


def test_what_a_report_cannot_show_is_listed() -> None:
    """Nothing is said of the code that runs; without a nonce, nothing of when."""
    appraisal = _appraise(_vector("hopper_evidence.json"))
    assert appraisal.affirms
    assert appraisal.vector()[Claim.EXECUTABLES] == 0
    assert appraisal.vector()[Claim.SOURCED_DATA] == 0
    assert _open(appraisal) == ALWAYS_OPEN | {"debug", "freshness", "binding"}
    assert _open(_appraise(_vector("hopper_evidence.json"), nonce=HOPPER_NONCE)) == ALWAYS_OPEN | {"debug"}


def test_a_certificate_on_hold_does_not_read_as_checked_for_revocation() -> None:
    """NVIDIA's responder has this one on hold. Nobody asked it, and the result says so."""
    appraisal = _appraise(_vector("hopper_evidence_cert_hold.json"))
    assert appraisal.affirms
    assert "revocation" in _open(appraisal)
    assert not [one for one in appraisal.reasons if "revo" in one.rule + one.text]


def test_a_blackwell_report_is_believed_under_the_chain_beside_it() -> None:
    """Its certificate says that it is not one for debugging."""
    appraisal = _blackwell()
    assert appraisal.affirms, appraisal.refusals()
    gpu = appraisal.facts
    assert (gpu["architecture"], gpu["product"], gpu["flags"]) == ("BLACKWELL", "GB100", ["not-configured"])
    assert (gpu["driver_version"], gpu["vbios_version"]) == ("575.32", "97.00.88.00.0F")
    assert "debug" not in _open(appraisal)


@pytest.mark.parametrize(
    "write",
    [
        bytes.hex,
        lambda report: report.hex().upper() + "\n",
        lambda report: base64.encodebytes(report).decode(),
        lambda report: report.decode("latin-1"),
    ],
    ids=["hex", "HEX", "base64", "raw"],
)
def test_a_report_alone_is_read_in_each_of_its_forms(write: Callable[[bytes], str]) -> None:
    """And its chain as DER, as PEM, and as base64 of PEM, in any order."""
    data = write(bytes.fromhex(_vector("blackwell_report.txt").decode())).encode("latin-1")
    assert nvidia.is_evidence(data)
    pem = _vector("blackwell_certs.txt")
    leaf, *others = read_pem(pem)
    for chain in (read_pem(pem), (pem,), (base64.b64encode(pem),), (*others, leaf), (leaf, *others)[::-1]):
        assert _appraise(data, chain=chain).affirms


def test_a_report_that_its_key_did_not_sign_is_refused() -> None:
    """By its signature, before anything in it is read."""
    chain = read_pem(_vector("hopper_certs.txt"))
    appraisal = _appraise(_vector("hopper_report_bad_signature.txt"), chain=chain, nonce=HOPPER_NONCE)
    assert _rules(appraisal) == {"signature"}
    assert appraisal.refusals()[0].text.startswith("the report's signature")
    assert appraisal.status.word == "contraindicated"
    assert appraisal.facts == {"gpus": 1}


def _jwt(header: dict[str, Any]) -> bytes:
    parts = (json.dumps(header).encode(), b'{"x-nvidia-device-type":"gpu","measres":"success"}', b"signature")
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        (lambda: _vector("token_alg_none.json"), "algorithm"),
        (lambda: _jwt({"alg": "NONE"}), "algorithm"),
        (lambda: _jwt({"typ": "JWT"}), "algorithm"),
        (lambda: _jwt({"alg": 5}), "algorithm"),
        (lambda: _jwt({"alg": "ES384"}), "token"),
        (
            lambda: b'[["JWT","' + _jwt({"alg": "ES384"}) + b'"],{"GPU-0":"' + _jwt({"alg": "none"}) + b'"}]',
            "algorithm",
        ),
        (lambda: b'{"x-nvidia-device-type": "gpu", "measres": "success"}', "token"),
    ],
    ids=["the file", "NONE", "no algorithm", "a number", "signed", "one of two", "claims"],
)
def test_a_token_in_place_of_evidence_is_refused(token: Callable[[], bytes], rule: str) -> None:
    """Somebody's verdict, however good it reads."""
    data = token()
    assert nvidia.is_evidence(data)
    assert _rules(_appraise(data)) == {rule}


@pytest.mark.parametrize(
    ("nonce", "text"),
    [
        (b"\1" * 32, "not 0101"),
        (HOPPER_NONCE[:-1], "e97b23"),
        (HOPPER_NONCE + b"\0", "e97b23"),
        (b"", "bind nothing"),
        (bytes(32), "bind nothing"),
    ],
    ids=["another", "shorter", "longer", "empty", "zero"],
)
def test_a_report_that_does_not_answer_the_nonce_is_refused(nonce: bytes, text: str) -> None:
    """Also where the nonce asked for is none."""
    appraisal = _appraise(_vector("hopper_evidence.json"), nonce=nonce)
    assert _rules(appraisal) == {"nonce"}
    assert text in appraisal.refusals()[0].text
    assert appraisal.vector()[Claim.SOURCED_DATA] is Tier.CONTRAINDICATED


def test_report_data_is_not_to_be_had_of_a_gpu() -> None:
    """Who asks for it is told that a report binds its nonce alone."""
    appraisal = _appraise(_vector("hopper_evidence.json"), report_data=b"\1" * 64)
    assert [(one.rule, one.claim) for one in appraisal.refusals()] == [("report-data", Claim.SOURCED_DATA)]


@pytest.mark.parametrize(
    ("chain", "rule"),
    [
        (lambda _: (), "chain"),
        (lambda ders: ders[:-1], "root"),
        (lambda ders: (ders[0], *ders[:-1]), "root"),
        (lambda ders: ders[:1] + ders[2:], "chain"),
        (lambda ders: ders[1:], "chain"),
        (lambda ders: ders[4:], "product"),
        (lambda ders: (ders[1], *ders), "chain"),
        (lambda ders: (*ders[:1], *ders[:-1] * 3, ders[-1]), "chain"),
        (lambda _: (b"not a certificate",), "form"),
        (lambda _: (base64.b64encode(b"-----BEGIN CERT") + b"!",), "form"),
    ],
    ids=[
        "none",
        "no root",
        "no root and one twice",
        "a gap",
        "no leaf",
        "the root alone",
        "one twice",
        "many",
        "no certificate",
        "no base64",
    ],
)
def test_a_report_without_its_whole_chain_is_refused(
    chain: Callable[[tuple[bytes, ...]], tuple[bytes, ...]], rule: str
) -> None:
    """By what is wrong with the chain."""
    ders = read_pem(_vector("blackwell_certs.txt"))
    assert _rules(_appraise(_vector("blackwell_report.txt"), chain=chain(ders))) == {rule}


def test_a_report_is_not_believed_before_its_certificates_begin() -> None:
    """They have no end: 9999-12-31."""
    early = round(datetime(2022, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert _rules(_blackwell(at=early)) == {"validity"}
    assert _blackwell(at=early * 2).affirms


def test_a_root_of_somebodys_own_is_refused() -> None:
    """Whatever its certificates are called."""
    gpu = MadeGpu()
    assert _rules(_appraise(gpu.evidence())) == {"root"}


def test_reports_and_certificates_that_do_not_belong_together_are_refused() -> None:
    """Each is genuine, and the key of one did not sign the other."""
    (hopper,), (held,) = (
        json.loads(_vector(name)) for name in ("hopper_evidence.json", "hopper_evidence_cert_hold.json")
    )
    for swapped in (hopper | {"certificate": held["certificate"]}, held | {"evidence": hopper["evidence"]}):
        assert _rules(_appraise(json.dumps([swapped]).encode())) == {"signature"}


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"nonce": "00" * 32}, "nonce"),
        ({"arch": "BLACKWELL"}, "product"),
        ({"driver_version": "590.13"}, "versions"),
        ({"vbios_version": "96.00.A5.00.02"}, "versions"),
        ({"version": "2.0"}, "version"),
        ({"nonce": "00" * 31}, "form"),
        ({"nonce": HOPPER_NONCE.hex() + "00"}, "form"),
        ({"arch": "AMPERE"}, "form"),
        ({"evidence": "11e0?"}, "form"),
        ({"certificate": ""}, "form"),
        ({"evidence": 7}, "form"),
        ({"evidence": "\ud800"}, "form"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_what_stands_beside_a_report_has_to_be_what_it_says(said: dict[str, Any], rule: str) -> None:
    """Else the rest of the file is somebody's tale."""
    (entry,) = json.loads(_vector("hopper_evidence.json"))
    assert _rules(_appraise(json.dumps([entry | said]).encode())) == {rule}


def test_a_member_that_is_there_twice_is_refused() -> None:
    """Two readers could take it for two things."""
    data = _vector("hopper_evidence.json").replace(b'"nonce"', b'"nonce": "' + b"00" * 32 + b'", "nonce"')
    assert _rules(_appraise(data)) == {"form"}


def test_what_newer_files_say_beside_a_report_is_held_against_it() -> None:
    """And believed where it fits; one GPU may also stand without a list."""
    (entry,) = json.loads(_vector("hopper_evidence.json"))
    entry |= {"version": "1.0", "driver_version": "590.12", "vbios_version": "96.00.A5.00.01"}
    assert _appraise(json.dumps(entry).encode()).affirms


def test_more_gpus_than_a_machine_has_are_not_looked_at() -> None:
    """Each takes a signature and a chain."""
    found = _appraise(json.dumps(json.loads(_vector("hopper_evidence.json")) * 17).encode())
    assert _rules(found) == {"form"}
    assert "evidence about 17 GPUs" in found.refusals()[0].text


def test_several_gpus_answer_one_nonce_and_none_is_shown_twice(made: Callable[..., MadeGpu]) -> None:
    """A machine with one GPU cannot pass for one with two, nor show an old report beside a fresh one."""
    first, second = made(), made()
    two = [first.entry(), second.entry()]
    appraisal = _appraise(json.dumps(two).encode(), nonce=NONCE)
    assert appraisal.affirms, appraisal.refusals()
    assert appraisal.facts["gpus"] == 2
    assert appraisal.facts["driver_version"] == "590.12"
    assert appraisal.facts["leaf"] == [fingerprint(first.leaf), fingerprint(second.leaf)]
    assert _rules(_appraise(json.dumps([*two, first.entry()]).encode())) == {"repeated"}
    stale = second.entry(second.report(nonce=b"\7" * 32), nonce="07" * 32)
    assert _rules(_appraise(json.dumps([first.entry(), stale]).encode())) == {"nonce"}
    report = second.report()
    broken = second.entry(report[:-1] + bytes([report[-1] ^ 1]))
    appraisal = _appraise(json.dumps([first.entry(), broken]).encode())
    assert _rules(appraisal) == {"signature"}
    assert appraisal.refusals()[0].text.startswith("GPU 1: ")
    affirmed = [one.text for one in appraisal.reasons if one.tier is Tier.AFFIRMING]
    assert {text[:7] for text in affirmed} == {"GPU 0: "}
    assert "GPU 0: the GPU's key signed question and answer" in affirmed


def test_what_is_wrong_with_one_of_several_gpus_is_said_of_it_and_of_its_part(made: Callable[..., MadeGpu]) -> None:
    """Whoever has eight of them has to know which."""
    good, bad = made(), made(extension=tcb_info(flags=0x70, firmware=b"\1" * 48))
    appraisal = _appraise(json.dumps([good.entry(), bad.entry(arch="HOPPER", nonce="00" * 32)]).encode())
    assert {(one.rule, one.claim, one.text[:7]) for one in appraisal.refusals()} == {
        ("firmware-id", Claim.HARDWARE, "GPU 1: "),
        ("debug", Claim.CONFIGURATION, "GPU 1: "),
        ("nonce", Claim.SOURCED_DATA, "GPU 1: "),
        ("product", Claim.SOURCED_DATA, "GPU 1: "),
    }
    assert appraisal.facts["flags"] == [[], ["not-secure", "recovery", "debug"]]
    stale = bad.entry(bad.report(nonce=bytes(32)), nonce="00" * 32)
    appraisal = _appraise(json.dumps([good.entry(), stale, good.entry()]).encode())
    said = {one.rule: (one.claim, one.text) for one in appraisal.refusals() if not one.text.startswith("GPU 1: ")}
    assert said == {
        "nonce": (Claim.SOURCED_DATA, "2 nonces: the GPUs did not answer the same question"),
        "repeated": (Claim.INSTANCE_IDENTITY, "3 reports of 2 GPUs: one is shown twice"),
    }
    assert any("It is zero" in one.text for one in appraisal.not_proven if one.code == "freshness")


def test_a_reports_fields_are_told_in_words(made: Callable[..., MadeGpu]) -> None:
    """A number that has no word stays one; and no other part of the certificate's flags speaks against a GPU."""
    gpu = made(extension=tcb_info(flags=0x0F))
    told = {15: b"900", 17: b"G520", 18: b"0200", 11: b"\xaa", 21: b"\x54", 36: b"\0"}
    appraisal = _appraise(gpu.evidence(gpu.report(fields=FIELDS | told)))
    assert appraisal.affirms, appraisal.refusals()
    facts = appraisal.facts
    assert (facts["chip_sku"], facts["project"], facts["project_sku"]) == ("900", "G520", "0200")
    assert (facts["nvdec0"], facts["protected_pcie"], facts["flags"]) == ("enabled", "54", [])
    for number, word in enumerate(("multi-gpu-passthrough", "single-gpu-passthrough", "protected-pcie", "03")):
        assert _appraise(gpu.evidence(gpu.report(fields={36: bytes([number])}))).facts["feature"] == word


@pytest.mark.parametrize(
    ("gpu", "report", "rule"),
    [
        ({"name": "LS10 A01 NVSW FMC LF"}, {}, "product"),
        ({"name": "GB100 A01 of our own"}, {}, "product"),
        ({"authority": True}, {}, "chain"),
        ({"curve": ec.SECP256R1()}, {}, "signature"),
        ({"curve": None}, {}, "signature"),
        ({"extension": tcb_info(flags=0x10)}, {}, "debug"),
        ({"extension": tcb_info(flags=0x40)}, {}, "debug"),
        ({"extension": tcb_info(firmware=b"\1" * 48)}, {}, "firmware-id"),
        ({"extension": b""}, {}, "firmware-id"),
        ({"extension": b"\x30\x82\x01"}, {}, "form"),
        ({"extension": b"\x30\x02\xa6\x00"}, {}, "form"),
        ({"extension": tcb_info() * 2}, {}, "form"),
        ({"extension": tcb_info(fwid=b"\x30\x00")}, {}, "form"),
        ({"extension": tcb_info(fwid=b"\x30\x03\x06\x01\x2a")}, {}, "form"),
        ({"extension": tcb_info(flags=b"")}, {}, "form"),
        ({"extension": tcb_info(flags=b"\0")}, {}, "form"),
        ({"extension": b"\x30\x83\0\0" + tcb_info()[1:]}, {}, "form"),
        ({"extension": b"\x30\x80" + tcb_info()[2:] + b"\0\0"}, {}, "form"),
        ({"extension_id": "1.2.3.4"}, {}, "firmware-id"),
        ({}, {"fields": FIELDS | {20: b""}}, "firmware-id"),
        ({"extension": b""}, {"fields": FIELDS | {20: b""}}, "firmware-id"),
        ({"extension": tcb_info().replace(b"\x04\x30", b"\x04\x31")}, {}, "form"),
        ({}, {"fields": packed(FIELDS) * 2}, "form"),
        ({}, {"fields": packed(FIELDS)[:-1]}, "form"),
        ({}, {"fields": FIELDS | {34: b"\2\0"}}, "version"),
        ({}, {"fields": packed_newer(FIELDS, version=3)}, "version"),
        ({}, {"fields": packed_newer(FIELDS, profile=1)}, "form"),
        ({}, {"fields": packed_newer(FIELDS)[:9]}, "form"),
        ({}, {"fields": packed_newer(FIELDS)[:-1]}, "form"),
        ({}, {"fields": packed_newer(FIELDS) + packed_newer(FIELDS)[12:]}, "form"),
        ({}, {"fields": packed_newer(FIELDS | {20: b"\1" * 48})}, "firmware-id"),
        ({}, {"number": 3}, "form"),
        ({}, {"number": 0, "record": b""}, "form"),
        ({}, {"number": 1, "record": b"\0" + blocks(b"\1" * 48)[1:]}, "form"),
        ({}, {"number": 1, "record": b"\1\1\x33\0\1\x31\0" + b"\1" * 48}, "form"),
        ({}, {"record": blocks(b"\1" * 48) * 2, "number": 1}, "form"),
        ({}, {"record": blocks(b"\1" * 48, b"")[:-1]}, "form"),
        ({}, {"record": b"\1\2" + blocks(b"\1" * 48, b"")[2:]}, "form"),
        ({}, {"record": bytes(9000)}, "form"),
    ],
    ids=[
        "a switch", "a name of our own", "an authority", "another curve", "no curve", "debugging", "not secure", "other firmware",
        "no firmware", "a cut extension", "no FWID", "two of them", "a FWID of nothing", "a FWID without a digest", "no flags",
        "flags of no bits", "a length of three bytes", "a length that is not said", "an extension of another kind",
        "empty firmware", "none and empty", "a cut digest",
        "fields twice", "fields cut", "newer fields", "newest fields", "another profile", "a cut head", "newer fields cut",
        "newer fields twice", "newer fields of other firmware", "fewer blocks", "no blocks", "block 0",
        "a block in a block that is longer", "blocks twice", "a block cut", "another measure", "too large",
    ],
)  # fmt: skip
def test_a_report_that_no_gpu_for_use_would_sign_is_refused(
    made: Callable[..., MadeGpu], gpu: dict[str, Any], report: dict[str, Any], rule: str
) -> None:
    """Under a root that is believed, with a signature that verifies where the key may sign at all."""
    one = made(**gpu)
    data = one.report(**report)
    assert _rules(_appraise(one.evidence(data))) == {rule}


def test_the_gpu_of_those_tests_is_believed_as_long_as_nothing_is_wrong_with_it(made: Callable[..., MadeGpu]) -> None:
    """So that each is refused for what is wrong with it, and nothing else. An older report without firmware leaves that open."""
    appraisal = _appraise(made().evidence())
    assert appraisal.affirms, appraisal.refusals()
    assert appraisal.facts["firmware_id"] == FIRMWARE.hex()
    assert _appraise(made(extension=b"\x30\x82\0" + tcb_info()[1:]).evidence()).affirms
    assert _appraise(made(extension=der(0x30, b"\x80\0\xa6\x81" + tcb_info()[3:])).evidence()).affirms
    one = made()
    appraisal = _appraise(one.evidence(one.report(fields={3: b"\x1b[31m", 6: b"\1", 34: b"\1\0", 36: b"\x09"})))
    assert appraisal.affirms, appraisal.refusals()
    assert "firmware-id" in _open(appraisal)
    facts = appraisal.facts
    assert (facts["driver_version"], facts["vbios_version"], facts["feature"]) == ("1b5b33316d", "01", "09")
    facts = _appraise(one.evidence(one.report(fields={3: b"5\xe9", 14: b"\1\2"}))).facts
    assert (facts["driver_version"], facts["board"], "vbios_version" in facts) == ("35e9", "0102", False)


@pytest.mark.parametrize("name", ["GH100 A01 GSP FMC LF", "GB100 A01 GSP FMC LF", "GB20X A01 GSP FMC LF"])
def test_each_chip_of_both_generations_is_a_gpu(made: Callable[..., MadeGpu], name: str) -> None:
    """H100 and H200 are GH100, B200 is GB100, and workstations' Blackwell is GB20X, with a letter for its last digit."""
    one = made(name=name)
    found = _appraise(one.evidence(arch="HOPPER" if name.startswith("GH") else "BLACKWELL"))
    assert found.affirms, found.refusals()
    assert found.facts["product"] == name[:5]


def test_newer_drivers_write_their_fields_in_another_form(made: Callable[..., MadeGpu]) -> None:
    """It is read to the same facts; its version stands at its head, and not in the field where the older form has it."""
    one = made()
    older = _appraise(one.evidence(one.report(fields=FIELDS | {21: b"\x55", 34: b"\1\0"})))
    newer = _appraise(one.evidence(one.report(fields=packed_newer(FIELDS | {21: b"\x55", 34: b"\0\2"}))))
    assert newer.affirms, newer.refusals()
    assert newer.facts == older.facts
    assert newer.facts["protected_pcie"] == "disabled"


def test_a_challenge_of_zeros_is_said_to_bind_nothing(made: Callable[..., MadeGpu]) -> None:
    """Where nobody asked for another."""
    gpu = made()
    for nonce in (bytes(32), NONCE):
        appraisal = _appraise(gpu.evidence(gpu.report(nonce=nonce), nonce=nonce.hex()))
        (said,) = [one.text for one in appraisal.not_proven if one.code == "freshness"]
        assert ("binds nothing" in said) is not any(nonce)


def test_other_platforms_evidence_is_not_taken_for_a_gpus() -> None:
    """By its bytes."""
    shared("vectors/MANIFEST.tsv")
    for path in sorted((FOLDER / "vectors").glob("*/*")):
        if path.is_file() and path.parent.name != "nvidia":
            assert not nvidia.is_evidence(path.read_bytes()), path
    for name in ("hopper_certs.txt", "driver_rim_gh100_550.144.03.xml"):
        assert not nvidia.is_evidence(_vector(name))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"[1]", b'[{"evidence": 1}]', b'{"evidence": "", "evidence": ""}', b"[" * 100_000, b"\xff\xfe",
        b"11e0", b"11e0zz", b"EeA", b"EeA=", b"\x11\xe0" * 9000, b'{"a": ' + b"9" * 5000 + b"}",
        b'{"__cmwc_t": "x"}', b'["__cmwc_t"]', b'["evidence"]',
        b'[{"evidence":"' + b"A" * (1 << 19) + b'"}]', json.dumps([{"evidence": ""}] * 17).encode(),
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_bytes_that_are_no_evidence_end_as_a_refusal(data: bytes) -> None:
    """And never as an exception."""
    nvidia.is_evidence(data)
    assert _rules(_appraise(data)) == {"form"}


def test_genuine_evidence_of_no_size_that_evidence_has_is_not_looked_into() -> None:
    """Half a megabyte, for up to 16 GPUs."""
    found = _appraise(_vector("hopper_evidence.json") + b" " * (1 << 19))
    assert _rules(found) == {"form"}
    assert "at most 524288" in found.refusals()[0].text


def test_a_token_that_never_ends_costs_no_time() -> None:
    """Half a megabyte of beginnings is looked at once."""
    data = b'{"x-nvidia-": "' + b"eyJ" * 170_000 + b'"}'
    assert _rules(_appraise(data)) == {"token"}


def test_the_pinned_root_is_the_one_of_the_files() -> None:
    """NVIDIA publishes it with its own verifier."""
    root = load_pem_x509_certificates(_vector("hopper_certs.txt"))[-1]
    assert NVIDIA[fingerprint(root)] == "NVIDIA Device Identity CA"
    assert read_pem(root.public_bytes(Encoding.PEM))[0] == root.public_bytes(Encoding.DER)
