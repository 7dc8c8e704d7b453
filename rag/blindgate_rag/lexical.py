"""The passages that share words with a question, by BM25 (bm25s, Lucene's variant).

What is a word is said in `words`, and which passage has which in `word_counts`. English stop words count for little here anyway,
since BM25 weighs a word by how few passages have it; they can be left out.

bm25s takes texts and nothing else, and spends most of its time on counting what is counted already. So the weights are computed
here, in its own formula and in the same precision: they are the same to the bit (`tests/unit/rag/test_word_counts.py`), and it is
bm25s that adds them up for a question.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN
from numpy.typing import NDArray

from blindgate_protocol.errors import InputError
from blindgate_rag.word_counts import WordCounts
from blindgate_rag.words import words_of

K1: Final = 1.2
B: Final = 0.75


class LexicalIndex:
    """Words of texts, each under the id of its text. `LexicalIndex.of` and `LexicalIndex.over` make one."""

    def __init__(self, ids: NDArray[np.int64], ranker: Any, left_out: frozenset[str]) -> None:
        """Take what bm25s indexed, or `None` where no text has a word; see `over`."""
        self._ids = ids
        self._ranker = ranker
        self._left_out = left_out

    @classmethod
    def of(
        cls, ids: NDArray[np.int64], texts: Sequence[str], *, stop_words: bool = False, k1: float = K1, b: float = B
    ) -> Self:
        """Index texts.

        Args:
            ids: `(n,)`, one a text.
            texts: n texts.
            stop_words: leave English stop words out.
            k1: how soon it no longer matters that a word stands in a text again.
            b: how much a long text's words count for less, from 0 to 1.

        Raises `InputError` where there is not one id a text.
        """
        left_out = frozenset(STOPWORDS_EN) if stop_words else frozenset()
        return cls.over(WordCounts.of(ids, texts, left_out=left_out), left_out=left_out, k1=k1, b=b)

    @classmethod
    def over(cls, counts: WordCounts, *, left_out: frozenset[str] = frozenset(), k1: float = K1, b: float = B) -> Self:
        """Index what was counted; `left_out` was not. `k1` and `b` as above."""
        if not counts.vocabulary:
            return cls(counts.ids, None, left_out)
        ranker: Any = bm25s.BM25(method="lucene", k1=k1, b=b, backend="numpy")
        ranker.nonoccurrence_array = None
        ranker.vocab_dict = counts.vocabulary
        ranker.scores = {
            "data": _weights(counts, k1, b),
            "indices": counts.rows,
            "indptr": counts.starts,
            "num_docs": len(counts),
        }
        return cls(counts.ids, ranker, left_out)

    def __len__(self) -> int:
        return len(self._ids)

    def search(self, query: str, k: int, *, allowed: NDArray[np.int64] | None = None) -> list[tuple[int, float]]:
        """The `k` texts with the highest scores, best first, of equal ones the lower id first; none without a word of the query.

        Args:
            query: its words are looked for; one that stands in no text is left out.
            k: how many, from 1.
            allowed: the ids that may be found; all by default.

        Raises `InputError` for another k.
        """
        if k < 1:
            message = f"k: got {k}, expected at least 1"
            raise InputError(message)
        words = self._known(word for word in words_of(query) if word not in self._left_out)
        if not words:
            return []
        mask = None if allowed is None else np.isin(self._ids, allowed).astype(np.float32)
        scores = self._ranker.get_scores(words, weight_mask=mask)
        found = np.flatnonzero(scores > 0)
        if len(found) > k:
            least = np.partition(scores[found], len(found) - k)[len(found) - k]
            found = found[scores[found] >= least]
        best = found[np.lexsort((self._ids[found], -scores[found]))][:k]
        return [(int(self._ids[place]), float(scores[place])) for place in best]

    def _known(self, words: Iterable[str]) -> list[str]:
        return [] if self._ranker is None else [word for word in words if word in self._ranker.vocab_dict]


def _weights(counts: WordCounts, k1: float, b: float) -> NDArray[np.float32]:
    """What a word adds to the score of a passage that has it, `(entries,)`: Kamphuis et al. 2020, Lucene (accurate)."""
    lengths = counts.lengths
    frequencies = np.diff(counts.starts)
    known, place = np.unique(frequencies, return_inverse=True)
    rare = [math.log(1 + (len(counts) - int(df) + 0.5) / (int(df) + 0.5)) for df in known]
    rarity = np.array(rare, dtype=np.float32)[place]
    damping = (k1 * ((1 - b) + b * lengths / lengths.mean())).astype(np.float32)
    often = counts.counts.astype(np.float32)
    found: NDArray[np.float32] = np.repeat(rarity, frequencies) * (often / (damping[counts.rows] + often))
    return found
