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

    [purpose]
    categories = ["car", "radio", "education"]

What is not said is found out: columns of text are categories, as are those that a OneHotEncoder or OrdinalEncoder takes; a fitted
SimpleImputer at the beginning of a pipeline says what to fill in.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError


class Rule(BaseModel):
    """What is said about one column; what is not said stays as it is without rules.

    Attributes:
        type: `integer` refuses numbers that are not whole; `category` takes one of a list.
        minimum: the least value; by default somewhat below the least of the calibration rows.
        maximum: the greatest.
        categories: the list; by default what the calibration rows and the estimator's encoder have.
        out_of_range: refuse a value outside, clip it, or, of a category, take it for one of its own: by default what the estimator
            can do.
        fill: the value for a missing one, which is refused by default unless calibration rows miss some and the estimator takes
            them so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["number", "integer", "category"] | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str | bool | int | float, ...] | None = None
    out_of_range: Literal["refuse", "clip", "other"] | None = None
    fill: float | str | None = None


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
