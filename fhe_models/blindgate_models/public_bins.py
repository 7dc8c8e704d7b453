"""Cutting columns at public edges, as a scikit-learn transformer.

    model = make_pipeline(PublicBins(16), XGBClassifier(n_estimators=50, max_depth=4)).fit(rows, answers)

A model that is trained on bin numbers asks for nothing but "is this column at or above edge k". The edges are quantiles of the
training rows, the same for every model over them, so publishing them says something of the columns and nothing of the model.
Without such a step a forest's own thresholds have to be published, among decoys.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data


class PublicBins(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Number each value by how many of its column's edges it reaches: x becomes the count of edges e with x ≥ e.

    Missing values stay missing. A column with fewer distinct values than bins gets an edge at each but the least.

    Attributes:
        edges_: the edges of each column, ascending.
    """

    def __init__(self, bins: int = 16) -> None:
        """Cut each column into at most `bins` bins, 2 or more, with as many training rows in each as ties allow."""
        self.bins = bins

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803  (scikit-learn's names, which callers may use)
        """Take quantiles of the rows `X`, `(n, columns)`. Raises `ValueError` on fewer than two bins, or what is no number."""
        if self.bins < 2:  # noqa: PLR2004
            msg = f"bins: got {self.bins}, expected 2 or more"
            raise ValueError(msg)
        table = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        self.edges_ = [_edges(column[~np.isnan(column)], self.bins) for column in table.T]
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:  # noqa: N803  (likewise)
        """Give the bin numbers of the rows `X`, `(n, columns)` float64."""
        check_is_fitted(self)
        table = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        codes = np.empty(table.shape)
        for column, edges in enumerate(self.edges_):
            codes[:, column] = np.searchsorted(edges, table[:, column], side="right")
        return np.where(np.isnan(table), np.nan, codes)

    def __sklearn_tags__(self) -> Any:
        """Missing values are let through."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    distinct = np.unique(values)
    if len(distinct) <= bins:
        return np.asarray(distinct[1:])
    cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="higher"))
    above: NDArray[np.float64] = cuts[cuts > distinct[0]]
    return above
