"""Decoys: edges that stand in a client part among the thresholds that a forest asks of a column.

Whoever reads the part looks for what sets the two apart, so decoys are made as thresholds are:

- where the framework would cut: at values of the calibration rows, between two that follow each other, among all rows or among
  those of a node, or anywhere (extremely randomised trees). Which of these it was is seen from the forest's own thresholds;
- in the numbers that the forest sees, after its steps, and brought back to the column's own by the same bisection. A threshold
  between two values, or rounded to float32, is no number that somebody has written down; nor is a decoy;
- drawn by the model and the rows alone, which nobody else knows: who compiles a model twice publishes the same edges twice. Two
  draws would have nothing but the thresholds in common.

What they cannot do: of the column that is asked most there are none; there are no more in all than a row's questions have room for;
and two versions of a model, trained alike, share more thresholds than decoys. `PublicBins` has none of these weaknesses.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.compilers.forests import Forest
from blindgate_models.compilers.pipelines import Output, Steps
from blindgate_models.compilers.steps import raw_thresholds, wanted_thresholds
from blindgate_models.randomness import Source

Floats: TypeAlias = NDArray[np.float64]
_Cuts: TypeAlias = Callable[[Floats], Floats]
"""Every threshold from the values of a column, ascending and different, as the forest sees them."""
_Draw: TypeAlias = Callable[[Floats, int, Source], Floats]
"""Up to so many thresholds, from the values of a column in all rows."""

_FEWEST_EDGES: Final = 4
_MANY, _FEW = 0.9, 0.05  # of the thresholds, which a way of cutting explains
_MOST_ROWS: Final = 1 << 11


def _middles(values: Floats) -> Floats:
    return values[:-1] / 2 + values[1:] / 2


_WAYS: Final[dict[str, _Cuts]] = {
    "sklearn": _middles,
    "xgboost": lambda values: values[1:],
    "lightgbm": lambda values: np.nextafter(_middles(values), np.inf),
    "single": lambda values: _middles(values).astype(np.float32).astype(np.float64),
}
"""By framework; and what XGBoost does when it is exact."""


def with_decoys(  # noqa: PLR0913  (a forest, what is before it, and what is known of both)
    edges: Sequence[set[float]],
    disclosed: Collection[int],
    forest: Forest,
    steps: Steps,
    outputs: Sequence[Output],
    *,
    room: int,
) -> list[set[float]]:
    """The edges of each column, and decoys for `disclosed` ones, up to as many as the one with the most edges has.

    Or up to fewer, where there is `room` for that many further questions of a row and no more.
    """
    most = max([_FEWEST_EDGES, *(len(edges[column]) for column in disclosed)])
    times = [1 + misses for misses in steps.prepared.may_miss]
    while sum(max(0, most - len(edges[column])) * times[column] for column in disclosed) > room:
        most -= 1
    shown = {outputs[output].column: output for output in reversed(range(len(outputs))) if outputs[output].is_number}
    rows = steps.prepared.rows
    source = _source(forest, rows)
    seen = _seen(steps, forest)
    values = {shown[column]: seen[~np.isnan(rows[:, column]), shown[column]] for column in disclosed & shown.keys()}
    cut = _way(forest, values)
    # As many again, since some may be edges already.
    drawn = {output: cut(given, 2 * most, source).tolist() for output, given in values.items()}
    found = [set(own) for own in edges]
    for (output, _), edge in raw_thresholds(steps, outputs, drawn, forest).items():
        column = outputs[output].column
        low, high = steps.prepared.limits[column]
        if len(found[column]) < most and low < edge <= high:
            found[column].add(edge)
    return found


def _seen(steps: Steps, forest: Forest) -> Floats:
    """The calibration rows as the forest sees them; where a value is missing, the least of its column stands."""
    rows = steps.prepared.rows
    least = np.where(np.isnan(rows), np.inf, rows).min(axis=0)
    seen = steps(np.where(np.isnan(rows), least, rows))
    return forest.seen(seen)


def _way(forest: Forest, values: dict[int, Floats]) -> _Draw:
    """How thresholds are drawn that lie among the values of an output as the forest's do."""
    if forest.estimator.startswith("ExtraTree"):
        return _anywhere
    wanted = {output: asked for output, asked in wanted_thresholds(forest).items() if output in values}
    total = max(1, sum(map(len, wanted.values())))
    shares = {
        name: sum(int(np.isin(asked, cuts(np.unique(values[output]))).sum()) for output, asked in wanted.items())
        / total
        for name, cuts in _WAYS.items()
    }
    best = max(shares, key=lambda name: (shares[name], name == forest.framework))
    cuts = _WAYS[best if shares[best] > _FEW else forest.framework]
    levels = max(len(tree.left).bit_length() - 1 for tree in forest.trees)
    if shares[best] > _MANY or cuts is _WAYS["xgboost"]:
        levels = 1
    return lambda given, count, source: _among_rows(given, count, source, cuts, levels)


def _among_rows(values: Floats, count: int, source: Source, cuts: _Cuts, levels: int) -> Floats:
    """Thresholds as nodes find them: each among some of the rows, of which a level has half as many as the one above it."""
    made = np.asarray(cuts(np.unique(values)))
    every: Floats = made[randomness.permutation(len(made), source)[:count]]
    if levels <= 1:
        return every
    values = values[randomness.permutation(len(values), source)[:_MOST_ROWS]]
    found: dict[float, None] = {}  # a set, in the order of drawing
    for place in randomness.below((1 << levels) - 1, count, source).tolist():
        some = randomness.permutation(len(values), source)[: max(2, len(values) >> ((place + 1).bit_length() - 1))]
        among = cuts(np.unique(values[some]))
        if len(among):
            found[float(among[randomness.below(len(among), 1, source)[0]])] = None
    return np.array([*found, *every])


def _anywhere(values: Floats, count: int, source: Source) -> Floats:
    shares = randomness.below(1 << 53, count, source) / float(1 << 53)
    return np.asarray(values.min() + shares * (values.max() - values.min()))


def _source(forest: Forest, rows: Floats) -> Source:
    """Random bytes that follow from the model and the rows."""
    state = hashlib.sha256(rows.tobytes())
    for tree in forest.trees:
        for array in (tree.left, tree.feature, tree.threshold, tree.value):
            state.update(np.ascontiguousarray(array).tobytes())
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(state.digest() + drawn.to_bytes(8, "little")).digest(size)

    return draw
