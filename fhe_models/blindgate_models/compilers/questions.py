"""From what a forest asks to public questions, and the forest over their answers.

What is asked is public, so it must not tell what the forest asks. Of a column of numbers, two ways lead there:

- **public bins**: a `PublicBins` step cuts it. Every edge is asked, whether the forest uses it or not.
- **own thresholds**: exact for any forest, but its thresholds stand in the client part, among decoys: every such column gets as
  many edges as the one with the most (`decoys`).

Where calibration rows miss values, both answers for a missing value are asked of that column's edges, so that the forest may send
it either way. What is asked of a category follows from the steps in front of the forest: `category_questions`.
"""

from collections.abc import Callable, Sequence
from operator import mul
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import MAX_BITS, MAX_GROUPS, Questions, count
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.category_questions import AskedCategory, Condition, ask_category
from blindgate_models.compilers.decoys import with_decoys
from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.pipelines import Output, Steps
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.steps import raw_thresholds, wanted_thresholds

Floats = NDArray[np.float64]

_Kind: TypeAlias = Literal["at_least", "at_least_or_missing"]


class Asking(NamedTuple):
    """Public questions, and what a forest asks in terms of them.

    Attributes:
        questions: in the order of bits.
        conditions: by output and threshold of the forest; a truth where every row goes one way.
        disclosed: whether edges tell thresholds of the model, among decoys.
        members: how many bits a condition may have at most, whatever the forest asks.
    """

    questions: tuple[Questions, ...]
    conditions: dict[tuple[int, float], Condition | bool]
    disclosed: bool
    members: int


def ask(forest: Forest, steps: Steps, outputs: Sequence[Output]) -> Asking:
    """Choose public questions for a forest behind `steps`.

    Raises `ValueError` on a category that may be missing, or where there is nothing to ask, or too much.
    """
    prepared = steps.prepared
    wanted = wanted_thresholds(forest)
    _require_categories(forest, prepared, outputs)
    numbers = {output: asked for output, asked in wanted.items() if outputs[output].is_number}
    codes = _codes(steps, outputs) if has_bins(steps.steps) else {}
    thresholds = raw_thresholds(steps, outputs, numbers, forest)
    edges: list[set[float]] = [set() for _ in prepared.columns]
    for (output, _), edge in raw_thresholds(steps, outputs, codes, _PLAIN_COMPARISON).items():
        edges[outputs[output].column].add(edge)
    own = {output for output in numbers if output not in codes}
    cut = {outputs[output].column for output in codes}
    disclosed = {position for position, column in enumerate(prepared.columns) if column["type"] != "category"} - cut
    categories = _categories(forest, prepared, outputs)
    conditions = _conditions(forest, steps, outputs, thresholds, categories)
    for (output, _), condition in conditions.items():
        if output in own and isinstance(condition, Condition):
            edges[condition.column] |= set(condition.values)
    _add_ends(edges, cut | disclosed, prepared)
    times = [1 + misses for misses in prepared.may_miss]
    asks = sum(map(mul, map(len, edges), times)) + sum(
        len(asked.values) + asked.missing for asked in categories.values()
    )
    if asks > MAX_BITS:
        msg = (
            f"estimator: its trees ask {asks} questions of a row, expected at most {MAX_BITS}: fit it behind PublicBins (--bins "
            "does), or fewer trees on fewer columns"
        )
        raise ValueError(msg)
    edges = with_decoys(edges, disclosed, forest, steps, outputs, room=MAX_BITS - asks)
    questions: list[Questions] = []
    for position, (column, misses) in enumerate(zip(prepared.columns, prepared.may_miss, strict=True)):
        if column["type"] == "category":
            asked = categories[position]
            if misses and not asked.missing:
                msg = f"calibration: the column {column['name']!r:.60} has empty cells; give it a category to fill in"
                raise ValueError(msg)
            questions.append(Questions(column=position, kind=asked.kind, values=asked.values))
            questions += [Questions(column=position, kind="is_missing", values=[])] if misses else []
        elif edges[position]:
            kinds: tuple[_Kind, ...] = ("at_least", "at_least_or_missing")
            values = sorted(edges[position])
            questions += [Questions(column=position, kind=kind, values=values) for kind in kinds[: 1 + misses]]
    if not questions:
        msg = "estimator: its trees ask nothing, and every column of the calibration rows holds one number: there is nothing to ask"
        raise ValueError(msg)
    members = max((asked.members for asked in categories.values()), default=1)
    return Asking(tuple(questions), conditions, bool(own), members)


def over_bits(forest: Forest, asking: Asking, may_miss: Sequence[bool]) -> BitForest:
    """`forest` over the answers to the questions. Raises `ValueError` where it asks for too many groups of categories."""
    places: dict[tuple[int, str, float], int] = {}
    for asked in asking.questions:
        for value in asked.values or [0.0]:
            places[asked.column, asked.kind, value] = len(places)
    numbers: dict[tuple[int, ...], int] = {}

    def number(column: int, kind: str, values: tuple[float, ...]) -> int:
        bits = tuple(
            places[column, "is_missing", 0.0] if np.isnan(value) else places[column, kind, value] for value in values
        )
        return bits[0] if len(bits) == 1 else numbers.setdefault(bits, len(places) + len(numbers))

    trees = tuple(tuple(_leaves(tree, asking, number, may_miss)) for tree in forest.trees)
    if len(numbers) > MAX_GROUPS:
        msg = f"estimator: its trees ask for {len(numbers)} groups of categories, expected at most {MAX_GROUPS}"
        raise ValueError(msg)
    return BitForest(trees, count(asking.questions), forest.bias, tuple(numbers))


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
        if output.is_number and not output.affine and whole:
            found[number] = [float(code) for code in range(1, int(high[number]) + 1)]
    return found


def _add_ends(edges: list[set[float]], cut: set[int], prepared: Prepared) -> None:
    """Edges at both ends of columns that may be missing: a tree may part missing values from all others."""
    for column in cut:
        if prepared.may_miss[column]:
            low, high = prepared.limits[column].tolist()
            edges[column] |= {low, float(np.nextafter(high, np.inf))}


def _categories(forest: Forest, prepared: Prepared, outputs: Sequence[Output]) -> dict[int, AskedCategory]:
    """What is asked of each column of categories."""
    tables: dict[int, list[Floats]] = {}
    native = {outputs[number].column for number in forest.categorical}
    for output in outputs:
        if output.column >= 0 and output.table is not None:
            tables.setdefault(output.column, []).append(forest.seen(output.table))
    return {
        position: ask_category(
            len(column["categories"]),
            tables.get(position, []),
            others=column["out_of_range"] == "other",
            native=position in native,
            missing=position in native and misses,
        )
        for position, (column, misses) in enumerate(zip(prepared.columns, prepared.may_miss, strict=True))
        if column["type"] == "category"
    }


def _require_categories(forest: Forest, prepared: Prepared, outputs: Sequence[Output]) -> None:
    """Raises `TypeError` on a column that the model takes for categories, and the client for numbers."""
    for number in forest.categorical:
        if outputs[number].is_number:
            name = prepared.names[outputs[number].column]
            msg = f'estimator: takes the column {name!r:.60} for categories: say so with a rule, type = "category"'
            raise TypeError(msg)


def _conditions(
    forest: Forest,
    steps: Steps,
    outputs: Sequence[Output],
    thresholds: dict[tuple[int, float], float],
    categories: dict[int, AskedCategory],
) -> dict[tuple[int, float], Condition | bool]:
    prepared = steps.prepared
    found: dict[tuple[int, float], Condition | bool] = {}
    for number, asked in wanted_thresholds(forest).items():
        output = outputs[number]
        for threshold in asked:
            if output.is_number:
                edge = thresholds[number, threshold]
                low, high = prepared.limits[output.column]
                asks = prepared.may_miss[output.column] or low < edge <= high
                condition = Condition(output.column, "at_least", (edge,), right=True)
                found[number, threshold] = (
                    condition if asks else bool(edge <= low)
                )  # else all of its range goes one way
                continue
            values = forest.seen(np.atleast_1d(output.offset if output.table is None else output.table))
            if number in forest.categorical:
                right = ~np.isin(values, list(forest.sets[int(threshold)]))
            else:
                right = values >= threshold if forest.strict else values > threshold
            found[number, threshold] = (
                bool(right[0]) if output.column < 0 else categories[output.column].condition(output.column, right)
            )
    return found


def _leaves(
    tree: Tree,
    asking: Asking,
    number: Callable[[int, str, tuple[float, ...]], int],
    may_miss: Sequence[bool],
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
        bit = number(condition.column, kind, condition.values)
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
