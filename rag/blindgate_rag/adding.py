"""Adding documents: from files to passages, vectors, and a corpus that has them.

Files are read and cut one after the other, and embedded together, since a model is quicker with many. What is embedded is in the
corpus; it is written every half minute and at the end, so that hours of work do not end with one mistake. A large corpus, which is
written as a whole, is written less often: that takes a twentieth of the time at most.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import DocumentError, InputError
from blindgate_rag.chunking import Chunker
from blindgate_rag.cleaning import cleaned
from blindgate_rag.embedding import Embedder
from blindgate_rag.folders import files_under
from blindgate_rag.loading import Loader
from blindgate_rag.parsing import FORMATS
from blindgate_rag.passages import Document, Page, Passage, is_text
from blindgate_rag.progress import Advance
from blindgate_rag.records import DocumentRecord, Metadata, alike, check_metadata
from blindgate_rag.state import State

_WRITE_SECONDS: Final = 30.0
_TIMES_A_WRITE: Final = 20
_PASSAGES_AT_ONCE: Final = 512
_TEXT: Final = "text:"
"""What the origin of a text that is in no file begins with."""


@dataclass(frozen=True)
class Text:
    """A text that is in no file.

    Attributes:
        name: by what it is known again, and what hits show as their source.
        text: read as a file's is, without control characters, soft hyphens and ligatures (`cleaning`).
    """

    name: str
    text: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Added:
    """What came of adding.

    Attributes:
        added: sources of documents that are new.
        changed: of those that were there, and are written or described otherwise now.
        unchanged: how many were there as they are.
        removed: of those whose files are gone, where that was asked for.
        failed: why others could not be read, each by its source.
        incomplete: the pages that could not be read, of documents that were added without them, by source.
        skipped: hidden files and folders, links that lead elsewhere, and files of no format that is read here.
        passages: how many were embedded.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: int = 0
    removed: tuple[str, ...] = ()
    failed: tuple[DocumentError, ...] = ()
    incomplete: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    passages: int = 0


@dataclass(frozen=True)
class _Read:
    """A document that was read, and waits to be embedded."""

    origin: str
    document: Document
    passages: list[Passage]
    metadata: Metadata
    new: bool


@dataclass
class _Told:
    """What `Added` will say."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    failed: list[DocumentError] = field(default_factory=list)
    incomplete: dict[str, tuple[int, ...]] = field(default_factory=dict)
    passages: int = 0


class Adding:
    """One time that documents are added."""

    def __init__(
        self, state: State, embedder: Callable[[], Embedder], write: Callable[[], None], advance: Advance
    ) -> None:
        """Add to `state`; `embedder` opens what embeds, `write` writes the state, and `advance` tells how far it is."""
        self._state, self._open_embedder, self._write, self._advance = state, embedder, write, advance
        self._waiting: list[_Read] = []
        self._told = _Told()
        self._written, self._pause = time.monotonic(), _WRITE_SECONDS

    def files(self, root: Path, metadata: Metadata | None, *, prune: bool, encoding: str | None = None) -> Added:
        """Add a file, or those under a folder."""
        if metadata is not None:
            check_metadata(metadata)
        skipped: list[Path] = []
        unread: dict[Path, tuple[str, str]] = {}
        found = [(path, _called(root, source)) for path, source in files_under(root, skipped=skipped, unread=unread)]
        self._told.failed += [DocumentError(why, source=_called(root, source)) for source, why in unread.values()]
        if root.is_file() and not found:
            message = f"is of no format that is read here: {', '.join(FORMATS)}"
            raise DocumentError(message, source=str(root))
        kept = {_origin(path) for path, _ in found}
        with Loader(encoding=encoding) as loader:
            for done, (path, source) in enumerate(found):
                self._advance(source, done, len(found))
                try:
                    self._file(loader, path, source, metadata, root=root.resolve(), kept=kept)
                except DocumentError as error:
                    self._told.failed.append(error)
        self._embed()
        removed = self._prune(root, kept, list(unread)) if prune else ()
        return self._added(removed=removed, skipped=tuple(map(str, skipped)))

    def texts(self, texts: Iterable[Text]) -> Added:
        """Add texts that are in no file. Raises `InputError` for what is none, and where a file's document is called so."""
        if not isinstance(texts, Iterable):
            message = f"texts is a {type(texts).__name__}: expected some Texts, each with a name and a text"
            raise InputError(message)
        for text in texts:
            _check_text(text)
            called = self._state.records.called(text.name)
            if called is not None and called.origin != f"{_TEXT}{text.name}":
                message = f"{text.name} is what a file's document is called: name the text otherwise"
                raise InputError(message)
            data = text.text.encode("utf-8", "replace")  # JSON can name half a character, which no tokenizer takes
            document = Document(text.name, digest(data), "txt", (Page(cleaned(data.decode())),))
            self._take(f"{_TEXT}{text.name}", document, text.metadata)
        self._embed()
        return self._added()

    @cached_property
    def _embedder(self) -> Embedder:
        """Where nothing changed, nobody waits for it."""
        return self._state.require(self._open_embedder())

    @cached_property
    def _chunker(self) -> Chunker:
        return Chunker(self._embedder.tokens, self._embedder.limit)

    def _file(  # noqa: PLR0913  (what a file is)
        self, loader: Loader, path: Path, source: str, metadata: Metadata | None, *, root: Path, kept: set[str]
    ) -> None:
        """Add a file. What its document is known by comes into `kept`, also where it cannot be read: the file is there."""
        known = self._state.same(_origin(path), source, root=root)
        origin = _origin(path) if known is None else known.origin
        kept.add(origin)
        said: Metadata = known.metadata if metadata is None and known is not None else metadata or {}
        try:
            if known is not None and known.digest == loader.digest_of(path, source):
                self._unchanged(known, said)
            else:
                self._take(origin, loader.load(path, source), said)
        except DocumentError as error:
            if known is None:
                raise
            why = str(error).removeprefix(f"{error.source}: ")
            message = f"{why}. The corpus keeps what it has of it, from before; `remove` takes that out"
            raise DocumentError(message, source=error.source) from None

    def _take(self, origin: str, document: Document, metadata: Metadata) -> None:
        if any(one.origin == origin for one in self._waiting):
            self._embed()  # of two of one name the later one counts, also where it is what was there before
        known = self._state.records.document(origin)
        if known is not None and known.digest == document.digest:
            self._unchanged(known, metadata)
            return
        passages = self._chunker.passages(document)
        if not passages:
            message = "there is no text in it"
            raise DocumentError(message, source=document.source)
        self._waiting.append(_Read(origin, document, passages, metadata, known is None))
        if sum(len(one.passages) for one in self._waiting) >= _PASSAGES_AT_ONCE:
            self._embed()

    def _unchanged(self, known: DocumentRecord, metadata: Metadata) -> None:
        if alike(known.metadata, metadata):
            self._told.unchanged += 1
            return
        self._state.describe(known.origin, metadata)
        self._told.changed.append(known.source)

    def _embed(self) -> None:
        """Embed what waits, and put it into the corpus."""
        texts = [passage.text for one in self._waiting for passage in one.passages]
        if texts:
            vectors = self._embedder.embed(texts, progress=lambda done, total: self._advance("embedding", done, total))
        begin = 0
        for one in self._waiting:
            end = begin + len(one.passages)
            self._state.put(
                one.document,
                one.passages,
                vectors[begin:end],
                tokens=[self._embedder.tokens(text) for text in texts[begin:end]],
                origin=one.origin,
                metadata=one.metadata,
            )
            begin = end
            put = self._state.records.document(one.origin)  # it may be called otherwise, where another one is called so
            source = one.document.source if put is None else put.source
            (self._told.added if one.new else self._told.changed).append(source)
            self._told.passages += len(one.passages)
            if one.document.missing:
                self._told.incomplete[source] = one.document.missing
        self._waiting.clear()
        now = time.monotonic()
        if now - self._written > self._pause:
            self._write()
            self._written = time.monotonic()
            self._pause = max(_WRITE_SECONDS, _TIMES_A_WRITE * (self._written - now))

    def _prune(self, root: Path, kept: set[str], unread: list[Path]) -> tuple[str, ...]:
        unknown = [one.resolve() for one in unread]  # whether files are gone from there, nobody can tell
        gone = [
            one
            for one in self._state.records.documents()
            if not one.origin.startswith(_TEXT) and one.origin not in kept
            if (path := self._state.path_below(one, root.resolve())) is not None
            if not any(path.is_relative_to(folder) for folder in unknown)
        ]
        self._state.remove(*(one.origin for one in gone))
        return tuple(one.source for one in gone)

    def _added(self, *, removed: tuple[str, ...] = (), skipped: tuple[str, ...] = ()) -> Added:
        told = self._told
        return Added(
            added=tuple(told.added),
            changed=tuple(told.changed),
            unchanged=told.unchanged,
            removed=removed,
            failed=tuple(told.failed),
            incomplete=told.incomplete,
            skipped=skipped,
            passages=told.passages,
        )


def _called(root: Path, source: str) -> str:
    """What the corpus calls it: `reports/may.pdf`, where `reports` was added."""
    return source if root.is_file() else f"{root.resolve().name}/{source}"


def _check_text(text: Text) -> None:
    if not isinstance(text, Text) or not isinstance(text.name, str) or not isinstance(text.text, str):
        message = f"expected a Text with a name and a text, got {text!a:.200}"
        raise InputError(message)
    if not text.name or not is_text(text.name):
        message = f"the name of a text is a text that is not empty, and UTF-8, got {text.name!a}"
        raise InputError(message)
    check_metadata(text.metadata)


def _origin(path: Path) -> str:
    return str(path.resolve())
