"""Collections with questions and judgements, in BEIR's layout.

    FOLDER/corpus.jsonl        {"_id": …, "title": …, "text": …} a line; title may be missing
    FOLDER/queries.jsonl       {"_id": …, "text": …} a line
    FOLDER/qrels/test.tsv      a header, then query-id, corpus-id and grade, with tabs between

Grades are whole numbers; one above 0 is relevant. Only the questions that have a relevant document are kept, since the others have
no measure (trec_eval leaves them out, too). Judgements of documents that the corpus does not have are kept: they cannot be found,
and that is part of the result.

Every error names the file, the line and the rule.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Never

from blindgate_protocol.errors import InputError

MAX_LINE_BYTES: Final = 64 << 20

_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True)
class Collection:
    """What a ranker is evaluated on.

    Attributes:
        name: of its folder.
        documents: by id, the text with its title in front, where it has one, as BEIR's own rankers see it.
        questions: by id; each has a relevant document.
        judgements: by a question's id, the grades by document, all that were judged.
    """

    name: str
    documents: Mapping[str, str]
    questions: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]


def read_collection(folder: Path, *, split: str = "test") -> Collection:
    """Read the collection in `folder`, with the judgements of `qrels/SPLIT.tsv`.

    Raises `InputError` naming file, line and rule.
    """
    if not folder.is_dir():
        message = f"{folder}: no such folder; expected one with corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
        raise InputError(message)
    documents = {
        one: f"{title} {text}".strip() if (title := _text(entry, "title", where, default="")) else text
        for one, text, entry, where in _entries(folder, "corpus.jsonl")
    }
    questions = {one: text for one, text, _, _ in _entries(folder, "queries.jsonl")}
    judgements = _judgements(folder, f"qrels/{split}.tsv", questions)
    asked = [one for one in questions if any(grade > 0 for grade in judgements.get(one, {}).values())]
    if not documents or not asked:
        message = f"{folder.name}: {len(documents)} documents and {len(asked)} questions with a relevant one; expected some of both"
        raise InputError(message)
    return Collection(
        folder.resolve().name,
        documents,
        {one: questions[one] for one in asked},
        {one: judgements[one] for one in asked},
    )


def _entries(folder: Path, name: str) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """Id, text, the whole entry and where it stands, of each line of a file of JSON lines."""
    seen: set[str] = set()
    for number, line in _lines(folder, name):
        where = f"{name}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            _refuse(f"{where}: not JSON")
        if not isinstance(entry, dict):
            _refuse(f"{where}: expected an object with _id and text")
        one = entry.get("_id")
        if isinstance(one, int) and not isinstance(one, bool):
            one = str(one)
        if not isinstance(one, str) or not one:
            _refuse(f"{where}: _id: got {type(one).__name__}, expected a text that is not empty")
        if one in seen:
            _refuse(f"{where}: _id: {one!r} was there before")
        seen.add(one)
        yield one, _text(entry, "text", where), entry, where


def _text(entry: dict[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    value = entry.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        _refuse(f"{where}: {key}: got {type(value).__name__}, expected a text")
    return value


def _judgements(folder: Path, name: str, questions: Mapping[str, str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for number, line in _lines(folder, name):
        if number == 1:  # the header; a file without one would lose a judgement here
            if line.rpartition("\t")[2].strip().lstrip("-").isdigit():
                _refuse(f"{name}, line 1: expected a header: query-id, corpus-id and score, with tabs between")
            continue
        where = f"{name}, line {number}"
        parts = [part.strip() for part in line.rstrip("\r\n").split("\t")]
        if len(parts) != _COLUMNS:
            _refuse(f"{where}: {len(parts)} columns, expected query-id, corpus-id and score, with tabs between")
        question, document, grade = parts
        if question not in questions:
            _refuse(f"{where}: query-id {question!r} is not in queries.jsonl")
        try:
            found.setdefault(question, {})[document] = int(grade)
        except ValueError:
            _refuse(f"{where}: score: expected a whole number")
    return found


def _lines(folder: Path, name: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    try:
        with (folder / name).open("rb") as opened:
            number = 0
            while line := opened.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    _refuse(f"{name}, line {number}: expected at most {MAX_LINE_BYTES} bytes")
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    _refuse(f"{name}, line {number}: expected UTF-8")
                if text.strip():
                    yield number, text
    except OSError as error:
        message = f"{name}: cannot be read ({error.strerror}); expected corpus.jsonl, queries.jsonl and qrels/test.tsv in {folder}"
        raise InputError(message) from error


def _refuse(message: str) -> Never:
    raise InputError(message)
