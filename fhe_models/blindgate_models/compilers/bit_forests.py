"""A forest over bits: what private evaluation knows of trees.

A leaf is a value and the conditions on the way to it, each a bit, or a group of a category's bits, and what it must be. Nothing of
thresholds is left; those are in the public questions (`blindgate_models.bits`) that the bits answer.

**Every** condition stays on its path, one that follows from another too: a compressed path lets bits that contradict each
other match two leaves of a tree at once, and three such queries gave the difference of two leaves away.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import with_groups


class Leaf(NamedTuple):
    """One leaf.

    Attributes:
        bits: of the conditions on its path, root first; a number past the last bit is a group's.
        wanted: what each must be.
        value: what the leaf adds, `(outputs,)`.
    """

    bits: tuple[int, ...]
    wanted: tuple[bool, ...]
    value: tuple[float, ...]


@dataclass(frozen=True)
class BitForest:
    """Scores are the sum of the trees' leaves, one a tree, and `bias`.

    Attributes:
        trees: each a list of leaves, of which exactly one fits any row.
        bits: how many bits a row has.
        bias: `(outputs,)`.
        groups: what the conditions past the last bit are, each some bits of one category.
    """

    trees: tuple[tuple[Leaf, ...], ...]
    bits: int
    bias: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def depth(self) -> int:
        """The longest path."""
        return max(len(leaf.bits) for tree in self.trees for leaf in tree)

    def scores(self, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The raw scores of `rows`, `(n, bits)`: `(n, outputs)`."""
        total = np.tile(np.asarray(self.bias, dtype=np.float64), (len(rows), 1))
        conditions = with_groups(rows, self.groups)
        for tree in self.trees:
            for leaf in tree:
                fits = (conditions[:, list(leaf.bits)] == np.array(leaf.wanted, dtype=bool)).all(axis=1)
                total[fits] += leaf.value
        return total

    def largest(self) -> NDArray[np.float64]:
        """How far from `bias` a score can be, `(outputs,)`: the largest leaf of each tree, added up."""
        total = np.zeros(len(self.bias))
        for tree in self.trees:
            total += np.abs([leaf.value for leaf in tree]).max(axis=0)
        return total
