"""Documents of one's own, found again by what they say.

    corpus = Corpus.open("notes.bgc", passphrase=…)
    corpus.add("reports/", metadata={"ward": "3B"})
    hits = corpus.search("contraindications of …", k=8, where={"ward": "3B"})

*Adding* reads files (`loading`: in a limited process, since files come from anywhere), cuts them into passages that the embedding
model reads whole (`chunking`), embeds those, and puts text and vectors into the corpus. A file that cannot be read is told of and
the rest goes on; one that was read before is read again only where it changed. What is done so far is written every half minute.

*Searching* ranks passages by meaning (`dense`) and by words (`lexical`), each inside of what `where` allows, and puts both rankings
together: by their ranks alone (`fusion`), or, where that was chosen, by their scores (`blending`). Passages that say what a better
one says already are left out.

*At rest* everything is sealed (`vault`). Any number of processes may search while one adds: each sees the corpus as of one moment,
and looks for a newer one at its next search. Nothing here opens a socket.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import InputError
from blindgate_rag.adding import Added, Adding, Text
from blindgate_rag.embedding import Embedder
from blindgate_rag.hits import LOCAL, Hit, Hits
from blindgate_rag.paths import path_of
from blindgate_rag.progress import Advance, shown
from blindgate_rag.records import DocumentRecord, Metadata, PassageRecord, Where
from blindgate_rag.searching import FOUND, Ranking, checked_ranking, hit_of, hits_of, ranking_of, search_state
from blindgate_rag.state import State
from blindgate_rag.vault import Vault


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a corpus has.

    Attributes:
        passages: in the order of their ids; none was ranked, so each score is 0.
        vectors: of unit length, `(passages, dimension)`.
    """

    passages: tuple[Hit, ...]
    vectors: NDArray[np.float32]


class Corpus:
    """Documents, found by what they say. One may be used by several threads."""

    _state_type: ClassVar[type[State]] = State

    def __init__(self, vault: Vault, embedder: Embedder | None, *, show_progress: bool | None = None) -> None:
        """Made by `open`."""
        self._vault = vault
        self._embedder = embedder
        self._show_progress = show_progress
        self._turn = threading.RLock()
        self._state: State | None = None

    @classmethod
    def open(  # noqa: PLR0913
        cls,
        path: str | os.PathLike[str],
        passphrase: str | None = None,
        *,
        key: bytes | None = None,
        embedder: Embedder | None = None,
        ranking: Ranking | None = None,
        create: bool = True,
        show_progress: bool | None = None,
    ) -> Self:
        """Open the corpus in the folder `path`, or make one there.

        Args:
            path: a folder; `notes.bgc`, say.
            passphrase: what it is sealed with; without one, a random one that is kept beside the folder, for its owner alone.
            key: 32 secret bytes in place of a passphrase, for whoever has a key store.
            embedder: what gives texts their vectors, MiniLM by default. A corpus stays with the one that it was made with.
            ranking: from now on, by what passages are ranked: `fused` by default.
            create: make one where there is none.
            show_progress: of adding; `None`: where standard error is a terminal.

        Raises `InputError` for an unknown ranking and for what is no path, key or embedder, and `CorpusError` for another
        passphrase, an empty one for a new corpus, and a folder that cannot be read. Its files, and which embedder it has, are
        looked at when they are wanted first.
        """
        if ranking is not None:
            checked_ranking(ranking)
        if embedder is not None and not isinstance(embedder, Embedder):
            message = f"embedder is a {type(embedder).__name__}: expected an Embedder, such as Embedder.open(folder)"
            raise InputError(message)
        folder = path_of(path, "the path of the corpus").absolute()  # a program may go elsewhere meanwhile
        folder = folder.resolve() if ".." in folder.parts else folder
        opened = Vault.exists(folder) or not create
        vault = Vault.open(folder, passphrase, key=key) if opened else Vault.create(folder, passphrase, key=key)
        corpus = cls(vault, embedder, show_progress=show_progress)
        if ranking is not None and ranking != corpus.ranking:
            with corpus._writing() as state:
                state.set("ranking", ranking)
        return corpus

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._vault.folder

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.path.name

    @property
    def embedder(self) -> Embedder:
        """What gives texts their vectors; opened when it is asked for first."""
        with self._turn:
            if self._embedder is None:
                self._embedder = Embedder.default()
            return self._embedder

    @property
    def ranking(self) -> Ranking:
        """By what passages are ranked unless a search says otherwise."""
        with self._turn:
            return ranking_of(self._fresh())

    def add(
        self,
        path: str | os.PathLike[str],
        metadata: Metadata | None = None,
        *,
        prune: bool = False,
        encoding: str | None = None,
    ) -> Added:
        """Add a file, or every file of a known format under a folder. What was added before is read only where it changed.

        Args:
            path: of the file or folder.
            metadata: what is known of these documents; `search` can ask for it. Given again, it takes the place of what was said.
            prune: also remove documents whose files, under this folder, are gone.
            encoding: of texts that are not UTF-8 and do not say what they are, such as `cp1252`; an error of theirs without one.

        A file that cannot be read is in `Added.failed`, and the others are added. Raises `CorpusError` where there is no such path,
        or the file that it is is of no format that is read here, and where another process writes to this corpus; `InputError` for
        metadata that no document may have. Searches of this object wait until it is done: open another one for them.
        """
        root = path_of(path, "the path of what to add")
        with self._turn, self._writing() as state, shown(show=self._show_progress) as advance:
            return self._adding(state, advance).files(root, metadata, prune=prune, encoding=encoding)

    def add_texts(self, texts: Iterable[Text]) -> Added:
        """Add texts that are in no file; one of a name that is there takes its place.

        Raises `InputError` and `DocumentError` for what cannot be added; nothing of what was given is added then, unless it was
        minutes of work.
        """
        with self._turn, self._writing() as state, shown(show=self._show_progress) as advance:
            return self._adding(state, advance).texts(texts)

    def remove(self, *sources: str | os.PathLike[str]) -> int:
        """Remove documents, their text and their vectors, by source, or by the path of their files: a whole one, or a `Path`.

        Gives how many there were.
        """
        with self._turn, self._writing() as state:
            known = {one.source: one.origin for one in state.records.documents()}
            named = [(_source(one), one if isinstance(one, str) else os.path.realpath(one)) for one in sources]
            return state.remove(*(known.get(source, origin) for source, origin in named))

    def documents(self, where: Where | None = None) -> list[DocumentRecord]:
        """The documents that are there, or those whose metadata is so."""
        with self._turn:
            return self._fresh().records.documents(where)

    def document(self, source: str) -> tuple[DocumentRecord, list[PassageRecord]] | None:
        """The document that is called so, and all of its passages, in order; `None` where there is none.

        Raises `InputError` for what is no name.
        """
        source = _source(source)
        with self._turn:
            records = self._fresh().records
            if (found := records.called(source)) is None:
                return None
            return found, list(records.passages(records.passages_of([found.id])).values())

    def search(
        self,
        query: str,
        k: int | None = None,
        *,
        where: Where | None = None,
        ranking: Ranking | None = None,
        tokens: int | None = None,
    ) -> Hits:
        """The passages that fit a question best, the best first.

        Args:
            query: the question, or words.
            k: how many, 1 to 1,000, and 8 where it is not said; fewer are given where there are no more.
            where: only documents whose metadata is so: each name has this value, or one of these.
            ranking: by what; by default what the corpus has.
            tokens: no more text than this, in the embedding model's tokens: what is left after the best are taken is left out.

        Raises `InputError` for what cannot be asked.
        """
        with self._turn:
            found = search_state(
                self._fresh(),
                query,
                FOUND if k is None else k,
                embedder=lambda: self.embedder,
                where=where,
                ranking=ranking,
                tokens=tokens,
            )
            return Hits(found, LOCAL)

    def contents(self) -> Contents:
        """All passages and their vectors: what somebody needs who hosts the corpus. Raises `CorpusError` for another embedder."""
        with self._turn:
            state = self._fresh()
            if state.dense is None:
                return Contents((), np.empty((0, 0), dtype=np.float32))
            state.check(self.embedder)
            numbers = state.records.texts()[0]
            passages = state.records.passages(numbers)
            documents = {one.id: one for one in state.records.documents()}
            ids, vectors = state.dense.contents()
            return Contents(
                tuple(hit_of(passages[one], documents[passages[one].document], 0.0) for one in numbers),
                vectors[np.argsort(ids)],
            )

    def passage(self, number: int) -> Hit | None:
        """The passage of this id, which a citation names; `None` where it is gone. Raises `InputError` for what is no id."""
        if not isinstance(number, int | np.integer):
            message = f"number is a {type(number).__name__}: expected the id of a passage, such as `Hit.passage`"
            raise InputError(message)
        with self._turn:
            return next(hits_of(self._fresh(), [(number, 0.0)], None), None)

    def change_passphrase(self, passphrase: str) -> None:
        """Seal the corpus with another passphrase from now on. Copies of before open with the one of before."""
        with self._turn, self._vault.writing():
            self._vault.change_passphrase(passphrase)

    def close(self) -> None:
        """Give the memory back."""
        with self._turn:
            if self._state is not None:
                self._state.records.close()
            self._state = None

    def __len__(self) -> int:
        """How many passages there are."""
        with self._turn:
            return self._fresh().records.count()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r})"

    def _fresh(self) -> State:
        """The corpus as it is now."""
        if self._state is None or self._state.generation != self._vault.generation():
            state = self._state_type.read(self._vault)
            if self._embedder is not None:
                state.check(self._embedder)
            self.close()
            self._state = state
        return self._state

    @contextlib.contextmanager
    def _writing(self) -> Iterator[State]:
        """The corpus as it is now, to be changed by nobody else meanwhile: written at the end, or as it was where that fails."""
        with self._vault.writing():
            try:
                state = self._fresh()
                yield state
                state.write(self._vault)
            except BaseException:
                self.close()
                raise

    def _adding(self, state: State, advance: Advance) -> Adding:
        return Adding(state, lambda: self.embedder, lambda: state.write(self._vault), advance)


def _source(given: str | os.PathLike[str]) -> str:
    if not isinstance(given, str | os.PathLike):
        message = (
            f"a source is a {type(given).__name__}: expected what the corpus calls a document, or the path of its file"
        )
        raise InputError(message)
    return os.fspath(given)
