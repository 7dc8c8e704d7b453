"""What makes probabilities of a classifier's scores, as seen on the calibration rows and not guessed from its name.

A LinearSVC has scores and no probabilities; one class against each other gives others than a softmax of the same scores. A
link that was taken for granted would give numbers that the estimator never gave. Nor do rows tell whose probabilities are all 0
or 1: there every link says the same.
"""

from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Link

Floats: TypeAlias = NDArray[np.float64]

_CLOSE: Final = 1e-6


def probability_link(estimator: Any, calibration: pd.DataFrame | NDArray[Any], scores: Floats) -> Link:
    """From scores to `predict_proba`; `identity` where it is neither link, or there is none, or these rows do not tell."""
    if not hasattr(estimator, "predict_proba"):
        return "identity"
    proba = np.asarray(estimator.predict_proba(calibration))
    if not ((proba > _CLOSE) & (proba < 1 - _CLOSE)).any():
        return "identity"
    if scores.shape[1] == 1:
        return "sigmoid" if close(proba[:, 1], np.exp(-np.logaddexp(0, -scores[:, 0]))) else "identity"
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return "softmax" if close(proba, shifted / shifted.sum(axis=1, keepdims=True)) else "identity"


def close(got: Floats, expected: Floats) -> bool:
    """Whether they are the same numbers, as far as these are large."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return got.shape == expected.shape and bool((np.abs(got - expected) <= _CLOSE * scale).all())
