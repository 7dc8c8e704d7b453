"""Tree ensembles as plain values, and their exact binning.

A comparison of encrypted numbers costs by their bits, so Concrete ML quantises features evenly, which moves thresholds
and changes labels. A forest asks few questions of a feature, though. With the thresholds of feature j sorted into edges
e_0 < e_1 < …, the number of edges that x reaches answers all of them: x < e_i exactly if that number is at most i. So the
client encrypts that number, of ⌈log2(edges + 1)⌉ bits, the compiled forest compares it with i + 1, and no threshold is
rounded.

`read_forest` takes a fitted XGBoost or scikit-learn ensemble apart into arrays, `steps.before_steps` puts its
thresholds into the table's own numbers, `Binning` holds the edges, and `coded` gives the same forest over bin numbers
for the Concrete ML compiler (`concrete_worker`). If fewer bits are asked for than the edges need, edges are merged, and
the report says what that did to the labels.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Never

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.halves import Part

_LEAF: Final = -1
_LINKS: Final[dict[str, Link]] = {
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


@dataclass(frozen=True)
class Tree:
    """One tree, in arrays over its nodes; a row goes left at a node where its feature is below the threshold.

    Attributes:
        left: the child's index, or -1 at a leaf.
        right: likewise.
        feature: the feature asked for.
        threshold: what it is compared with.
        value: `(nodes, outputs)`, what a leaf adds.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Forest:
    """A fitted ensemble: scores are the sum of the trees' leaves, and `bias`.

    Attributes:
        framework: whose estimator it was.
        estimator: the estimator's class.
        trees: its trees.
        strict: whether a row goes left only strictly below a threshold (XGBoost), or also at it (scikit-learn).
        single: whether rows are rounded to float32 first, as both frameworks do.
        bias: a number for each output.
        features: how many columns a row has.
        labels: the classes, or `None` for a regression.
        link: from scores to probabilities or numbers.
        booster: XGBoost's own document, or `None`.
    """

    framework: Literal["sklearn", "xgboost"]
    estimator: str
    trees: tuple[Tree, ...]
    strict: bool
    bias: tuple[float, ...]
    features: int
    labels: tuple[Label, ...] | None
    link: Link
    booster: Part | None = None
    single: bool = True

    def scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The raw scores of `rows`, `(n, features)`: `(n, outputs)` float64, computed tree by tree."""
        total = np.tile(np.asarray(self.bias), (len(rows), 1))
        seen = rows.astype(np.float32).astype(np.float64) if self.single else rows
        below: Callable[..., NDArray[np.bool_]] = np.less if self.strict else np.less_equal
        for tree in self.trees:
            node = np.zeros(len(rows), dtype=np.int64)
            for _ in range(len(tree.left)):
                inner = tree.left[node] != _LEAF
                if not inner.any():
                    break
                goes_left = below(seen[np.arange(len(rows)), tree.feature[node]], tree.threshold[node])
                node = np.where(inner, np.where(goes_left, tree.left[node], tree.right[node]), node)
            total += tree.value[node]
        return total


@dataclass(frozen=True)
class Binning:
    """Sorted edges for each feature."""

    edges: tuple[tuple[float, ...], ...]

    @property
    def bits(self) -> int:
        """How many bits a bin number takes."""
        return max(1, max(map(len, self.edges)).bit_length())

    @classmethod
    def of(cls, forest: Forest, bits: int | None = None) -> "Binning":
        """The thresholds of `forest`, or at most 2^bits - 1 of them for each feature, evenly chosen by rank."""
        found: list[set[float]] = [set() for _ in range(forest.features)]
        for tree in forest.trees:
            inner = tree.left != _LEAF
            for feature, threshold in zip(tree.feature[inner], tree.threshold[inner], strict=True):
                found[feature].add(float(threshold))
        return cls(tuple(_thin(sorted(edges), bits) for edges in found))

    def snap(self, forest: Forest) -> Forest:
        """`forest` with each threshold at the edge whose rank is nearest; the same forest where none was left out."""

        def moved(tree: Tree) -> Tree:
            threshold = tree.threshold.copy()
            for node in np.flatnonzero(tree.left != _LEAF):
                edges = self.edges[tree.feature[node]]
                threshold[node] = min(edges, key=lambda edge: abs(edge - tree.threshold[node]))
            return replace(tree, threshold=threshold)

        return replace(forest, trees=tuple(map(moved, forest.trees)))


def read_forest(estimator: Any) -> Forest:
    """Take a fitted estimator apart: XGBClassifier, XGBRegressor, or scikit-learn's decision trees and random forests.

    Raises `TypeError` on another estimator, `ValueError` on one that uses what Concrete ML cannot compile.
    """
    name = type(estimator).__name__
    if name in {"XGBClassifier", "XGBRegressor"}:
        return _read_xgboost(estimator, name)
    if name in {"DecisionTreeClassifier", "DecisionTreeRegressor", "RandomForestClassifier", "RandomForestRegressor"}:
        return _read_sklearn(estimator, name)
    msg = f"estimator: {name} is no tree ensemble that Concrete ML compiles"
    raise TypeError(msg)


def coded(forest: Forest, binning: Binning) -> Part:
    """The forest over bin numbers, as the compiler's worker takes it.

    `forest` has its thresholds at the binning's edges.
    """
    if forest.booster is None:
        step = 0
        trees = [
            {
                "left": tree.left.tolist(),
                "right": tree.right.tolist(),
                "feature": np.where(tree.left == _LEAF, -2, tree.feature).tolist(),
                "threshold": _ranks(tree, binning, step, -2.0),
                "value": (tree.value * len(forest.trees)).tolist(),
            }
            for tree in forest.trees
        ]
        return {"trees": trees, "outputs": len(forest.bias), "features": forest.features}
    booster: Part = json.loads(json.dumps(forest.booster))
    step = 1
    for tree, document in zip(forest.trees, _trees_of(booster), strict=True):
        leaves = tree.value.sum(axis=1)
        document["split_conditions"] = [
            float(leaf) if left == _LEAF else rank
            for left, rank, leaf in zip(tree.left, _ranks(tree, binning, step, 0.0), leaves, strict=True)
        ]
    # Concrete ML drops the base score, or takes it to be 0.5: it is added after decryption.
    booster["learner"]["learner_model_param"]["base_score"] = "5E-1"
    if forest.labels is None:  # how it was fitted makes no difference any more
        booster["learner"]["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    # Hummingbird takes a feature's name for its number.
    booster["learner"].update(feature_names=[], feature_types=[])
    return {"booster": booster}


def _ranks(tree: Tree, binning: Binning, step: int, at_leaf: float) -> list[float]:
    return [
        at_leaf if left == _LEAF else float(binning.edges[feature].index(threshold) + step)
        for left, feature, threshold in zip(tree.left, tree.feature, tree.threshold.tolist(), strict=True)
    ]


def _thin(edges: list[float], bits: int | None) -> tuple[float, ...]:
    most = len(edges) if bits is None else (1 << bits) - 1
    if len(edges) <= most:
        return tuple(edges)
    return tuple(edges[round((i + 0.5) * len(edges) / most - 0.5)] for i in range(most))


def _read_xgboost(estimator: Any, name: str) -> Forest:
    fitted = estimator.get_booster()
    best = fitted.attr("best_iteration")
    if best is not None:  # fitting stopped early: predict leaves the later trees out
        fitted = fitted[: int(best) + 1]
    booster: Part = json.loads(bytes(fitted.save_raw("json")))
    learner = booster["learner"]
    objective = learner["objective"]["name"]
    if learner["gradient_booster"]["name"] != "gbtree" or objective not in _LINKS:
        msg = (
            f"estimator: booster {learner['gradient_booster']['name']!r} with objective {objective!r} is not supported"
        )
        raise ValueError(msg)
    if int(learner["learner_model_param"]["num_target"]) != 1:
        _refuse_targets()
    outputs = max(1, int(learner["learner_model_param"]["num_class"]))
    groups = learner["gradient_booster"]["model"]["tree_info"]
    trees = []
    for group, document in zip(groups, _trees_of(booster), strict=True):
        if any(document["split_type"]) or document["categories"]:
            msg = "estimator: splits by category are not supported"
            raise ValueError(msg)
        left = np.asarray(document["left_children"], dtype=np.int64)
        # JSON carries float32 in few digits: back to the float32 that XGBoost compares with.
        conditions = np.asarray(document["split_conditions"], dtype=np.float32).astype(np.float64)
        value = np.zeros((len(left), outputs))
        value[:, group] = np.where(left == _LEAF, conditions, 0.0)
        right = np.asarray(document["right_children"], dtype=np.int64)
        trees.append(Tree(left, right, np.asarray(document["split_indices"], dtype=np.int64), conditions, value))
    base = np.atleast_1d(np.asarray(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float64))
    # XGBoost adds in float32. In more digits the logarithm's last one would be this machine's own.
    link = _LINKS[objective]
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
        labels=tuple(np.asarray(estimator.classes_).tolist()) if name == "XGBClassifier" else None,
        link=link,
        booster=booster,
    )


def _trees_of(booster: Part) -> list[Part]:
    trees: list[Part] = booster["learner"]["gradient_booster"]["model"]["trees"]
    return trees


def _read_sklearn(estimator: Any, name: str) -> Forest:
    members = list(getattr(estimator, "estimators_", [estimator]))
    if estimator.n_outputs_ != 1:
        _refuse_targets()
    trees = []
    for member in members:
        tree = member.tree_
        value = tree.value[:, 0, :] / len(members)
        if name.endswith("Classifier"):
            value = value / value.sum(axis=1, keepdims=True) / len(members)
        trees.append(
            Tree(
                tree.children_left.astype(np.int64),
                tree.children_right.astype(np.int64),
                tree.feature.astype(np.int64),
                tree.threshold.astype(np.float64),
                np.where((tree.children_left == _LEAF)[:, None], value, 0.0),
            )
        )
    return Forest(
        framework="sklearn",
        estimator=name,
        trees=tuple(trees),
        strict=False,
        bias=(0.0,) * trees[0].value.shape[1],
        features=int(estimator.n_features_in_),
        labels=tuple(np.asarray(estimator.classes_).tolist()) if name.endswith("Classifier") else None,
        link="probability" if name.endswith("Classifier") else "identity",
    )


def _refuse_targets() -> Never:
    msg = "estimator: more than one target is not supported"
    raise ValueError(msg)
