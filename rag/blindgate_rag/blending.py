"""One score from vectors and words together: a convex combination of both, each in the unit of the best that a question finds.

    score = WEIGHT · (cosine + 1) / (best cosine + 1) + (1 - WEIGHT) · words / best words

Each part goes from what it can be at least, -1 for cosines and 0 for BM25, to the best of the passages that may be found: the
theoretical minima, and the weight, of Bruch, Gai and Ingber ("An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023). So
what a passage scores depends on no other but those two best, and not on how far down anything was read.

No score is guessed:

1. the passages that stand first by vectors, and those that stand first by words, are all scored by both;
2. a passage that is in neither list is at most as near as the last of the one, and has at most the words of the last of the other:
   so it scores at most what those two would. What is above that stands where it would if every passage were scored;
3. where too few are, the lists are read twice as far (Fagin, Lotem and Naor 2003, the threshold algorithm).
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

WEIGHT: Final = 0.8
"""How much of a score is the vectors'."""

Ids = NDArray[np.int64]
Scored = list[tuple[int, float]]
Ranked = Callable[[int, Ids | None], Scored]
"""How many, and among which ids (`None`: among all), to those with their scores, best first."""


def convex_combination(
    cosines: NDArray[np.float64], words: NDArray[np.float64], *, weight: float = WEIGHT
) -> NDArray[np.float64]:
    """What passages score, `(n,)`, at most 1.

    Args:
        cosines: `(n,)`, from -1; the best of all is among them.
        words: BM25's scores, `(n,)`, from 0; the best of all is among them.
        weight: of the cosines, from 0 to 1.
    """
    return weight * _of_best(cosines + 1.0) + (1.0 - weight) * _of_best(words)


def blended(by_cosine: Ranked, by_words: Ranked, wanted: int, *, depth: int) -> Scored:
    """Ids with their scores, best first, of equal ones the lower id first: the first `wanted` are those among all.

    Args:
        by_cosine: ranks by cosine whatever may be found.
        by_words: ranks by BM25 what shares a word with the question.
        wanted: how many must stand where they would if everything were scored, from 1; those behind them are candidates.
        depth: how far both are read at first, from 1.
    """
    while True:
        # 1.
        near, shared = by_cosine(depth, None), by_words(depth, None)
        ids = np.array(sorted({one for one, _ in near} | {one for one, _ in shared}), dtype=np.int64)
        if not len(ids):
            return []
        cosines, words = (dict(ranked(len(ids), ids)) for ranked in (by_cosine, by_words))
        # 2.
        last = (near[-1][1] if near else -1.0, shared[-1][1] if len(shared) == depth else 0.0)
        scores = convex_combination(
            np.array([*(cosines.get(int(one), -1.0) for one in ids), last[0]]),
            np.array([*(words.get(int(one), 0.0) for one in ids), last[1]]),
        )
        scores, most = scores[:-1], scores[-1]
        if len(near) < depth or int((scores > most).sum()) >= wanted:
            order = np.lexsort((ids, -scores))
            return [(int(ids[place]), float(scores[place])) for place in order]
        # 3.
        depth *= 2


def _of_best(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    best = parts.max(initial=0.0)
    return parts / best if best > 0 else np.zeros_like(parts)
