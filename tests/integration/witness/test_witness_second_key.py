"""A witness with a second key: it signs by both algorithms, and whoever fears a forger of Ed25519 names the second."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from blindgate_gateway.log.witnesses import Witness
from blindgate_gateway.settings import Settings
from blindgate_protocol.checkpoints import LogTrust, open_checkpoint
from blindgate_protocol.errors import LogError
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_witness.commands import app
from desk import open_desk
from growing_log import GrowingLog
from witness_process import running_witness


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a witness with two keys."""
    monkeypatch.setenv("BLINDGATE_WITNESS_DATA", str(tmp_path / "witness"))
    assert CliRunner().invoke(app, ["init", "--name", "witness.example/w1"]).exit_code == 0
    made = CliRunner().invoke(app, ["second-key"])
    assert (made.exit_code, "Start `blindgate witness serve` again" in made.stderr) == (0, True), made.output
    return tmp_path / "witness"


def shown(command: str) -> VerifierKey:
    """The key that a command prints."""
    return VerifierKey.parse(CliRunner().invoke(app, [command]).stdout.strip())


def test_the_second_key_is_made_once_under_the_same_name(data: Path) -> None:
    """Shown ever after; its secret is nobody else's to read, and the first is as it was."""
    first, second = shown("key"), shown("second-key")
    assert (first.kind, second.kind, second.name) == (KeyKind.COSIGNATURE, KeyKind.ML_DSA_44, first.name)
    assert shown("second-key") == second
    assert stat.S_IMODE((data / "witness.key.ml-dsa-44").stat().st_mode) == 0o600


def test_it_cosigns_by_both_at_one_time(data: Path) -> None:
    """Each line verifies by itself, for whoever names that key alone."""
    first, second = shown("key"), shown("second-key")
    log = GrowingLog().grow(20)
    with running_witness(data, log.key) as witness:
        status, _, lines = witness.send(log.submission(0))
    assert status == 200
    note = str(log.note()).encode() + lines
    times = {open_checkpoint(note, LogTrust(log.key, {"w": key}, 1)).cosigned["w"] for key in (first, second)}
    assert len(times) == 1
    for one in lines.splitlines(keepends=True):
        alone = str(log.note()).encode() + one
        kept = [key for key in (first, second) if open_checkpoint(alone, LogTrust(log.key, {"w": key})).cosigned]
        assert len(kept) == 1
    altered = log.grow(21).note()
    with pytest.raises(LogError, match="does not verify"):
        open_checkpoint(str(altered).encode() + lines, LogTrust(log.key, {"w": second}, 1))


def test_without_a_second_key_it_signs_as_ever(tmp_path: Path) -> None:
    """One line, and nothing is made unasked."""
    log = GrowingLog().grow(5)
    with running_witness(tmp_path / "plain", log.key) as witness:
        _, _, lines = witness.send(log.submission(0))
    assert lines.count(b"\n") == 1
    assert not (tmp_path / "plain" / "witness.key.ml-dsa-44").exists()


@pytest.mark.parametrize("spoiled", ["mode", "cut", "another witness's", "the first"])
def test_a_second_key_that_is_not_as_it_was_written_is_refused(data: Path, tmp_path: Path, spoiled: str) -> None:
    """The witness does not go on with one key where it has given out two."""
    file = data / "witness.key.ml-dsa-44"
    match spoiled:
        case "mode":
            file.chmod(0o640)
        case "cut":
            file.write_text(file.read_text()[:-9])
        case "the first":
            file.write_text((data / "witness.key").read_text())
        case _:
            other = tmp_path / "other"
            for command in (["init", "--name", "witness.example/w2"], ["second-key"]):
                assert CliRunner().invoke(app, [*command, "--data", str(other)]).exit_code == 0
            (other / file.name).replace(file)
    for asked in ("key", "second-key", "serve"):
        refused = CliRunner().invoke(app, [asked])
        assert (refused.exit_code, str(file) in refused.stderr) == (1, True), refused.output


def test_a_gateway_that_names_both_keys_passes_both_lines_on_and_counts_one_witness(data: Path, tmp_path: Path) -> None:
    """A client takes its proof under the key that it names; one that wants two witnesses is not told that these are two."""
    first, second = shown("key"), shown("second-key")
    with running_witness(data) as running, open_desk(tmp_path, witnesses={running.url: f"{first} {second}"}) as desk:
        keeper = desk.parts.log
        keeper.sequencer.advance()
        log = keeper.sequencer.head().key
        running.run("logs", "add", str(log))
        ((url, keys),) = desk.parts.settings.witness_keys.items()
        for _ in range(2):  # the second time, there is nothing to ask
            keeper.show_to(Witness(url, *keys))
        proof = keeper.prove(1, cosigned_by=1)
        assert proof is not None
        for key in (first, second):
            opened = open_checkpoint(proof.checkpoint, LogTrust(log, {"w": key}, 1))
            assert opened.checkpoint.size == keeper.sequencer.head().size
        assert keeper.prove(1, cosigned_by=2) is None
        assert desk.http.get("/v1/log").json()["witnesses"] == [str(first), str(second)]


def test_a_witness_that_answers_with_one_of_two_keys_is_not_taken_for_both(tmp_path: Path) -> None:
    """The gateway says which is missing, and keeps nothing of it."""
    log = GrowingLog().grow(3)
    with running_witness(tmp_path / "plain", log.key) as running:
        other = LogKey.generate(running.key.name, KeyKind.ML_DSA_44).verifier
        with pytest.raises(LogError, match="without a cosignature under its key of kind ML_DSA_44"):
            Witness(running.url, running.key, other).ask(log.note(), log.prove, seconds=10)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(lambda w, _: f"{w} {w}", id="one twice"),
        pytest.param(lambda w, s: f"{w} {LogKey.generate('other', KeyKind.ML_DSA_44).verifier} {s}", id="of two names"),
        pytest.param(lambda *_: "", id="none"),
        pytest.param(lambda *_: str(GrowingLog().key), id="a log's"),
    ],
)
def test_a_setting_that_names_no_witness_is_refused(data: Path, tmp_path: Path, keys: Callable[..., str]) -> None:
    """When the gateway starts, not when the first checkpoint is due."""
    given = {"http://witness": keys(shown("key"), shown("second-key"))}
    with pytest.raises(ValidationError, match="keys that cosign"):
        Settings(data=tmp_path / "data", witnesses=given)
