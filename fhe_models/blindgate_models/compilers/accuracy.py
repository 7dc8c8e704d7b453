"""How right a model is on rows with known answers: what a manifest states beside the agreement."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label

_SHOWN: Final = 4


def plain_accuracy(estimator: Any, rows: pd.DataFrame, answers: pd.Series) -> float | None:
    """Of the estimator: see `share_right`. Raises `ValueError` where no answer is one of its classes."""
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        require_known(answers, np.ravel(classes).tolist())
    return share_right(np.asarray(estimator.predict(rows)), wanted=answers.to_numpy(), classifies=classes is not None)


def require_known(answers: pd.Series, labels: Sequence[Label]) -> None:
    """Refuse answers in other words than the model's: every one would count as wrong. Raises `ValueError`."""
    if not answers.isin(list(labels)).any():
        found, known = (", ".join(repr(each) for each in list(some)[:_SHOWN]) for some in (answers.unique(), labels))
        msg = (
            f"target: none of the answers ({found}) is one of the model's ({known}): write them as the model was fitted"
        )
        raise ValueError(msg)


def share_right(got: NDArray[Any], *, wanted: NDArray[Any], classifies: bool) -> float | None:
    """The share of right labels, or R² for a regression; `None` where all answers are the same number, which R² divides by.

    `None` also where the model gives several numbers a row, and there is one answer.
    """
    if got.shape != wanted.shape:
        return None
    if classifies:
        return float((got == wanted).mean())
    spread = ((wanted - wanted.mean()) ** 2).sum()
    return float(1 - ((got - wanted) ** 2).sum() / spread) if spread > 0 else None
