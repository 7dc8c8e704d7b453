"""What a forest asks of a column, in the column's own numbers.

A tree asks whether a number is below a threshold, or not above it; after rounding it to float32; in a pipeline, after scaling.
Where every step keeps columns apart and never turns their order around, all of that is one question about the column as it
was: x goes left exactly if it is below the least number that goes right. That number is found by bisection through the steps
themselves, so it is right to the last bit, whatever they compute: a StandardScaler, a QuantileTransformer, bins.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.forests import Forest, Tree

Floats: TypeAlias = NDArray[np.float64]

_LEAST: Final = np.int64(np.iinfo(np.int64).min)
_STEPS_OF_BISECTION: Final = 64


def before_steps(forest: Forest, steps: Sequence[Any], rows: Floats, limits: Floats) -> Forest:
    """`forest` for rows as they are before `steps`: strict, and not rounding.

    Args:
        forest: fitted on what the last step gives, or on the rows themselves.
        steps: fitted transformers.
        rows: `(n, features)` rows on which the steps are tested.
        limits: `(features, 2)`, least and greatest value of each column: no row has others.

    Raises:
        TypeError: a step that mixes columns, adds or drops some, or turns the order of one around.
    """
    for position, step in enumerate(steps):
        _check(step, _through(steps[:position], rows))
    features = rows.shape[1]
    wanted = [sorted({t for tree in forest.trees for t in _thresholds(tree, j)}) for j in range(features)]
    most = max(1, *map(len, wanted))
    edges = np.array([[*column, *[0.0] * (most - len(column))] for column in wanted]).T

    def goes_right(values: Floats) -> NDArray[np.bool_]:
        seen = _through(steps, values)
        seen = seen.astype(np.float32).astype(np.float64) if forest.single else seen
        right: NDArray[np.bool_] = seen >= edges if forest.strict else seen > edges
        return right

    found = _least(goes_right, *(np.broadcast_to(limit, edges.shape) for limit in limits.T))
    moved = [dict(zip(column, found[:, j].tolist(), strict=False)) for j, column in enumerate(wanted)]
    return replace(forest, trees=tuple(_moved(tree, moved) for tree in forest.trees), strict=True, single=False)


def _thresholds(tree: Tree, feature: int) -> list[float]:
    chosen: list[float] = tree.threshold[(tree.left >= 0) & (tree.feature == feature)].tolist()
    return chosen


def _moved(tree: Tree, moved: Sequence[dict[float, float]]) -> Tree:
    threshold = tree.threshold.copy()
    for node in np.flatnonzero(tree.left >= 0):
        threshold[node] = moved[tree.feature[node]][float(threshold[node])]
    return replace(tree, threshold=threshold)


def _through(steps: Sequence[Any], rows: Floats) -> Floats:
    with warnings.catch_warnings():
        # A step that was fitted on named columns says so when it is asked about numbers.
        warnings.simplefilter("ignore", UserWarning)
        for step in steps:
            rows = np.asarray(step.transform(rows), dtype=np.float64)
    return rows


def _check(step: Any, rows: Floats) -> None:
    """Each column by itself, and never the other way round. Raises `TypeError`."""
    order = np.argsort(rows, axis=0, kind="stable")
    after = _through([step], rows)
    apart = _through([step], np.take_along_axis(rows, order, axis=0))
    if (
        after.shape != rows.shape
        or not np.array_equal(np.take_along_axis(after, order, axis=0), apart)
        or (np.diff(apart, axis=0) < 0).any()
    ):
        msg = f"estimator: the step {type(step).__name__} does not keep the columns apart and in their order"
        raise TypeError(msg)


def _least(holds: Callable[[Floats], NDArray[np.bool_]], low: Floats, high: Floats) -> Floats:
    """The least number from `low` on for which `holds`, or the one after `high`. Once it holds, it goes on holding."""
    below, above = _ranked(np.nextafter(low, -np.inf)), _ranked(np.nextafter(high, np.inf))
    for _ in range(_STEPS_OF_BISECTION):
        middle = (below >> 1) + (above >> 1) + (below & above & 1)
        yes = holds(_unranked(middle))
        below, above = np.where(yes, below, middle), np.where(yes, middle, above)
    return _unranked(above)


def _ranked(numbers: Floats) -> NDArray[np.int64]:
    """Doubles as integers in the same order, neighbours beside each other."""
    bits = np.ascontiguousarray(numbers).view(np.int64)
    return np.where(bits < 0, _LEAST - bits, bits)


def _unranked(ranks: NDArray[np.int64]) -> Floats:
    return np.where(ranks < 0, _LEAST - ranks, ranks).view(np.float64)
