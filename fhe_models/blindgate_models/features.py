"""What a model reads of a row: numbers as they are, and categories as zeros and ones. Public, in the client part.

A scikit-learn pipeline scales, bins and encodes before its model. Whatever it does to a column by itself is, for a linear model or
the first layer of a network, a sum over that column's features here, so the steps are folded into the model's weights and the
client computes features and nothing else. Users give raw columns.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blindgate_models.parts import Strict

MAX_COLUMNS = 8192


class Feature(Strict):
    """One number that a model reads.

    Attributes:
        column: its place in the table.
        kind: `number`, the column itself; `is`, 1 where the column holds the category at `position`, else 0.
        position: in the column's list of categories; 0 for a number.
    """

    column: Annotated[int, Field(ge=0, lt=MAX_COLUMNS)]
    kind: Literal["number", "is"]
    position: Annotated[int, Field(ge=0, lt=MAX_COLUMNS)]


def columns_as_they_are(count: int) -> list[Feature]:
    """Every column as a number."""
    return [Feature(column=column, kind="number", position=0) for column in range(count)]


def reach(features: Sequence[Feature], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The range of each feature, `(features, 2)`, from those of the columns, `(columns, 2)`."""
    return np.array([limits[feature.column] if feature.kind == "number" else (0.0, 1.0) for feature in features])


def expand(features: Sequence[Feature], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The features of `rows`, `(n, columns)`: `(n, features)`."""
    return np.column_stack(
        [
            rows[:, feature.column] if feature.kind == "number" else rows[:, feature.column] == feature.position
            for feature in features
        ]
    ).astype(np.float64)
