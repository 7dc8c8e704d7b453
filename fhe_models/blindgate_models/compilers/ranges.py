"""The ranges that a model's columns declare: public, and a value outside is refused before it is encrypted."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Column

Floats: TypeAlias = NDArray[np.float64]
Ranges: TypeAlias = Sequence[tuple[float, float]]
_FEW, _ALIKE = 0.25, 4.0
"""Columns are of one unit when all but these few spread to within this factor of the widest."""


def declared_ranges(rows: Floats, names: list[str], given: Ranges | None) -> Floats:
    """The declared ranges, `(features, 2)`, which hold every calibration row, `(n, features)`.

    Those that are `given`, or those of the rows, widened by half of their width on both sides, but not below 0 where no value
    is. Raises `ValueError` naming the column.
    """
    low, high = rows.min(axis=0), rows.max(axis=0)
    if given is None:
        width = _widths(low, high)
        widened = low - width / 2
        return np.stack([np.where(low >= 0, np.maximum(widened, 0), widened), high + width / 2], axis=1)
    limits = np.asarray(given, dtype=np.float64)
    if limits.shape != (len(names), 2) or not np.isfinite(limits).all():
        msg = f"ranges: got shape {limits.shape}, expected a finite lo and hi for each of {len(names)} columns"
        raise ValueError(msg)
    for name, (least, most), outside in zip(
        names, limits.tolist(), (low < limits[:, 0]) | (high > limits[:, 1]), strict=True
    ):
        if outside or not least < most:
            msg = f"ranges: column {name!r}: expected lo < hi, with no calibration value outside"
            raise ValueError(msg)
    return limits


def _widths(low: Floats, high: Floats) -> Floats:
    """How far each column may be expected to spread, `(features,)`.

    As far as it does; a column that does not, by its own value or 1. Where nearly all columns spread alike they are of one unit
    (pixels, say), and a corner that happened to stay dark may yet be as bright as the others: then the widest counts for
    all.
    """
    spread = high - low
    widths = np.where(spread > 0, spread, np.maximum(np.abs(high), 1.0))
    of_one_unit = np.sort(spread)[int(len(spread) * _FEW)] * _ALIKE >= spread.max()
    return np.maximum(widths, spread.max()) if of_one_unit else widths


def declared_columns(names: Sequence[str], limits: Floats) -> list[Column]:
    """The columns of the manifest, in order, with their ranges `(features, 2)`."""
    return [
        Column(name=name, type="number", minimum=low, maximum=high)
        for name, (low, high) in zip(names, limits.tolist(), strict=True)
    ]
