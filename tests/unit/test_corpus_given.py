"""What opens a corpus at the gateway and is none of it: refused by name, before anybody is asked or a search is spent."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import blindgate_cli
from blindgate.client import Client
from blindgate.decisions import beside
from blindgate.remote_corpora import open_remote
from blindgate.synced_corpora import SyncedCorpora
from blindgate_protocol.errors import InputError, MalformedError

NOBODY: Any = None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"profile": ["attested"]}, r"profile \['attested'\]: expected one of sealed-sync"),
        ({"name": None}, "not a corpus's name: None"),
        ({"name": "x" * 10_000}, "^not a corpus's name: .{100}; it has"),
        ({"embedder": "minilm"}, "embedder is 'minilm': expected an Embedder"),
        ({"model": ["m"]}, r"model is \['m'\]: expected a model's name"),
        ({"data_class": 7}, "data_class is 7: expected a text"),
        ({"create": "no"}, "create is 'no': expected True or False"),
        ({"offline": "no"}, "offline is 'no': expected True or False"),
        ({"at_least": math.nan}, "at_least is nan: expected a generation"),
        ({"at_least": -1}, "at_least is -1"),
        ({"at_least": "3"}, "at_least is '3'"),
        ({"timeout": math.nan}, "timeout is nan: expected seconds above 0"),
        ({"timeout": "10"}, "timeout is '10'"),
        ({"timeout": -1}, "timeout is -1"),
    ],
)
def test_what_opens_no_corpus_is_refused_by_name(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    """Of a generation that is no number nothing was held to it; a wait that is over cost a search of the budget."""
    asked: dict[str, Any] = {"name": "notes", "profile": None} | given
    name, profile = asked.pop("name"), asked.pop("profile")
    own = SyncedCorpora(NOBODY, tmp_path)
    with pytest.raises(InputError, match=says):
        open_remote(name, profile, asked, own=own, take=NOBODY, sealing=NOBODY, show_progress=False)


def test_what_is_no_name_is_asked_of_nobody(tmp_path: Path) -> None:
    """Nor is what is no class of data taken for one."""
    own = SyncedCorpora(NOBODY, tmp_path)
    asks: tuple[Callable[[Any], Any], ...] = (own.is_hosted, own.is_there, own.delete, own.forget, own.generation)
    for ask in asks:
        for name in ("\0", "a\ud800", 7, ["notes"]):
            with pytest.raises(InputError, match="not a corpus's name"):
                ask(name)
    with Client("http://127.0.0.1:1", "key", home=tmp_path) as client, pytest.raises(MalformedError, match="name: 7"):
        client.manifest(7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="data_class: got a list, expected a text"):
        beside(None, ["phi"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("search", "\x1b[31mred", "tea"), r"\x1b[31mred is no corpus"),
        (("search", "Gateway:notes", "tea"), "Gateway:notes: expected gateway:NAME"),
        (("search", "/", "tea"), "/ is no corpus"),
        (("evaluate", ".", "--split", "\0"), "split is '\\x00', which no file can be called"),
    ],
)
def test_which_corpus_is_meant_is_told_without_steering_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    """One line, with the name as it was typed, whatever is in it."""
    monkeypatch.setattr(sys, "argv", ["blindgate", "rag", *words])
    with pytest.raises(SystemExit) as ended:
        blindgate_cli.main()
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n"), "\x1b" in told) == (1, 1, False)
    assert says in told


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("add", "notes.bgc", ""), "PATH"),
        (("list", "gateway:notes", "--home", ""), "--home"),
        (("list", "gateway:notes", "--policy", ""), "--policy"),
        (("search", "notes.bgc", "tea", "--embedder", ""), "--embedder"),
        (("evaluate", ""), "FOLDER"),
        (("evaluate", ".", "--plot", ""), "--plot"),
        (("host", "", "out", "--name", "pubmed"), "CORPUS"),
        (("host", "notes.bgc", "", "--name", "pubmed"), "OUT"),
    ],
)
def test_a_path_that_is_empty_is_not_the_folder_that_this_runs_in(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    option: str,
) -> None:
    """As of a variable that is not set: all that lies there was added, and keys came to rest there."""
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # the message on one line
    monkeypatch.setenv("BLINDGATE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("BLINDGATE_API_KEY", "key")
    monkeypatch.setattr(sys, "argv", ["blindgate", "rag", *words])
    with pytest.raises(SystemExit) as ended:
        blindgate_cli.main()
    told = capsys.readouterr().err
    assert ended.value.code != 0
    assert option in told
    assert "the path is empty" in told
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("models", "package", "model", "--name", "m", "--kind", "sentence-transformers", "-o", ""),
            "'--output': the path",
        ),
        (("policy", "show", "--policy", ""), "the path is empty"),
        (("rag", "host", "notes.bgc", "a.txt", "--name", "pubmed"), "OUT: a.txt: is a file, expected a folder"),
        (("rag", "host", "notes.bgc", "out", "--name", "pubmed", "--days", f"{10**30}"), "'--days': "),
        (("rag", "evaluate", ".", "--plot", "model"), "model: is a folder, expected a file"),
    ],
)
def test_what_cannot_be_written_or_signed_is_refused_by_the_name_of_its_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    says: str,
) -> None:
    """Before a passphrase is asked for, a corpus opened or minutes are spent; and nothing is made."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["blindgate", *words])
    with pytest.raises(SystemExit) as ended:
        blindgate_cli.main()
    assert ended.value.code != 0
    assert says in capsys.readouterr().err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.txt", "model"]
