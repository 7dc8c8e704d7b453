"""What a model's owner says about its columns: how far they reach, and what becomes of a value that is missing or beyond.

Without rules, a column reaches a little further than the calibration rows did, and everything else is refused. Real tables have
gaps and outliers, so an owner may say, column by column, in a TOML file:

    [age]
    type = "integer"
    minimum = 0
    maximum = 120
    out_of_range = "clip"

    [cholesterol]
    fill = 240.0

The client follows the rules before it encrypts, so the model is calibrated and compared on rows that went through the same. A
pipeline that begins with a fitted SimpleImputer says what to fill in by itself.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from blindgate_models.compilers.compiled import Column
from blindgate_models.compilers.ranges import Ranges, declared_ranges


class Rule(BaseModel):
    """What is said about one column; what is not said stays as it is without rules.

    Attributes:
        type: `integer` refuses numbers that are not whole.
        minimum: the least value; by default somewhat below the least of the calibration rows.
        maximum: the greatest.
        out_of_range: refuse a value outside, or clip it.
        fill: the value for a missing one, which is refused by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["number", "integer"] = "number"
    minimum: float | None = None
    maximum: float | None = None
    out_of_range: Literal["refuse", "clip"] = "refuse"
    fill: float | None = None


Rules: TypeAlias = Mapping[str, Rule]


def read_rules(path: Path) -> dict[str, Rule]:
    """Read rules from a TOML file with a table for each column. Raises `ValueError` naming the column and the member."""
    try:
        return TypeAdapter(dict[str, Rule]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path.name}: not TOML: {error}"
        raise ValueError(msg) from error
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"{path.name}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise ValueError(msg) from error


@dataclass(frozen=True)
class Prepared:
    """Calibration rows once the rules were followed, as the client will follow them.

    Attributes:
        rows: in the estimator's order of columns; nothing missing, nothing outside of a range that clips.
        ranges: of all columns, `(lo, hi)`, in the order of `rows`.
        rules: for every column, in the same order.
    """

    rows: pd.DataFrame
    ranges: Ranges
    rules: Mapping[str, Rule]

    @classmethod
    def of(cls, estimator: Any, calibration: pd.DataFrame, given: Rules) -> Self:
        """Follow the rules that are `given`, and those of the estimator's own imputer.

        Raises `ValueError` naming the column: a rule for a column that is not there, a range or a filling that does not fit, a
        cell that is empty without a rule.
        """
        rows = calibration.rename(columns=str).astype(np.float64)
        fitted = [str(name) for name in getattr(estimator, "feature_names_in_", rows.columns)]
        if sorted(fitted) != sorted(rows.columns):
            raise ValueError(_other_columns(fitted, list(rows.columns)))
        rows = rows[fitted]
        for name in given:
            if name not in rows.columns:
                msg = f"rules: there is no column {name!r:.60} in the calibration rows"
                raise ValueError(msg)
        fills = _imputed(estimator, fitted)
        rules = {name: _with_fill(given.get(name, Rule()), fills.get(name)) for name in fitted}
        for name, rule in rules.items():
            rows[name] = _followed(name, rule, rows[name])
        ranges = [
            (low if rule.minimum is None else rule.minimum, high if rule.maximum is None else rule.maximum)
            for rule, (low, high) in zip(
                rules.values(), declared_ranges(rows.to_numpy(), list(rules), None).tolist(), strict=True
            )
        ]
        for (name, rule), (low, high) in zip(rules.items(), ranges, strict=True):
            if rule.fill is not None and not low <= rule.fill <= high:
                msg = f"rules: column {name!r:.60}: fill lies outside of the range, {low:g} to {high:g}"
                raise ValueError(msg)
            if rule.fill is not None and rule.type == "integer" and not rule.fill.is_integer():
                msg = f"rules: column {name!r:.60}: fill is not a whole number, and the column is said to hold such"
                raise ValueError(msg)
        return cls(rows, ranges, rules)

    def columns(self, columns: Sequence[Column]) -> list[Column]:
        """The manifest's columns, with the rules."""
        return [_ruled(column, self.rules[column["name"]]) for column in columns]


def _other_columns(fitted: Sequence[str], given: Sequence[str]) -> str:
    lacking = next((f"{name!r:.60} is missing" for name in fitted if name not in given), None)
    beyond = next((f"{name!r:.60} is not one of them" for name in given if name not in fitted), None)
    hint = "; if it holds the answers, name it as the target" if lacking is None and beyond is not None else ""
    return (
        f"calibration: expected the {len(fitted)} columns that the estimator was fitted with: "
        f"column {lacking or beyond or 'names occur twice'}{hint}"
    )


def _ruled(column: Column, rule: Rule) -> Column:
    ruled: Column = {**column, "type": rule.type, "out_of_range": rule.out_of_range}
    return ruled if rule.fill is None else {**ruled, "missing": "fill", "fill": rule.fill}


def _with_fill(rule: Rule, fill: float | None) -> Rule:
    return rule.model_copy(update={"fill": fill}) if rule.fill is None else rule


def _followed(name: str, rule: Rule, values: "pd.Series[float]") -> "pd.Series[float]":
    """One column as the client would give it to the model."""
    if rule.fill is not None:
        values = values.fillna(rule.fill)
    if values.isna().any():
        msg = f"calibration: the column {name!r:.60} has empty cells, and no rule says what to fill in"
        raise ValueError(msg)
    if rule.type == "integer" and (values != values.round()).any():
        msg = f"calibration: the column {name!r:.60} is said to hold whole numbers, and does not"
        raise ValueError(msg)
    return values.clip(rule.minimum, rule.maximum) if rule.out_of_range == "clip" else values


def _imputed(estimator: Any, names: list[str]) -> dict[str, float]:
    """What the SimpleImputer at the beginning of a pipeline fills in, by column."""
    steps = getattr(estimator, "steps", None)
    if not steps or type(steps[0][1]).__name__ != "SimpleImputer":
        return {}
    imputer = steps[0][1]
    values = np.asarray(imputer.statistics_, dtype=np.float64)
    if imputer.add_indicator or not np.isnan(imputer.missing_values) or values.shape != (len(names),):
        msg = "SimpleImputer: expected one that fills NaN in and adds no column"
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "SimpleImputer: a column had no value to learn from"
        raise ValueError(msg)
    return dict(zip(names, values.tolist(), strict=True))
