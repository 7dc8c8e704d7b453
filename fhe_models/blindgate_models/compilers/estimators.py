"""How a fitted estimator arrives from a file, and which families can run it.

A file with a model in it is code until shown otherwise: a pickle runs whatever it likes when it is read. So:

- `.json` and `.ubj` are XGBoost's own formats, which hold numbers; or `.json` is what Concrete ML's `dump` wrote of a
  network, and only its numbers are read (`networks`);
- `.skops` holds types by name and arrays, and is read only if it names nothing but types that `skops` knows to be
  harmless;
- `.joblib` and `.pkl` are pickles, and are read only where the caller says `trust_pickle`: whoever wrote the file can
  do on this machine whatever its user can.
"""

import dataclasses
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.compilers.networks import is_concrete_ml, load_network
from blindgate_models.compilers.rules import Prepared

Family: TypeAlias = Literal["linear", "concrete"]

_COMPILERS: Final[dict[str, Callable[..., CompiledModel]]] = {"concrete": compile_concrete, "linear": compile_linear}
_HARMLESS: Final = ("numpy.dtype",)
"""A SimpleImputer holds one. It names a kind of number and runs nothing; skops has it on neither of its lists."""
_TREES_AND_NETWORKS: Final = ("XGB", "DecisionTree", "RandomForest", "MLP", "FittedNetwork")


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
        case ".skops":
            return _load_skops(path)
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
            msg = f"estimator: got a {other or 'nameless'} file, expected .json, .ubj, .skops, or a trusted .joblib or .pkl"
            raise ValueError(msg)


def read_calibration(path: Path, target: str | None = None) -> tuple[pd.DataFrame, pd.Series | None]:
    """Read a CSV file with a header line: rows of numbers, and the answers in the column `target` where one is named.

    Raises `ValueError` naming the column.
    """
    rows = pd.read_csv(path)
    if target is not None and target not in rows.columns:
        msg = f"calibration: there is no column {target!r:.60}"
        raise ValueError(msg)
    answers = None if target is None else rows.pop(target)
    for name in rows.columns:
        if not pd.api.types.is_numeric_dtype(rows[name]):
            msg = f"calibration: the column {str(name)!r:.60} holds values that are no numbers"
            raise ValueError(msg)
    return rows, answers


def choose_family(estimator: Any) -> Family:
    """`concrete` for trees and networks; `linear` for everything else, since CKKS is a thousand times faster there."""
    return "concrete" if type(_last_step(estimator)).__name__.startswith(_TREES_AND_NETWORKS) else "linear"


def compile_model(
    estimator: Any, calibration: pd.DataFrame | Prepared, *, family: str | None = None, **settings: Any
) -> CompiledModel:
    """Compile a fitted estimator with the family's compiler, whose `settings` are passed on.

    Args:
        estimator: see the compilers; a pipeline may begin with a SimpleImputer.
        calibration: rows like those to come, with names for the columns; `Prepared` where rules go with them.
        family: `linear` or `concrete`; see `choose_family` for the default.
        **settings: all that the compiler takes but `ranges`, which a rule gives.

    Raises what `compile_linear` and `compile_concrete` raise, and `ValueError` on a family that there is no compiler for.
    """
    chosen = family or choose_family(estimator)
    if chosen not in _COMPILERS:
        msg = f"family: got {chosen!r:.40}, expected one of: {', '.join(_COMPILERS)}"
        raise ValueError(msg)
    prepared = calibration if isinstance(calibration, Prepared) else Prepared.of(estimator, calibration, {})
    compiled = _COMPILERS[chosen](estimator, prepared.rows, ranges=prepared.ranges, **settings)
    return dataclasses.replace(compiled, columns=prepared.columns(compiled.columns))


def _last_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _load_xgboost(path: Path) -> Any:
    xgboost = import_module("xgboost")
    try:
        booster = xgboost.Booster(model_file=path)
    except xgboost.core.XGBoostError as error:  # its words go on with a trace of its own
        raise _unreadable(path, "a model that XGBoost's save_model wrote") from error
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
    try:
        unknown = set(skops.get_untrusted_types(file=path)) - set(_HARMLESS)
    except (zipfile.BadZipFile, LookupError) as error:
        raise _unreadable(path, "a model that skops wrote") from error
    if unknown:
        msg = (
            f"estimator: {path.name} names types that skops does not know to be harmless: {', '.join(sorted(unknown))}"
        )
        raise ValueError(msg)
    return skops.load(path, trusted=list(_HARMLESS))


def _unreadable(path: Path, expected: str) -> ValueError:
    return ValueError(f"estimator: {path.name} is not {expected}, or is damaged")
