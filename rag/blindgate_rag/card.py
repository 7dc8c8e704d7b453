"""Which vectors are nearest, proposed by a GPU.

A GPU sums in another order than a CPU, and where it may (TF32) with shorter numbers, so its scores are a little off and passages
with nearly the same score come in another order. Therefore it only proposes: `dense` asks for a few vectors more than are wanted,
computes the scores itself, and goes on asking until what was not proposed cannot be among the wanted. `OFF` is how far off a
proposed score may be for that. Whoever is further off, has no room, or fails otherwise is not asked again: the CPU searches.
"""

from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

OFF: Final = 2.0**-10
"""Of the product of both vectors' lengths. TF32 keeps ten bits behind a number's first, so each of two factors is off by 2^-11 of
itself at most; by Cauchy and Schwarz a sum of their products is off by twice that. Sums of float32 are far nearer."""

MOST: Final = 1024
"""The most that a search on a GPU gives."""


class Card:
    """The first GPU with a copy of a flat index, made when it is first asked."""

    def __init__(self, flat: Any) -> None:
        """Of `flat`, which does not change any more."""
        self._flat = flat
        self._copy: Any = None
        self._resources: Any = None
        self._usable = faiss.get_num_gpus() > 0

    def nearest(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Scores and places in the index of what seems nearest, `(n, k)` each, best first; None where the CPU has to search.

        `k` is at most how many vectors there are.
        """
        if not self._usable or k > MOST:
            return None
        try:
            if self._copy is None:
                self._resources = faiss.StandardGpuResources()
                self._copy = faiss.index_cpu_to_gpu(self._resources, 0, self._flat)
            scores, places = self._copy.search(queries, k)
        except RuntimeError:  # no room beside what else runs there, a driver that does not fit
            self.give_up()
            return None
        return scores, places

    def give_up(self) -> None:
        """Not ask any more, and free what the copy takes."""
        self._usable, self._copy, self._resources = False, None, None
