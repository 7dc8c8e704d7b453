"""A model fitted again on public bins, and what that does to its accuracy.

A forest's own thresholds have to be published, among decoys, for clients to answer them. Trained on public bins, it has none of its
own. Whether that costs accuracy is measured where it matters, on rows that neither fit saw: by cross-validation.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
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
    """Fit a model of the same settings on at most `bins` public bins a column.

    Raises `ValueError` on columns that hold no numbers, since those are not cut into bins, and on too few rows.
    """
    for name in rows.columns:
        if not pd.api.types.is_numeric_dtype(rows[name]):
            msg = f"bins: the column {str(name)!r:.60} holds no numbers; put PublicBins into the pipeline's ColumnTransformer"
            raise ValueError(msg)
    model = clone(estimator)
    again = make_pipeline(PublicBins(bins), clone(estimator))
    before, after = (
        float(np.mean(cross_val_score(each, rows, answers, cv=_FOLDS, error_score="raise"))) for each in (model, again)
    )
    return Refitted(again.fit(rows, answers), before, after)
