"""Models that scikit-learn's users saved with skops: types by name, and arrays.

1. A file is read only if it names nothing but types and functions that skops, or `_HARMLESS`, knows to do no harm when built.
2. Trees in it are followed by native code, without a look at where they lead: they are looked at before, wherever they are.
"""

import json
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
names and settings, and run nothing when they are built; functions are named and not called."""
_IN_HISTOGRAMS: Final = ("functools.partial", "sklearn.utils.validation.check_array")
"""In HistGradientBoosting of categories. A `partial` may call anything: each must be of `check_array`, which checks an array."""
_BITSET: Final = (8,)  # words of 32 bits, for 256 codes


def load_skops(path: Path) -> Any:
    """Read a fitted estimator. Raises `ValueError` on one that is not safe or is damaged, `ModuleNotFoundError` without skops."""
    try:
        skops = import_module("skops.io")
    except ModuleNotFoundError as error:
        msg = "estimator: reading a .skops file needs skops: pip install skops"
        raise ModuleNotFoundError(msg) from error
    harmless = {f"{module}.{name}" for module, names in _HARMLESS.items() for name in names}
    try:
        trusted = [*harmless, *(_IN_HISTOGRAMS if _partials_check_arrays(path) else ())]
        unknown = set(skops.get_untrusted_types(file=path)) - set(trusted)
    except (zipfile.BadZipFile, LookupError) as error:
        msg = f"estimator: {path.name} is not a model that skops wrote, or is damaged"
        raise ValueError(msg) from error
    if unknown:
        msg = (
            f"estimator: {path.name} names types that skops does not know to be harmless: {', '.join(sorted(unknown))}"
        )
        raise ValueError(msg)
    estimator = skops.load(path, trusted=trusted)
    _check_trees(estimator)
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
        sets, bitsets = nodes["bitset_idx"][nodes["is_categorical"].astype(bool)], model.raw_left_cat_bitsets
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
