"""A log copied onto the auditor's disk: whole, resumable, and brought up to date."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from audited_gateway import API_KEY, Audited, shown
from blindgate_audit.commands import app
from blindgate_protocol.errors import GatewayError
from static_logs import event

EVENTS = 35


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten events a file."""
    monkeypatch.setattr("blindgate_audit.exports.EVENTS_A_FILE", 10)
    monkeypatch.delenv("BLINDGATE_API_KEY", raising=False)


def run(*arguments: object) -> str:
    """Run a command that must go well; gives what it printed."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def made(count: int = EVENTS) -> Audited:
    """A gateway with so many events."""
    return Audited(events=[event(number) for number in range(count)])


def test_an_export_is_verified_without_the_gateway(tmp_path: Path) -> None:
    """With its events, where an API key was given."""
    with shown(made()) as url:
        assert "35 entries and their events" in run("export", url, tmp_path / "with", "--api-key", API_KEY)
        assert "35 entries in" in run("export", url, tmp_path / "without")
    assert "35 are the ones that were logged" in run("verify", tmp_path / "with", "--remember", tmp_path / "memory")
    assert not (tmp_path / "without" / "events").exists()
    run("verify", tmp_path / "without", "--remember", tmp_path / "memory")


def test_an_export_goes_on_and_keeps_what_it_has(tmp_path: Path) -> None:
    """Full files are not fetched again, the last one is."""
    folder = tmp_path / "export"
    with shown(made()) as url:
        run("export", url, folder, "--api-key", API_KEY)
    kept = (folder / "events" / "000001.jsonl").stat().st_ino
    with shown(made(57)) as url:
        run("export", url, folder, "--api-key", API_KEY)
    assert (folder / "events" / "000001.jsonl").stat().st_ino == kept
    assert len(list((folder / "events").iterdir())) == 6
    assert "57 are the ones that were logged" in run("verify", folder, "--remember", tmp_path / "memory")


def test_an_export_that_breaks_off_leaves_no_checkpoint(tmp_path: Path) -> None:
    """A folder with a checkpoint has everything below it."""
    gateway = made()
    with shown(gateway) as url:
        with pytest.raises(GatewayError, match="refused with status 401"):
            run("export", url, tmp_path / "export", "--api-key", "wrong")
        assert not (tmp_path / "export" / "checkpoint").exists()
        run("export", url, tmp_path / "export", "--api-key", API_KEY)
    run("verify", tmp_path / "export", "--remember", tmp_path / "memory")
