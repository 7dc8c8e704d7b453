"""Fitted tree ensembles, taken apart: XGBoost, LightGBM, and scikit-learn's trees, forests and boosting.

None of the three frameworks is imported here; a fitted estimator brings its own. What is read is what `predict` does, and
nothing is guessed at: an ensemble that uses something else (other boosters, links that Blindgate has no name
for) is refused, and compilers compare the reading with the estimator's own answers before they go on.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Never

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.compilers.forests import LEAF, Forest, Tree, booster_trees
from blindgate_models.compilers.native_categories import Sets, native_categories
from blindgate_models.halves import Part

_XGBOOST_LINKS: Final[dict[str, Link]] = {
    "binary:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
}
"""What XGBoost's objectives make of a score. One that leaves the sum of the trees as it is looks the same to the compiler."""

_LIGHTGBM_LINKS: Final[dict[str, Link]] = {
    "binary": "sigmoid",
    "multiclass": "softmax",
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
}

_LIGHTGBM_ZERO: Final = float(np.float32(1e-35))
"""Its kZeroThreshold."""

_TREES = {"DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"}
_FORESTS = {"RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor"}


def read_forest(estimator: Any) -> Forest:
    """Take a fitted ensemble apart. Raises `TypeError` on another estimator, `ValueError` on what is not supported in one."""
    name = type(estimator).__name__
    for names, read in _READERS:
        if name in names:
            return read(estimator, name)
    msg = f"estimator: {name} is no tree ensemble that is known here: XGBoost's, LightGBM's, scikit-learn's trees and forests"
    raise TypeError(msg)


def is_ensemble(estimator: Any) -> bool:
    """Whether `read_forest` knows the estimator's kind."""
    return any(type(estimator).__name__ in names for names, _ in _READERS)


def asks_once(estimator: Any) -> bool:
    """Whether no tree of an ensemble asks more than one question. `False` of what is not supported: reading it says why."""
    try:
        forest = read_forest(estimator)
    except (TypeError, ValueError):
        return False
    return all((tree.left != LEAF).sum() <= 1 for tree in forest.trees)


def _read_xgboost(estimator: Any, name: str) -> Forest:
    labels = _labels(estimator)
    if estimator.missing is not None and not np.isnan(estimator.missing):
        msg = f"estimator: missing={estimator.missing:g} is not supported: fit it on rows whose missing values are NaN"
        raise ValueError(msg)
    fitted = estimator.get_booster()
    best = fitted.attr("best_iteration")
    if best is not None:  # fitting stopped early: predict leaves the later trees out
        fitted = fitted[: int(best) + 1]
    booster: Part = json.loads(bytes(fitted.save_raw("json")))
    learner = booster["learner"]
    objective = learner["objective"]["name"]
    if learner["gradient_booster"]["name"] != "gbtree" or objective not in _XGBOOST_LINKS:
        msg = (
            f"estimator: booster {learner['gradient_booster']['name']!r} with objective {objective!r} is not supported"
        )
        raise ValueError(msg)
    if int(learner["learner_model_param"]["num_target"]) != 1:
        _refuse_targets()
    native = native_categories(estimator)
    sets = Sets()
    outputs = max(1, int(learner["learner_model_param"]["num_class"]))
    groups = learner["gradient_booster"]["model"]["tree_info"]
    trees = []
    for group, document in zip(groups, booster_trees(booster), strict=True):
        left = np.asarray(document["left_children"], dtype=np.int64)
        right = np.asarray(document["right_children"], dtype=np.int64)
        to_left = np.asarray(document["default_left"], dtype=bool)
        # JSON carries float32 in few digits: back to the float32 that XGBoost compares with.
        conditions = np.asarray(document["split_conditions"], dtype=np.float32).astype(np.float64)
        value = np.zeros((len(left), outputs))
        value[:, group] = np.where(left == LEAF, conditions, 0.0)
        for node, start, size in zip(
            document["categories_nodes"], document["categories_segments"], document["categories_sizes"], strict=True
        ):  # these codes go right, and all others left: the other way around here
            codes = document["categories"][start : start + size]
            conditions[node] = sets.place(codes, missing=not to_left[node])
            left[node], right[node] = right[node], left[node]
        trees.append(
            Tree(
                left=left,
                right=right,
                feature=np.asarray(document["split_indices"], dtype=np.int64),
                threshold=conditions,
                value=value,
                missing_left=to_left,
            )
        )
    base = np.atleast_1d(np.asarray(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float64))
    # XGBoost adds in float32. In more digits the logarithm's last one would be this machine's own.
    link = _XGBOOST_LINKS[objective]
    if link == "sigmoid":
        base = np.log(base / (1 - base))
    elif link == "exp":
        base = np.log(base)
    return Forest(
        framework="xgboost",
        estimator=name,
        trees=tuple(trees),
        strict=True,
        bias=tuple(float(number) for number in np.broadcast_to(base.astype(np.float32), (outputs,))),
        features=int(learner["learner_model_param"]["num_feature"]),
        labels=labels,
        link=link,
        booster=booster,
        categorical=frozenset() if native is None else frozenset(native.labels),
        sets=sets.found,
    )


def _read_lightgbm(estimator: Any, name: str) -> Forest:
    document: Part = estimator.booster_.dump_model()
    objective, *settings = document.get("objective", "custom").split()
    if document["average_output"]:
        msg = "estimator: LightGBM's boosting_type 'rf' is not supported: fit scikit-learn's RandomForestClassifier or -Regressor"
        raise ValueError(msg)
    if objective not in _LIGHTGBM_LINKS or not set(settings) <= _harmless(document):
        msg = f"estimator: LightGBM's objective {' '.join((objective, *settings))!r} is not supported"
        raise ValueError(msg)
    native = native_categories(estimator)
    sets = Sets()
    outputs = int(document["num_tree_per_iteration"])
    trees = []
    for number, tree in enumerate(document["tree_info"]):
        nodes = list(_lightgbm_nodes(tree["tree_structure"], sets))
        value = np.zeros((len(nodes), outputs))
        value[:, number % outputs] = [node.value for node in nodes]
        trees.append(_tree(nodes, value))
    return Forest(
        framework="lightgbm",
        estimator=name,
        trees=tuple(trees),
        strict=False,
        bias=(0.0,) * outputs,
        features=int(document["max_feature_idx"]) + 1,
        labels=_labels(estimator),
        link=_LIGHTGBM_LINKS[objective],
        single=False,
        categorical=frozenset() if native is None else frozenset(native.labels),
        sets=sets.found,
    )


class _Node(NamedTuple):
    """One node, in a list in which a parent comes before its children."""

    left: int
    right: int
    feature: int
    threshold: float
    value: float
    missing_left: bool


def _harmless(document: Part) -> set[str]:
    """Settings of an objective that change nothing in `predict`."""
    return {"sigmoid:1", f"num_class:{document['num_class']}"}


def _lightgbm_nodes(root: Part, sets: Sets) -> Iterator[_Node]:
    waiting, given = [root], 1
    for node in waiting:  # grows as it goes
        if node.get("leaf_coeff"):
            msg = "estimator: LightGBM's linear_tree is not supported: fit it without"
            raise ValueError(msg)
        if "leaf_value" in node:
            yield _Node(LEAF, LEAF, 0, 0.0, float(node["leaf_value"]), missing_left=True)
            continue
        if node["missing_type"] == "Zero":
            msg = "estimator: LightGBM's zeros that stand for missing are not supported"
            raise ValueError(msg)
        if node["decision_type"] == "==":  # a category that has no code goes right, whatever default_left says
            threshold = float(sets.place(map(int, node["threshold"].split("||")), missing=False))
            yield _Node(given, given + 1, int(node["split_feature"]), threshold, 0.0, missing_left=False)
            waiting += [node["left_child"], node["right_child"]]
            given += 2
            continue
        threshold = float(node["threshold"])
        if -_LIGHTGBM_ZERO <= threshold < _LIGHTGBM_ZERO:  # numbers so close to 0 count as 0, these two ends among them
            threshold = _LIGHTGBM_ZERO if threshold >= 0 else float(np.nextafter(-_LIGHTGBM_ZERO, -np.inf))
        # Where no value was missing in training, one that is missing later counts as 0.
        goes_left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0
        yield _Node(given, given + 1, int(node["split_feature"]), threshold, 0.0, goes_left)
        waiting += [node["left_child"], node["right_child"]]
        given += 2


def _read_histogram(estimator: Any, name: str) -> Forest:
    mask = estimator.is_categorical_
    categories = (
        0 if mask is None else int(mask.sum())
    )  # these come first in its trees, whatever their place in the table
    sets = Sets()
    baseline = np.ravel(estimator._baseline_prediction)  # noqa: SLF001  (there is no public way to the trees)
    outputs = len(baseline)
    trees = []
    for iteration in estimator._predictors:  # noqa: SLF001
        for output, predictor in enumerate(iteration):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            value = np.zeros((len(nodes), outputs))
            value[:, output] = np.where(leaf, nodes["value"], 0.0)
            threshold = nodes["num_threshold"].astype(np.float64)
            for number in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
                words = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][number]]
                codes = np.flatnonzero(np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little"))
                threshold[number] = sets.place(codes.tolist(), missing=bool(nodes["missing_go_to_left"][number]))
            trees.append(
                Tree(
                    left=np.where(leaf, LEAF, nodes["left"]).astype(np.int64),
                    right=np.where(leaf, LEAF, nodes["right"]).astype(np.int64),
                    feature=nodes["feature_idx"].astype(np.int64),
                    threshold=threshold,
                    value=value,
                    missing_left=nodes["missing_go_to_left"].astype(bool),
                )
            )
    labels = _labels(estimator)
    loss = type(estimator._loss).__name__  # noqa: SLF001
    exponential = loss in {"HalfPoissonLoss", "HalfGammaLoss"}
    return Forest(
        framework="sklearn",
        estimator=name,
        trees=tuple(trees),
        strict=False,
        bias=tuple(baseline.tolist()),
        features=int(estimator.n_features_in_),
        labels=labels,
        link=("exp" if exponential else "identity") if labels is None else ("sigmoid" if outputs == 1 else "softmax"),
        single=False,
        categorical=frozenset(range(categories)),
        sets=sets.found,
    )


def _read_boosting(estimator: Any, name: str) -> Forest:
    labels = _labels(estimator)
    outputs = estimator.estimators_.shape[1]
    if labels is not None and estimator.loss != "log_loss":
        msg = f"estimator: {name} with the loss {estimator.loss!r} is not supported"
        raise ValueError(msg)
    trees = []
    for iteration in estimator.estimators_:
        for output, member in enumerate(iteration):
            column = np.zeros(outputs)
            column[output] = estimator.learning_rate
            trees.append(_sklearn_tree(member.tree_, member.tree_.value[:, 0, :1] * column))
    origin = np.zeros((1, int(estimator.n_features_in_)))
    forest = Forest(
        framework="sklearn",
        estimator=name,
        trees=tuple(trees),
        strict=False,
        bias=(0.0,) * outputs,
        features=origin.shape[1],
        labels=labels,
        link="identity" if labels is None else ("sigmoid" if outputs == 1 else "softmax"),
    )
    own = estimator.predict(origin) if labels is None else estimator.decision_function(origin)
    start = np.reshape(own, (1, outputs)) - forest.scores(origin)  # what boosting began with, whatever made it
    return Forest(**{**vars(forest), "bias": tuple(start[0].tolist())})


def _read_trees(estimator: Any, name: str) -> Forest:
    members = list(getattr(estimator, "estimators_", [estimator]))
    if estimator.n_outputs_ != 1:
        _refuse_targets()
    labels = _labels(estimator)
    trees = []
    for member in members:
        value = member.tree_.value[:, 0, :]
        shares = value if labels is None else value / value.sum(axis=1, keepdims=True)
        trees.append(_sklearn_tree(member.tree_, shares / len(members)))
    return Forest(
        framework="sklearn",
        estimator=name,
        trees=tuple(trees),
        strict=False,
        bias=(0.0,) * trees[0].value.shape[1],
        features=int(estimator.n_features_in_),
        labels=labels,
        link="identity" if labels is None else "probability",
    )


def _sklearn_tree(tree: Any, value: NDArray[np.float64]) -> Tree:
    leaf = tree.children_left == LEAF
    return Tree(
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        feature=np.where(leaf, 0, tree.feature).astype(np.int64),  # which is -2 at a leaf, and no column
        threshold=tree.threshold.astype(np.float64),
        value=np.where(leaf[:, None], value, 0.0),
        missing_left=tree.missing_go_to_left.astype(bool),
    )


def _tree(nodes: list[_Node], value: NDArray[np.float64]) -> Tree:
    return Tree(
        left=np.array([node.left for node in nodes], dtype=np.int64),
        right=np.array([node.right for node in nodes], dtype=np.int64),
        feature=np.array([node.feature for node in nodes], dtype=np.int64),
        threshold=np.array([node.threshold for node in nodes], dtype=np.float64),
        value=value,
        missing_left=np.array([node.missing_left for node in nodes], dtype=bool),
    )


def _refuse_targets() -> Never:
    msg = "estimator: more than one target is not supported"
    raise ValueError(msg)


def _labels(estimator: Any) -> tuple[Label, ...] | None:
    """The classes, or `None` for a regression. Raises `ValueError` where there is one class, and so nothing to tell apart."""
    if not hasattr(estimator, "classes_"):
        return None
    labels = tuple(np.asarray(estimator.classes_).tolist())
    if len(labels) == 1:
        msg = f"estimator: was fitted on one class, {labels[0]!r:.40}, expected two or more"
        raise ValueError(msg)
    return labels


_READERS: Final[tuple[tuple[set[str], Callable[[Any, str], Forest]], ...]] = (
    ({"XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"}, _read_xgboost),
    ({"LGBMClassifier", "LGBMRegressor", "LGBMBooster"}, _read_lightgbm),
    ({"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}, _read_histogram),
    ({"GradientBoostingClassifier", "GradientBoostingRegressor"}, _read_boosting),
    (_TREES | _FORESTS, _read_trees),
)
