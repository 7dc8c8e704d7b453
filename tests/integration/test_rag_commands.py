"""`blindgate rag`, as it is typed."""

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

from blindgate_rag import Corpus, Text
from typed import type_command


def rag(*arguments: str | Path, passphrase: str | None = "pass") -> "CompletedProcess[str]":
    """Type a command."""
    given = {} if passphrase is None else {"BLINDGATE_CORPUS_PASSPHRASE": passphrase}
    return type_command(["rag", *map(str, arguments)], dict(os.environ) | given)


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
    with Corpus.open(corpus, "pass") as opened:
        opened.add_texts([Text("a\n2  b", "A number of 17 digits.", {"number": 90_071_992_547_409_931})])
    numbered = ("search", corpus, "digits", *words, "--where")
    assert rag(*numbered, "number=90071992547409931").stdout.startswith("1  a\N{REPLACEMENT CHARACTER}2  b")
    assert "Nothing found" in rag(*numbered, "number=90071992547409932").stderr
    assert rag("remove", corpus, "a\n2  b").returncode == 0
    assert "Nothing found" in rag("search", corpus, "visiting", *words, "--where", "ward=9").stderr
    assert "Nothing found" in rag("search", corpus, "visiting", *words, "--where", "ward=Nan").stderr
    misspelt = rag("search", corpus, "visiting", *words, "--where", "wrd=3B")
    assert "Nothing found: no document's metadata has 'wrd'; there is ward, year" in misspelt.stderr

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


def test_a_passphrase_that_nobody_gave_is_told_of_once(tmp_path: Path) -> None:
    """When it is made, where it lies, and what it is worth; not on standard output, and never the passphrase itself."""
    (tmp_path / "a.txt").write_text("a")
    kept = tmp_path / "n.bgc.passphrase"
    made, again = (rag("add", tmp_path / "n.bgc", tmp_path / "a.txt", "--json", passphrase=None) for _ in range(2))
    assert f"a random one lies in {kept}" in made.stderr
    assert kept.read_text() not in made.stderr
    assert json.loads(made.stdout)["passages"] == 1
    assert (again.returncode, again.stderr) == (0, "")
    assert "passphrase" not in rag("add", tmp_path / "own.bgc", tmp_path / "a.txt").stderr


def test_what_is_mistyped_is_told_by_name(tmp_path: Path) -> None:
    """And nothing is made."""
    (tmp_path / "a.txt").write_text("a")
    wrong = rag("add", tmp_path / "n.bgc", tmp_path / "a.txt", "--metadata", "ward")
    assert "--metadata 'ward': expected NAME=VALUE" in wrong.stderr
    assert "is no corpus: `blindgate rag add` makes one" in rag("search", tmp_path / "n.bgc", "x").stderr
    assert not (tmp_path / "n.bgc").exists()
