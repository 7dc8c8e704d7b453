"""What the SDK's commands read and print, without a gateway."""

import io
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from blindgate.commands.predict import read_csv
from blindgate.output import note, show, show_one
from typed import type_command

BLINDGATE = Path(sys.executable).with_name("blindgate")


def test_a_spreadsheets_csv_is_read_the_same_from_a_file_and_from_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte order mark, Windows' line ends, an empty line at the end."""
    data = b"\xef\xbb\xbfage,dose\r\n40,1.5\r\n\r\n"
    (tmp_path / "rows.csv").write_bytes(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_csv(tmp_path / "rows.csv") == read_csv(Path("-")) == {"age": [40.0], "dose": [1.5]}


def test_a_code_is_no_number(tmp_path: Path) -> None:
    """Python reads 1_2 as twelve; whoever wrote the table did not mean twelve."""
    (tmp_path / "rows.csv").write_text("age\n1_2\n")
    assert read_csv(tmp_path / "rows.csv") == {"age": ["1_2"]}


def test_what_others_wrote_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A column's unit in brackets stays, nothing raises, and no escape sequence of a publisher reaches the terminal."""
    hostile = "dose [mg] [/red] :smile: \x1b]0;gone\x07"
    show([{"column": hostile}], as_json=False)
    show_one({"summary": hostile}, as_json=False)
    note(hostile)
    shown = capsys.readouterr()
    for line in (shown.out.splitlines()[1], shown.out.splitlines()[2], shown.err):
        assert "dose [mg] [/red] :smile: �]0;gone�" in line


def test_people_read_four_digits_and_scripts_all(capsys: pytest.CaptureFixture[str]) -> None:
    """A share is no sixteen digits, and what is not known is no `None`."""
    row = {"accuracy": 2 / 3, "upload": 266604.25, "held_out": True, "answers": None}
    show_one(row, as_json=False)
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["0.6667", "266,604", "yes", "-"]
    show_one(row, as_json=True)
    assert json.loads(capsys.readouterr().out) == row


def test_every_command_says_what_it_is_for() -> None:
    """Help lists all that there are, and what each does."""
    done = subprocess.run([BLINDGATE, "--help"], capture_output=True, text=True, check=True)
    listed = done.stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert len(listed) == len(entry_points(group="blindgate.commands"))
    assert all(len(line.split()) > 2 for line in listed)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        pytest.param(
            ("predict", "m", "rows.csv", "-o", "none/out.csv"), "none/out.csv", id="no folder for the answers"
        ),
        pytest.param(
            ("models", "compile", "rows.csv", "rows.csv", "--name", "m", "-o", "none/m.bgmodel"),
            "none/m.bgmodel",
            id="no folder for the package",
        ),
        pytest.param(("keys", "list", "--home", "rows.csv/home"), "rows.csv/home", id="a home that cannot be made"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line_that_names_it(
    command: tuple[str, ...], names: str, tmp_path: Path
) -> None:
    """Before the work, where it would be long."""
    (tmp_path / "rows.csv").write_text("x\n1\n")
    environment = os.environ | {"BLINDGATE_URL": "http://127.0.0.1:9", "BLINDGATE_API_KEY": "key"}
    done = type_command(command, environment, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("blindgate: ")
    assert names in done.stderr
    assert len(done.stderr.splitlines()) == 1
