"""How a fitted estimator arrives from a file, and which families can run it.

A file with a model in it is code until shown otherwise: a pickle runs whatever it likes when it is read. So:

- `.json` and `.ubj` are XGBoost's own formats, which hold numbers; or `.json` is what Concrete ML's `dump` wrote of a
  network, and only its numbers are read (`networks`);
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
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.ensembles import is_ensemble
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.compilers.networks import is_concrete_ml, load_network
from blindgate_models.compilers.polynomial import compile_network
from blindgate_models.compilers.prepared import Prepared, found_by_search
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
_HARMLESS: Final = (
    "blindgate_models.public_bins.PublicBins",
    "collections.OrderedDict",
    "interpret.glassbox._ebm._ebm.ExplainableBoostingClassifier",
    "interpret.glassbox._ebm._ebm.ExplainableBoostingRegressor",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "numpy.number",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)
"""Types of fitted models that skops has on neither of its lists. They hold numbers, names and settings, and run nothing when they
are built. Trees are followed by native code without a look at where they lead: `_check_trees` looks first."""
_IN_HISTOGRAMS: Final = ("functools.partial", "sklearn.utils.validation.check_array")
"""In HistGradientBoosting of categories. A `partial` may call anything: each must be of `check_array`, which checks an array."""
_BITSET: Final = (8,)  # words of 32 bits, for 256 codes
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

    `trees` for ensembles, `additive` for explainable boosting machines and for what takes bins, `concrete` for networks, `linear`
    for everything else; `network` for what is a network of squares already; others are trained further for it, so it is asked
    for by name.
    """
    model = _last_step(estimator)
    if is_ensemble(model):
        return "trees"
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

    Raises what the compilers raise, and `ValueError` on a family that there is no compiler for.
    """
    estimator = found_by_search(estimator)
    chosen = family or choose_family(estimator)
    if chosen not in _COMPILERS:
        msg = f"family: got {chosen!r:.40}, expected one of: {', '.join(_COMPILERS)}"
        raise ValueError(msg)
    return _COMPILERS[chosen](estimator, calibration, **settings)


def _last_step(estimator: Any) -> Any:
    return found_by_search(estimator.steps[-1][1]) if hasattr(estimator, "steps") else estimator


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
    try:
        trusted = [*_HARMLESS, *(_IN_HISTOGRAMS if _partials_check_arrays(path) else ())]
        unknown = set(skops.get_untrusted_types(file=path)) - set(trusted)
    except (zipfile.BadZipFile, LookupError) as error:
        raise _unreadable(path, "a model that skops wrote") from error
    if unknown:
        msg = (
            f"estimator: {path.name} names types that skops does not know to be harmless: {', '.join(sorted(unknown))}"
        )
        raise ValueError(msg)
    estimator = skops.load(path, trusted=trusted)
    _check_trees(_last_step(estimator))
    return estimator


def _partials_check_arrays(path: Path) -> bool:
    """Whether each `functools.partial` of a skops file, by its name or by what would build it, is one of `check_array`."""
    with zipfile.ZipFile(path) as archive:
        waiting: list[Any] = [json.loads(archive.read("schema.json"))]
    for node in waiting:  # grows as it goes
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        if not isinstance(node, dict):
            continue
        built = (node.get("__module__"), node.get("__class__")), node.get("__loader__")
        if built[0] != ("functools", "partial") and built[1] != "PartialNode":
            continue
        called = node["content"]["func"]
        if built != (("functools", "partial"), "PartialNode") or (
            called["__module__"],
            called["__class__"],
            called["__loader__"],
        ) != ("sklearn.utils.validation", "check_array", "FunctionNode"):
            return False
    return True


def _check_trees(model: Any) -> None:
    """Refuse trees that lead out of themselves. Raises `ValueError`."""
    for member in np.ravel(getattr(model, "estimators_", [model])):
        tree = getattr(member, "tree_", None)
        if tree is not None:
            _check_tree(tree.children_left, tree.children_right, tree.feature, int(model.n_features_in_))
    for iteration in getattr(model, "_predictors", []):
        for predictor in iteration:
            nodes = predictor.nodes
            left, right = (np.where(nodes["is_leaf"], -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
            _check_tree(left, right, nodes["feature_idx"], int(model.n_features_in_))
            sets = nodes["bitset_idx"][nodes["is_categorical"].astype(bool)]
            bitsets = predictor.raw_left_cat_bitsets
            if len(sets) and (bitsets.shape[1:] != _BITSET or sets.max() >= len(bitsets)):
                msg = "estimator: a tree that asks for a set of categories that is not there"
                raise ValueError(msg)


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
