"""A corpus in memory, as of one generation: its records, its vectors, and its words."""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError
from blindgate_rag.dense import DenseIndex
from blindgate_rag.embedding import Embedder
from blindgate_rag.lexical import LexicalIndex
from blindgate_rag.passages import Document, Passage
from blindgate_rag.records import Metadata, Records
from blindgate_rag.vault import Vault

_RECORDS: Final = "records"
_VECTORS: Final = "vectors"


class State:
    """Records and vectors, which have the same passages; a change is in both or, where it failed, thrown away with them.

    Attributes:
        generation: which one was read; 0 before the first was written.
    """

    def __init__(self, generation: int, records: Records, dense: DenseIndex) -> None:
        """Made by `read`."""
        self.generation = generation
        self.records = records
        self.dense = dense
        self._words: LexicalIndex | None = None
        self._changed = False

    @classmethod
    def read(cls, vault: Vault, embedder: Embedder) -> Self:
        """Read what the vault has. Raises `CorpusError`, also where it was embedded by another model."""
        snapshot = vault.read()
        if snapshot is None:
            records = Records()
            records.set("embedder", embedder.digest)
            records.set("embedder-name", embedder.name)
            return cls(0, records, DenseIndex(embedder.dimension))
        records = Records(snapshot.files[_RECORDS])
        if (found := records.setting("embedder")) != embedder.digest:
            message = (
                f"{vault.folder} was embedded by {records.setting('embedder-name')} ({found}), and this is {embedder.name} "
                f"({embedder.digest}): open it with that one, or make another corpus"
            )
            raise CorpusError(message)
        dense = DenseIndex.from_bytes(snapshot.files[_VECTORS], embedder.dimension)
        if len(dense) != records.count()[1]:
            message = f"{vault.folder}: there are {len(dense)} vectors and {records.count()[1]} passages"
            raise CorpusError(message)
        return cls(snapshot.generation, records, dense)

    def put(
        self,
        document: Document,
        passages: Sequence[Passage],
        vectors: NDArray[np.float32],
        *,
        origin: str,
        metadata: Metadata,
    ) -> None:
        """Put a document in, in place of the one of the same origin. `vectors`, `(passages, dimension)`, are its passages'."""
        self.remove(origin)
        ids = self.records.add(document, passages, origin=origin, metadata=metadata)
        self.dense.add(np.array(ids, dtype=np.int64), vectors)
        self._touch()

    def describe(self, origin: str, metadata: Metadata) -> None:
        """Give a document other metadata."""
        self.records.describe(origin, metadata)
        self._touch()

    def remove(self, origin: str) -> bool:
        """Take a document out: its text and its vectors. Gives whether it was there."""
        there = self.records.document(origin) is not None
        if there:
            self.dense.remove(np.array(self.records.remove(origin), dtype=np.int64))
            self._touch()
        return there

    def set(self, name: str, value: str) -> None:
        """Set something for the corpus."""
        self.records.set(name, value)
        self._touch()

    def words(self) -> LexicalIndex:
        """The passages by their words: made from the texts when it is asked for first."""
        if self._words is None:
            ids, texts = self.records.texts()
            self._words = LexicalIndex.of(np.array(ids, dtype=np.int64), texts)
        return self._words

    def write(self, vault: Vault) -> None:
        """Write what was changed, if anything was."""
        if self._changed:
            files = {_RECORDS: self.records.to_bytes(), _VECTORS: self.dense.to_bytes()}
            self.generation = vault.write(files)
            self._changed = False

    def _touch(self) -> None:
        self._changed = True
        self._words = None
