"""Models from skops' files: what they may name, and where their trees may lead."""

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")
pytest.importorskip("skops", reason="the extra `compile` is not installed")

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree
from skops.io import dump
from xgboost import Booster

from blindgate_models.compilers.estimators import compile_model, load_estimator

TREES: dict[str, Callable[[], Any]] = {
    "a tree": lambda: DecisionTreeClassifier(max_depth=2),
    "a forest": lambda: RandomForestClassifier(2, max_depth=2),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=2, max_depth=2),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=2, max_depth=2),
    "in a pipeline": lambda: make_pipeline(StandardScaler(), RandomForestClassifier(2, max_depth=2)),
    "in a search": lambda: GridSearchCV(RandomForestClassifier(2), {"max_depth": [2]}, cv=2, scoring="accuracy"),
    "one for each class": lambda: OneVsRestClassifier(RandomForestClassifier(2, max_depth=2)),
}


def parts(value: Any, kind: type) -> Iterator[Any]:
    """What there is of a kind in an estimator."""
    if isinstance(value, kind):
        yield value
    inner = value.values() if isinstance(value, dict) else vars(value).values() if hasattr(value, "__dict__") else ()
    lists = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object)
    for each in np.ravel(np.array(value, dtype=object)) if lists else inner:
        yield from parts(each, kind)


def spoil(model: Any, what: str) -> None:
    """Let the first tree of a model lead out of itself, or ask for a column that is not there."""
    if what == "branch":
        for tree in parts(model, Tree):
            tree.children_right[0] = 1 << 20
        for predictor in parts(model, TreePredictor):
            predictor.nodes["right"][0] = 1 << 20
    else:
        for tree in parts(model, Tree):
            tree.feature[0] = 1 << 20
        for predictor in parts(model, TreePredictor):
            predictor.nodes["feature_idx"][0] = 1 << 20


@pytest.mark.parametrize("name", TREES)
def test_trees_that_lead_out_of_themselves_are_refused_wherever_they_are(name: str, tmp_path: Path) -> None:
    """Native code would follow them. Sound ones are read from the same places."""
    rows, target = load_iris(return_X_y=True)
    path = tmp_path / "model.skops"
    model = TREES[name]().fit(rows, target)
    dump(model, path)
    np.testing.assert_array_equal(load_estimator(path).predict(rows), model.predict(rows))
    for what, says in (("branch", "branches lead out of it"), ("feature", "a feature past the 4")):
        model = TREES[name]().fit(rows, target)
        spoil(model, what)
        dump(model, path)
        with pytest.raises(ValueError, match=says):
            load_estimator(path)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(SelectKBest(chi2, k=2), id="chosen columns"),
        pytest.param(
            make_column_transformer(
                (StandardScaler(), make_column_selector(dtype_include=object)), remainder="passthrough"
            ),
            id="columns by type",
        ),
        pytest.param("search", id="a search"),
    ],
)
def test_what_pipelines_commonly_name_is_known(step: Any, tmp_path: Path) -> None:
    """Scorers, splitters, tests of columns: named in the file, and never called."""
    rows, target = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=200)
    model = GridSearchCV(model, {"C": [1, 2]}, cv=2) if step == "search" else make_pipeline(step, model)
    dump(model.fit(rows, target), tmp_path / "model.skops")
    np.testing.assert_array_equal(load_estimator(tmp_path / "model.skops").predict(rows), model.predict(rows))


def by_category() -> tuple[HistGradientBoostingClassifier, pd.DataFrame]:
    """A model that takes a column for categories, and its rows."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=300), "ward": pd.Categorical(rng.choice(list("abcdef"), 300))})
    target = rows["ward"].isin(["a", "c", "f"]) ^ (rows["x"] > 0.3)
    return HistGradientBoostingClassifier(max_iter=3, max_depth=3).fit(rows, target), rows


def test_a_model_of_categories_comes_as_a_skops_file(tmp_path: Path) -> None:
    """It names `functools.partial`, which calls nothing but scikit-learn's check of an array."""
    model, rows = by_category()
    dump(model, tmp_path / "model.skops")
    loaded = load_estimator(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert compile_model(loaded, rows).report["agreement_plain"] == 1.0


def test_another_partial_is_refused(tmp_path: Path) -> None:
    """It would be called with the rows; also beside one that is harmless, and under another name."""
    model, _ = by_category()
    for number, called in enumerate((np.add, Booster, load_iris)):
        model.extra = FunctionTransformer(partial(called, 1))
        dump(model, tmp_path / f"{number}.skops")
        with pytest.raises(ValueError, match=r"functools\.partial"):
            load_estimator(tmp_path / f"{number}.skops")
    del model.extra
    dump(model, tmp_path / "good.skops")
    for old, new in (('"__class__": "partial"', '"__class__": "ufunc"'), ('"PartialNode"', '"TypeNode"')):
        with zipfile.ZipFile(tmp_path / "good.skops") as good, zipfile.ZipFile(tmp_path / "bad.skops", "w") as bad:
            for name in good.namelist():
                text = good.read(name)
                bad.writestr(name, text.replace(old.encode(), new.encode()) if name == "schema.json" else text)
        with pytest.raises(ValueError, match=r"check_array|functools\.partial"):
            load_estimator(tmp_path / "bad.skops")


def test_a_tree_that_leads_to_sets_that_are_not_there_is_refused(tmp_path: Path) -> None:
    """Native code would read past the end."""
    for spoil in ("the number", "the sets"):
        model, _ = by_category()
        predictor = model._predictors[0][0]
        if spoil == "the number":
            predictor.nodes["bitset_idx"][predictor.nodes["is_categorical"] == 1] = 1000
        else:
            predictor.raw_left_cat_bitsets = predictor.raw_left_cat_bitsets[:, :1].copy()
        dump(model, tmp_path / "model.skops")
        with pytest.raises(ValueError, match="set of categories that is not there"):
            load_estimator(tmp_path / "model.skops")
