"""A corpus in memory that also lies elsewhere: as of the head that was last taken in, and what was changed here since.

*Vectors* are whole numbers of eight bits, everywhere alike: in shards, and in the index that is searched here, which compares them
exactly (`int8`). Their scale is chosen with the first document, and kept: a quarter wider than what that needs, and wide enough for
six deviations of a number of a vector of unit length.

*What was changed here* is kept by origin, since others may change other documents meanwhile. Taking in a newer head replaces every
document that it replaces, but those; then those are put on top, under ids that nobody gave (`take_in`). So of two who change
different documents nothing is lost, and of two who change the same one the later one counts.

*The same file on two machines* is one document, by what it is called: its path from the folder that was added, with that folder's
own name. On each machine one folder, or file, of a name is the one that is meant; another one of that name is known by its whole
path, as in a corpus of one machine (`same`).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import CorpusError, MalformedError
from blindgate_rag.dense import DenseIndex
from blindgate_rag.int8 import LARGEST, quantised, quantised_queries
from blindgate_rag.passages import Document, Passage
from blindgate_rag.records import DocumentRecord, Metadata, Records
from blindgate_rag.state import PROMPTS, State
from blindgate_rag.sync.heads import Head, Placed, ShardRef
from blindgate_rag.sync.shards import Filed, cut, shard_of
from blindgate_rag.vault import Snapshot

SETTINGS: Final = ("embedder", "embedder-name", PROMPTS, "dimension", "largest", "ranking")
"""What a head has of a corpus's settings."""
_HEAD: Final = "head"
_CHANGED: Final = "changed-here"
_FOLDERS: Final = "folders-here"
_HAD: Final = "had-here"
_WIDER: Final = 1.25
_DEVIATIONS: Final = 6.0


class SyncedState(State):
    """Records and vectors, and what is known of where they lie.

    Attributes:
        base: the head that was last taken in or put; `None` before the first.
        changed_here: the origins of documents that were put, described or removed since.
        folders: of the folders, or files, that were added here: which path is meant by a name.
        had_here: the origins of documents of other machines of which a file was here, too.
    """

    def __init__(self, generation: int, records: Records, dense: DenseIndex | None) -> None:
        """Made by `read`."""
        super().__init__(generation, records, dense)
        self.base: Placed | None = None
        self.changed_here: set[str] = set()
        self.folders: dict[str, str] = {}
        self.had_here: set[str] = set()

    @classmethod
    def of(cls, snapshot: Snapshot, *, where: str) -> Self:
        """What a cache had at one moment. Raises `CorpusError`."""
        state = super().of(snapshot, where=where)
        try:
            state.base = Placed(Head.from_bytes(snapshot.files[_HEAD]), state.records.setting(_HEAD) or "")
        except MalformedError as error:
            message = f"{where}: its head is of another release: {error}"
            raise CorpusError(message) from error
        state.changed_here = set(json.loads(state.records.setting(_CHANGED) or "[]"))
        state.folders = json.loads(state.records.setting(_FOLDERS) or "{}")
        state.had_here = set(json.loads(state.records.setting(_HAD) or "[]"))
        return state

    def files(self) -> dict[str, bytes]:
        """What is written of it, by name."""
        if self.base is None:
            message = "nothing of this corpus is on this machine yet: open it once with its gateway"
            raise CorpusError(message)
        self.records.set(_HEAD, self.base.digest)
        self.records.set(_CHANGED, json.dumps(sorted(self.changed_here)))
        self.records.set(_FOLDERS, json.dumps(self.folders))
        self.had_here.intersection_update(one.origin for one in self.records.documents())
        self.records.set(_HAD, json.dumps(sorted(self.had_here)))
        return super().files() | {_HEAD: self.base.head.to_bytes()}

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
        """Put a document in, in place of the one of the same origin; its vectors become whole numbers."""
        if self.records.setting("largest") is None:
            self.records.set("largest", repr(scale_for(vectors)))
        whole = quantised(vectors, self._largest).astype(np.float32)
        super().put(document, passages, whole, tokens=tokens, origin=origin, metadata=metadata)
        self.changed_here.add(origin)

    def same(self, origin: str, source: str, *, root: Path) -> DocumentRecord | None:
        """The document of this path, or the one that another machine put of the same name.

        `root` is what was added; of several of one name on this machine only the first is that of the others.
        """
        if (mine := super().same(origin, source, root=root)) is not None:
            return mine
        if root.name not in self.folders:
            self.folders[root.name] = str(root)
            self._touch()
        theirs = self.records.called(source) if self.folders[root.name] == str(root) else None
        if theirs is None or not _is_elsewhere(theirs.origin):
            return None
        if theirs.origin not in self.had_here:
            self.had_here.add(theirs.origin)
            self._touch()
        return theirs

    def path_below(self, document: DocumentRecord, root: Path) -> Path | None:
        """Where a document's file is, or was, under `root` here; of one that only another machine had, nowhere."""
        if document.origin in self.had_here and self.folders.get(root.name) == str(root):
            path = root.parent / document.source
            return path if path.is_relative_to(root) else None
        return super().path_below(document, root)

    def describe(self, origin: str, metadata: Metadata) -> None:
        """Give a document other metadata."""
        super().describe(origin, metadata)
        self.changed_here.add(origin)

    def remove(self, *origins: str) -> int:
        """Take documents out. Gives how many were there."""
        self.changed_here.update(one for one in origins if self.records.document(one) is not None)
        return super().remove(*origins)

    def nearest(
        self, queries: NDArray[np.float32], k: int, *, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """The nearest passages; a score is an inner product of whole numbers."""
        return super().nearest(quantised_queries(queries).astype(np.float32), k, allowed=allowed)

    def unit_of(self, queries: NDArray[np.float32]) -> float:
        """What `nearest` gives a vector that is the question's own, but for its rounding; the same on every machine."""
        return math.sqrt(int((quantised_queries(queries) ** 2).sum())) * (LARGEST / self._largest)

    def vectors(self, ids: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of these passages, of unit length again."""
        return {one: vector / max(float(np.linalg.norm(vector)), 1.0) for one, vector in super().vectors(ids).items()}

    @property
    def settings(self) -> dict[str, str]:
        """What a head has of them."""
        found = {name: self.records.setting(name) for name in SETTINGS}
        return {name: value for name, value in found.items() if value is not None}

    def shards(self, corpus: str) -> dict[str, list[Filed]]:
        """All documents, cut into shards."""
        return cut(corpus, self._filed())

    def take_in(self, placed: Placed, incoming: Sequence[Filed]) -> None:
        """Become what a newer head says, with what was changed here on top. `incoming` is what is in shards that the base has not.

        Raises `CorpusError` where those contradict each other or what is here; then this state is nothing to go on with.
        """
        head = placed.head
        mine = {} if not self.changed_here else self._changes()
        largest = self._largest
        before = {} if self.base is None else self.base.head.shards
        stale = new_shards(head.shards, before)
        gone: list[int] = []
        for document in self.records.documents():
            if document.origin in mine or shard_of(before, head.corpus, document.origin) in stale:
                gone += self.records.remove(document.origin)
        if self.dense is not None:
            self.dense.remove(np.array(gone, dtype=np.int64))
        self._take_settings(head)
        theirs = {one.document.origin: one for one in incoming}
        called = {one.document.source: one for one in incoming}
        # theirs first, which have their names there: a document that is put again takes another where one is taken
        same = {origin for origin, one in mine.items() if origin in theirs and one.says_the_same(theirs[origin])}
        self.changed_here -= same
        self._restore([one for origin, one in theirs.items() if origin not in self.changed_here])
        self.records.skip_ids(head.documents, head.passages)
        self.base = placed
        for origin, one in mine.items():
            if origin in same:
                continue
            if self._came_meanwhile(one, called):
                self.changed_here.discard(origin)
                if Path(origin).is_absolute():  # where that file is gone later, theirs is pruned here
                    self.had_here.add(called[one.document.source].document.origin)
            else:
                self._put_again(one, largest)
        for origin in self.changed_here - mine.keys() - theirs.keys():
            place = shard_of(head.shards, head.corpus, origin)
            if place is None or place in stale:  # it was removed there, too
                self.changed_here.discard(origin)
        self._touch()

    def was_put(self, placed: Placed) -> None:
        """What is here is what lies there now."""
        self.base = placed
        self.changed_here.clear()
        self._touch()

    @property
    def _largest(self) -> float:
        return float(self.records.setting("largest") or 1.0)

    def _changes(self) -> dict[str, Filed]:
        return {one.document.origin: one for one in self._filed() if one.document.origin in self.changed_here}

    def _came_meanwhile(self, mine: Filed, called: Mapping[str, Filed]) -> bool:
        """Whether another machine put the same file, of the same name, before this one did."""
        theirs = called.get(mine.document.source)
        if theirs is None or theirs.document.origin in self.changed_here:
            return False
        return mine.says_the_same(theirs) and _is_elsewhere(theirs.document.origin)

    def _filed(self) -> list[Filed]:
        if self.dense is None:
            return []
        ids, vectors = self.dense.contents()
        order = np.argsort(ids)
        ids, whole = ids[order], vectors[order].astype(np.int8)
        return [
            Filed(document, passages, whole[np.searchsorted(ids, [one.id for one in passages])])
            for document, passages in self.records.contents()
        ]

    def _take_settings(self, head: Head) -> None:
        mine, theirs = self.records.setting("embedder"), head.settings.get("embedder")
        if mine is not None and theirs is not None and mine != theirs:
            message = (
                f"what was added here was embedded by {mine}, and the corpus by {head.settings.get('embedder-name')} ({theirs}) "
                "meanwhile: vectors of two do not compare"
            )
            raise CorpusError(message)
        if mine is not None and theirs is not None and self.records.setting(PROMPTS) != head.settings.get(PROMPTS):
            message = (
                "what was added here was embedded with its model's prompts and the corpus without, or the other way round: "
                "vectors of two do not compare"
            )
            raise CorpusError(message)
        dimension = self.records.setting("dimension")
        if dimension is not None and head.dimension not in {0, int(dimension)}:
            message = f"the corpus has vectors of {head.dimension} numbers, and what is here has {dimension}: it is not taken in"
            raise CorpusError(message)
        for name, value in head.settings.items():
            if name in SETTINGS:
                self.records.set(name, value)
        if self.dense is None and (dimension := self.records.setting("dimension")) is not None:
            self.dense = DenseIndex(int(dimension))

    def _restore(self, documents: Sequence[Filed]) -> None:
        for one in documents:
            self.records.restore(one.document, one.passages)
        if documents and self.dense is not None:
            ids = np.array([each.id for one in documents for each in one.passages], dtype=np.int64)
            self.dense.add(ids, np.concatenate([one.vectors for one in documents]).astype(np.float32))

    def _put_again(self, one: Filed, largest: float) -> None:
        """Put what was changed here on top, under new ids, in the scale that there is now."""
        source = one.document.source
        document = Document(source, one.document.digest, one.document.media, ())
        passages = [Passage(each.text, source, each.page, each.position) for each in one.passages]
        self.put(
            document,
            passages,
            (one.vectors * (largest / LARGEST)).astype(np.float32),
            tokens=[each.tokens for each in one.passages],
            origin=one.document.origin,
            metadata=one.document.metadata,
        )


def scale_for(vectors: NDArray[np.float32]) -> float:
    """Which number is to become 127, in a corpus whose first document has these vectors, `(n, dimension)`."""
    return max(_WIDER * float(np.abs(vectors).max(initial=0.0)), _DEVIATIONS / math.sqrt(vectors.shape[1]))


def _is_elsewhere(origin: str) -> bool:
    """Whether it is the path of a file of another machine: none that is here, or may be."""
    path = Path(origin)
    try:
        return path.is_absolute() and not path.is_file()
    except OSError:  # where this account may not look
        return False


def new_shards(after: dict[str, ShardRef], before: dict[str, ShardRef]) -> set[str]:
    """The names of shards that are in one of the two only, or are not the same in both."""
    return {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
