"""Calibration rows as both sides see them: the estimator its table, the client numbers and positions of categories.

The client follows the rules of the columns before it encrypts (`blindgate.frames`), so a model is calibrated and compared on rows
that went through the same. `Prepared` holds both views and the way back: compilers ask the estimator about rows of their own
making, which they write as the client would.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Column, Label
from blindgate_models.compilers.first_steps import encoded, imputed, unread
from blindgate_models.compilers.native_categories import Native, native_categories
from blindgate_models.compilers.ranges import Ranges, declared_ranges
from blindgate_models.compilers.rules import Rule, Rules

Floats = NDArray[np.float64]

_PLAIN_WHOLE: Final = 1e21
"""From here on canonical JSON (RFC 8785) writes doubles with an exponent; below, as whole numbers, of which 2^53 is the end."""
_OF_NUMBERS: Final = ("decimal", "floating", "integer", "mixed-integer-float")
"""What pandas finds in a column of objects that are all numbers."""
_NOT_READ: Final = "not read by the model"
_NO_CATEGORY: Final = "blindgate: none of the categories"


@dataclass(frozen=True)
class Prepared:
    """Calibration rows once the rules were followed.

    Attributes:
        estimator: whose rows they are.
        rows: as the client gives them, `(n, columns)`: numbers, positions of categories, NaN where the model takes missing values.
        columns: what the manifest says of them, in the estimator's order.
    """

    estimator: Any
    rows: Floats
    columns: list[Column]

    @classmethod
    def of(cls, estimator: Any, calibration: pd.DataFrame | NDArray[Any], rules: Rules) -> Self:
        """Follow `rules`, and what the estimator's own imputer and encoders say.

        Raises `ValueError` naming the column: a rule for a column that is not there, a range, list or filling that does not fit, a
        cell that is empty without a rule.
        """
        estimator = unwrapped(estimator)
        table = _named(estimator, calibration)
        for name in rules:
            if name not in table.columns:
                msg = f"rules: there is no column {name!r:.60} in the calibration rows"
                raise ValueError(msg)
        names = list(table.columns)
        for name in unread(estimator, names) - set(rules):
            rule, blank = _anything(table[name])
            table, rules = table.assign(**{name: blank}), {**rules, name: rule}
        categories, fills = encoded(estimator, names), imputed(estimator, names)
        native = native_categories(estimator)
        categories |= {} if native is None else {names[place]: labels for place, labels in native.labels.items()}
        takes_missing = bool(table.isna().any(axis=None)) and _takes(estimator, table)
        columns, rows = [], []
        for name in table.columns:
            rule = rules.get(name, Rule())
            if rule.fill is None and name in fills:
                rule = rule.model_copy(update={"fill": fills[name]})
            if _is_category(rule, table[name], categories.get(name)):
                column, values = _category(name, rule, table[name], categories.get(name), takes_missing)
            else:
                column, values = _number(name, rule, table[name], takes_missing)
            columns.append(column)
            rows.append(values)
        stacked = np.column_stack(rows)
        _declare(columns, stacked, rules)
        prepared = cls(estimator, stacked, columns)
        for position, column in enumerate(columns):
            if column["type"] == "category" and rules.get(column["name"], Rule()).out_of_range is None:
                column["out_of_range"] = "other" if prepared._takes_others(position) else "refuse"
            elif column["out_of_range"] == "other" and not prepared._may_take_others(position):
                msg = f"rules: column {column['name']!r:.60}: out_of_range: the model takes no other categories than its own"
                raise ValueError(msg)
        return prepared

    @classmethod
    def given(
        cls, estimator: Any, calibration: "pd.DataFrame | NDArray[Any] | Prepared", ranges: Ranges | None
    ) -> "Prepared":
        """Rows as a compiler is given them; with `ranges`, `(lo, hi)` for each column. Raises `ValueError`."""
        if isinstance(calibration, Prepared):
            return calibration
        if ranges is None:
            return cls.of(estimator, calibration, {})
        table = _named(estimator, calibration)
        limits = declared_ranges(table.to_numpy(dtype=np.float64), list(table.columns), ranges)
        rules = {
            name: Rule(minimum=low, maximum=high)
            for name, (low, high) in zip(table.columns, limits.tolist(), strict=True)
        }
        return cls.of(estimator, table, rules)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column["name"] for column in self.columns]

    @property
    def limits(self) -> Floats:
        """The range of each column, `(columns, 2)`; of a category, of its positions."""
        return np.array(
            [
                (0.0, len(column["categories"]) - 1.0)
                if column["type"] == "category"
                else (column["minimum"], column["maximum"])
                for column in self.columns
            ]
        )

    @property
    def may_miss(self) -> list[bool]:
        """Whether a value of each column may be missing when the model gets it."""
        return [column.get("missing") == "model" for column in self.columns]

    @property
    def table(self) -> Any:
        """The rows as the estimator takes them."""
        return self.ask(self.rows)

    def ask(self, rows: Floats) -> Any:
        """Rows of the client's kind, `(n, columns)`, as the estimator takes them: a DataFrame, or an array without names.

        The position past the last of a category's stands for a value that is none of them.
        """
        given: dict[str, Any] = {}
        native = self._native
        for place, (column, values) in enumerate(zip(self.columns, rows.T, strict=True)):
            if column["type"] != "category":
                given[column["name"]] = values
            elif native is not None and place in native.labels:
                given[column["name"]] = native.written(place, column["categories"], values, _NO_CATEGORY)
            else:
                given[column["name"]] = _named_categories(column["categories"], values)
        frame = pd.DataFrame(given)
        named = any(hasattr(step, "feature_names_in_") for step in _all_steps(self.estimator))
        numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)
        return frame if named or not numbers else frame.to_numpy()

    def require_numbers(self) -> Floats:
        """The rows, for a family that takes numbers only, and misses none. Raises `ValueError` naming the column."""
        for column in self.columns:
            if column["type"] == "category":
                msg = (
                    f"calibration: the column {column['name']!r:.60} holds values that are no numbers, which this family does not "
                    "take: encode them in the table, or choose another (see --compare)"
                )
                raise ValueError(msg)
        return self.require_complete()

    def require_complete(self) -> Floats:
        """The rows, for a family that misses no value. Raises `ValueError` naming the column."""
        for column, misses in zip(self.columns, self.may_miss, strict=True):
            if misses:
                msg = (
                    f"calibration: the column {column['name']!r:.60} has empty cells, and no rule says what to fill in"
                )
                raise ValueError(msg)
        return self.rows

    @property
    def natively_missing(self) -> set[int]:
        """The columns that the model itself takes for categories, and that may miss a value."""
        native = self._native
        return set() if native is None else {place for place in native.labels if self.may_miss[place]}

    @cached_property
    def _native(self) -> Native | None:
        """What the model itself takes for categories, where it gets the columns as they are."""
        return native_categories(self.estimator)

    def _may_take_others(self, position: int) -> bool:
        native = self._native
        return native is None or position not in native.labels or native.others

    def _takes_others(self, position: int) -> bool:
        if not self._may_take_others(position):
            return False
        row = self.rows[:1].copy()
        row[0, position] = len(self.columns[position]["categories"])
        return _takes(self.estimator, self.ask(row))


def unwrapped(estimator: Any) -> Any:
    """An estimator as compilers take it; what a `GridSearchCV` found stands for the search, and pipelines in a pipeline are one."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not hasattr(estimator, "steps"):
        return estimator
    flat: list[tuple[str, Any]] = []
    for name, step in estimator.steps:
        inner = unwrapped(step)
        flat += [(f"{name} {own}", each) for own, each in inner.steps] if hasattr(inner, "steps") else [(name, inner)]
    return type(estimator)(flat)


def _named(estimator: Any, calibration: pd.DataFrame | NDArray[Any]) -> pd.DataFrame:
    """The table with names, in the estimator's order of columns. Raises `ValueError`."""
    if not isinstance(calibration, pd.DataFrame):
        array = np.asarray(calibration)
        if array.ndim != 2 or len(array) == 0:  # noqa: PLR2004  (a table)
            msg = f"calibration: got shape {array.shape}, expected a table of at least one row"
            raise ValueError(msg)
        names = _fitted_names(estimator)
        if names is not None and len(names) != array.shape[1]:
            msg = f"calibration: got {array.shape[1]} columns, expected {len(names)}"
            raise ValueError(msg)
        return pd.DataFrame(array, columns=names or [f"x{j}" for j in range(array.shape[1])])
    table = calibration.rename(columns=str).reset_index(drop=True)
    fitted = _fitted_names(estimator) or list(table.columns)
    if sorted(fitted) != sorted(table.columns):
        raise ValueError(_other_columns(fitted, list(table.columns)))
    if len(table) == 0:
        msg = "calibration: expected a table of at least one row"
        raise ValueError(msg)
    return table[fitted]


def _fitted_names(estimator: Any) -> list[str] | None:
    """The names of the columns that an estimator, or the first step of a pipeline that has any, was fitted with."""
    names = next((step.feature_names_in_ for step in _all_steps(estimator) if _keeps_names(step)), None)
    return None if names is None else [str(name) for name in names]


def _all_steps(estimator: Any) -> list[Any]:
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]


def _keeps_names(step: Any) -> bool:
    """LightGBM writes its own names in place of the table's, and goes by position."""
    return hasattr(step, "feature_names_in_") and not type(step).__module__.startswith("lightgbm")


def _other_columns(fitted: Sequence[str], given: Sequence[str]) -> str:
    lacking = next((f"{name!r:.60} is missing" for name in fitted if name not in given), None)
    beyond = next((f"{name!r:.60} is not one of them" for name in given if name not in fitted), None)
    hint = "; if it holds the answers, name it as the target" if lacking is None and beyond is not None else ""
    return (
        f"calibration: expected the {len(fitted)} columns that the estimator was fitted with: "
        f"column {lacking or beyond or 'names occur twice'}{hint}"
    )


def _is_category(rule: Rule, values: "pd.Series[Any]", encoded: Sequence[Label] | None) -> bool:
    if rule.type is not None:
        return rule.type == "category"
    if rule.categories is not None or encoded is not None:
        return True
    return not (pd.api.types.is_numeric_dtype(values) or pd.api.types.infer_dtype(values, skipna=True) in _OF_NUMBERS)


def _anything(given: "pd.Series[Any]") -> tuple[Rule, "pd.Series[Any]"]:
    """A rule for a column that no step reads, and values in place of its own, which are no business of a public manifest.

    Nor are their extremes: a range of running numbers tells how many patients there are.
    """
    if pd.api.types.is_numeric_dtype(given):
        return Rule(minimum=0.0, maximum=1.0, out_of_range="clip", fill=0.0), pd.Series(np.zeros(len(given)))
    rule = Rule(type="category", categories=(_NOT_READ,), fill=_NOT_READ)
    return rule, pd.Series([_NOT_READ] * len(given), dtype=object)


def _number(name: str, rule: Rule, given: "pd.Series[Any]", takes_missing: bool) -> tuple[Column, Floats]:  # noqa: FBT001
    """A column of numbers as the client would give it to the model, and what the manifest says of it."""
    try:
        values = given.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        msg = f"calibration: the column {name!r:.60} holds values that are no numbers"
        raise ValueError(msg) from None
    if isinstance(rule.fill, str):
        msg = f"rules: column {name!r:.60}: fill is a text, and the column holds numbers"
        raise ValueError(msg)  # noqa: TRY004  (of a rule's value, not of an argument's type)
    values = values if rule.fill is None else np.where(np.isnan(values), rule.fill, values)
    missing = np.isnan(values)
    if missing.any() and not takes_missing:
        msg = f"calibration: the column {name!r:.60} has empty cells, and no rule says what to fill in"
        raise ValueError(msg)
    present = values[~missing]
    if not len(present) or not np.isfinite(present).all():
        msg = f"calibration: the column {name!r:.60} expected finite numbers"
        raise ValueError(msg)
    if rule.type == "integer" and (present != np.rint(present)).any():
        msg = f"calibration: the column {name!r:.60} is said to hold whole numbers, and does not"
        raise ValueError(msg)
    clips = rule.out_of_range == "clip"
    if clips:
        low, high = rule.minimum, rule.maximum
        values = np.clip(values, -np.inf if low is None else low, np.inf if high is None else high)
    column: Column = {"name": name, "type": rule.type if rule.type == "integer" else "number"}
    column["out_of_range"] = "clip" if clips else "refuse"
    if rule.fill is not None:
        column |= {"missing": "fill", "fill": rule.fill}
    elif missing.any():
        column["missing"] = "model"
    return column, values


def _declare(columns: Sequence[Column], rows: Floats, rules: Rules) -> None:
    """Give the columns of numbers their ranges. Raises `ValueError` naming the column."""
    numbers = [position for position, column in enumerate(columns) if column["type"] != "category"]
    if not numbers:
        return
    present = rows[:, numbers]
    least = np.where(np.isnan(present), np.inf, present).min(axis=0)
    present = np.where(np.isnan(present), least, present)
    names = [columns[position]["name"] for position in numbers]
    for position, low, high, values in zip(
        numbers, *declared_ranges(present, names, None).T.tolist(), present.T, strict=True
    ):
        column = columns[position]
        rule = rules.get(column["name"], Rule())
        low = low if rule.minimum is None else rule.minimum  # noqa: PLW2901
        high = high if rule.maximum is None else rule.maximum  # noqa: PLW2901
        if values.min() < low or values.max() > high or low >= high:
            msg = f"rules: column {column['name']!r:.60}: expected a range with no calibration value outside"
            raise ValueError(msg)
        if any(2.0**53 <= abs(number) < _PLAIN_WHOLE for number in (low, high, *values.tolist())):
            msg = (
                f"calibration: the column {column['name']!r:.60} has whole numbers past 2^53, which no manifest can carry: "
                "scale it before fitting (seconds, say, in place of nanoseconds)"
            )
            raise ValueError(msg)
        fill = column.get("fill")
        if fill is not None and not low <= fill <= high:
            msg = f"rules: column {column['name']!r:.60}: fill lies outside of the range, {low:g} to {high:g}"
            raise ValueError(msg)
        if fill is not None and column["type"] == "integer" and not fill.is_integer():
            msg = (
                f"rules: column {column['name']!r:.60}: fill is not a whole number, and the column is said to hold such"
            )
            raise ValueError(msg)
        column |= {"minimum": low, "maximum": high}


def _category(
    name: str,
    rule: Rule,
    given: "pd.Series[Any]",
    encoded: Sequence[Label] | None,
    takes_missing: bool,  # noqa: FBT001
) -> tuple[Column, Floats]:
    """A column of categories, as positions in their list."""
    cells = [None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value for value in given]
    found = {value for value in cells if value is not None}
    listed = rule.categories if rule.categories is not None else _sorted({*found, *(encoded or ())})
    places: dict[Label, int] = {category: place for place, category in enumerate(listed)}
    fill = rule.fill
    if fill is not None and fill not in places:
        msg = f"rules: column {name!r:.60}: fill is none of the categories"
        raise ValueError(msg)
    if strange := found - set(places):
        msg = f"rules: column {name!r:.60}: categories: a calibration row has another, {next(iter(strange))!r:.40}"
        raise ValueError(msg)
    values = np.array([np.nan if value is None else places[value] for value in cells], dtype=np.float64)
    column: Column = {"name": name, "type": "category", "categories": tuple(listed)}
    column["out_of_range"] = "other" if rule.out_of_range == "other" else "refuse"
    if fill is not None:
        column |= {"missing": "fill", "fill": float(places[fill])}
        return column, np.where(np.isnan(values), places[fill], values)
    if np.isnan(values).any():
        if not takes_missing:
            msg = f"calibration: the column {name!r:.60} has empty cells, and no rule says what to fill in"
            raise ValueError(msg)
        column["missing"] = "model"
    return column, values


def _sorted(values: set[Any]) -> tuple[Label, ...]:
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))


def _named_categories(categories: Sequence[Label], positions: Floats) -> list[Any]:
    values = [*categories, _NO_CATEGORY]
    return [None if np.isnan(position) else values[int(position)] for position in positions]


def _takes(estimator: Any, table: Any) -> bool:
    """Whether the estimator predicts for these rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            estimator.predict(table)
        except Exception:  # noqa: BLE001  (whatever it is, it does not)
            return False
    return True
