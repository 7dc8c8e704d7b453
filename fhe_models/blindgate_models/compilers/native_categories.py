"""Columns that a model takes for categories by itself, without an encoder: which they are, and how it numbers their values.

HistGradientBoosting (`categorical_features`), LightGBM (`categorical_feature`, pandas' categories) and XGBoost
(`enable_categorical`) part a category's values into any two groups at a node. Each has *codes* for values, and what has none,
another value or a missing one, goes a way of its own. `Codes` stands for that as the last step in front of the model, so that what
is known of encoders holds here too; a forest's `sets` are then of codes (`forests.Forest`).
"""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label
from blindgate_models.compilers.forests import NO_CODE, booster_trees
from blindgate_models.halves import Part

Floats = NDArray[np.float64]

_BEYOND: Final = 1.0
"""Added to the largest code, for one that the model has not seen."""


class Native(NamedTuple):
    """What a model takes for categories.

    Attributes:
        labels: by the place of the column among those that the model gets: its categories, in the order of their codes.
        typed: whether the model wants pandas' type for categories; else numbers are their own codes, or it has an encoder inside.
        others: whether it takes values that are none of these. XGBoost refuses most, and takes some for any category.
    """

    labels: dict[int, tuple[Label, ...]]
    typed: bool
    others: bool = True

    def written(self, place: int, listed: tuple[Label, ...], positions: Floats, other: Label) -> Any:
        """Positions in a column's list, the one past the last for `other`, as the model takes the column at `place`."""
        if all(isinstance(label, int | float) for label in (*listed, *self.labels[place])) and not self.typed:
            largest = max(map(float, (*listed, *self.labels[place])))
            codes = np.array([*listed, largest + _BEYOND, np.nan], dtype=np.float64)
            return codes[np.where(np.isnan(positions), len(listed) + 1, positions).astype(np.intp)]
        values = [*listed, other]
        cells = [None if np.isnan(position) else values[int(position)] for position in positions]
        if not self.typed:
            return cells
        return pd.Categorical(cells, categories=values if other in cells else list(listed))


class Codes:
    """The step that a model with categories of its own begins with: its columns, categories as codes, and `NO_CODE` for none."""

    def __init__(self, model: Any, native: Native) -> None:
        self._model = model
        self._native = native

    def transform(self, given: Any) -> Floats:
        """The columns in the model's own order, `(n, features)`."""
        if hasattr(self._model, "_preprocess_X"):  # scikit-learn's, which puts categories first
            table = np.array(self._model._preprocess_X(given, reset=False), dtype=np.float64)  # noqa: SLF001
            places = np.arange(len(self._native.labels))
            table[:, places] = np.where(np.isnan(table[:, places]), NO_CODE, table[:, places])
            return table
        frame = given if isinstance(given, pd.DataFrame) else pd.DataFrame(np.asarray(given))
        columns = []
        for place in range(frame.shape[1]):
            column, labels = frame.iloc[:, place], self._native.labels.get(place)
            if labels is None:
                columns.append(column.to_numpy(dtype=np.float64))
            elif self._native.typed:
                columns.append(pd.Categorical(column, categories=list(labels)).codes.astype(np.float64))
            else:
                codes = column.to_numpy(dtype=np.float64)
                columns.append(np.where(codes >= 0, np.trunc(codes), NO_CODE))
        return np.column_stack(columns)


class Sets:
    """Sets of codes, each once."""

    def __init__(self) -> None:
        self._places: dict[frozenset[int], int] = {}

    def place(self, codes: Iterable[int], *, missing: bool) -> int:
        """The place of a set. `missing`: whether `NO_CODE` goes with it."""
        return self._places.setdefault(frozenset(codes) | ({NO_CODE} if missing else set()), len(self._places))

    @property
    def found(self) -> tuple[frozenset[int], ...]:
        """All of them."""
        return tuple(self._places)


def native_categories(model: Any) -> Native | None:
    """What `model` takes for categories, if anything. Raises `ValueError` where it does not say which values there are."""
    kind = type(model).__name__
    if kind.startswith("HistGradientBoosting"):
        return _of_histograms(model)
    if kind.startswith("LGBM"):
        return _of_lightgbm(model)
    if kind.startswith("XGB"):
        return _of_xgboost(model)
    return None


def _of_histograms(model: Any) -> Native | None:
    mask = getattr(model, "is_categorical_", None)
    if mask is None:
        return None
    lists = model._preprocessor.named_transformers_["encoder"].categories_  # noqa: SLF001  (there is no public way)
    present = [tuple(label for label in np.asarray(each).tolist() if not pd.isna(label)) for each in lists]
    return Native(dict(zip(np.flatnonzero(mask).tolist(), present, strict=True)), typed=False)


def _of_xgboost(model: Any) -> Native | None:
    fitted = model.get_booster()
    places = [place for place, kind in enumerate(fitted.feature_types or []) if kind == "c"]
    if not places:
        return None
    learner = json.loads(bytes(fitted.save_raw("json")))["learner"]
    lists = [_listed(each) for each in learner["gradient_booster"]["model"].get("cats", {}).get("enc", [])]
    typed = any(lists)
    return Native(
        {place: lists[place] if typed else _codes(learner, place) for place in places}, typed=typed, others=not typed
    )


def _codes(learner: Part, place: int) -> tuple[Label, ...]:
    """All codes up to the largest that a tree asks the column at `place` for: those that none asks for are like any other."""
    largest = -1
    for tree in booster_trees({"learner": learner}):
        for node, start, size in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        ):
            if tree["split_indices"][node] == place:
                largest = max([largest, *tree["categories"][start : start + size]])
    return tuple(range(largest + 1))


def _listed(encoded: Part) -> tuple[Label, ...]:
    """A column's categories in XGBoost's own document: numbers, or the bytes of all texts and where each begins.

    Raises `ValueError` on texts with other than ASCII letters: it counts letters, and keeps as many bytes.
    """
    offsets = encoded.get("offsets")
    if offsets is None:
        return tuple(encoded["values"])
    if any(byte < 0 for byte in encoded["values"]):
        msg = "estimator: XGBoost keeps names of categories in ASCII only: give them other names, or encode them in the pipeline"
        raise ValueError(msg)
    text = bytes(encoded["values"]).decode()
    return tuple(text[start:end] for start, end in pairwise(offsets))


def _of_lightgbm(model: Any) -> Native | None:
    document: Part = model.booster_.dump_model(num_iteration=1)
    found = re.search(r"\[categorical_feature: ([\d,]+)\]", model.booster_.model_to_string(num_iteration=1))
    places = sorted({int(place) for place in found[1].split(",")}) if found else []
    if not places:
        return None
    if document["pandas_categorical"]:
        lists = [tuple(each) for each in document["pandas_categorical"]]
        if len(lists) != len(places):
            msg = "estimator: some of its categories are pandas' and some are numbers: make all of them pandas'"
            raise ValueError(msg)
        return Native(dict(zip(places, lists, strict=True)), typed=True)
    infos = document["feature_infos"]
    seen = [infos.get(name, {}).get("values", []) for name in document["feature_names"]]
    return Native({place: tuple(sorted(code for code in seen[place] if code >= 0)) for place in places}, typed=False)
