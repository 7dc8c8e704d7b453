"""A model fitted again on public bins, and what that does to its accuracy.

A forest's own thresholds have to be published, among decoys, for clients to answer them. Trained on public bins, it has none of its
own. Whether that costs accuracy is measured where it matters, on rows that neither fit saw: by cross-validation.
"""

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from blindgate_models.public_bins import PublicBins

_FOLDS = 5


class Refitted(NamedTuple):
    """A model on public bins.

    Attributes:
        estimator: `PublicBins` and the model, fitted.
        before: the original's accuracy, or R², over five folds.
        after: that of the model on bins.
    """

    estimator: Any
    before: float
    after: float


def refit(estimator: Any, rows: pd.DataFrame, answers: pd.Series, bins: int) -> Refitted:
    """Fit a model of the same settings on at most `bins` public bins a column of numbers; other columns stay as they are.

    Raises `ValueError` where no column holds numbers, and on too few rows.
    """
    model = clone(estimator)
    again = make_pipeline(_cutting(rows, bins), clone(estimator))
    before, after = (
        float(np.mean(cross_val_score(each, rows, answers, cv=_FOLDS, error_score="raise"))) for each in (model, again)
    )
    return Refitted(again.fit(rows, answers), before, after)


def _cutting(rows: pd.DataFrame, bins: int) -> Any:
    """Cuts the columns that hold numbers, and keeps the others, in the table's order and under its names."""
    runs = [
        (numeric, [str(name) for name in names])
        for numeric, names in groupby(rows.columns, key=lambda name: pd.api.types.is_numeric_dtype(rows[name]))
    ]
    if not any(numeric for numeric, _ in runs):
        msg = "bins: no column holds numbers, so there is nothing to cut: compile the model as it is"
        raise ValueError(msg)
    if len(runs) == 1:
        return PublicBins(bins)
    steps = [
        (f"columns {place}", PublicBins(bins) if numeric else "passthrough", names)
        for place, (numeric, names) in enumerate(runs)
    ]
    return ColumnTransformer(steps, verbose_feature_names_out=False).set_output(transform="pandas")
