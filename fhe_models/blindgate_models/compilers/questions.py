"""From a forest's thresholds to public questions, and the forest over their answers.

What is asked is public, so it must not tell what the forest asks. Two ways lead there:

- **public bins**: the pipeline has a `PublicBins` step. Every edge of every column is asked, whether the forest uses it or not.
- **own thresholds**: exact for any forest, but its thresholds stand in the client part, among decoys: every column gets as many
  edges as the column with the most, values from the calibration rows where it has them.

Where calibration rows miss values, both answers for a missing value are asked of that column's edges, so that the forest may send
it either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.bits import Questions, count
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from blindgate_models.compilers.forests import LEAF, Forest, Tree
from blindgate_models.compilers.steps import before_steps
from blindgate_models.randomness import Source

Floats = NDArray[np.float64]

_FEWEST_EDGES = 4


@dataclass(frozen=True)
class Asked:
    """Questions about the columns of numbers, and where their answers stand.

    Attributes:
        questions: in the order of bits.
        disclosed: whether the edges tell thresholds of the model, among decoys.
    """

    questions: tuple[Questions, ...]
    disclosed: bool

    def places(self) -> dict[tuple[int, str, float], int]:
        """Bit numbers by column, kind and value."""
        found: dict[tuple[int, str, float], int] = {}
        start = 0
        for asked in self.questions:
            for value in asked.values or [0.0]:
                found[asked.column, asked.kind, value] = start
                start += 1
        return found


def ask(edges: Sequence[Sequence[float]], may_miss: Sequence[bool], *, disclosed: bool) -> Asked:
    """Ask every column whether it is at or above each of its edges, and both ways where a value may be missing."""
    questions = []
    for column, (values, misses) in enumerate(zip(edges, may_miss, strict=True)):
        if len(values):
            questions.append(Questions(column=column, kind="at_least", values=list(values)))
            if misses:
                questions.append(Questions(column=column, kind="at_least_or_missing", values=list(values)))
    return Asked(tuple(questions), disclosed)


def bin_edges(steps: Sequence[Any], rows: Floats, limits: Floats) -> list[list[float]] | None:
    """The edges of the pipeline's `PublicBins`, in the table's own numbers; `None` where there is no such step.

    Steps before it are followed backwards as `before_steps` does.
    """
    names = [type(step).__name__ for step in steps]
    if "PublicBins" not in names:
        return None
    last = names.index("PublicBins")
    bins = steps[last]
    probe = _probe([range(1, len(edges) + 1) for edges in bins.edges_])
    moved = before_steps(probe, steps[: last + 1], rows, limits)
    edges: list[list[float]] = [[] for _ in bins.edges_]
    for tree in moved.trees:
        edges[int(tree.feature[0])].append(float(tree.threshold[0]))
    return [sorted(set(column)) for column in edges]


def own_edges(forest: Forest, rows: Floats, source: Source) -> list[list[float]]:
    """The thresholds of `forest`, which is strict and in the table's own numbers, and as many decoys as hide which are real."""
    own: list[set[float]] = [set() for _ in range(forest.features)]
    for tree in forest.trees:
        for node in np.flatnonzero(tree.left != LEAF):
            own[int(tree.feature[node])].add(float(tree.threshold[node]))
    most = max(_FEWEST_EDGES, *map(len, own))
    edges = []
    for column, wanted in enumerate(own):
        given = rows[:, column]
        candidates = np.unique(given[~np.isnan(given)])[1:]
        candidates = candidates[~np.isin(candidates, list(wanted))]
        chosen = (
            candidates[randomness.permutation(len(candidates), source)[: most - len(wanted)]] if len(candidates) else []
        )
        edges.append(sorted({*wanted, *map(float, chosen)}))
    return edges


def over_bits(forest: Forest, asked: Asked, may_miss: Sequence[bool]) -> BitForest:
    """`forest`, strict and in the table's own numbers, over the answers. Its thresholds are among the edges that are asked.

    A threshold that every value of its column reaches, or none, is asked for as the nearest edge that says the same; `ValueError`
    where there is none.
    """
    places = asked.places()
    trees = tuple(tuple(_leaves(tree, places, may_miss)) for tree in forest.trees)
    return BitForest(trees, count(asked.questions), forest.bias)


def _leaves(tree: Tree, places: dict[tuple[int, str, float], int], may_miss: Sequence[bool]) -> list[Leaf]:
    found = []
    waiting: list[tuple[int, tuple[int, ...], tuple[bool, ...]]] = [(0, (), ())]
    while waiting:
        node, bits, wanted = waiting.pop()
        if tree.left[node] == LEAF:
            found.append(Leaf(bits, wanted, tuple(tree.value[node].tolist())))
            continue
        column = int(tree.feature[node])
        kind = "at_least_or_missing" if may_miss[column] and not tree.missing_left[node] else "at_least"
        key = (column, kind, float(tree.threshold[node]))
        if key not in places:
            msg = f"the forest asks column {column} for an edge that is not asked publicly"
            raise ValueError(msg)
        waiting.append((int(tree.right[node]), (*bits, places[key]), (*wanted, True)))
        waiting.append((int(tree.left[node]), (*bits, places[key]), (*wanted, False)))
    return found


def _probe(codes: Sequence[range]) -> Forest:
    """A forest that asks every column for each of its bin numbers, a tree a question."""
    trees = [
        Tree(
            left=np.array([1, LEAF, LEAF]),
            right=np.array([2, LEAF, LEAF]),
            feature=np.array([column, 0, 0]),
            threshold=np.array([float(code), 0.0, 0.0]),
            value=np.zeros((3, 1)),
            missing_left=np.ones(3, dtype=bool),
        )
        for column, numbers in enumerate(codes)
        for code in numbers
    ]
    return Forest(
        framework="sklearn",
        estimator="PublicBins",
        trees=tuple(trees),
        strict=True,
        bias=(0.0,),
        features=len(codes),
        labels=None,
        link="identity",
        single=False,
    )
