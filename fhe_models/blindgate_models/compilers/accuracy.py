"""How right a model is on rows with known answers: what a manifest states beside the agreement."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def plain_accuracy(estimator: Any, rows: pd.DataFrame, answers: pd.Series) -> float | None:
    """Of the estimator: see `share_right`."""
    return share_right(
        np.asarray(estimator.predict(rows)), wanted=answers.to_numpy(), classifies=hasattr(estimator, "classes_")
    )


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
