"""From the scores of all entries of an index to the nearest few: on this side, since whoever picked them would know the query.

Entries with equal scores come in the order of the index, as numpy's stable sort leaves them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import ClientHalf, IndexHalf
from blindgate_protocol.errors import InputError


class SearchResult(NamedTuple):
    """The entries nearest to each query, the nearest first.

    Attributes:
        ids: what they are called, `(queries, k)`: texts or whole numbers, as the index's owner named them.
        scores: `(queries, k)`. From `Model.search`, inner products of query and entry, as exact as eight bits a number make them
            (cosines where both have length 1). From `Job.neighbours`, which has no queries any more, the exact whole numbers that
            were computed, in a unit that differs from query to query.
    """

    ids: NDArray[Any]
    scores: NDArray[np.float64]


def index_half(half: ClientHalf, model: str) -> IndexHalf:
    """`half`, if it is an index's. Raises `InputError` for another model."""
    if not isinstance(half, IndexHalf):
        message = f"model {model!r} is no index that could be searched; use predict"
        raise InputError(message)
    return half


def check_count(k: int, half: IndexHalf) -> None:
    """Refuse to look for fewer than one entry, or more than there are. Raises `InputError`."""
    if not 1 <= k <= half.outputs:
        message = f"k: got {k}, expected 1 to {half.outputs}, the entries of the index"
        raise InputError(message)


def nearest(scores: NDArray[np.float64], k: int, half: IndexHalf) -> SearchResult:
    """The `k` entries with the largest scores of each row of `(queries, entries)`."""
    check_count(k, half)
    first = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return SearchResult(half.ids[first], np.take_along_axis(scores, first, axis=1))
