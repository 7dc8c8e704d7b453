"""What a forest asks of a column, in the column's own numbers.

A tree asks whether a number is below a threshold, or not above it; after rounding it to float32; in a pipeline, after scaling.
Where every step keeps columns apart and never turns their order around, all of that is one question about the column as it
was: x goes left exactly if it is below the least number that goes right. That number is found by bisection through the steps
themselves, so it is right to the last bit, whatever they compute: a StandardScaler, a QuantileTransformer, bins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.pipelines import Output, Steps, read_steps

Floats: TypeAlias = NDArray[np.float64]

_LEAST: Final = np.int64(np.iinfo(np.int64).min)
_STEPS_OF_BISECTION: Final = 64


def before_steps(forest: Forest, steps: Steps) -> Forest:
    """`forest` for rows as they are before `steps`: strict, and not rounding.

    Raises `TypeError` on steps that mix columns, encode categories, or turn the order of a column around.
    """
    outputs = read_steps(steps)
    wanted = wanted_thresholds(forest)
    if any(outputs[output].column < 0 or outputs[output].table is not None for output in wanted):
        msg = "estimator: the trees ask for something that is no column of numbers"
        raise TypeError(msg)
    moved = raw_thresholds(steps, outputs, wanted, forest)

    def of_columns(tree: Tree) -> Tree:
        feature, threshold = tree.feature.copy(), tree.threshold.copy()
        for node in np.flatnonzero(tree.left != LEAF):
            feature[node] = outputs[tree.feature[node]].column
            threshold[node] = moved[int(tree.feature[node]), float(tree.threshold[node])]
        return replace(tree, feature=feature, threshold=threshold)

    trees = tuple(map(of_columns, forest.trees))
    return replace(forest, trees=trees, strict=True, single=False, features=len(steps.prepared.columns))


def wanted_thresholds(forest: Forest) -> dict[int, list[float]]:
    """What each number that a forest reads is compared with, ascending."""
    found: dict[int, set[float]] = {}
    for tree in forest.trees:
        for node in np.flatnonzero(tree.left != LEAF):
            found.setdefault(int(tree.feature[node]), set()).add(float(tree.threshold[node]))
    return {output: sorted(asked) for output, asked in found.items()}


def raw_thresholds(
    steps: Steps, outputs: Sequence[Output], wanted: Mapping[int, Sequence[float]], forest: Forest
) -> dict[tuple[int, float], float]:
    """What `forest` asks of outputs of `steps`, asked of the columns behind them.

    Args:
        steps: the steps in front of the forest.
        outputs: what was found out about them.
        wanted: thresholds by the output that they are compared with, all of them outputs of numbers.
        forest: says how it compares: strictly, after rounding to float32.

    Gives, for each output and threshold, the least number of its column that goes right, or the one past the column's range.
    Raises `TypeError` where an output falls as its column rises.
    """
    for output in wanted:
        if outputs[output].slope < 0:
            name = steps.prepared.names[outputs[output].column]
            msg = f"estimator: the steps before the model ({steps.names}) turn the order of the column {name!r:.60} around"
            raise TypeError(msg)
    limits = steps.prepared.limits
    base = np.where(np.isnan(steps.prepared.rows), np.inf, steps.prepared.rows).min(axis=0)
    found: dict[tuple[int, float], float] = {}
    waiting = [output for output in wanted if len(wanted[output])]
    while waiting:  # at once, those whose columns differ
        layer = {outputs[output].column: output for output in reversed(waiting)}
        waiting = [output for output in waiting if output not in layer.values()]
        columns, asked = list(layer), list(layer.values())
        most = max(len(wanted[output]) for output in asked)
        edges = np.array([[*wanted[output], *[0.0] * (most - len(wanted[output]))] for output in asked]).T

        def goes_right(
            values: Floats, columns: list[int] = columns, asked: list[int] = asked, edges: Floats = edges
        ) -> NDArray[np.bool_]:
            rows = np.tile(base, (len(values), 1))
            rows[:, columns] = values
            seen = steps(rows)[:, asked]
            seen = seen.astype(np.float32).astype(np.float64) if forest.single else seen
            right: NDArray[np.bool_] = seen >= edges if forest.strict else seen > edges
            return right

        ends = (np.broadcast_to(limits[columns, end], edges.shape) for end in (0, 1))
        numbers = _least(goes_right, *ends)
        for place, output in enumerate(asked):
            found |= {
                (output, float(threshold)): float(number)
                for threshold, number in zip(wanted[output], numbers[:, place], strict=False)
            }
    return found


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
