"""`blindgate node attest`: what an operator sees of their machine, and what a verifier makes of the files."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from blindgate.commands.trust import app as trust
from blindgate_node.attester import choice
from blindgate_node.attester.challenge import Challenge
from blindgate_node.attester.configfs_tsm import ConfigfsTsm
from blindgate_node.attester.gpu import NvidiaGpus
from blindgate_node.commands import app
from recorded_nvml import RecordedNvml
from recorded_tsm import RecordedTsm, certificate_table
from shared import shared
from snp_vectors import LEGACY, certificates, report_of

NONCE = "ab" * 32
SIMULATED = {"BLINDGATE_NODE_ATTESTER": "insecure-simulated", "BLINDGATE_NODE_LOG_LEVEL": "error"}


def attest(*options: str, env: dict[str, str] | None = None) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["attest", *options], env=env)


def appraise(command: str, *options: str) -> Result:
    """A command as `attest` printed it."""
    words = shlex.split(command)
    assert words[:2] == ["blindgate", "trust"]
    return CliRunner().invoke(trust, [*words[2:], "--json", *options])


def printed_commands(result: Result) -> list[str]:
    """What the operator is told to type."""
    return [line.strip() for line in result.stdout.splitlines() if line.startswith("  blindgate trust appraise")]


def test_a_machine_without_anything_says_what_is_missing() -> None:
    """In words, and with exit code 1."""
    result = attest()
    assert result.exit_code == 1
    assert "this machine proves nothing" in result.stderr
    for said in ("no /sys/kernel/config/tsm/report", "no /dev/nsm", "nvidia-gpu"):
        assert said in result.stderr


def test_simulated_evidence_makes_the_round_and_is_refused_at_its_end(tmp_path: Path) -> None:
    """The operator is told what it is; the verifier finds that it is whole and bound, and refuses it for what it is."""
    out = tmp_path / "out folder"
    result = attest("--data", str(tmp_path / "node"), "--out", str(out), "--nonce", NONCE, env=SIMULATED)
    assert result.exit_code == 0, result.output
    assert "This machine is insecure-simulated" in result.stdout
    assert "INSECURE: simulated evidence" in result.stdout
    (command,) = printed_commands(result)
    judged = appraise(command)
    assert judged.exit_code == 1
    part = json.loads(judged.stdout)["submods"]["insecure-simulated"]
    refused = [one["rule"] for one in part["blindgate.reasons"] if one["status"] != "affirming"]
    assert refused == ["simulated"]
    assert [one["code"] for one in part["blindgate.not-proven"]] == ["hardware"]


def test_recorded_evidence_makes_the_round_and_affirms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor's report with its certificates, and a GPU's. A recording answers its own question alone, so that is asked."""
    report = report_of("legacy")
    table = certificate_table(dict(zip(("VCEK", "ASK", "ARK"), certificates(*LEGACY), strict=True)))
    (gpu,) = json.loads(shared("vectors/nvidia/hopper_evidence.json").read_bytes())
    versions = {"driver_version": "590.12", "vbios_version": "96.00.A5.00.01"}
    monkeypatch.setattr(choice, "ConfigfsTsm", lambda: ConfigfsTsm(RecordedTsm("sev_guest", report, table)))
    monkeypatch.setattr(choice, "NvidiaGpus", lambda: NvidiaGpus(RecordedNvml([gpu | versions])))
    monkeypatch.setattr(Challenge, "report_data", lambda _: report[0x50:0x90])
    monkeypatch.setattr(Challenge, "gpu_nonce", lambda _: bytes.fromhex(gpu["nonce"]))
    result = attest("--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"amd-sev-snp.bin", "chain.pem", "nvidia-gpu.json"}
    processor, gpus = printed_commands(result)
    judged = appraise(processor, "--at", "2025-06-01")
    assert judged.exit_code == 0, judged.stdout
    judged = appraise(gpus, "--at", "2025-11-24")
    refused = [
        one["text"]
        for one in json.loads(judged.stdout)["submods"]["nvidia-gpu"]["blindgate.reasons"]
        if one["status"] != "affirming"
    ]
    assert judged.exit_code == 0, refused


def test_a_challenge_is_bound_and_scripts_can_tell_how(tmp_path: Path) -> None:
    """The same nonce, the same report data; without one, another each time."""
    where = ("--data", str(tmp_path / "node"), "--json")
    first, again = (json.loads(attest(*where, "--nonce", NONCE, env=SIMULATED).stdout) for _ in range(2))
    other = json.loads(attest(*where, env=SIMULATED).stdout)
    assert first["nonce"] == NONCE
    assert first["platform"]["report_data"] == Challenge(bytes.fromhex(NONCE)).report_data().hex()
    assert first["platform"]["report_data"] == again["platform"]["report_data"] != other["platform"]["report_data"]
    assert bytes.fromhex(first["platform"]["evidence"]).startswith(b'{"payload":')
    assert (first["gpus"], first["files"]) == (None, [])


def test_evidence_of_two_questions_does_not_come_to_lie_in_one_folder(tmp_path: Path) -> None:
    """A folder that holds something is refused, and left as it is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "chain.pem").write_text("old")
    result = attest("--data", str(tmp_path / "node"), "--out", str(tmp_path / "out"), env=SIMULATED)
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["chain.pem"]


@pytest.mark.parametrize("nonce", ["", "ab", "x" * 64, NONCE + "00"])
def test_a_mistyped_nonce_is_a_mistyped_command(nonce: str) -> None:
    """Exit code 2, and what was expected."""
    result = attest("--nonce", nonce, env=SIMULATED)
    assert result.exit_code == 2
    assert "32 bytes in hexadecimal" in result.stderr
