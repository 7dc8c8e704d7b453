"""How a fitted estimator arrives from a file, and which families can run it.

A file with a model in it is code until shown otherwise: a pickle runs whatever it likes when it is read. So:

- `.json` and `.ubj` are XGBoost's own formats, which hold numbers; or `.json` is what Concrete ML's `dump` wrote of a
  network, and only its numbers are read (`networks`);
- `.txt` is LightGBM's (`lightgbm_files`);
- `.skops` holds types by name and arrays, and is read only if it names nothing but types that `skops` knows to be
  harmless;
- `.joblib` and `.pkl` are pickles, and are read only where the caller says `trust_pickle`: whoever wrote the file can
  do on this machine whatever its user can.
"""

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
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
EXACT: Final = "concrete"
"""The one that computes on whole numbers: it rounds before, and takes no tolerance."""
_HARMLESS: Final = {
    "blindgate_models.public_bins": ("PublicBins",),
    "builtins": ("object",),
    "collections": ("OrderedDict",),
    "interpret.glassbox._ebm._ebm": ("ExplainableBoostingClassifier", "ExplainableBoostingRegressor"),
    "lightgbm.basic": ("Booster",),
    "lightgbm.sklearn": ("LGBMClassifier", "LGBMRegressor"),
    "numpy": ("dtype", "number"),
    "sklearn.compose._column_transformer": ("make_column_selector",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.feature_selection._mutual_info": ("mutual_info_classif", "mutual_info_regression"),
    "sklearn.feature_selection._univariate_selection": ("chi2", "f_classif", "f_regression", "r_regression"),
    "sklearn.metrics._classification": ("accuracy_score", "balanced_accuracy_score", "f1_score", "log_loss"),
    "sklearn.metrics._ranking": ("average_precision_score", "roc_auc_score"),
    "sklearn.metrics._regression": ("mean_absolute_error", "mean_squared_error", "r2_score", "root_mean_squared_error"),
    "sklearn.metrics._scorer": ("_PassthroughScorer", "_Scorer"),
    "sklearn.model_selection._split": (
        "GroupKFold",
        "KFold",
        "RepeatedKFold",
        "RepeatedStratifiedKFold",
        "ShuffleSplit",
        "StratifiedGroupKFold",
        "StratifiedKFold",
        "StratifiedShuffleSplit",
        "TimeSeriesSplit",
    ),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.tree._tree": ("Tree",),
    "xgboost.core": ("Booster",),
    "xgboost.sklearn": ("XGBClassifier", "XGBRegressor"),
}
"""What fitted models, and the searches that found them, name that skops has on neither of its lists, by module. Types hold numbers,
names and settings, and run nothing when they are built; functions are named and not called. Trees are followed by native code
without a look at where they lead: `_check_trees` looks first."""
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
    if not hasattr(estimator, "get_params"):  # no estimator of scikit-learn's kind, which compilers see for themselves
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


def _load_skops(path: Path) -> Any:
    try:
        skops = import_module("skops.io")
    except ModuleNotFoundError as error:
        msg = "estimator: reading a .skops file needs skops: pip install skops"
        raise ModuleNotFoundError(msg) from error
    harmless = {f"{module}.{name}" for module, names in _HARMLESS.items() for name in names}
    try:
        unknown = set(skops.get_untrusted_types(file=path)) - harmless
    except (zipfile.BadZipFile, LookupError) as error:
        raise _unreadable(path, "a model that skops wrote") from error
    if unknown:
        msg = (
            f"estimator: {path.name} names types that skops does not know to be harmless: {', '.join(sorted(unknown))}"
        )
        raise ValueError(msg)
    estimator = skops.load(path, trusted=sorted(harmless))
    _check_trees(estimator)
    return estimator


def _check_trees(found: Any) -> None:
    """Refuse trees that lead out of themselves, wherever in an estimator they are. Raises `ValueError`."""
    waiting: list[tuple[Any, int | None]] = [(found, None)]
    seen: dict[int, Any] = {}  # holds on to what it names, so that no name is given twice
    while waiting:
        value, features = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Mapping):
            waiting += [(each, features) for each in value.values()]
        elif isinstance(value, list | tuple | set) or (isinstance(value, np.ndarray) and value.dtype == object):
            waiting += [(each, features) for each in (value.ravel() if isinstance(value, np.ndarray) else value)]
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            own = vars(value).get("n_features_in_")
            features = min((number for number in (own, features) if number is not None), default=None)
            _check_own_tree(value, features)
            waiting += [(each, features) for each in vars(value).values()]


def _check_own_tree(model: Any, features: int | None) -> None:
    tree, nodes = vars(model).get("tree_"), vars(model).get("nodes")
    if tree is not None:
        _check_tree(tree.children_left, tree.children_right, tree.feature, int(features or 0))
    elif isinstance(nodes, np.ndarray):
        left, right = (np.where(nodes["is_leaf"], -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
        _check_tree(left, right, nodes["feature_idx"], int(features or 0))


def _check_tree(left: NDArray[Any], right: NDArray[Any], feature: NDArray[Any], features: int) -> None:
    """Children come after their parent and are there, and features are among those that a row has."""
    own = np.arange(len(left))
    inner = left != -1
    for children in (left[inner], right[inner]):
        if (children <= own[inner]).any() or (children >= len(left)).any():
            msg = "estimator: a tree whose branches lead out of it"
            raise ValueError(msg)
    if (feature[inner] < 0).any() or (feature[inner] >= features).any():
        msg = f"estimator: a tree that asks for a feature past the {features} that there are"
        raise ValueError(msg)


def _unreadable(path: Path, expected: str) -> ValueError:
    return ValueError(f"estimator: {path.name} is not {expected}, or is damaged")
