"""What a witness's operator does from the command line."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from blindgate_protocol.checkpoints import LogTrust, open_checkpoint
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_witness.commands import app
from blindgate_witness.records import Records
from blindgate_witness.signer import load_signer
from blindgate_witness.submissions import RefusedError
from blindgate_witness.witness import Witness
from growing_log import GrowingLog


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def _json(*arguments: str) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a witness, which the commands find by themselves."""
    folder = tmp_path / "witness"
    monkeypatch.setenv("BLINDGATE_WITNESS_DATA", str(folder))
    assert _run("init", "--name", "witness.example/w1").exit_code == 0
    return folder


def test_a_new_witness_is_its_owners_alone(data: Path) -> None:
    """A key that can be told, a secret that nobody else can read, and a second one is not made over it."""
    told = VerifierKey.parse(_run("key").stdout.strip())
    assert (told.name, told.kind) == ("witness.example/w1", KeyKind.COSIGNATURE)
    assert _json("key") == {"key": str(told), "name": told.name, "data": str(data.resolve())}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()} == {0o600}
    again = _run("init")
    assert again.exit_code == 1
    assert "already" in again.stderr
    assert _run("key").stdout.strip() == str(told)


def test_a_name_is_made_up_from_the_machines(tmp_path: Path) -> None:
    """Where none is given."""
    assert _json("init", "--data", str(tmp_path / "new"))["name"] == f"{os.uname().nodename}/witness"


@pytest.mark.parametrize("name", ["two words", "a+b", "a\nb", "x" * 256])
def test_a_name_that_no_verifier_key_can_have_is_refused(tmp_path: Path, name: str) -> None:
    """And nothing is made."""
    refused = _run("init", "--data", str(tmp_path / "new"), "--name", name)
    assert refused.exit_code == 1
    assert "no name for a witness" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_witness_says_how_one_is_made(tmp_path: Path) -> None:
    """Whatever is asked of it."""
    for command in (["key"], ["serve"], ["forks"], ["logs", "list"], ["show", "x"]):
        refused = _run(*command, "--data", str(tmp_path))
        assert refused.exit_code == 1
        assert f"blindgate witness init --data {tmp_path}" in refused.stderr


@pytest.mark.parametrize("spoiled", ["mode", "cut", "renamed", "link"])
def test_a_key_file_that_is_not_as_it_was_written_is_refused(data: Path, spoiled: str) -> None:
    """Readable by others, cut short, with another name than its id is of, or somewhere else."""
    file = data / "witness.key"
    if spoiled == "mode":
        file.chmod(0o640)
    elif spoiled == "cut":
        file.write_text(file.read_text()[:-9])
    elif spoiled == "renamed":
        file.write_text(file.read_text().replace("/w1", "/w2"))
    else:
        file.rename(data / "elsewhere")
        file.symlink_to(data / "elsewhere")
    refused = _run("key")
    assert refused.exit_code == 1
    assert "key file" in refused.stderr


def test_logs_are_added_listed_and_removed(data: Path) -> None:
    """A second key for an origin waits until the first is removed."""
    log, other = GrowingLog(), GrowingLog()
    assert _run("logs", "list").stdout.startswith("none")
    assert _json("logs", "add", str(log.key))["witnessed"] is True
    assert _run("logs", "add", str(log.key)).exit_code == 0
    refused = _run("logs", "add", str(other.key))
    assert (refused.exit_code, "remove it first" in refused.stderr) == (1, True)
    assert _run("logs", "remove", log.origin).exit_code == 0
    assert _run("logs", "remove", log.origin).exit_code == 1
    assert _json("logs", "list")[0]["witnessed"] is False
    assert _json("logs", "add", str(other.key))["key"] == str(other.key)
    assert "0 entries" in _run("logs", "list").stdout
    assert _run("show", "unknown").exit_code == 1
    assert "nothing of this log" in _run("show", log.origin).stderr


@pytest.mark.parametrize(
    "key",
    [
        "",
        "gateway.example/log",
        "gateway.example/log+00000000+AVIwDrHHaZ0sR9nVzj6BS8U/I5RkLN+KHVIbocU/KUbU",
        str(VerifierKey("w", KeyKind.COSIGNATURE, Ed25519PrivateKey.generate().public_key().public_bytes_raw())),
        "short+ec952e1e+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ],
    ids=["nothing", "a name", "another id", "a witness's", "short"],
)
def test_what_is_no_logs_key_is_not_witnessed(data: Path, key: str) -> None:
    """One line, exit code 1."""
    refused = _run("logs", "add", key)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert _json("logs", "list") == []


def test_a_fork_is_shown_with_what_proves_it(data: Path) -> None:
    """Two notes with the log's own signature, one size, two roots: anybody can verify that, without this witness."""
    log = GrowingLog().grow(20)
    _run("logs", "add", str(log.key))
    signer = load_signer(data / "witness.key")
    assert signer is not None
    witness = Witness(signer, Records(data / "witness.sqlite3"), lambda: 1_700_000_000)
    witness.add_checkpoint(log.submission(0))
    assert _run("forks").stdout == "none\n"
    other = GrowingLog(log.origin, log.private).grow(20, word="\x9b2Jother")
    for _ in range(2):
        with pytest.raises(RefusedError):
            witness.add_checkpoint(other.submission(20))
    (kept,) = _json("forks")
    assert (kept["rule"], kept["size"], kept["seconds"]) == ("fork", 20, 1_700_000_000)
    trees = [open_checkpoint(kept[name].encode(), LogTrust(log.key)).checkpoint for name in ("note", "seen")]
    assert [tree.size for tree in trees] == [20, 20]
    assert trees[0].root != trees[1].root
    shown = _run("forks").stdout
    assert "a second tree of 20 entries" in shown
    assert kept["note"] in shown
    assert kept["seen"] in shown
