"""The rankers of this machine, over one collection: what `evaluation` compares.

- `bm25`: shared words;
- `dense`: the nearest passages, every vector compared;
- `int8`: the same with whole numbers of eight bits, as an index elsewhere is asked under encryption: one scale for the index, one
  for each question, exact inner products. Encrypted search gives this ranking;
- `fused`: reciprocal rank fusion of bm25 and dense;
- `blended`: the convex combination of their scores.

A document that is longer than the embedder reads is cut into passages and stands where the best of them does. A question that is
longer is represented by how it begins.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from blindgate_rag.blending import Ids, Scored, blended
from blindgate_rag.dense import DenseIndex, Vectors
from blindgate_rag.embedding import Embedder
from blindgate_rag.evaluation import RANKED, Ranker
from blindgate_rag.fusion import CONSTANT, reciprocal_rank_fusion
from blindgate_rag.int8 import quantised_entries, quantised_queries
from blindgate_rag.lexical import LexicalIndex
from blindgate_rag.progress import Advance


class LocalRankers:
    """Rankers over the same documents, embedded once.

    Attributes:
        vectors: of all passages, `(passages, dimension)`.
    """

    def __init__(
        self,
        documents: Mapping[str, str],
        embedder: Embedder,
        split: Callable[[str], Sequence[str]],
        *,
        progress: Advance | None = None,
    ) -> None:
        """Embed and index documents.

        Args:
            documents: texts by id.
            embedder: for documents and questions.
            split: a text as pieces that the embedder reads whole; asked for those that it does not.
            progress: told what is done, and how much of how much.
        """
        self._names = list(documents)
        self._embedder = embedder
        pieces: list[str] = []
        owners: list[int] = []
        for position, text in enumerate(documents.values()):
            own = [text] if embedder.tokens(text) <= embedder.limit else list(split(text))
            pieces += own
            owners += [position] * len(own)
            if progress is not None:
                progress("cutting documents", position + 1, len(documents))
        self._owners = np.asarray(owners, dtype=np.int64)
        self.vectors: Vectors = embedder.embed(pieces, progress=_telling(progress, "embedding passages"))
        self._index = DenseIndex(embedder.dimension, flat_most=len(pieces))
        self._index.add(np.arange(len(pieces), dtype=np.int64), self.vectors)
        self._words = LexicalIndex.of(np.arange(len(documents), dtype=np.int64), list(documents.values()))
        self._asked: dict[str, Vectors] = {}

    @property
    def all(self) -> dict[str, Ranker]:
        """By name, in the order in which they are shown."""
        return {
            "bm25": self.bm25,
            "dense": self.dense,
            "int8": self.int8,
            "fused": self.fused,
            "blended": self.blended,
        }

    def embed_questions(self, questions: Sequence[str], *, progress: Advance | None = None) -> None:
        """Embed questions together, so that asking them takes a ranker's own time alone. `progress` as above."""
        new = [one for one in dict.fromkeys(questions) if one not in self._asked]
        found = self._embedder.embed_questions(new, progress=_telling(progress, "embedding questions"))
        self._asked |= dict(zip(new, found, strict=True))

    def vector_of(self, question: str) -> Vectors:
        """A question's vector, `(dimension,)`."""
        if question not in self._asked:
            self.embed_questions([question])
        return self._asked[question]

    def bm25(self, question: str) -> list[str]:
        """By shared words."""
        return self._named(_places(self._by_words(question)))

    def dense(self, question: str) -> list[str]:
        """By the vectors as they are."""
        return self._named(_places(self._by_vectors(question)))

    def int8(self, question: str) -> list[str]:
        """By whole numbers of eight bits."""
        query = quantised_queries(self.vector_of(question)[None])[0].astype(np.float64)
        return self.ranked(self._entries @ query)

    def fused(self, question: str) -> list[str]:
        """By the places in `bm25` and in `dense`."""
        pair = (_places(self._by_words(question)), _places(self._by_vectors(question)))
        return self._named([one for one, _ in reciprocal_rank_fusion(pair, constant=CONSTANT)][:RANKED])

    def blended(self, question: str) -> list[str]:
        """By the scores of `bm25` and of `dense`."""

        def by_cosine(most: int, among: Ids | None) -> Scored:
            return self._by_vectors(question, most, among)

        def by_words(most: int, among: Ids | None) -> Scored:
            return self._by_words(question, most, among)

        return self._named(_places(blended(by_cosine, by_words, RANKED, depth=4 * RANKED)[:RANKED]))

    def ranked(self, scores: NDArray[np.float64]) -> list[str]:
        """The ranking that scores of all passages make, `(passages,)`; equal ones stay in the passages' order."""
        order = np.argsort(-scores, kind="stable")
        return self._named([int(self._owners[order[place]]) for place in self._firsts(order, RANKED)])

    @cached_property
    def _entries(self) -> NDArray[np.float64]:
        # float64 holds the sums of such numbers exactly, and multiplies faster than whole numbers do
        return quantised_entries(self.vectors).astype(np.float64)

    def _by_words(self, question: str, most: int = RANKED, among: Ids | None = None) -> Scored:
        return self._words.search(question, most, allowed=among)

    def _by_vectors(self, question: str, most: int = RANKED, among: Ids | None = None) -> Scored:
        query, wide = self.vector_of(question)[None], most
        pieces = None if among is None else np.flatnonzero(np.isin(self._owners, among))
        present = len(self._index) if pieces is None else len(pieces)
        while True:  # a document of many passages may fill the list
            scores, row = (each[0] for each in self._index.search(query, wide, allowed=pieces))
            found = self._firsts(row[row >= 0], most)
            if wide >= present or len(found) == most:
                return [(int(self._owners[row[place]]), float(scores[place])) for place in found]
            wide *= 2

    def _firsts(self, passages: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        """The places at which documents stand by the best of their passages, the first `most`."""
        return np.sort(np.unique(self._owners[passages], return_index=True)[1])[:most]

    def _named(self, ranking: Sequence[int]) -> list[str]:
        return [self._names[one] for one in ranking]


def _places(ranking: Scored) -> list[int]:
    return [one for one, _ in ranking]


def _telling(progress: Advance | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
