"""`blindgate rag`, as it is typed."""

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

from typed import type_command


def rag(*arguments: str | Path, passphrase: str = "pass") -> "CompletedProcess[str]":
    """Type a command."""
    return type_command(["rag", *map(str, arguments)], dict(os.environ) | {"BLINDGATE_CORPUS_PASSPHRASE": passphrase})


def test_documents_are_added_found_listed_and_removed(tmp_path: Path) -> None:
    """What cannot be read is told of, and is the exit status; the rest is there."""
    notes, corpus = tmp_path / "notes", tmp_path / "notes.bgc"
    notes.mkdir()
    (notes / "dose.txt").write_text("Aspirin must not be given with warfarin.")
    (notes / "visit.md").write_text("# Visits\n\nVisiting hours are from two to four.")
    (notes / "scan.pdf").write_bytes(b"no pdf")
    (notes / "photo.jpg").write_bytes(b"")

    added = rag("add", corpus, notes, "--metadata", "ward=3B", "--metadata", "year=2026")
    assert added.returncode == 1
    assert "not added: notes/scan.pdf" in added.stderr
    assert "photo.jpg" in added.stderr
    (notes / "scan.pdf").unlink()
    again = json.loads(rag("add", corpus, notes, "--json").stdout)
    assert (again["unchanged"], again["failed"], again["passages"]) == (2, [], 0)

    words = ("--ranking", "bm25")
    where = ("--where", "ward=3B", "--where", "year=2026")
    found = json.loads(rag("search", corpus, "warfarin", *words, *where, "--json").stdout)
    assert [one["source"] for one in found] == ["notes/dose.txt"]
    assert rag("search", corpus, "visiting hours", *words).stdout.startswith("1  notes/visit.md")
    assert "Nothing found" in rag("search", corpus, "visiting", *words, "--where", "ward=9").stderr

    assert rag("remove", corpus, "notes/dose.txt").returncode == 0
    gone = rag("remove", corpus, "notes/dose.txt")
    assert gone.returncode == 1
    assert "see 'blindgate rag list'" in gone.stderr
    assert [one["source"] for one in json.loads(rag("list", corpus, "--json").stdout)] == ["notes/visit.md"]

    assert rag("passphrase", corpus, "--new", "another").returncode == 0
    wrong = rag("list", corpus)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "the passphrase is not this corpus's" in wrong.stderr
    assert "notes/visit.md" in rag("list", corpus, passphrase="another").stdout


def test_what_is_mistyped_is_told_by_name(tmp_path: Path) -> None:
    """And nothing is made."""
    (tmp_path / "a.txt").write_text("a")
    wrong = rag("add", tmp_path / "n.bgc", tmp_path / "a.txt", "--metadata", "ward")
    assert "--metadata 'ward': expected NAME=VALUE" in wrong.stderr
    assert "is no corpus: `blindgate rag add` makes one" in rag("search", tmp_path / "n.bgc", "x").stderr
    assert not (tmp_path / "n.bgc").exists()
