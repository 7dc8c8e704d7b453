"""From what a forest asks to public questions, and the forest over their answers.

What is asked is public, so it must not tell what the forest asks. Of a column of numbers, two ways lead there:

- **public bins**: a `PublicBins` step cuts it. Every edge is asked, whether the forest uses it or not.
- **own thresholds**: exact for any forest, but its thresholds stand in the client part, among decoys: every such column gets as
  many edges as the one with the most (`decoys`).

Where calibration rows miss values, both answers for a missing value are asked of that column's edges, so that the forest may send
it either way. A category is asked whether it is each of its values; where an encoder numbered its values and the forest cuts
between them, whether it is at or past each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import Questions, count
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.decoys import with_decoys
from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.pipelines import Output, Steps
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.steps import raw_thresholds, wanted_thresholds

Floats = NDArray[np.float64]


class Condition(NamedTuple):
    """A bit by what it answers, and what sends a row right: the bit, or its complement."""

    column: int
    kind: str
    value: float
    right: bool


class Asking(NamedTuple):
    """Public questions, and what a forest asks in terms of them.

    Attributes:
        questions: in the order of bits.
        conditions: by output and threshold of the forest; a truth where every row goes one way.
        disclosed: whether edges tell thresholds of the model, among decoys.
    """

    questions: tuple[Questions, ...]
    conditions: dict[tuple[int, float], Condition | bool]
    disclosed: bool


def ask(forest: Forest, steps: Steps, outputs: Sequence[Output]) -> Asking:
    """Choose public questions for a forest behind `steps`.

    Raises `ValueError` on a category that may be missing, or where there is nothing to ask; `TypeError` on a category whose
    values are grouped.
    """
    prepared = steps.prepared
    wanted = wanted_thresholds(forest)
    numbers = {output: asked for output, asked in wanted.items() if _is_number(outputs[output])}
    codes = _codes(steps, outputs) if has_bins(steps.steps) else {}
    thresholds = raw_thresholds(steps, outputs, numbers, forest)
    edges: list[set[float]] = [set() for _ in prepared.columns]
    for (output, _), edge in raw_thresholds(steps, outputs, codes, _PLAIN_COMPARISON).items():
        edges[outputs[output].column].add(edge)
    own = {output for output in numbers if output not in codes}
    cut = {outputs[output].column for output in codes}
    disclosed = {position for position, column in enumerate(prepared.columns) if column["type"] != "category"} - cut
    conditions = _conditions(forest, prepared, outputs, wanted, thresholds)
    for (output, _), condition in conditions.items():
        if output in own and isinstance(condition, Condition):
            edges[condition.column].add(condition.value)
    _add_ends(edges, cut | disclosed, prepared)
    edges = with_decoys(edges, disclosed, forest, steps, outputs)
    questions: list[Questions] = []
    for position, (column, misses) in enumerate(zip(prepared.columns, prepared.may_miss, strict=True)):
        if column["type"] == "category":
            if misses:
                msg = f"calibration: the column {column['name']!r:.60} has empty cells; give it a category to fill in"
                raise ValueError(msg)
            tables = [_table(output, forest) for output in outputs if output.column == position]
            kinds = sorted(set().union(*map(_kinds, tables))) or ["is"]
            values = [float(place) for place in range(len(column["categories"]))]
            questions += [Questions(column=position, kind=kind, values=values) for kind in kinds]  # type: ignore[arg-type]
        elif edges[position]:
            for kind in ("at_least", "at_least_or_missing")[: 1 + misses]:
                questions.append(Questions(column=position, kind=kind, values=sorted(edges[position])))  # type: ignore[arg-type]
    if not questions:
        msg = "estimator: its trees ask nothing, and every column of the calibration rows holds one number: there is nothing to ask"
        raise ValueError(msg)
    return Asking(tuple(questions), conditions, disclosed=bool(own))


def over_bits(forest: Forest, asking: Asking, may_miss: Sequence[bool]) -> BitForest:
    """`forest` over the answers to the questions."""
    places: dict[tuple[int, str, float], int] = {}
    for asked in asking.questions:
        for value in asked.values or [0.0]:
            places[asked.column, asked.kind, value] = len(places)
    trees = tuple(tuple(_leaves(tree, asking, places, may_miss)) for tree in forest.trees)
    return BitForest(trees, count(asking.questions), forest.bias)


def _is_number(output: Output) -> bool:
    return output.column >= 0 and output.table is None


def has_bins(steps: Sequence[Any], kinds: Sequence[str] = ("PublicBins",)) -> bool:
    """Whether one of these kinds is among the steps, or among those of a ColumnTransformer or a pipeline in them."""
    for step in steps:
        inner = [each for _, each, _ in getattr(step, "transformers_", [])] or [
            each for _, each in getattr(step, "steps", [])
        ]
        if type(step).__name__ in kinds or has_bins(inner, kinds):
            return True
    return False


def _codes(steps: Steps, outputs: Sequence[Output]) -> dict[int, list[float]]:
    """The bin numbers of the outputs that `PublicBins` gives: whole numbers from 0 on, that rise in steps."""
    limits = steps.prepared.limits
    low, high = steps(limits.T)
    given = steps(np.where(np.isnan(steps.prepared.rows), limits[:, 0], steps.prepared.rows))
    found = {}
    for number, output in enumerate(outputs):
        whole = (given[:, number] == np.rint(given[:, number])).all() and low[number] >= 0
        if _is_number(output) and not output.affine and whole:
            found[number] = [float(code) for code in range(1, int(high[number]) + 1)]
    return found


def _add_ends(edges: list[set[float]], cut: set[int], prepared: Prepared) -> None:
    """Edges at both ends of columns that may be missing: a tree may part missing values from all others."""
    for column in cut:
        if prepared.may_miss[column]:
            low, high = prepared.limits[column].tolist()
            edges[column] |= {low, float(np.nextafter(high, np.inf))}


def _conditions(
    forest: Forest,
    prepared: Prepared,
    outputs: Sequence[Output],
    wanted: dict[int, list[float]],
    thresholds: dict[tuple[int, float], float],
) -> dict[tuple[int, float], Condition | bool]:
    found: dict[tuple[int, float], Condition | bool] = {}
    columns, limits = prepared.columns, prepared.limits
    for number, asked in wanted.items():
        output = outputs[number]
        for threshold in asked:
            if _is_number(output):
                edge = thresholds[number, threshold]
                low, high = limits[output.column]
                asks = prepared.may_miss[output.column] or low < edge <= high
                condition = Condition(output.column, "at_least", edge, right=True)
                found[number, threshold] = (
                    condition if asks else bool(edge <= low)
                )  # else all of its range goes one way
                continue
            values = _table(output, forest)
            right = values >= threshold if forest.strict else values > threshold
            name = "" if output.column < 0 else columns[output.column]["name"]
            found[number, threshold] = _category_condition(output.column, name, right, in_order=_in_order(values))
    return found


def _table(output: Output, forest: Forest) -> Floats:
    """What the forest sees of each position of a category, or of a number that is always the same."""
    values = np.atleast_1d(output.offset if output.table is None else output.table)
    return values.astype(np.float32).astype(np.float64) if forest.single else values


def _in_order(values: Floats) -> bool:
    """Whether positions were numbered, and not picked out one by one."""
    steps = np.diff(values)
    return len(np.unique(values)) > 2 and bool((steps >= 0).all() or (steps <= 0).all())  # noqa: PLR2004  (two: picked out)


def _kinds(values: Floats) -> set[str]:
    """What any forest could ask of a category with these numbers: questions are public, and say nothing of this one."""
    found = set()
    for number in np.unique(values)[:-1]:
        try:
            condition = _category_condition(0, "", values > number, in_order=_in_order(values))
        except TypeError:
            continue
        found |= {condition.kind} if isinstance(condition, Condition) else set()
    return found


def _category_condition(column: int, name: str, right: NDArray[np.bool_], *, in_order: bool) -> Condition | bool:
    """What sends a category right, given which positions go there. `in_order`: all that may be asked of it is how far they go."""
    if right.all() or not right.any():
        return bool(right[0])
    for way in (True, False):
        one = np.flatnonzero(right == way)
        if len(one) == 1 and not in_order:
            return Condition(column, "is", float(one[0]), right=way)
        if (np.diff(one) == 1).all() and one[-1] == len(right) - 1:
            return Condition(column, "at_least", float(one[0]), right=way)
    msg = f"estimator: the trees ask the category {name!r:.60} for a group of its values; encode it with OneHotEncoder"
    raise TypeError(msg)


def _leaves(
    tree: Tree, asking: Asking, places: dict[tuple[int, str, float], int], may_miss: Sequence[bool]
) -> list[Leaf]:
    found = []
    waiting: list[tuple[int, tuple[int, ...], tuple[bool, ...]]] = [(0, (), ())]
    while waiting:
        node, bits, wanted = waiting.pop()
        left, right = int(tree.left[node]), int(tree.right[node])
        if left == LEAF:
            found.append(Leaf(bits, wanted, tuple(tree.value[node].tolist())))
            continue
        condition = asking.conditions[int(tree.feature[node]), float(tree.threshold[node])]
        if isinstance(condition, bool):
            waiting.append((right if condition else left, bits, wanted))
            continue
        kind = condition.kind
        if kind == "at_least" and may_miss[condition.column] and not tree.missing_left[node]:
            kind = "at_least_or_missing"
        bit = places[condition.column, kind, condition.value]
        waiting.append((right, (*bits, bit), (*wanted, condition.right)))
        waiting.append((left, (*bits, bit), (*wanted, not condition.right)))
    return found


_PLAIN_COMPARISON = Forest(
    framework="sklearn",
    estimator="",
    trees=(),
    strict=True,
    bias=(),
    features=0,
    labels=None,
    link="identity",
    single=False,
)
"""How bin numbers are compared with: x ≥ k."""
