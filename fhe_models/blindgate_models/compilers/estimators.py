"""How a fitted estimator arrives from a file, and which families can run it.

A file with a model in it is code until shown otherwise: a pickle runs whatever it likes when it is read. So:

- `.json` and `.ubj` are XGBoost's own formats, which hold numbers; or `.json` is what Concrete ML's `dump` wrote of a
  network, and only its numbers are read (`networks`);
- `.txt` is LightGBM's (`lightgbm_files`);
- `.skops` holds types by name and arrays, and is read only if it names nothing but what is known to be harmless (`skops_files`);
- `.joblib` and `.pkl` are pickles, and are read only where the caller says `trust_pickle`: whoever wrote the file can
  do on this machine whatever its user can.
"""

import json
import pickle
import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.ensembles import asks_once, is_ensemble
from blindgate_models.compilers.lightgbm_files import load_lightgbm
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.compilers.networks import is_concrete_ml, load_network
from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.prepared import Prepared, unwrapped
from blindgate_models.compilers.questions import has_bins
from blindgate_models.compilers.skops_files import load_skops
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.compilers.trees import compile_trees

Family: TypeAlias = Literal["additive", "concrete", "linear", "network", "trees", "trees-batch"]

_COMPILERS: Final[dict[str, Callable[..., CompiledModel]]] = {
    "additive": compile_additive,
    "concrete": compile_concrete,
    "linear": compile_linear,
    "network": compile_network,
    "trees": compile_trees,
    "trees-batch": compile_trees_batch,
}
FAMILIES: Final = tuple(_COMPILERS)
"""What there is a compiler for."""
WITHOUT_TOLERANCE: Final = "concrete"
"""The one that computes on whole numbers, and rounds before."""
_OF_SQUARES: Final = ("Sequential", "SquareNetwork")
_BINS: Final = ("PublicBins", "KBinsDiscretizer")
_NETWORKS: Final = ("MLP", "FittedNetwork")


def load_estimator(path: Path, *, trust_pickle: bool = False) -> Any:
    """Read a fitted estimator.

    Raises `ValueError` on a format that is not known or not safe, `ModuleNotFoundError` where the package that wrote it
    is not installed, `OSError` on the disk's errors.
    """
    match path.suffix.lower():
        case ".json":
            document = json.loads(path.read_bytes())
            return load_network(document) if is_concrete_ml(document) else _load_xgboost(path)
        case ".ubj":
            return _load_xgboost(path)
        case ".txt":
            return load_lightgbm(path)
        case ".skops":
            return load_skops(path)
        case ".joblib" | ".pkl" | ".pickle":
            if not trust_pickle:
                msg = (
                    f"estimator: {path.name} is a pickle, and reading one runs whatever its author put into it. Save the "
                    "estimator with skops, or XGBoost's save_model; or pass --trust-pickle if the file is your own"
                )
                raise ValueError(msg)
            try:
                return import_module("joblib").load(path)
            except (pickle.UnpicklingError, struct.error, zlib.error, EOFError, LookupError) as error:
                raise _unreadable(path, "a pickle") from error
        case other:
            msg = f"estimator: got a {other or 'nameless'} file, expected .json, .ubj, .txt, .skops, or a trusted .joblib or .pkl"
            raise ValueError(msg)


def read_rows(path: Path, target: str | None = None) -> tuple[pd.DataFrame, pd.Series | None]:
    """Read a CSV file with a header line: rows, and the answers in the column `target` where one is named.

    A cell that is empty, or says `?` or one of pandas' words for nothing, is missing. Raises `ValueError` naming the column.
    """
    rows = pd.read_csv(path, na_values=["?"])
    if target is not None and target not in rows.columns:
        msg = f"{path.name}: there is no column {target!r:.60}"
        raise ValueError(msg)
    answers = None if target is None else rows.pop(target)
    return rows, answers


def choose_family(estimator: Any) -> Family:
    """The fastest that runs such models.

    `trees` for ensembles, `additive` for those whose trees ask one question each, for explainable boosting machines and for what
    takes bins, `concrete` for networks, `linear` for everything else; `network` for what is a network of squares already; others
    are trained further for it, so it is asked for by name. Trees of two questions are additive too and faster so, but that tells
    which pairs of columns act together: it is asked for by name as well. Raises `ValueError` on one that is not fitted.
    """
    _require_fitted(estimator)
    model = _last_step(estimator)
    if is_ensemble(model):
        return "additive" if asks_once(model) else "trees"
    if type(model).__name__.startswith("ExplainableBoosting"):
        return "additive"
    if type(model).__name__ in _OF_SQUARES:
        return "network"
    if type(model).__name__.startswith(_NETWORKS):
        return "concrete"
    return "additive" if has_bins([estimator], _BINS) else "linear"


def compile_model(
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    family: str | None = None,
    **settings: Any,
) -> CompiledModel:
    """Compile a fitted estimator with the family's compiler, whose `settings` are passed on.

    Args:
        estimator: see the compilers; a pipeline may begin with imputers, encoders and scalers. A search for settings stands for
            the model that it found.
        calibration: rows like those to come, with names for the columns; `Prepared` where rules go with them.
        family: one of `FAMILIES`; see `choose_family` for the default.
        **settings: all that the compiler takes.

    Raises what the compilers raise, and `ValueError` on a family that there is no compiler for, or an estimator that is not fitted.
    """
    estimator = unwrapped(estimator)
    _require_fitted(estimator)
    chosen = family or choose_family(estimator)
    if chosen not in _COMPILERS:
        msg = f"family: got {chosen!r:.40}, expected one of: {', '.join(_COMPILERS)}"
        raise ValueError(msg)
    return _COMPILERS[chosen](estimator, calibration, **settings)


def _require_fitted(estimator: Any) -> None:
    if not hasattr(_last_step(estimator), "get_params"):  # not of scikit-learn's kind: compilers see for themselves
        return
    try:
        import_module("sklearn.utils.validation").check_is_fitted(_last_step(estimator))
    except ValueError as error:
        msg = f"estimator: {type(_last_step(estimator)).__name__} is not fitted: call its fit first"
        raise ValueError(msg) from error


def _last_step(estimator: Any) -> Any:
    return unwrapped(estimator).steps[-1][1] if hasattr(estimator, "steps") else estimator


def _load_xgboost(path: Path) -> Any:
    xgboost = import_module("xgboost")
    try:
        booster = xgboost.Booster(model_file=path)
    except xgboost.core.XGBoostError as error:  # its words go on with a trace of its own
        raise _unreadable(path, "a model that XGBoost's save_model wrote") from error
    objective: str = json.loads(booster.save_config())["learner"]["objective"]["name"]
    classifies = objective.startswith(("binary:", "multi:"))
    estimator = (xgboost.XGBClassifier if classifies else xgboost.XGBRegressor)(n_jobs=1)
    estimator.load_model(path)
    return estimator


def _unreadable(path: Path, expected: str) -> ValueError:
    return ValueError(f"estimator: {path.name} is not {expected}, or is damaged")
