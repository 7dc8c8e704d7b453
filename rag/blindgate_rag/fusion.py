"""From several rankings of the same passages to the few that are given out.

1. `reciprocal_rank_fusion`: places are added up, not scores, since scores of words and of vectors have no common unit
   (Cormack, Clarke and Büttcher 2009);
2. `distinct`: of passages that say the same the best ranked stays;
3. `within_budget`: as many as fit into a number of tokens.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import InputError

CONSTANT: Final = 60
SAME: Final = 0.98
"""The cosine above which two passages say the same."""

_SPACES: Final = re.compile(r"\s+")


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[int]], *, constant: float = CONSTANT, weights: Sequence[float] | None = None
) -> list[tuple[int, float]]:
    """All ids of the rankings with the sum of weight / (constant + place), places from 1; the highest sum first.

    Args:
        rankings: ids, best first, none twice in one ranking.
        constant: from 0; the larger, the less the first places count for more than those behind them.
        weights: one a ranking, from 0; all 1 by default.

    Of equal sums the one that stands in an earlier ranking, or at a better place there, comes first.
    Raises `InputError` naming the rule.
    """
    given = [1.0] * len(rankings) if weights is None else list(weights)
    if len(given) != len(rankings) or not all(0 <= weight < float("inf") for weight in given):
        message = f"weights: got {given} for {len(rankings)} rankings, expected a number from 0 for each"
        raise InputError(message)
    if not 0 <= constant < float("inf"):
        message = f"constant: got {constant}, expected a number from 0"
        raise InputError(message)
    sums: dict[int, float] = {}
    for ranking, weight in zip(rankings, given, strict=True):
        if len(set(ranking)) != len(ranking):
            message = "rankings: an id stands twice in one of them"
            raise InputError(message)
        for place, one in enumerate(ranking, 1):
            sums[one] = sums.get(one, 0.0) + weight / (constant + place)
    return sorted(sums.items(), key=lambda item: -item[1])


def distinct(
    ranked: Sequence[int],
    texts: Mapping[int, str],
    vectors: Mapping[int, NDArray[np.float32]] | None = None,
    *,
    most: int | None = None,
    cosine: float = SAME,
) -> list[int]:
    """The ranked ids without those that say what a better ranked one says: the same text, or a cosine above `cosine`.

    Args:
        ranked: ids, best first.
        texts: of every id; letter case, white space and Unicode's compatibility forms make no difference.
        vectors: of unit length, `(dimension,)` each, of those ids that have one.
        most: how many are wanted; all by default.
        cosine: two vectors with more than this count as the same.
    """
    kept: list[int] = []
    seen: set[str] = set()
    rows: list[NDArray[np.float32]] = []
    for one in ranked:
        if len(kept) == most:
            break
        text = _plain(texts[one])
        vector = None if vectors is None else vectors.get(one)
        if text in seen or (vector is not None and rows and float(np.max(np.stack(rows) @ vector)) > cosine):
            continue
        kept.append(one)
        seen.add(text)
        if vector is not None:
            rows.append(vector)
    return kept


def within_budget(ranked: Sequence[int], tokens: Callable[[int], int], budget: int) -> list[int]:
    """The first of the ranked ids that have at most `budget` tokens together; the first that does not fit ends it.

    So a larger budget gives what a smaller one gave, and more behind it.
    """
    kept: list[int] = []
    left = budget
    for one in ranked:
        left -= tokens(one)
        if left < 0:
            break
        kept.append(one)
    return kept


def _plain(text: str) -> str:
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()
