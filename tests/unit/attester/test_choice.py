"""Which attesters a node has: what is there, never a simulated one unless it is named, and what is named or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from blindgate_node.attester import choice
from blindgate_node.attester.choice import choose
from blindgate_node.attester.configfs_tsm import ConfigfsTsm
from blindgate_node.logs import open_log
from blindgate_node.settings import Settings
from blindgate_protocol.errors import AttesterError, KeyStoreError, MalformedError
from blindgate_protocol.signing import open_signed
from blindgate_protocol.simulated_evidence import SimulatedEvidence
from recorded_tsm import RecordedTsm
from shared import shared
from snp_vectors import LEGACY, certificates, report_of


def settings(folder: Path, **given: Any) -> Settings:
    """Of a node whose machine has no GPU."""
    return Settings(data=folder, **({"gpu_attester": "none"} | given))


def chosen(configured: Settings, events: list[dict[str, Any]] | None = None) -> choice.Attesters:
    """What a node with these settings has."""
    noted = [] if events is None else events
    return choose(configured, lambda event, **fields: noted.append({"event": event, **fields}), lambda: 1_000)


@pytest.fixture
def snp_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that answers with a recorded report."""
    tree = RecordedTsm("sev_guest", report_of("legacy"))
    monkeypatch.setattr(choice, "ConfigfsTsm", lambda: ConfigfsTsm(tree))


def test_a_machine_with_nothing_has_nothing(tmp_path: Path) -> None:
    """And never a simulated attester in its place; each thing that was looked for is named."""
    found = chosen(settings(tmp_path, gpu_attester="auto"))
    assert (found.platform, found.gpus) == (None, None)
    said = " ".join(found.missing)
    for name in ("configfs-tsm", "aws-nitro", "nvidia-gpu"):
        assert name in said
    assert not list(tmp_path.iterdir()), "a key was made that nobody asked for"


def test_what_the_machine_has_is_found(snp_guest: None, tmp_path: Path) -> None:
    """By itself, or by its name."""
    for named in ("auto", "amd-sev-snp"):
        found = chosen(settings(tmp_path, attester=named)).platform
        assert found is not None
        assert found.platform == "amd-sev-snp"


def test_what_is_named_and_not_there_is_an_error(snp_guest: None, tmp_path: Path) -> None:
    """A node that should prove something does not silently prove nothing, or something else."""
    with pytest.raises(AttesterError, match="`attester` is intel-tdx, and this machine is amd-sev-snp"):
        chosen(settings(tmp_path, attester="intel-tdx"))
    with pytest.raises(AttesterError, match="no Nitro enclave"):
        chosen(settings(tmp_path, attester="aws-nitro"))
    with pytest.raises(AttesterError, match="nvidia-gpu"):
        chosen(settings(tmp_path, gpu_attester="nvidia-gpu"))


def test_a_node_that_is_told_to_prove_nothing_is_not_asked(snp_guest: None, tmp_path: Path) -> None:
    """Whatever the machine has."""
    found = chosen(settings(tmp_path, attester="none"))
    assert (found.platform, found.gpus) == (None, None)
    assert found.missing == ("the setting `attester` is none", "the setting `gpu_attester` is none")


def test_a_simulated_attester_warns_when_it_is_made_and_in_every_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads the log or opens the file sees what it is."""
    found = choose(settings(tmp_path, attester="insecure-simulated"), open_log(None, "warning"), lambda: 1_000).platform
    assert found is not None
    (line,) = capsys.readouterr().err.splitlines()
    noted = json.loads(line)
    assert (noted["event"], noted["level"]) == ("attester.simulated", "warning")
    assert "nothing of hardware is proven" in noted["warning"]
    made = found.attest(b"\1" * 64)
    document = open_signed(made.evidence, SimulatedEvidence)
    assert (document.document.warning, document.signer) == (noted["warning"], noted["key"])
    assert (document.document.report_data, document.document.time) == (b"\1" * 64, 1_000)
    assert (made.platform, made.chain) == ("insecure-simulated", ())


def test_a_simulated_attester_keeps_its_key(tmp_path: Path) -> None:
    """A policy may name it; and it is private."""
    events: list[dict[str, Any]] = []
    for _ in range(2):
        chosen(settings(tmp_path, attester="insecure-simulated"), events)
    assert events[0]["key"] == events[1]["key"]
    (tmp_path / "insecure-simulated.key").chmod(0o644)
    with pytest.raises(KeyStoreError, match="can be read by others"):
        chosen(settings(tmp_path, attester="insecure-simulated"))


def test_certificates_of_a_file_go_beside_the_evidence(snp_guest: None, tmp_path: Path) -> None:
    """Where the host gives its guests none, the operator fetches them once."""
    file = tmp_path / "chain.pem"
    names = ("milan_vcek.pem", "milan_ask.pem", "milan_ark.pem")
    file.write_bytes(b"".join(shared(f"vectors/sev-snp/{name}").read_bytes() for name in names))
    found = chosen(settings(tmp_path, attester_certificates=file)).platform
    assert found is not None
    assert found.platform == "amd-sev-snp"
    assert found.attest(report_of("legacy")[0x50:0x90]).chain == certificates(*names)
    assert certificates(*LEGACY)[1:] == certificates(*names)[1:]


@pytest.mark.parametrize("text", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_of_no_certificates_is_refused_at_the_start(snp_guest: None, tmp_path: Path, text: bytes) -> None:
    """And not by a client, later."""
    (tmp_path / "chain.pem").write_bytes(text)
    with pytest.raises(AttesterError, match=r"chain\.pem is no file of certificates"):
        chosen(settings(tmp_path, attester_certificates=tmp_path / "chain.pem"))
    with pytest.raises(AttesterError, match="nowhere: No such file"):
        chosen(settings(tmp_path, attester_certificates=tmp_path / "nowhere"))


def test_an_attester_that_nobody_knows_is_a_mistyped_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`simulated` alone is none: its name has to say that it is insecure."""
    from blindgate_node.settings import load_settings  # noqa: PLC0415

    monkeypatch.setenv("BLINDGATE_NODE_ATTESTER", "simulated")
    with pytest.raises(MalformedError, match="attester"):
        load_settings(data=tmp_path)
