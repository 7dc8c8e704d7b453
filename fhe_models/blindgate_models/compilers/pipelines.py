"""What the steps in front of a model do to raw columns, found out by asking them.

Scalers, encoders, bins and ColumnTransformers come in more kinds than can be read one by one. What matters here is less: that
every number that they give the model depends on one column, and how. So the steps are asked about rows that differ from one row in
chosen columns (`_asked`):

1. each output that changes belongs to one column, and to no other;
2. an output of a column of numbers is affine in it, or at least never falls where it rises;
3. an output of a category is a table over its values.

What was found is then compared on all calibration rows; steps that mix columns, or do something else, are refused. A linear model,
and the first layer of a network, take steps that mix columns of numbers as well, if every output is a weighted sum of them, as a
principal component is (`read_affine`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.native_categories import Codes, native_categories
from blindgate_models.compilers.prepared import Prepared, unwrapped
from blindgate_models.features import Feature

Floats = NDArray[np.float64]

_PROBES: Final = 33
_NUMBERS_AT_ONCE: Final = 1 << 24
_CLOSE: Final = 1e-9
_MIXED_AT_ONCE: Final = 1 << 22
_SCATTERED: Final = 256


@dataclass(frozen=True)
class Steps:
    """The steps in front of a model, as a function of rows of the client's kind.

    Attributes:
        steps: fitted transformers, first to last.
        prepared: the rows, and how to write them for the first step.
    """

    steps: Sequence[Any]
    prepared: Prepared

    def __call__(self, rows: Floats) -> Floats:
        """What the model gets for `rows`, `(n, columns)`: `(n, outputs)`."""
        given: Any = self.prepared.ask(rows) if self.steps else rows
        with warnings.catch_warnings():
            # A step that was fitted on named columns says so when it is asked about numbers.
            warnings.simplefilter("ignore", UserWarning)
            for step in self.steps:
                given = step.transform(given)
        dense = given.toarray() if hasattr(given, "toarray") else given
        return np.asarray(dense, dtype=np.float64)

    @property
    def names(self) -> str:
        """The kinds of the steps, for messages."""
        return ", ".join(type(step).__name__ for step in self.steps)


class Output(NamedTuple):
    """One number that the steps give the model.

    Attributes:
        column: the column that it depends on, or -1 where it is always the same.
        slope: of an affine output of numbers.
        offset: likewise, or the value of one that is always the same.
        table: of a category, the output for each position, then for a value that is none of them, and, where the model itself takes
            the column for a category, for a missing one; the last two where there may be such. `None` for numbers.
        affine: whether slope and offset say all; else an output of numbers only rises with its column.
    """

    column: int
    slope: float
    offset: float
    table: Floats | None
    affine: bool

    @property
    def is_number(self) -> bool:
        """Whether it is made of a column of numbers."""
        return self.column >= 0 and self.table is None


def split(estimator: Any, prepared: Prepared) -> tuple[Steps, Any]:
    """The steps in front of a model, and the model. One that takes columns for categories begins with a step that numbers them."""
    *steps, model = [step for _, step in getattr(unwrapped(estimator), "steps", [("", estimator)])]
    steps = [step for step in steps if step is not None and step != "passthrough"]
    native = native_categories(model)
    return Steps(steps if native is None else [*steps, Codes(model, native)], prepared), model


def read_steps(steps: Steps) -> list[Output]:
    """How each number that the model gets depends on the columns. Raises `TypeError` on steps that do something else."""
    columns, values = steps.prepared.columns, _values(steps.prepared)
    base = _complete(steps.prepared.rows)[:1]
    owners, given = _asked(steps, base, values)
    found = []
    for owner, every in zip(owners.tolist(), given.T, strict=True):
        answers = every[: len(values[owner])]
        if owner < 0:
            found.append(Output(-1, 0.0, float(every[0]), None, affine=True))
        elif columns[owner]["type"] == "category":
            found.append(Output(owner, 0.0, 0.0, answers, affine=True))
        else:
            found.append(_numbers(steps, owner, values[owner], answers))
    _compare(steps, found)
    return found


def _values(prepared: Prepared) -> list[Floats]:
    """What each column is asked about: every category, others and none if they may come; or a spread of numbers."""
    limits = prepared.limits
    return [
        np.append(
            np.arange(len(column["categories"]) + (column["out_of_range"] == "other"), dtype=np.float64),
            [np.nan] if position in prepared.natively_missing else [],
        )
        if column["type"] == "category"
        else _spread(prepared.rows[:, position], *limits[position])
        for position, column in enumerate(prepared.columns)
    ]


def _asked(steps: Steps, base: Floats, values: list[Floats]) -> tuple[NDArray[np.intp], Floats]:
    """The column that each output depends on, -1 where none, and the output for each of that column's values.

    Columns get numbers in binary. For each of their values, and for each digit, those columns take it whose digit is 1, and then
    those whose digit is 0, while the others stay at `base`: an output of one column changes in just the rows that spell the
    number of it, and one of two columns in rows that spell none. So a few dozen rows a value do for thousands of columns.

    Returns `(outputs,)` columns, and `(values, outputs)` with the last value repeated.
    """
    digits = max(1, (len(values) - 1).bit_length())
    ones = (np.arange(len(values)) >> np.arange(digits)[:, None] & 1).astype(bool)
    chosen = np.concatenate([ones, ~ones])
    longest = max(map(len, values))
    table = np.stack([each[np.minimum(np.arange(longest), len(each) - 1)] for each in values], axis=1)
    origin = steps(base)[0]
    owners, given = np.full(len(origin), -1, dtype=np.intp), np.tile(origin, (longest, 1))
    at_once = max(1, _NUMBERS_AT_ONCE // (len(chosen) * max(len(values), len(origin))))
    for start in range(0, longest, at_once):
        some = table[start : start + at_once]
        probes = np.where(chosen, some[:, None], base[0])
        answers = steps(probes.reshape(-1, len(values))).reshape(*probes.shape[:2], -1)
        changed = answers != origin
        anywhere = changed.any(axis=1)
        owner = np.tensordot(changed[:, :digits], 1 << np.arange(digits), axes=(1, 0))
        first = np.take_along_axis(answers, changed.argmax(axis=1)[:, None], axis=1)
        one = np.where(changed[:, :digits], ~changed[:, digits:], changed[:, digits:]).all(axis=1)
        one &= (~changed | (answers == first)).all(axis=1)
        owner = np.where(anywhere, owner, -1)
        newest = owner.max(axis=0)
        one &= ~anywhere | (owner == newest)
        if (
            newest.max(initial=-1) >= len(values)
            or not (one | ~anywhere).all()
            or ((owners >= 0) & (newest >= 0) & (newest != owners)).any()
        ):
            raise TypeError(_mixes(steps))
        owners = np.where(newest >= 0, newest, owners)
        given[start : start + at_once] = np.where(anywhere, first[:, 0], origin)
    return owners, given


def read_affine(steps: Steps) -> tuple[list[Feature], Floats, Floats]:
    """The steps as sums over features: features, `(outputs, features)` factors and `(outputs,)` constants.

    Raises `TypeError` on an output that is no weighted sum.
    """
    try:
        return _folded(read_steps(steps), steps.prepared)
    except TypeError:
        mixed = _mixed(steps)
        if mixed is None:
            raise
        return mixed


def _mixed(steps: Steps) -> tuple[list[Feature], Floats, Floats] | None:
    """Of steps that mix columns of numbers: what each column adds from one end of its range to the other.

    `None` where that is not all: on the calibration rows, or on others from all over the ranges.
    """
    prepared, width = steps.prepared, len(steps.prepared.columns)
    if any(prepared.may_miss) or any(column["type"] == "category" for column in prepared.columns):
        return None
    low, high = prepared.limits.T
    origin = steps(low[None])[0]
    at_once = max(1, _MIXED_AT_ONCE // width)
    corners = [
        steps(np.where(np.arange(width) == np.arange(start, min(start + at_once, width))[:, None], high, low))
        for start in range(0, width, at_once)
    ]
    factors = ((np.concatenate(corners) - origin) / (high - low)[:, None]).T
    constants = origin - factors @ low
    rows = np.concatenate([prepared.rows, np.random.default_rng(0).uniform(low, high, (_SCATTERED, width))])
    got = steps(rows)
    scale = max(float(np.abs(got).max()), float(np.abs(constants).max()), 1e-300)
    if not (np.abs(rows @ factors.T + constants - got) <= _CLOSE * scale).all():
        return None
    return [Feature(column=position, kind="number", position=0) for position in range(width)], factors, constants


def _folded(outputs: Sequence[Output], prepared: Prepared) -> tuple[list[Feature], Floats, Floats]:
    """See `read_affine`."""
    features: list[Feature] = []
    places: dict[tuple[int, int], int] = {}
    for position, column in enumerate(prepared.columns):
        kinds = range(len(column["categories"])) if column["type"] == "category" else [-1]
        for kind in kinds:
            places[position, kind] = len(features)
            features.append(Feature(column=position, kind="number" if kind < 0 else "is", position=max(kind, 0)))
    factors = np.zeros((len(outputs), len(features)))
    constants = np.zeros(len(outputs))
    for row, output in enumerate(outputs):
        if not output.affine:
            name = prepared.names[output.column]
            msg = f"estimator: a step before the model does not scale the column {name!r:.60}, it bends it"
            raise TypeError(msg)
        if output.table is None:
            constants[row] = output.offset
            if output.column >= 0:
                factors[row, places[output.column, -1]] = output.slope
            continue
        categories = len(prepared.columns[output.column]["categories"])
        constants[row] = output.table[categories] if len(output.table) > categories else 0.0
        for kind in range(categories):
            factors[row, places[output.column, kind]] = output.table[kind] - constants[row]
    return features, factors, constants


def _spread(values: Floats, low: float, high: float) -> Floats:
    """Values of a column, its extremes among them, and some from all over its range, ascending."""
    present = np.unique(values[~np.isnan(values)])
    chosen = present[np.unique(np.linspace(0, len(present) - 1, _PROBES).astype(np.intp))]
    return np.asarray(np.unique(np.concatenate([chosen, np.linspace(low, high, _PROBES)])))


def _complete(rows: Floats) -> Floats:
    """The rows with a value of the same column where one is missing."""
    least = np.where(np.isnan(rows), np.inf, rows).min(axis=0)
    return np.asarray(np.where(np.isnan(rows), least, rows), dtype=np.float64)


def _numbers(steps: Steps, position: int, values: Floats, given: Floats) -> Output:
    slope = (given[-1] - given[0]) / (values[-1] - values[0])
    offset = given[0] - slope * values[0]
    scale = max(float(np.abs(given).max()), 1e-300)
    if (np.abs(values * slope + offset - given) <= _CLOSE * max(scale, abs(offset))).all():
        return Output(position, float(slope), float(offset), None, affine=True)
    if (np.diff(given) < 0).any():
        name = steps.prepared.names[position]
        msg = f"estimator: the steps before the model ({steps.names}) turn the order of the column {name!r:.60} around"
        raise TypeError(msg)
    return Output(position, 0.0, 0.0, None, affine=False)


def _compare(steps: Steps, outputs: Sequence[Output]) -> None:
    """What was found, against the steps themselves on the calibration rows; of outputs that only rise, that they do."""
    rows = _complete(steps.prepared.rows)
    given = steps(rows)
    for number, output in enumerate(outputs):
        got = given[:, number]
        if output.column < 0:
            expected = np.full(len(rows), output.offset)
        elif output.table is not None:
            expected = output.table[rows[:, output.column].astype(np.intp)]
        elif output.affine:
            expected = rows[:, output.column] * output.slope + output.offset
        else:
            order = np.argsort(rows[:, output.column], kind="stable")
            if (np.diff(got[order]) < 0).any():
                raise TypeError(_mixes(steps))
            continue
        scale = max(float(np.abs(got).max(initial=0.0)), abs(output.offset), 1e-300)
        if not (np.abs(got - expected) <= _CLOSE * scale).all():
            raise TypeError(_mixes(steps))


def _mixes(steps: Steps) -> str:
    return f"estimator: the steps before the model ({steps.names}) do not keep the columns apart"
