"""Forests over public bits for the tests: random ones, and XGBoost's on the breast cancer patients."""

import csv
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from blindgate_models.bits import Questions, answers, count
from blindgate_models.compilers.bit_forests import BitForest, Leaf
from shared import shared

Floats = NDArray[np.float64]

QUESTIONS = [
    Questions(column=0, kind="at_least", values=[-1.0, 0.0, 0.5, 2.0]),
    Questions(column=1, kind="at_least_or_missing", values=[-0.5, 0.5]),
    Questions(column=2, kind="is", values=[0.0, 1.0, 2.0]),
    Questions(column=1, kind="is_missing", values=[]),
]
"""Ten bits of every kind, over three columns."""


CATEGORIES = [
    Questions(column=0, kind="at_least", values=[-1.0, 0.0, 0.5]),
    Questions(column=1, kind="is", values=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
    Questions(column=2, kind="is", values=[0.0, 1.0, 2.0, 3.0]),
]
GROUPS = ((3, 4), (4, 5, 6), (4, 5), (6, 7, 8), (9, 10), (10, 12))
"""Some of the bits 3 to 8, and of 9 to 12: of these groups some share bits, one holds another, and some exclude each other."""


def category_rows(rng: np.random.Generator, count: int) -> Floats:
    """Rows for `CATEGORIES`, some of no category."""
    return np.stack([rng.normal(size=count), rng.integers(0, 7, count), rng.integers(0, 5, count)], axis=1)


def random_rows(rng: np.random.Generator, count: int) -> Floats:
    """Rows for `QUESTIONS`, some values missing, some categories unknown."""
    rows = rng.normal(size=(count, 3)) * 1.5
    rows[:, 2] = rng.integers(0, 4, count)
    rows[rng.uniform(size=count) < 0.2, 1] = np.nan
    return rows


def random_forest(  # noqa: PLR0917  (a forest's shape)
    rng: np.random.Generator,
    trees: int,
    depth: int,
    outputs: int = 1,
    questions: Sequence[Questions] = QUESTIONS,
    scale: float = 1.0,
    groups: tuple[tuple[int, ...], ...] = (),
) -> BitForest:
    """Trees that ask any bit or group anywhere, in vain too; a quarter of the sides end early."""
    bits = count(questions)

    def grow(path: tuple[tuple[int, bool], ...]) -> list[Leaf]:
        if len(path) == depth or (path and rng.uniform() < 0.25):
            value = tuple(float(each) for each in rng.normal(size=outputs) * scale)
            return [Leaf(tuple(bit for bit, _ in path), tuple(wanted for _, wanted in path), value)]
        bit = int(rng.integers(bits + len(groups)))
        return [leaf for side in (False, True) for leaf in grow((*path, (bit, side)))]

    bias = tuple(float(each) for each in rng.normal(size=outputs) * scale)
    return BitForest(tuple(tuple(grow(())) for _ in range(trees)), bits, bias, groups)


class Trained(NamedTuple):
    """A trained forest, with the rows that it was trained on and those that it was not, as codes of public bins."""

    forest: BitForest
    questions: list[Questions]
    training: Floats
    held_out: Floats
    margins: Floats


@lru_cache
def breast_cancer(trees: int, depth: int, bins: int = 16) -> Trained:
    """The patients: see `on_public_bins`."""
    rows, labels = load_breast_cancer(return_X_y=True)
    return on_public_bins(rows, labels, trees, depth, bins)


def on_public_bins(rows: Floats, labels: NDArray[np.int64], trees: int, depth: int, bins: int = 16) -> Trained:
    """XGBoost on public bins; its `margins` are those of the held-out rows. A row is raw: the questions do the binning."""
    training, held_out, known, _ = train_test_split(rows, labels, test_size=0.3, random_state=0, stratify=labels)
    questions = []
    for column, values in enumerate(training.T):
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="higher"))
        questions.append(Questions(column=column, kind="at_least", values=edges[edges > values.min()].tolist()))
    names = [f"f{column}" for column in range(rows.shape[1])]

    def codes(table: Floats) -> xgboost.DMatrix:
        return xgboost.DMatrix(
            np.stack([q.answer(table[:, q.column]).sum(axis=1) for q in questions], axis=1), feature_names=names
        )

    given = {"objective": "binary:logistic", "max_depth": depth, "base_score": 0.5, "tree_method": "hist", "nthread": 1}
    booster = xgboost.train(
        given, xgboost.DMatrix(codes(training).get_data().toarray(), known, feature_names=names), trees
    )
    margins = booster.predict(codes(held_out), output_margin=True).astype(np.float64)
    return Trained(_read(booster, questions), questions, training, held_out, margins)


def german_credit(trees: int, depth: int) -> Trained:
    """German credit from the shared folder, a column for each category; see `on_public_bins`."""
    *columns, label = zip(*csv.reader(shared("data/german_credit.csv").read_text().splitlines()), strict=True)
    table: list[list[float]] = []
    for column in columns:
        if column[0].startswith("A"):
            table += [[float(value == category) for value in column] for category in sorted(set(column))]
        else:
            table.append([float(value) for value in column])
    return on_public_bins(np.array(table).T, np.array([int(value) - 1 for value in label]), trees, depth)


def digits(trees: int, depth: int) -> Trained:
    """A random forest of ten classes on the digits' pixels, five public edges each; `margins` are its probabilities."""
    rows, labels = load_digits(return_X_y=True)
    questions = [
        Questions(column=column, kind="at_least", values=[2.0, 5.0, 8.0, 11.0, 14.0]) for column in range(rows.shape[1])
    ]
    bits = answers(questions, rows).astype(np.float64)
    fitted = RandomForestClassifier(trees, max_depth=depth, random_state=0).fit(bits[:1200], labels[:1200])

    def leaves(tree: Any, node: int, path: tuple[tuple[int, bool], ...]) -> list[Leaf]:
        if tree.children_left[node] < 0:
            share = tree.value[node][0] / tree.value[node][0].sum() / trees
            return [Leaf(tuple(b for b, _ in path), tuple(w for _, w in path), tuple(map(float, share)))]
        bit = int(tree.feature[node])
        below, reached = tree.children_left[node], tree.children_right[node]
        return leaves(tree, below, (*path, (bit, False))) + leaves(tree, reached, (*path, (bit, True)))

    forest = BitForest(
        tuple(tuple(leaves(each.tree_, 0, ())) for each in fitted.estimators_), bits.shape[1], (0.0,) * 10
    )
    return Trained(forest, questions, rows[:1200], rows[1200:], fitted.predict_proba(bits[1200:]))


def _read(booster: Any, questions: Sequence[Questions]) -> BitForest:
    """An XGBoost model on codes, a column's code being how many of its edges it reaches."""
    first = np.concatenate([[0], np.cumsum([asked.bits for asked in questions])])

    def leaves(node: Any, path: tuple[tuple[int, bool], ...]) -> list[Leaf]:
        if "leaf" in node:
            return [Leaf(tuple(b for b, _ in path), tuple(w for _, w in path), (float(np.float32(node["leaf"])),))]
        sides = {child["nodeid"]: child for child in node["children"]}
        bit = int(first[int(node["split"][1:])]) + int(np.ceil(node["split_condition"])) - 1
        below, reached = sides[node["yes"]], sides[node["no"]]
        return leaves(below, (*path, (bit, False))) + leaves(reached, (*path, (bit, True)))

    trees = tuple(tuple(leaves(json.loads(tree), ())) for tree in booster.get_dump(dump_format="json"))
    return BitForest(trees, int(first[-1]), (0.0,))
