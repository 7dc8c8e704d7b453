"""Tree ensembles as plain values, and their exact binning.

A comparison of encrypted numbers costs by their bits, so Concrete ML quantises features evenly, which moves thresholds
and changes labels. A forest asks few questions of a feature, though. With the thresholds of feature j sorted into edges
e_0 < e_1 < …, the number of edges that x reaches answers all of them: x < e_i exactly if that number is at most i. So the
client encrypts that number, of ⌈log2(edges + 1)⌉ bits, the compiled forest compares it with i + 1, and no threshold is
rounded.

`ensembles.read_forest` takes a fitted ensemble apart into arrays, `steps.before_steps` puts its thresholds into the table's own
numbers, `Binning` holds the edges, and `coded` gives the same forest over bin numbers
for the Concrete ML compiler (`concrete_worker`). If fewer bits are asked for than the edges need, edges are merged, and
the report says what that did to the labels.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.halves import Part

LEAF: Final = -1
NO_CODE: Final = -1
"""What stands for a category that the forest has no code for, and for a missing one."""


@dataclass(frozen=True)
class Tree:
    """One tree, in arrays over its nodes; a row goes left at a node where its feature is below the threshold.

    Of a feature that is a category, the threshold is the place of a set in the forest's `sets`: a row goes left where its code is
    there.

    Attributes:
        left: the child's index, or -1 at a leaf.
        right: likewise.
        feature: the feature asked for.
        threshold: what it is compared with.
        value: `(nodes, outputs)`, what a leaf adds.
        missing_left: whether a row goes left where its feature is missing.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    missing_left: NDArray[np.bool_]


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
        categorical: the features that are codes of categories.
        sets: of codes, `NO_CODE` among them where it goes with these.
    """

    framework: Literal["lightgbm", "sklearn", "xgboost"]
    estimator: str
    trees: tuple[Tree, ...]
    strict: bool
    bias: tuple[float, ...]
    features: int
    labels: tuple[Label, ...] | None
    link: Link
    booster: Part | None = None
    single: bool = True
    categorical: frozenset[int] = frozenset()
    sets: tuple[frozenset[int], ...] = ()

    def seen(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers as they are compared with thresholds."""
        return numbers.astype(np.float32).astype(np.float64) if self.single else numbers

    def scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The raw scores of `rows`, `(n, features)`: `(n, outputs)` float64, computed tree by tree."""
        total = np.tile(np.asarray(self.bias), (len(rows), 1))
        seen = self.seen(rows)
        below: Callable[..., NDArray[np.bool_]] = np.less if self.strict else np.less_equal
        for tree in self.trees:
            node = np.zeros(len(rows), dtype=np.int64)
            for _ in range(len(tree.left)):
                inner = tree.left[node] != LEAF
                if not inner.any():
                    break
                feature, threshold = tree.feature[node], tree.threshold[node]
                asked = seen[np.arange(len(rows)), feature]
                goes_left = np.where(np.isnan(asked), tree.missing_left[node], below(asked, threshold))
                by_set = inner & np.isin(feature, list(self.categorical))
                for place in np.unique(threshold[by_set]):
                    rows_there = by_set & (threshold == place)
                    goes_left[rows_there] = np.isin(asked[rows_there], list(self.sets[int(place)]))
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
            inner = tree.left != LEAF
            for feature, threshold in zip(tree.feature[inner], tree.threshold[inner], strict=True):
                found[feature].add(float(threshold))
        return cls(tuple(_thin(sorted(edges), bits) for edges in found))

    def snap(self, forest: Forest) -> Forest:
        """`forest` with each threshold at the edge whose rank is nearest; the same forest where none was left out."""

        def moved(tree: Tree) -> Tree:
            threshold = tree.threshold.copy()
            for node in np.flatnonzero(tree.left != LEAF):
                edges = self.edges[tree.feature[node]]
                threshold[node] = min(edges, key=lambda edge: abs(edge - tree.threshold[node]))
            return replace(tree, threshold=threshold)

        return replace(forest, trees=tuple(map(moved, forest.trees)))


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
                "feature": np.where(tree.left == LEAF, -2, tree.feature).tolist(),
                "threshold": _ranks(tree, binning, step, -2.0),
                "value": (tree.value * len(forest.trees)).tolist(),
            }
            for tree in forest.trees
        ]
        return {"trees": trees, "outputs": len(forest.bias), "features": forest.features}
    booster: Part = json.loads(json.dumps(forest.booster))
    step = 1
    for tree, document in zip(forest.trees, booster_trees(booster), strict=True):
        leaves = tree.value.sum(axis=1)
        document["split_conditions"] = [
            float(leaf) if left == LEAF else rank
            for left, rank, leaf in zip(tree.left, _ranks(tree, binning, step, 0.0), leaves, strict=True)
        ]
        document["split_indices"] = np.where(tree.left == LEAF, 0, tree.feature).tolist()
        document["left_children"], document["right_children"] = tree.left.tolist(), tree.right.tolist()
    # Concrete ML drops the base score, or takes it to be 0.5: it is added after decryption.
    booster["learner"]["learner_model_param"]["base_score"] = "5E-1"
    if forest.labels is None:  # how it was fitted makes no difference any more
        booster["learner"]["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    booster["learner"]["learner_model_param"]["num_feature"] = str(forest.features)
    # Hummingbird takes a feature's name for its number.
    booster["learner"].update(feature_names=[], feature_types=[])
    return {"booster": booster}


def _ranks(tree: Tree, binning: Binning, step: int, at_leaf: float) -> list[float]:
    return [
        at_leaf if left == LEAF else float(binning.edges[feature].index(threshold) + step)
        for left, feature, threshold in zip(tree.left, tree.feature, tree.threshold.tolist(), strict=True)
    ]


def _thin(edges: list[float], bits: int | None) -> tuple[float, ...]:
    most = len(edges) if bits is None else (1 << bits) - 1
    if len(edges) <= most:
        return tuple(edges)
    return tuple(edges[round((i + 0.5) * len(edges) / most - 0.5)] for i in range(most))


def booster_trees(booster: Part) -> list[Part]:
    """The trees in XGBoost's own document."""
    trees: list[Part] = booster["learner"]["gradient_booster"]["model"]["trees"]
    return trees
