"""The passages that share words with a question, by BM25 (bm25s, Lucene's variant).

A word is a run of letters and digits, in lower case and without accents: `I10`, `2.5mg` and `1,571.7` are one word each, and a
single digit is a word. Of writing without spaces between words (Chinese, Japanese) every character is one. English stop words
count for little here anyway, since BM25 weighs a word by how few passages have it; they can be left out.

The index is made from the texts in one go, and that is quick; so nothing of it is stored, and what was removed is not in it.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN
from numpy.typing import NDArray

from blindgate_protocol.errors import InputError

K1: Final = 1.2
B: Final = 0.75

_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORDS: Final = re.compile(rf"[{_UNSPACED}]|\d+(?:[.,]\d+)*[^\W{_UNSPACED}]*|[^\W{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """The words of a text, in their order."""
    if not text.isascii():
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return _WORDS.findall(text.lower())


class LexicalIndex:
    """Words of texts, each under the id of its text. `LexicalIndex.of` makes one."""

    def __init__(self, ids: NDArray[np.int64], ranker: Any, left_out: frozenset[str]) -> None:
        """Take what bm25s indexed, or `None` where no text has a word; see `of`."""
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
        ids = np.asarray(ids, dtype=np.int64)
        if ids.shape != (len(texts),) or len(np.unique(ids)) != len(ids):
            message = f"ids: got {ids.shape} for {len(texts)} texts, expected one each, and none twice"
            raise InputError(message)
        left_out = frozenset(STOPWORDS_EN) if stop_words else frozenset()
        vocabulary: defaultdict[str, int] = defaultdict()
        vocabulary.default_factory = vocabulary.__len__  # a new word has the next number
        number = vocabulary.__getitem__
        found: Iterable[list[str]] = map(words_of, texts)
        if left_out:
            found = ([word for word in words if word not in left_out] for words in found)
        numbered = [list(map(number, words)) for words in found]
        if not vocabulary:
            return cls(ids, None, left_out)
        ranker = bm25s.BM25(method="lucene", k1=k1, b=b, backend="numpy")
        ranker.index((numbered, dict(vocabulary)), create_empty_token=False, show_progress=False)
        return cls(ids, ranker, left_out)

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
