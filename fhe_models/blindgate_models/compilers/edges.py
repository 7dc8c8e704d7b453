"""Where an additive model cuts its columns, and which of them act together: step 1 of `compilers.additive`.

Edges are those of a `PublicBins` or `KBinsDiscretizer` that takes raw columns; of an explainable boosting machine; or a forest's
thresholds, among decoys. Pairs are an explainable boosting machine's terms, or the columns that stand on one path of a tree. They
are public as they are: cells that a model gives the same score to are not merged, which would tell where it is flat.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np

from blindgate_models.compilers.ensembles import is_ensemble, read_forest
from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.pipelines import Output, read_steps, split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.questions import ask

_EDGES: Final = "the edges at which columns are cut"
_EDGES_OF_TRAINING: Final = (
    f"{_EDGES}: they lie between values of the training rows, and with as many bins as values, between any two"
)
_THRESHOLDS: Final = "the thresholds that the model asks each column for, among decoys"


class Layout(NamedTuple):
    """Where columns are cut, and which act together.

    Attributes:
        edges: of each column, ascending.
        pairs: of columns.
        pair_edges: of each column, where it acts together with another.
        told: what the edges tell the client, for the manifest.
    """

    edges: list[list[float]]
    pairs: list[tuple[int, int]]
    pair_edges: list[list[float]]
    told: str


def layout_of(estimator: Any, prepared: Prepared) -> Layout:
    """Where `estimator` cuts columns. Raises `TypeError` on what cuts three together."""
    steps, model = split(estimator, prepared)
    if type(model).__name__.startswith("ExplainableBoosting"):
        levels = [
            [[] if isinstance(level, dict) else list(map(float, level)) for level in bins] for bins in model.bins_
        ]
        pairs = [term for term in model.term_features_ if len(term) > 1]
        if any(len(term) != 2 for term in pairs):  # noqa: PLR2004
            msg = "estimator: a term of three columns, expected one or two"
            raise TypeError(msg)
        together = [each[min(1, len(each) - 1)] for each in levels]
        # A function of two columns bends that of one as well, where the other stays at its base.
        alone = [sorted({*each[0], *cuts}) for each, cuts in zip(levels, together, strict=True)]
        return Layout(alone, pairs, together, _EDGES_OF_TRAINING)
    if is_ensemble(model):
        forest, outputs = read_forest(model), read_steps(steps)
        asking = ask(forest, steps, outputs)
        edges: list[list[float]] = [[] for _ in prepared.columns]
        for asked in asking.questions:
            if asked.kind == "at_least" and prepared.columns[asked.column]["type"] != "category":
                edges[asked.column] = list(asked.values)
        return Layout(edges, _paths(forest, outputs), edges, _THRESHOLDS if asking.disclosed else _EDGES)
    edges = [[] for _ in prepared.columns]
    for position, cuts in _cut_by_steps(steps.steps, prepared):
        edges[position] = cuts
    return Layout(edges, [], edges, _EDGES)


def _cut_by_steps(steps: Sequence[Any], prepared: Prepared) -> list[tuple[int, list[float]]]:
    """The edges of transformers that cut raw columns into bins, by position."""
    found = []
    for step, columns in _on_raw_columns(_after_imputers(steps), prepared.names):
        if type(step).__name__ == "PublicBins":
            cuts = [list(map(float, edges)) for edges in step.edges_]
        elif type(step).__name__ == "KBinsDiscretizer":
            cuts = [list(map(float, edges[1:-1])) for edges in step.bin_edges_]
        else:
            continue
        found += list(zip(columns, cuts, strict=True))
    return found


def _after_imputers(steps: Sequence[Any]) -> Any:
    """The first step that is no SimpleImputer: those fill in what the client fills in already, and move no column."""
    return next((step for step in steps if type(step).__name__ != "SimpleImputer"), None)


def _on_raw_columns(first: Any, names: list[str]) -> list[tuple[Any, list[int]]]:
    """The transformers that take raw columns: `first`, or those of a ColumnTransformer there."""
    if not hasattr(first, "transformers_"):
        return [] if first is None else [(first, list(range(len(names))))]
    found = []
    for _, step, columns in first.transformers_:
        inner = _after_imputers([each for _, each in step.steps]) if hasattr(step, "steps") else step
        named = not isinstance(columns, slice) and all(isinstance(column, str) for column in columns)
        chosen = [names.index(column) for column in columns] if named else np.arange(len(names))[columns].tolist()
        found.append((inner, chosen))
    return found


def _paths(forest: Forest, outputs: Sequence[Output]) -> list[tuple[int, int]]:
    """The pairs of columns that stand on one path of a tree."""
    found: set[tuple[int, int]] = set()
    for tree in forest.trees:
        for columns in _columns_of_paths(tree, outputs):
            found |= set(combinations(sorted(columns), 2))
            if len(columns) > 2:  # noqa: PLR2004
                msg = "estimator: a tree asks for three columns on one path, which is not additive; see the family 'trees'"
                raise TypeError(msg)
    return sorted(found)


def _columns_of_paths(tree: Tree, outputs: Sequence[Output]) -> list[set[int]]:
    found = []
    waiting: list[tuple[int, set[int]]] = [(0, set())]
    while waiting:
        node, columns = waiting.pop()
        if tree.left[node] == LEAF:
            found.append(columns)
            continue
        column = outputs[int(tree.feature[node])].column
        further = columns | ({column} if column >= 0 else set())
        waiting += [(int(tree.left[node]), further), (int(tree.right[node]), further)]
    return found
