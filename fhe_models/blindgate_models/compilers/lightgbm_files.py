"""Models in LightGBM's own text format, which `save_model` writes: trees and an objective, nothing of the estimator around them.

Labels are numbers from 0 on, as LightGBM sees them: whoever had others fitted them as positions in a list, which the file lacks.
Columns go by position: the file's names are not always the table's (LightGBM writes `mean_radius` for `mean radius`).
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_CLASSIFY: Final = ("binary", "multiclass", "multiclassova", "cross_entropy")
_EVEN: Final = 0.5


class LGBMBooster:
    """A fitted booster, with the names of scikit-learn that compilers use.

    Attributes:
        booster_: LightGBM's own.
        n_features_in_: how many columns it takes.
        classes_: 0, 1, …; a regression has none.
    """

    def __init__(self, booster: Any) -> None:
        """Take what LightGBM read."""
        self.booster_ = booster
        self.n_features_in_ = booster.num_feature()
        document = booster.dump_model(num_iteration=1)
        if document.get("objective", "").split(" ")[0] in _CLASSIFY:
            self.classes_ = np.arange(max(2, int(document["num_class"])))

    def predict(self, rows: Any, *, raw_score: bool = False) -> NDArray[Any]:
        """Labels or numbers for rows, `(n, columns)`; scores before the link with `raw_score`."""
        numbers = np.asarray(self.booster_.predict(rows, raw_score=raw_score))
        if raw_score or not hasattr(self, "classes_"):
            return numbers
        positions = (numbers > _EVEN).astype(np.intp) if numbers.ndim == 1 else numbers.argmax(axis=1)
        return np.asarray(self.classes_[positions])


def load_lightgbm(path: Path) -> LGBMBooster:
    """Read a model. Raises `ValueError` on what LightGBM did not write, `ModuleNotFoundError` where it is not installed."""
    lightgbm = import_module("lightgbm")
    try:
        return LGBMBooster(lightgbm.Booster(model_file=path))
    except lightgbm.basic.LightGBMError as error:
        msg = f"estimator: {path.name} is not a model that LightGBM's save_model wrote, or is damaged"
        raise ValueError(msg) from error
