"""What a client half asks of rows before it encrypts them: their shape, and numbers within declared ranges.

A family under CKKS proves that nothing wraps around from |u| ≤ 1 for every feature, with u = (x - middle) / half over the feature's
declared, public range. So a value outside is refused here, by its place and the range, and none is clipped in silence: what is
clipped to [-1, 1] is the last bit of that division. A feature whose range is one number is that number, and its u is 0.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindgate_models.features import Feature, expand
from blindgate_protocol.errors import InputError

_DIMENSIONS: Final = 2


def require_rows(rows: NDArray[np.float64], most: int, columns: int) -> None:
    """Refuse what is not 1 to `most` rows of `columns` numbers. Raises `InputError`."""
    if rows.ndim != _DIMENSIONS or rows.shape[1] != columns or not 1 <= len(rows) <= most:
        msg = f"rows: got shape {rows.shape}, expected (1 to {most}, {columns})"
        raise InputError(msg)


def middle_and_half(ranges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle and half of the width of each range `(features, 2)`: u = (x - middle) / half."""
    low, high = ranges[:, 0], ranges[:, 1]
    return low + (high - low) / 2, (high - low) / 2


class FeatureRanges:
    """The declared ranges of a model's features."""

    def __init__(self, features: Sequence[Feature], ranges: Sequence[Sequence[float]]) -> None:
        """Take the features in order, and `[lo, hi]` for each."""
        limits = np.array(ranges)
        self._features = features
        self._low, self._high = limits[:, 0], limits[:, 1]
        self._middle, self._half = middle_and_half(limits)

    def units(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The features of `rows`, `(n, columns)`, mapped to [-1, 1]: `(n, features)`. Raises `InputError` on a value outside."""
        values = expand(self._features, rows)
        inside = (values >= self._low) & (values <= self._high)
        if not inside.all():
            row, feature = (int(index) for index in np.argwhere(~inside)[0])
            column, low, high = self._features[feature].column, self._low[feature], self._high[feature]
            msg = f"row {row}, column {column}: not a number from {low:g} to {high:g}, the model's declared range"
            raise InputError(msg, column=str(column), row=row)
        with np.errstate(divide="ignore", invalid="ignore"):
            units = (values - self._middle) / self._half
        return np.where(self._half > 0, np.clip(units, -1, 1), 0.0)
