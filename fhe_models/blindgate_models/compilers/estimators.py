"""How a fitted estimator arrives from a file, and which families can run it.

A file with a model in it is code until shown otherwise: a pickle runs whatever it likes when it is read. So:

- `.json` and `.ubj` are XGBoost's own formats, which hold numbers;
- `.skops` holds types by name and arrays, and is read only if it names nothing but types that `skops` knows to be
  harmless;
- `.joblib` and `.pkl` are pickles, and are read only where the caller says `trust_pickle`: whoever wrote the file can
  do on this machine whatever its user can.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.linear import compile_linear

Family: TypeAlias = Literal["linear", "concrete"]

_COMPILERS: Final[dict[str, Callable[..., CompiledModel]]] = {"concrete": compile_concrete, "linear": compile_linear}
_TREES: Final = ("XGB", "DecisionTree", "RandomForest", "MLP")


def load_estimator(path: Path, *, trust_pickle: bool = False) -> Any:
    """Read a fitted estimator.

    Raises `ValueError` on a format that is not known or not safe, `ModuleNotFoundError` where the package that wrote it
    is not installed, `OSError` on the disk's errors.
    """
    match path.suffix.lower():
        case ".json" | ".ubj":
            return _load_xgboost(path)
        case ".skops":
            return _load_skops(path)
        case ".joblib" | ".pkl" | ".pickle":
            if not trust_pickle:
                msg = (
                    f"estimator: {path.name} is a pickle, and reading one runs whatever its author put into it. Save the "
                    "estimator with skops, or XGBoost's save_model; or pass --trust-pickle if the file is your own"
                )
                raise ValueError(msg)
            return import_module("joblib").load(path)
        case other:
            msg = f"estimator: got a {other or 'nameless'} file, expected .json, .ubj, .skops, or a trusted .joblib or .pkl"
            raise ValueError(msg)


def read_calibration(path: Path, target: str | None = None) -> pd.DataFrame:
    """Read calibration rows: a CSV file with a header line, numbers only, without the column `target` of answers.

    Raises `ValueError` naming the column.
    """
    rows = pd.read_csv(path).drop(columns=[] if target is None else [target], errors="ignore")
    for name in rows.columns:
        if not pd.api.types.is_numeric_dtype(rows[name]):
            msg = f"calibration: the column {str(name)!r:.60} holds values that are no numbers"
            raise ValueError(msg)
        if rows[name].isna().any():
            msg = f"calibration: the column {str(name)!r:.60} has empty cells"
            raise ValueError(msg)
    return rows


def choose_family(estimator: Any) -> Family:
    """`concrete` for trees and networks; `linear` for everything else, since CKKS is a thousand times faster there."""
    return "concrete" if type(_last_step(estimator)).__name__.startswith(_TREES) else "linear"


def compile_model(
    estimator: Any, calibration: pd.DataFrame, *, family: str | None = None, **settings: Any
) -> CompiledModel:
    """Compile a fitted estimator with the family's compiler, whose `settings` are passed on.

    Raises what `compile_linear` and `compile_concrete` raise, and `ValueError` on a family that there is no compiler for.
    """
    chosen = family or choose_family(estimator)
    if chosen not in _COMPILERS:
        msg = f"family: got {chosen!r:.40}, expected one of: {', '.join(_COMPILERS)}"
        raise ValueError(msg)
    return _COMPILERS[chosen](estimator, calibration, **settings)


def _last_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _load_xgboost(path: Path) -> Any:
    xgboost = import_module("xgboost")
    booster = xgboost.Booster(model_file=path)
    objective: str = json.loads(booster.save_config())["learner"]["objective"]["name"]
    estimator = (xgboost.XGBRegressor if objective.startswith("reg:") else xgboost.XGBClassifier)(n_jobs=1)
    estimator.load_model(path)
    return estimator


def _load_skops(path: Path) -> Any:
    try:
        skops = import_module("skops.io")
    except ModuleNotFoundError as error:
        msg = "estimator: reading a .skops file needs skops: pip install skops"
        raise ModuleNotFoundError(msg) from error
    unknown = skops.get_untrusted_types(file=path)
    if unknown:
        msg = (
            f"estimator: {path.name} names types that skops does not know to be harmless: {', '.join(sorted(unknown))}"
        )
        raise ValueError(msg)
    return skops.load(path)
