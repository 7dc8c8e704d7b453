"""How right the model is in the clear, on rows with known answers: what a manifest states beside the agreement."""

from typing import Any

import numpy as np
import pandas as pd


def plain_accuracy(estimator: Any, rows: pd.DataFrame, answers: pd.Series) -> float | None:
    """The share of right labels, or R² for a regression; `None` where all answers are the same number, which R² divides by."""
    wanted = answers.to_numpy()
    got = np.asarray(estimator.predict(rows))
    if hasattr(estimator, "classes_"):
        return float((got == wanted).mean())
    spread = ((wanted - wanted.mean()) ** 2).sum()
    return float(1 - ((got - wanted) ** 2).sum() / spread) if spread > 0 else None
