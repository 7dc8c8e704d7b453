"""Vectors as whole numbers of eight bits: what an index elsewhere is asked and kept in.

A scale says which number becomes 127. Inner products of such vectors are whole numbers, and exact: also in 32-bit floats, which
hold every whole number up to 2^24, as long as a vector has at most `MOST_EXACT` numbers.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 127.0
MOST_EXACT: Final = (1 << 24) // 127**2
"""1,040 products of two such numbers add up to less than 2^24."""

_LEAST: Final = 1e-30


def quantised(vectors: NDArray[np.float32], largest: float) -> NDArray[np.int8]:
    """Vectors as signed bytes, `(n, d)`, in the scale in which `largest` becomes 127; what is larger is cut to it."""
    scaled = np.rint(vectors.astype(np.float64) * (LARGEST / max(largest, _LEAST)))
    return np.asarray(np.clip(scaled, -LARGEST, LARGEST), dtype=np.int8)


def quantised_entries(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """An index as signed bytes, `(n, d)`, in one scale: its largest number becomes 127."""
    return quantised(vectors, float(np.abs(vectors).max(initial=0.0)))


def quantised_queries(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Questions as whole numbers from -127 to 127, `(n, d)`, each in a scale of its own: its largest number becomes 127."""
    largest = np.maximum(np.abs(vectors).max(axis=1, initial=0.0), _LEAST).astype(np.float64)
    return np.asarray(np.rint(vectors.astype(np.float64) * (LARGEST / largest)[:, None]), dtype=np.int64)
