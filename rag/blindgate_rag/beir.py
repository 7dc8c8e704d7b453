"""Collections with questions and judgements, in BEIR's layout.

    FOLDER/corpus.jsonl        {"_id": …, "title": …, "text": …} a line; title may be missing
    FOLDER/queries.jsonl       {"_id": …, "text": …} a line
    FOLDER/qrels/test.tsv      query-id, corpus-id and grade, with tabs between; under a header, as BEIR writes it, or without one

Each may be packed by gzip, as BEIR's hosts have them: `corpus.jsonl.gz`. Judgements in TREC's own four columns (query, iteration,
document, grade) are read, too. Grades are whole numbers; one above 0 is relevant. The questions that have judgements are asked;
those without a relevant document among them count 0, as they do in BEIR's figures. Judgements of documents that the corpus does
not have are kept: they cannot be found, and that is part of the result. Both are counted, so that whoever reads the figures can
tell. Of two grades of one document the later one counts.

Every error names the file, the line and the rule.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Never, cast

from blindgate_protocol.errors import InputError
from blindgate_rag.paths import path_of

MAX_LINE_BYTES: Final = 64 << 20

_COLUMNS: Final = 3
_TREC_COLUMNS: Final = 4
_GRADE: Final = re.compile(r"[+-]?[0-9]{1,9}(?:\.0*)?")
_NUMBER: Final = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Collection:
    """What a ranker is evaluated on.

    Attributes:
        name: of its folder.
        documents: by id, the text with its title in front, where it has one, as BEIR's own rankers see it.
        questions: by id; each has judgements.
        judgements: by a question's id, the grades by document, all that were judged.
    """

    name: str
    documents: Mapping[str, str]
    questions: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]

    @property
    def unanswerable(self) -> int:
        """How many questions have no relevant document: every ranker gets 0 for them."""
        return sum(all(grade <= 0 for grade in grades.values()) for grades in self.judgements.values())

    @property
    def not_in_corpus(self) -> int:
        """How many judgements say that a document is relevant that is not there."""
        judged = (one for grades in self.judgements.values() for one in grades.items())
        return sum(grade > 0 and document not in self.documents for document, grade in judged)


def read_collection(folder: Path, *, split: str = "test") -> Collection:
    """Read the collection in `folder`, with the judgements of `qrels/SPLIT.tsv`.

    Raises `InputError` naming file, line and rule; `CorpusError` for a split that no file can be called by.
    """
    path_of(split, "split")
    if not os.path.isdir(folder):  # noqa: PTH112  (too long a name is an error of pathlib's)
        message = f"{folder}: no such folder; expected one with corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
        raise InputError(message)
    documents = {
        one: f"{title} {text}".strip() if (title := _text(entry, "title", where, default="")) else text
        for one, text, entry, where in _entries(folder, "corpus.jsonl")
    }
    questions = {one: text for one, text, _, _ in _entries(folder, "queries.jsonl")}
    judgements = _judgements(folder, f"qrels/{split}.tsv", questions, documents)
    collection = Collection(
        folder.resolve().name, documents, {one: questions[one] for one in questions if one in judgements}, judgements
    )
    relevant = sum(grade > 0 for grades in judgements.values() for grade in grades.values())
    if not documents or not relevant:
        answerable = len(judgements) - collection.unanswerable
        message = f"{folder.name}: {len(documents)} documents and {answerable} questions with a relevant one; expected some of both"
        raise InputError(message)
    if collection.not_in_corpus == relevant:
        message = (
            f"qrels/{split}.tsv: none of the {relevant} relevant documents is in corpus.jsonl: do their ids differ?"
        )
        raise InputError(message)
    return collection


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
    return value.encode("utf-8", "replace").decode()  # JSON can name half a character, which no tokenizer takes


def _judgements(
    folder: Path, name: str, questions: Mapping[str, str], documents: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for place, (number, line) in enumerate(_lines(folder, name)):
        where = f"{name}, line {number}"
        parts = line.split("\t") if "\t" in line else line.split()
        parts[-1] = parts[-1].strip()
        if place == 0 and not _NUMBER.fullmatch(parts[-1]) and _id(parts[0], questions) not in questions:
            continue  # the header; one who knows a question has a judgement, whatever the grade is
        if len(parts) == _TREC_COLUMNS:
            del parts[1]
        if len(parts) != _COLUMNS:
            _refuse(f"{where}: {len(parts)} columns, expected query-id, corpus-id and score, with tabs between")
        question, document, grade = _id(parts[0], questions), _id(parts[1], documents), parts[2]
        if question not in questions:
            _refuse(f"{where}: query-id {question!r} is not in queries.jsonl")
        if not _GRADE.fullmatch(grade):
            _refuse(f"{where}: score: expected a whole number")
        found.setdefault(question, {})[document] = int(grade.partition(".")[0])
    return found


def _id(part: str, known: Container[str]) -> str:
    """An id as it stands where there is one, blanks at its ends included; without them else."""
    return part if part in known else part.strip()


def _opened(path: Path) -> BinaryIO:
    packed = path.with_name(path.name + ".gz")
    if packed.is_file() and not path.exists():
        return cast("BinaryIO", gzip.open(packed))
    if path.is_fifo():
        _refuse(f"{path.name}: is a pipe, which would be waited for; expected a file")
    return path.open("rb")


def _lines(folder: Path, name: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    try:
        with _opened(folder / name) as opened:
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
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        message = f"{name}.gz: is damaged, or was not fetched whole"
        raise InputError(message) from error
    except OSError as error:
        message = f"{name}: cannot be read ({error.strerror}); {_there(folder, name)}"
        raise InputError(message) from error


def _there(folder: Path, name: str) -> str:
    """What stands where a file is looked for: another split, an archive, a folder of several collections."""
    beside = (folder / name).parent
    try:
        names = sorted(one.name for one in beside.iterdir())
    except OSError:
        return f"expected corpus.jsonl, queries.jsonl and qrels/ in {folder}"
    shown = ", ".join(ascii(one)[1:-1] for one in names[:_SHOWN]) or "nothing"
    return f"{beside} has {shown}{', …' if len(names) > _SHOWN else ''}"


def _refuse(message: str) -> Never:
    raise InputError(message)
