"""How right the model is in the clear, on rows with known answers: what a manifest states beside the agreement."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def plain_accuracy(estimator: Any, table: Path, target: str) -> float:
    """The share of right labels, or R² for a regression, on a CSV file whose column `target` has the answers.

    Raises `ValueError` when there is no such column.
    """
    rows = pd.read_csv(table)
    if target not in rows.columns:
        message = f"calibration: there is no column {target!r}"
        raise ValueError(message)
    wanted = rows.pop(target).to_numpy()
    got = np.asarray(estimator.predict(rows))
    if hasattr(estimator, "classes_"):
        return float((got == wanted).mean())
    return float(1 - ((got - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum())
