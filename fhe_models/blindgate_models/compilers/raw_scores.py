"""A fitted estimator's raw scores: the sums that its labels and probabilities are made of, before any link."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.compilers.prepared import Prepared

Floats = NDArray[np.float64]


class RawScores(NamedTuple):
    """How to ask an estimator for its scores.

    Attributes:
        score: `(n, outputs)` scores of rows of the client's kind.
        labels: the classes, or `None` for a regression.
        link: what makes probabilities or numbers of scores, as far as the kind of the estimator says.
    """

    score: Callable[[Floats], Floats]
    labels: tuple[Label, ...] | None
    link: Link


def raw_scores(estimator: Any, prepared: Prepared, *, logarithm: bool = False) -> RawScores:
    """How to ask `estimator`; of a regression, for the `logarithm` of its numbers where its scores are those."""
    labels = tuple(np.asarray(estimator.classes_).tolist()) if hasattr(estimator, "classes_") else None
    kind = type(estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator).__name__
    link: Link = "identity" if labels is None else "sigmoid" if len(labels) == 2 else "softmax"  # noqa: PLR2004
    ask: Callable[[Any], Any] = estimator.predict
    if kind.startswith("XGB"):
        ask = partial(estimator.predict, output_margin=True)
    elif kind.startswith("LGBM"):
        ask = partial(estimator.predict, raw_score=True)
    elif hasattr(estimator, "decision_function"):
        ask = estimator.decision_function
    elif labels is not None:
        ask, link = estimator.predict_proba, "probability"
    elif logarithm:
        link = "exp"

    def score(rows: Floats) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names, and logarithms of what is no logarithm
            given = np.asarray(ask(prepared.ask(rows)), dtype=np.float64).reshape(len(rows), -1)
            return np.log(given) if link == "exp" else given

    return RawScores(score, labels, link)
