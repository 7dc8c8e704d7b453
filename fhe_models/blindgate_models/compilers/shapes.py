"""The shape functions of an additive model, found out by asking it.

An additive model's score is f(x) = f₀ + Σ_c f_c(x_c) + Σ_cd f_cd(x_c, x_d). If every f is constant between known edges, asking the
fitted model about one row in each cell gives them all: from a base row, one column at a time, then two. Whatever the model is made
of, an explainable boosting machine, bins and a logistic regression, boosted stumps, the answer is the same tables, and comparing
them with the model on every calibration row shows whether it was additive.

A *state* of a column is one of its cells: between two edges, one category, missing. Each bit that is asked stands for the step from
one state to another, so tables over states become weights over bits by differences.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from blindgate_models.additive.spec import Pair
from blindgate_models.bits import Questions, answers, count
from blindgate_models.compilers.prepared import Prepared

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""Raw scores `(n, outputs)` of rows of the client's kind."""

_Number = TypeVar("_Number", np.int64, np.float64)
_ROWS_AT_ONCE = 1 << 15
_SUMMED_AT_ONCE = 1 << 10


class States(NamedTuple):
    """The cells of one column.

    Attributes:
        values: a value of the column in each; the first is the base.
        reached: for each of the column's bits, the state that it stands for.
        before: the state that it is a step from.
    """

    values: Floats
    reached: NDArray[np.intp]
    before: NDArray[np.intp]


class Asked(NamedTuple):
    """What is asked of one column, and the cells that the answers tell apart."""

    column: int
    questions: list[Questions]
    states: States


class Shapes(NamedTuple):
    """An additive model as tables.

    Attributes:
        base: f of the base row, `(outputs,)`.
        single: for each column, what each state adds, `(states, outputs)`.
        double: for each pair of columns, what both states add together, `(states, states, outputs)`.
    """

    base: Floats
    single: list[Floats]
    double: list[Floats]

    @property
    def largest(self) -> Floats:
        """How far a score can be from 0, `(outputs,)`."""
        total = np.abs(self.base)
        for table in self.single:
            total = total + np.abs(table).max(axis=0)
        for table in self.double:
            total = total + np.abs(table).max(axis=(0, 1))
        return total

    def scaled(self, scale_bits: int) -> "Shapes":
        """The tables times 2^S, rounded to integers."""
        rounded = [[np.rint(np.ldexp(table, scale_bits)) for table in tables] for tables in (self.single, self.double)]
        return Shapes(np.rint(np.ldexp(self.base, scale_bits)), *rounded)


def ask_column(prepared: Prepared, position: int, cuts: Sequence[float]) -> Asked:
    """Public questions about a column, and its states. `cuts`: its edges, ascending; a category has none."""
    column, misses = prepared.columns[position], prepared.may_miss[position]
    questions = []
    if column["type"] == "category":
        places = np.arange(len(column["categories"]))
        others = column["out_of_range"] == "other"
        values = np.array([*([len(places)] if others else []), *places], dtype=np.float64)
        reached = places + others
        before = np.zeros(len(reached), dtype=np.intp)
        questions.append(Questions(column=position, kind="is", values=[float(place) for place in places]))
    else:
        low = float(prepared.limits[position, 0])
        values = np.array([min(low, np.nextafter(cuts[0], -np.inf)) if len(cuts) else low, *cuts])
        reached = np.arange(1, len(values))
        before = reached - 1
        if len(cuts):
            questions.append(Questions(column=position, kind="at_least", values=list(map(float, cuts))))
    if misses:
        questions.append(Questions(column=position, kind="is_missing", values=[]))
        reached, before = np.append(reached, len(values)), np.append(before, 0)
        values = np.append(values, np.nan)
    return Asked(position, questions, States(values, reached, before))


def read_shapes(score: Score, singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]]) -> Shapes:
    """Ask `score` about every cell of every column, `singles`, and of every pair of columns."""
    base = np.array([asked.states.values[0] for asked in singles])
    origin = score(base[None])[0]
    double = []
    for first, second in pairs:
        one, other = first.states.values, second.states.values
        rows = np.repeat(base[None], len(one) * len(other), axis=0)
        rows[:, first.column], rows[:, second.column] = np.repeat(one, len(other)), np.tile(other, len(one))
        both = _answered(score, rows).reshape(len(one), len(other), -1) - origin
        alone = [_alone(score, base, origin, asked) for asked in (first, second)]
        double.append(both - alone[0][:, None] - alone[1][None])
    return Shapes(origin, [_alone(score, base, origin, asked) for asked in singles], double)


def weights_of(shapes: Shapes, singles: Sequence[Asked], pairs: Sequence[tuple[Asked, Asked]]) -> Floats:
    """The tables as weights of bits and products of bits, `(inputs, outputs)`, in the order of the additive family's inputs."""
    parts = [
        table[asked.states.reached] - table[asked.states.before]
        for table, asked in zip(shapes.single, singles, strict=True)
    ]
    for table, (first, second) in zip(shapes.double, pairs, strict=True):
        rows = table[first.states.reached] - table[first.states.before]
        cells = rows[:, second.states.reached] - rows[:, second.states.before]
        parts.append(cells.reshape(-1, cells.shape[-1]))
    return np.concatenate(parts)


def summed(
    questions: Sequence[Questions], pairs: Sequence[Pair], rows: Floats, weights: NDArray[_Number]
) -> NDArray[_Number]:
    """`inputs_of(questions, pairs, rows) @ weights`, `(n, outputs)`, without the products of bits, of which there may be a million.

    A pair's share is Σ_b b·(Σ_a a·w_ab): the tables' rows are added up first, and then what the other column reaches of them.
    """
    parts = [
        _summed(questions, pairs, rows[start : start + _SUMMED_AT_ONCE], weights)
        for start in range(0, len(rows), _SUMMED_AT_ONCE)
    ]
    return np.concatenate(parts)


def _summed(
    questions: Sequence[Questions], pairs: Sequence[Pair], rows: Floats, weights: NDArray[_Number]
) -> NDArray[_Number]:
    place = count(questions)
    total = answers(questions, rows).astype(weights.dtype) @ weights[:place]
    for pair in pairs:
        first, second = (answers(asked, rows).astype(weights.dtype) for asked in (pair.first, pair.second))
        cells = weights[place : place + pair.products].reshape(first.shape[1], second.shape[1], -1)
        for output in range(cells.shape[2]):
            total[:, output] += ((first @ cells[:, :, output]) * second).sum(axis=1)
        place += pair.products
    return total


def _alone(score: Score, base: Floats, origin: Floats, asked: Asked) -> Floats:
    """What each state of a column adds to the base row."""
    rows = np.repeat(base[None], len(asked.states.values), axis=0)
    rows[:, asked.column] = asked.states.values
    return _answered(score, rows) - origin


def _answered(score: Score, rows: Floats) -> Floats:
    parts = [score(rows[start : start + _ROWS_AT_ONCE]) for start in range(0, len(rows), _ROWS_AT_ONCE)]
    return np.concatenate(parts)
