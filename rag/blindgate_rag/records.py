"""What a corpus knows of its documents: a table of documents, and one of their passages, in SQLite and in memory.

They rest as the bytes of that database, sealed (`vault`). Ids are given once and never again, so that a passage that is gone is
never mistaken for another. What is deleted is overwritten, and the database is packed before it rests: no byte of a deleted text is
in what is written then.
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from typing import Final

from blindgate_protocol.errors import CorpusError, InputError
from blindgate_rag.passages import Document, Passage, is_text

MetadataValue = str | int | float | bool
"""What a document's metadata may hold under a name."""

Metadata = Mapping[str, MetadataValue]

Where = Mapping[str, MetadataValue | Sequence[MetadataValue]]
"""Which documents: each name has this value, or one of these."""

FORMAT: Final = 1
_LARGEST_ID: Final = (1 << 63) - 1  # of SQLite's
_MOST_METADATA_BYTES: Final = 16 << 10
_TABLES: Final = """
create table settings (name text primary key, value text not null) strict;
create table documents (
    id integer primary key autoincrement,
    origin text not null unique,
    source text not null unique,
    digest text not null,
    media text not null,
    metadata text not null,
    added integer not null
) strict;
create table passages (
    id integer primary key autoincrement,
    document integer not null references documents (id),
    position integer not null,
    page integer,
    tokens integer not null,
    text text not null
) strict;
create index passages_by_document on passages (document, position);
"""


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document that is there.

    Attributes:
        origin: by what it is known again: the path of its file, whole, or the name that its caller gave.
        source: what people see.
        digest: of its file's bytes.
        media: its format's name.
        added: milliseconds since 1970.
    """

    id: int
    origin: str
    source: str
    digest: str
    media: str
    metadata: dict[str, MetadataValue]
    added: int


@dataclass(frozen=True, slots=True)
class PassageRecord:
    """A passage that is there.

    Attributes:
        id: its own, for good.
        document: its document's id.
        tokens: how long it is, in the embedding model's.
    """

    id: int
    document: int
    position: int
    page: int | None
    tokens: int
    text: str


class Records:
    """The two tables. Not for several threads at once."""

    def __init__(self, data: bytes | None = None) -> None:
        """Empty, or what `to_bytes` gave. Raises `CorpusError` for what another release wrote."""
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._removed: set[int] = set()
        if data is None:
            self._database.executescript(_TABLES)
            self.set("format", str(FORMAT))
        else:
            self._database.deserialize(data)
        try:
            self._database.execute("pragma secure_delete = on")
            self._database.execute("pragma foreign_keys = on")
            found = self.setting("format")
        except sqlite3.DatabaseError as error:
            message = f"the corpus's records cannot be read: {error}"
            raise CorpusError(message) from error
        if found != str(FORMAT):
            message = f"the corpus was written in format {found}, and this release reads {FORMAT}"
            raise CorpusError(message)

    def to_bytes(self) -> bytes:
        """The database, packed."""
        self._database.execute("vacuum")
        return self._database.serialize()

    def setting(self, name: str) -> str | None:
        """What was set under a name."""
        row = self._database.execute("select value from settings where name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        """Set something under a name."""
        self._database.execute("insert or replace into settings values (?, ?)", (name, value))

    def add(
        self,
        document: Document,
        passages: Sequence[Passage],
        *,
        tokens: Sequence[int],
        origin: str,
        metadata: Metadata,
    ) -> list[int]:
        """Put a document in, in place of the one of the same origin, and give its passages' ids, in order.

        `tokens` says how long each passage is, in the embedding model's tokens.
        """
        with self._transaction():
            self.remove(origin)
            # another folder may have one of that name, and a text be called as this file's path
            wanted = chain((document.source, origin), (f"{origin} ({number})" for number in count(2)))
            source = next(name for name in wanted if self.called(name) is None)
            row = (origin, source, document.digest, document.media, _written(metadata), int(time.time() * 1000))
            cursor = self._database.execute(
                "insert into documents (origin, source, digest, media, metadata, added) values (?, ?, ?, ?, ?, ?)", row
            )
            made = cursor.lastrowid
            add = "insert into passages (document, position, page, tokens, text) values (?, ?, ?, ?, ?) returning id"
            rows = (
                (made, passage.position, passage.page, length, passage.text)
                for passage, length in zip(passages, tokens, strict=True)
            )
            return [int(self._database.execute(add, each).fetchone()[0]) for each in rows]

    def describe(self, origin: str, metadata: Metadata) -> None:
        """Give a document other metadata."""
        self._database.execute("update documents set metadata = ? where origin = ?", (_written(metadata), origin))

    def remove(self, origin: str) -> list[int]:
        """Take a document out, and give the ids that its passages had; none where it is not there."""
        found = self._database.execute("select id from documents where origin = ?", (origin,)).fetchone()
        if found is None:
            return []
        gone = self._database.execute("delete from passages where document = ? returning id", found).fetchall()
        self._database.execute("delete from documents where id = ?", found)
        self._removed.update(int(row[0]) for row in gone)
        return [int(row[0]) for row in gone]

    def take_removed(self) -> tuple[int, ...]:
        """The ids of passages that were removed since this was asked last: another passage may have been restored under one."""
        removed, self._removed = tuple(self._removed), set()
        return removed

    def restore(self, document: DocumentRecord, passages: Iterable[PassageRecord]) -> None:
        """Put a document in under the ids that it has elsewhere. Raises `CorpusError` where an id, origin or source is taken."""
        metadata = _written(document.metadata)
        row = (document.id, document.origin, document.source, document.digest, document.media, metadata, document.added)
        try:
            with self._transaction():
                self._database.execute("insert into documents values (?, ?, ?, ?, ?, ?, ?)", row)
                self._database.executemany(
                    "insert into passages values (?, ?, ?, ?, ?, ?)",
                    ((one.id, one.document, one.position, one.page, one.tokens, one.text) for one in passages),
                )
        except (sqlite3.IntegrityError, OverflowError) as error:
            message = f"{document.source}: cannot stand beside the other documents: {error}"
            raise CorpusError(message) from error

    def contents(self) -> Iterator[tuple[DocumentRecord, list[PassageRecord]]]:
        """Every document with its passages, in order."""
        ask = "select id, document, position, page, tokens, text from passages where document = ? order by position"
        for document in self.documents():
            rows = self._database.execute(ask, (document.id,)).fetchall()
            yield document, [PassageRecord(*row) for row in rows]

    def last_ids(self) -> tuple[int, int]:
        """The last ids that were given, of documents and of passages: also of those that are gone."""
        given = dict(self._database.execute("select name, seq from sqlite_sequence").fetchall())
        return int(given.get("documents", 0)), int(given.get("passages", 0))

    def skip_ids(self, documents: int, passages: int) -> None:
        """Give no id up to these any more: they were given elsewhere."""
        wanted = {"documents": documents, "passages": passages}
        with self._transaction():
            for (name, least), last in zip(wanted.items(), self.last_ids(), strict=True):
                self._database.execute("delete from sqlite_sequence where name = ?", (name,))
                self._database.execute("insert into sqlite_sequence values (?, ?)", (name, max(least, last)))

    def document(self, origin: str) -> DocumentRecord | None:
        """The document of this origin."""
        return next(self._documents("where origin = ?", (origin,)), None)

    def called(self, source: str) -> DocumentRecord | None:
        """The document that is called so."""
        return next(self._documents("where source = ?", (source,)), None)

    def documents_of(self, ids: Iterable[int]) -> dict[int, DocumentRecord]:
        """The documents of these ids, by id; those that are not there are left out."""
        return {one.id: one for each in set(ids) for one in self._documents("where id = ?", (each,))}

    def documents(self, where: Where | None = None) -> list[DocumentRecord]:
        """The documents, or those whose metadata is so, in the order in which they came. Raises `InputError` for no `where`."""
        every = self._documents("order by id")
        if where is None:
            return list(every)
        check_where(where)
        return [one for one in every if is_so(one.metadata, where)]

    def passages(self, ids: Iterable[int]) -> dict[int, PassageRecord]:
        """The passages of these ids, by id; those that are not there are left out."""
        found: dict[int, PassageRecord] = {}
        with closing(self._database.cursor()) as cursor:
            for one in ids:
                if not 0 < int(one) <= _LARGEST_ID:
                    continue
                row = cursor.execute(
                    "select id, document, position, page, tokens, text from passages where id = ?", (int(one),)
                ).fetchone()
                if row is not None:
                    found[row[0]] = PassageRecord(*row)
        return found

    def texts(self) -> tuple[list[int], list[str]]:
        """All passages' ids and texts, in order of their ids."""
        rows = self._database.execute("select id, text from passages order by id").fetchall()
        return [int(row[0]) for row in rows], [str(row[1]) for row in rows]

    def passages_of(self, documents: Iterable[int]) -> list[int]:
        """The ids of these documents' passages."""
        ask = "select id from passages where document = ? order by position"
        return [int(row[0]) for one in documents for row in self._database.execute(ask, (one,))]

    def passages_where(self, where: Where) -> list[int]:
        """The ids of the passages whose document's metadata is so. Raises `InputError` for no `where`."""
        check_where(where)
        so = cache(lambda metadata: is_so(json.loads(metadata), where))  # thousands of documents say the same
        ask = "select passages.id, metadata from passages join documents on documents.id = document"
        return [int(one) for one, metadata in self._database.execute(ask) if so(metadata)]

    def count(self) -> tuple[int, int]:
        """How many documents and passages there are."""
        row = self._database.execute(
            "select (select count(*) from documents), (select count(*) from passages)"
        ).fetchone()
        return int(row[0]), int(row[1])

    def close(self) -> None:
        """Give the memory back."""
        self._database.close()

    def _documents(self, condition: str, values: tuple[str | int, ...] = ()) -> Iterator[DocumentRecord]:
        if not all(is_text(one) for one in values if isinstance(one, str)):
            return  # nothing is called so
        columns = "id, origin, source, digest, media, metadata, added"
        for row in self._database.execute(f"select {columns} from documents {condition}", values):  # noqa: S608  (ours)
            number, origin, source, digest, media, metadata, added = row
            yield DocumentRecord(number, origin, source, digest, media, json.loads(metadata), added)

    def _transaction(self) -> sqlite3.Connection:
        self._database.execute("begin")
        return self._database


def check_where(where: Where) -> None:
    """Refuse what no document's metadata could be. Raises `InputError` naming it."""
    if not isinstance(where, Mapping):
        message = (
            f"where is a {type(where).__name__}: expected names of metadata, each with its value or a list of choices, such as "
            '{"ward": "3B"}'
        )
        raise InputError(message)
    for name, wanted in where.items():
        for value in choices(wanted):
            _check_metadata(name, value, what="where")


def is_so(metadata: Metadata, where: Where) -> bool:
    """Whether a document's metadata is so; of numbers the value counts, and true and false are none."""
    for name, wanted in where.items():
        if name not in metadata:
            return False
        found = metadata[name]
        if not any(found == one and isinstance(found, bool) == isinstance(one, bool) for one in choices(wanted)):
            return False
    return True


def check_metadata(metadata: Metadata) -> None:
    """Refuse what no document may have: it is looked at before hours of work. Raises `InputError` naming it."""
    _written(metadata)


def alike(one: Metadata, other: Metadata) -> bool:
    """Whether two say the same; true is not 1 here, as it is not in `where`."""
    return one == other and all(isinstance(one[name], bool) == isinstance(other[name], bool) for name in one)


def _written(metadata: Metadata) -> str:
    if not isinstance(metadata, Mapping):
        message = (
            f'metadata is a {type(metadata).__name__}: expected names, each with its value, such as {{"ward": "3B"}}'
        )
        raise InputError(message)
    for name, value in metadata.items():
        _check_metadata(name, value)
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except ValueError as error:
        message = f"metadata: {error}"
        raise InputError(message) from error
    if len(text) > _MOST_METADATA_BYTES:
        message = f"metadata of {len(text)} bytes: at most {_MOST_METADATA_BYTES}"
        raise InputError(message)
    return text


def choices(wanted: MetadataValue | Sequence[MetadataValue]) -> tuple[MetadataValue, ...]:
    """The values that will do, of what stands under a name of `where`."""
    return tuple(wanted) if isinstance(wanted, list | tuple | set | frozenset) else (wanted,)  # type: ignore[return-value]


def _check_metadata(name: object, value: object, *, what: str = "metadata") -> None:
    if not isinstance(name, str) or not name:
        message = f"a name of metadata is a text that is not empty, got {name!r}"
        raise InputError(message)
    if not isinstance(value, str | int | float | bool):
        message = f"{what} {name!r} is a {type(value).__name__}: it may be a text, a number, or true or false"
        raise InputError(message)
    if not is_text(name) or (isinstance(value, str) and not is_text(value)):
        message = f"{what} {name!a} is {value!a:.200}, which is no text: it is not UTF-8"
        raise InputError(message)
    if isinstance(value, float) and not math.isfinite(value):
        message = f"{what} {name!r} is {value}: expected a finite number"
        raise InputError(message)
