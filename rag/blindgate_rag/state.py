"""A corpus in memory, as of one generation: its records, its vectors, and its words."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError
from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from blindgate_rag.lexical import LexicalIndex
from blindgate_rag.passages import Document, Passage
from blindgate_rag.records import DocumentRecord, Metadata, Records
from blindgate_rag.vault import Snapshot, Vault
from blindgate_rag.word_counts import WordCounts

PROMPTS: Final = "prompts"
"""The setting that says that a corpus was embedded with its model's prompts; without it a model that has some is asked without."""

_RECORDS: Final = "records"
_VECTORS: Final = "vectors"
_WORDS: Final = "words"


class State:
    """Records and vectors, which have the same passages; a change is in both or, where it failed, thrown away with them.

    Attributes:
        generation: which one was read; 0 before the first was written.
        dense: the vectors; `None` before the first document, when no embedder has been chosen.
    """

    def __init__(self, generation: int, records: Records, dense: DenseIndex | None) -> None:
        """Made by `read`."""
        self.generation = generation
        self.records = records
        self.dense = dense
        self._counts = WordCounts.of(np.empty(0, dtype=np.int64), [])
        self._words: LexicalIndex | None = None
        self._changed = False

    @classmethod
    def read(cls, vault: Vault) -> Self:
        """Read what the vault has. Raises `CorpusError`."""
        snapshot = vault.read()
        return cls(0, Records(), None) if snapshot is None else cls.of(snapshot, where=str(vault.folder))

    @classmethod
    def of(cls, snapshot: Snapshot, *, where: str) -> Self:
        """What a vault had at one moment. Raises `CorpusError`; `where` says whose, for people."""
        records = Records(snapshot.files[_RECORDS])
        dimension = records.setting("dimension")
        dense = None if dimension is None else DenseIndex.from_bytes(snapshot.files[_VECTORS], int(dimension))
        vectors, passages = 0 if dense is None else len(dense), records.count()[1]
        if vectors != passages:
            message = f"{where}: there are {vectors} vectors and {passages} passages"
            raise CorpusError(message)
        state = cls(snapshot.generation, records, dense)
        if (counted := snapshot.files.get(_WORDS)) is not None:  # releases that kept no words left none
            state._counts = WordCounts.from_bytes(counted) or state._counts
        return state

    def check(self, embedder: Embedder) -> None:
        """Refuse another embedder than the corpus has, if it has one: vectors of two do not compare. Raises `CorpusError`."""
        found = self.records.setting("embedder")
        if found not in (None, embedder.digest):
            message = (
                f"the corpus was embedded by {self.records.setting('embedder-name')} ({found}), and this is {embedder.name} "
                f"({embedder.digest}): open it with that one, or make another corpus"
            )
            raise CorpusError(message)

    def same(self, origin: str, source: str, *, root: Path) -> DocumentRecord | None:  # noqa: ARG002  (of several machines)
        """The document that a file is, which lies at `origin` and is called `source`; `root` is what was added, and holds it."""
        return self.records.document(origin)

    def path_below(self, document: DocumentRecord, root: Path) -> Path | None:
        """Where a document's file is, or was, under the folder `root` on this machine; `None` where it never was there."""
        path = Path(document.origin)
        return path if path.is_relative_to(root) else None

    def require(self, embedder: Embedder) -> Embedder:
        """Stay with this embedder, and give it as this corpus uses it: without the model's prompts, where it was begun without.

        Raises `CorpusError` where the corpus has another one.
        """
        self.check(embedder)
        if self.records.setting("embedder") is None:
            for name, value in (("embedder", embedder.digest), ("embedder-name", embedder.name)):
                self.records.set(name, value)
            self.records.set("dimension", str(embedder.dimension))
            if embedder.prompts is not None:
                self.records.set(PROMPTS, "the model's")
            self.dense = DenseIndex(embedder.dimension)
        alike = embedder.prompts is not None and self.records.setting(PROMPTS) is None
        return embedder.unprompted() if alike else embedder

    def put(  # noqa: PLR0913  (what a document in a corpus is)
        self,
        document: Document,
        passages: Sequence[Passage],
        vectors: NDArray[np.float32],
        *,
        tokens: Sequence[int],
        origin: str,
        metadata: Metadata,
    ) -> None:
        """Put a document in, in place of the one of the same origin. `vectors`, `(passages, dimension)`, are its passages'."""
        if self.dense is None:
            message = "nothing is put into a corpus before it has an embedder"
            raise CorpusError(message)
        self.remove(origin)
        ids = self.records.add(document, passages, tokens=tokens, origin=origin, metadata=metadata)
        self.dense.add(np.array(ids, dtype=np.int64), vectors)
        self._touch()

    def describe(self, origin: str, metadata: Metadata) -> None:
        """Give a document other metadata."""
        self.records.describe(origin, metadata)
        self._touch()

    def remove(self, *origins: str) -> int:
        """Take documents out: their text and their vectors. Gives how many were there."""
        there = [one for one in dict.fromkeys(origins) if self.records.document(one) is not None]
        if there and self.dense is not None:
            gone = [number for one in there for number in self.records.remove(one)]
            self.dense.remove(np.array(gone, dtype=np.int64))  # all at once: each time the others are moved together
            self._touch()
        return len(there)

    def set(self, name: str, value: str) -> None:
        """Set something for the corpus."""
        self.records.set(name, value)
        self._touch()

    def words(self) -> LexicalIndex:
        """The passages by their words: made from what was counted when it is asked for first."""
        if self._words is None:
            self._words = LexicalIndex.over(self._counted())
        return self._words

    def nearest(
        self, queries: NDArray[np.float32], k: int, *, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """The `k` passages nearest to a question's vector, `(1, dimension)`, with scores, best first; none where there are none."""
        if self.dense is None:
            return []
        scores, ids = self.dense.search(queries, k, allowed=allowed)
        return [(int(one), float(score)) for one, score in zip(ids[0], scores[0], strict=True) if one >= 0]

    def unit_of(self, queries: NDArray[np.float32]) -> float:  # noqa: ARG002  (of whole numbers)
        """What `nearest` gives a vector that is the question's own: its scores, divided by this, are cosines."""
        return 1.0

    def vectors(self, ids: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of these passages, `(dimension,)` each, of unit length; none where they lie in cells."""
        return {} if self.dense is None else self.dense.vectors(ids)

    def files(self) -> dict[str, bytes]:
        """What is written of it, by name."""
        vectors = b"" if self.dense is None else self.dense.to_bytes()
        return {_RECORDS: self.records.to_bytes(), _VECTORS: vectors, _WORDS: self._counted().to_bytes()}

    def write(self, vault: Vault) -> None:
        """Write what was changed, if anything was."""
        if self._changed:
            self.generation = vault.write(self.files())
            self._changed = False

    def _counted(self) -> WordCounts:
        """The words of the passages that are there now."""
        ids, texts = self.records.texts()
        removed = self.records.take_removed()
        self._counts = self._counts.brought_to(np.array(ids, dtype=np.int64), texts, removed=removed)
        return self._counts

    def _touch(self) -> None:
        self._changed = True
        self._words = None
