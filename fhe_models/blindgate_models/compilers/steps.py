"""What a forest asks of a column, in the column's own numbers.

A tree asks whether a number is below a threshold, or not above it; after rounding it to float32; in a pipeline, after scaling.
Where every step keeps columns apart and never turns their order around, all of that is one question about the column as it
was: x goes left exactly if it is below the least number that goes right. That number is found by bisection through the steps
themselves, so it is right to the last bit, whatever they compute: a StandardScaler, a QuantileTransformer, bins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.category_questions import Condition, ask_category
from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.pipelines import Output, Steps, read_steps
from blindgate_models.features import Feature, columns_as_they_are

Floats: TypeAlias = NDArray[np.float64]

_CHANGED: Final = ("left", "right", "feature", "threshold")
_LEAST: Final = np.int64(np.iinfo(np.int64).min)
_STEPS_OF_BISECTION: Final = 64


class _Split(NamedTuple):
    """What a node asks of a feature: whether it reaches a threshold, or does not."""

    feature: int
    threshold: float
    reaches: bool


def before_steps(forest: Forest, steps: Steps) -> tuple[Forest, list[Feature]]:
    """`forest` for rows as they are before `steps`, strict and not rounding; and what it reads of them.

    Those are the columns, a category by its position in the list, and whether a row holds each category that is asked for.
    Raises `TypeError` on steps that mix columns, or turn the order of a column around; on a category that is asked for a group
    of its values.
    """
    if forest.sets:
        msg = "estimator: trees part a column by category, into groups: encode it with OneHotEncoder, or see the family trees"
        raise TypeError(msg)
    outputs = read_steps(steps)
    wanted = wanted_thresholds(forest)
    numbers = {output: asked for output, asked in wanted.items() if outputs[output].is_number}
    moved = raw_thresholds(steps, outputs, numbers, forest)
    features = columns_as_they_are(len(steps.prepared.columns))
    splits = {key: _Split(outputs[key[0]].column, threshold, reaches=True) for key, threshold in moved.items()}
    for output, asked in wanted.items():
        for threshold in () if output in numbers else asked:
            splits[output, threshold] = _of_category(outputs[output], threshold, forest, steps, features)

    def of_features(tree: Tree) -> Tree:
        changed = replace(tree, **{name: getattr(tree, name).copy() for name in _CHANGED})
        for node in np.flatnonzero(tree.left != LEAF):
            split = splits[int(tree.feature[node]), float(tree.threshold[node])]
            changed.feature[node], changed.threshold[node] = split.feature, split.threshold
            if not split.reaches:
                changed.left[node], changed.right[node] = tree.right[node], tree.left[node]
        return changed

    trees = tuple(map(of_features, forest.trees))
    return replace(forest, trees=trees, strict=True, single=False, features=len(features)), features


def _of_category(output: Output, threshold: float, forest: Forest, steps: Steps, features: list[Feature]) -> _Split:
    """What a node asks of a category, with a feature added to `features` for it where there was none."""
    values = np.atleast_1d(output.offset if output.table is None else output.table)
    seen = forest.seen(values)
    right = seen >= threshold if forest.strict else seen > threshold
    column = None if output.column < 0 else steps.prepared.columns[output.column]
    if column is not None:
        categories = len(column["categories"])
        asked = ask_category(categories, [seen], others=len(seen) > categories).condition(output.column, right)
        if isinstance(asked, Condition) and asked.kind == "at_least":
            return _Split(output.column, asked.values[0], reaches=asked.right)
        if isinstance(asked, Condition) and len(asked.values) == 1:
            feature = Feature(column=output.column, kind="is", position=int(asked.values[0]))
            if feature not in features:
                features.append(feature)
            return _Split(features.index(feature), 1.0, reaches=asked.right)
    name = "" if column is None else column["name"]
    msg = f"estimator: the trees ask the category {name!r:.60} for a group of its values; encode it with OneHotEncoder"
    raise TypeError(msg)


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
            seen = forest.seen(steps(rows)[:, asked])
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
