"""A forest whose leaves are integers, multiples of 2^-S, and how far its scores are from the forest's.

S is the smallest for which the error is within a tolerance (a share of the largest score, or of a regression's spread), and for
which every calibration row is decided as the forest decides it: scores leak, so no finer than that. Each tree is off by its worst
leaf at most, so a score is off by at most the sum of those and the rounding of the constant: ½·2^-S for each at the very most.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import Questions, answers
from blindgate_models.compilers.bit_forests import BitForest
from blindgate_models.compilers.factoring import Relations, Tree, tree_of
from blindgate_models.compilers.reading import spread
from blindgate_protocol.errors import PackageError

_FLOATS: Final = 2.0**-44  # of the largest score: what adding up thousands of doubles costs, at most
_FINEST: Final = 40  # bits of the largest score, at most


class Rounded(NamedTuple):
    """A forest with integers for leaves.

    Attributes:
        scale_bits: S.
        outputs: a constant and trees for each.
        error: how far each output's score can be from the forest's, `(outputs,)`.
        largest: the largest absolute score, in units.
        groups: as the forest has them.
    """

    scale_bits: int
    outputs: Sequence[tuple[int, Sequence[Tree]]]
    error: NDArray[np.float64]
    largest: int
    groups: Sequence[Sequence[int]] = ()


def rounded_enough(
    forest: BitForest,
    questions: Sequence[Questions],
    rows: NDArray[np.float64],
    tolerance: float,
    *,
    classifies: bool,
) -> Rounded:
    """The coarsest that is exact enough and decides the rows as the forest does.

    Raises `PackageError` when no scale is, `ValueError` on leaves that are no tree's.
    """
    highest = float((forest.largest() + np.abs(forest.bias)).max()) or 1.0
    least = math.floor(math.log2(1 / highest))
    bits = answers(questions, rows)
    scores = forest.scores(bits)
    wanted = decided(scores)
    most = tolerance * (highest if classifies else spread(scores) or highest)
    for scale_bits in range(least, least + _FINEST):
        whole = _whole(forest, scale_bits)
        if _error(forest, whole, scale_bits).max() > most:
            continue
        if not classifies or (decided(whole.scores(bits)) == wanted).all():
            return rounded_to(forest, questions, scale_bits)
    msg = f"tolerance: got {tolerance:g}, which no scale up to 2^{least + _FINEST} keeps"
    raise PackageError(msg)


def rounded_to(forest: BitForest, questions: Sequence[Questions], scale_bits: int) -> Rounded:
    """The forest with leaves rounded to multiples of 2^-scale_bits. Raises `ValueError` on leaves that are no tree's."""
    relations = Relations(questions, forest.groups)
    whole = _whole(forest, scale_bits)
    outputs = []
    largest = 0
    for output, constant in enumerate(whole.bias):
        low = high = int(constant)
        trees = []
        for leaves in whole.trees:
            integers = [int(leaf.value[output]) for leaf in leaves]
            low, high = low + min(integers), high + max(integers)
            trees.append(tree_of(leaves, integers, relations))
        outputs.append((int(constant), trees))
        largest = max(largest, -low, high)
    return Rounded(scale_bits, outputs, _error(forest, whole, scale_bits), largest, forest.groups)


def decided(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """The position of each row's label."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.intp)
    return np.asarray(scores.argmax(axis=1))


def _whole(forest: BitForest, scale_bits: int) -> BitForest:
    """The forest in units of 2^-scale_bits, everything rounded."""

    def integers(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(value) for value in np.rint(np.ldexp(values, scale_bits)))

    trees = tuple(tuple(leaf._replace(value=integers(leaf.value)) for leaf in tree) for tree in forest.trees)
    return BitForest(trees, forest.bits, integers(forest.bias), forest.groups)


def _error(forest: BitForest, whole: BitForest, scale_bits: int) -> NDArray[np.float64]:
    """How far each output's score can be from the forest's."""
    error = np.abs(np.ldexp(whole.bias, -scale_bits) - forest.bias)
    for exact, tree in zip(forest.trees, whole.trees, strict=True):
        off = np.ldexp([leaf.value for leaf in tree], -scale_bits) - np.array([leaf.value for leaf in exact])
        error += np.abs(off).max(axis=0)
    return np.asarray(error + _FLOATS * (forest.largest() + np.abs(forest.bias)))
