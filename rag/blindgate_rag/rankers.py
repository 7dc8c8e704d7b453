"""The rankers of this machine, over one collection: what `evaluation` compares.

- `bm25`: shared words;
- `dense`: the nearest passages, every vector compared;
- `int8`: the same with whole numbers of eight bits, as an index elsewhere is asked under encryption: one scale for the index, one
  for each question, exact inner products. Encrypted search gives this ranking;
- `fused`: reciprocal rank fusion of bm25 and dense.

A document that is longer than the embedder reads is cut into passages and stands where the best of them does. A question that is
longer is represented by how it begins.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindgate_rag.dense import DenseIndex, Vectors
from blindgate_rag.embedding import Embedder, Progress
from blindgate_rag.evaluation import DEPTH, Ranker
from blindgate_rag.fusion import CONSTANT, reciprocal_rank_fusion
from blindgate_rag.lexical import LexicalIndex

LARGEST: Final = 127.0

_AT_ONCE: Final = 64
_LEAST: Final = 1e-30
_FLOAT32_WHOLE: Final = 1 << 24  # up to here float32 has every whole number


class LocalRankers:
    """Rankers over the same documents, embedded once."""

    def __init__(
        self,
        documents: Mapping[str, str],
        embedder: Embedder,
        split: Callable[[str], Sequence[str]],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Embed and index documents.

        Args:
            documents: texts by id.
            embedder: for documents and questions.
            split: a text as pieces that the embedder reads whole; asked for those that it does not.
            progress: told how many of how many passages are embedded.
        """
        self._names = list(documents)
        self._embedder = embedder
        pieces: list[str] = []
        owners: list[int] = []
        for position, text in enumerate(documents.values()):
            own = [text] if embedder.tokens(text) <= embedder.limit else list(split(text))
            pieces += own
            owners += [position] * len(own)
        self._owners = np.asarray(owners, dtype=np.int64)
        self._vectors = embedder.embed(pieces, progress=progress)
        self._index = DenseIndex(embedder.dimension, flat_most=len(pieces))
        self._index.add(np.arange(len(pieces), dtype=np.int64), self._vectors)
        self._words = LexicalIndex.of(np.arange(len(documents), dtype=np.int64), list(documents.values()))
        self._asked: tuple[list[str], Vectors] | None = None

    @property
    def all(self) -> dict[str, Ranker]:
        """By name, in the order in which they are shown."""
        return {"bm25": self.bm25, "dense": self.dense, "int8": self.int8, "fused": self.fused}

    def bm25(self, questions: list[str]) -> list[list[str]]:
        """By shared words."""
        return self._named(self._by_words(questions))

    def dense(self, questions: list[str]) -> list[list[str]]:
        """By the vectors as they are."""
        return self._named(self._by_vectors(questions))

    def int8(self, questions: list[str]) -> list[list[str]]:
        """By whole numbers of eight bits."""
        # floating point multiplies faster than whole numbers do, and holds these sums exactly
        exact = np.float32 if self._vectors.shape[1] * LARGEST**2 < _FLOAT32_WHOLE else np.float64
        entries: NDArray[Any] = quantised_entries(self._vectors).astype(exact)
        rankings: list[list[int]] = []
        for begin in range(0, len(questions), _AT_ONCE):
            queries: NDArray[Any] = quantised_queries(self._embedded(questions)[begin : begin + _AT_ONCE]).astype(exact)
            rankings += [self._owned(np.argsort(-scores, kind="stable")) for scores in queries @ entries.T]
        return self._named(rankings)

    def fused(self, questions: list[str]) -> list[list[str]]:
        """By the places in `bm25` and in `dense`."""
        pairs = zip(self._by_words(questions), self._by_vectors(questions), strict=True)
        return self._named(
            [one for one, _ in reciprocal_rank_fusion(pair, constant=CONSTANT)][:DEPTH] for pair in pairs
        )

    def _by_words(self, questions: list[str]) -> list[list[int]]:
        return [[one for one, _ in self._words.search(question, DEPTH)] for question in questions]

    def _by_vectors(self, questions: list[str]) -> list[list[int]]:
        wide = DEPTH
        while True:  # a document of many passages may fill the list
            found = [self._owned(row[row >= 0]) for row in self._index.search(self._embedded(questions), wide)[1]]
            if wide >= len(self._index) or all(len(ranking) == DEPTH for ranking in found):
                return found
            wide *= 2

    def _owned(self, passages: NDArray[np.int64]) -> list[int]:
        """Documents where the best of their passages stands, the first `DEPTH`."""
        owners = self._owners[passages]
        first = np.sort(np.unique(owners, return_index=True)[1])[:DEPTH]
        return [int(one) for one in owners[first]]

    def _named(self, rankings: Iterable[Sequence[int]]) -> list[list[str]]:
        return [[self._names[one] for one in ranking] for ranking in rankings]

    def _embedded(self, questions: list[str]) -> Vectors:
        if self._asked is None or self._asked[0] != questions:
            self._asked = (list(questions), self._embedder.embed(questions, truncate=True))
        return self._asked[1]


def quantised_entries(vectors: Vectors) -> NDArray[np.int8]:
    """An index as signed bytes, `(n, d)`, in one scale: its largest number becomes 127."""
    largest = max(float(np.abs(vectors).max(initial=0.0)), _LEAST)
    return np.asarray(np.rint(vectors.astype(np.float64) * (LARGEST / largest)), dtype=np.int8)


def quantised_queries(vectors: Vectors) -> NDArray[np.int64]:
    """Questions as whole numbers from -127 to 127, `(n, d)`, each in a scale of its own: its largest number becomes 127."""
    largest = np.maximum(np.abs(vectors).max(axis=1, initial=0.0), _LEAST).astype(np.float64)
    return np.asarray(np.rint(vectors.astype(np.float64) * (LARGEST / largest)[:, None]), dtype=np.int64)
