"""A fitted estimator arrives from a file without running it."""

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler
from xgboost import Booster, XGBClassifier, XGBRegressor

from blindgate_models.compilers.accuracy import plain_accuracy
from blindgate_models.compilers.estimators import choose_family, compile_model, load_estimator, read_rows
from blindgate_models.public_bins import PublicBins


class Boom:
    """What a hostile pickle does when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise RuntimeError('it ran')",)


@pytest.mark.parametrize("suffix", [".json", ".ubj"])
@pytest.mark.parametrize(
    ("estimator", "load"),
    [
        pytest.param(XGBClassifier(n_estimators=2, n_jobs=1), load_iris, id="classes"),
        pytest.param(XGBRegressor(n_estimators=2, n_jobs=1), load_diabetes, id="a number"),
    ],
)
def test_xgboosts_own_formats_are_read(estimator: Any, load: Any, suffix: str, tmp_path: Path) -> None:
    """The estimator's kind comes out of the file, and it predicts what it predicted."""
    rows, target = load(return_X_y=True)
    path = tmp_path / f"model{suffix}"
    estimator.fit(rows, target).save_model(path)
    loaded = load_estimator(path)
    assert type(loaded) is type(estimator)
    np.testing.assert_array_equal(loaded.predict(rows), estimator.predict(rows))


@pytest.mark.parametrize("suffix", [".joblib", ".pkl", ".pickle"])
def test_a_pickle_is_refused_unread_unless_it_is_trusted(suffix: str, tmp_path: Path) -> None:
    """The danger has a name in the error, and code runs only for who asks for it."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Boom()))
    with pytest.raises(ValueError, match="trust-pickle"):
        load_estimator(path)
    with pytest.raises(RuntimeError, match="it ran"):
        load_estimator(path, trust_pickle=True)


def test_a_trusted_joblib_file_is_read(tmp_path: Path) -> None:
    """What scikit-learn's users have lying around can be compiled."""
    joblib = pytest.importorskip("joblib", reason="the extra `demo` is not installed")
    rows, target = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(rows, target), tmp_path / "model.joblib")
    assert load_estimator(tmp_path / "model.joblib", trust_pickle=True).predict(rows).shape == target.shape


def test_a_skops_file_is_read_and_one_with_other_types_is_not(tmp_path: Path) -> None:
    """Only types that skops knows to be harmless are built."""
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    rows, target = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, target)
    skops.dump(model, tmp_path / "model.skops")
    np.testing.assert_array_equal(load_estimator(tmp_path / "model.skops").predict(rows), model.predict(rows))
    skops.dump(Boom, tmp_path / "boom.skops")
    with pytest.raises(ValueError, match="Boom"):
        load_estimator(tmp_path / "boom.skops")


def by_category() -> tuple[HistGradientBoostingClassifier, pd.DataFrame]:
    """A model that takes a column for categories, and its rows."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=300), "ward": pd.Categorical(rng.choice(list("abcdef"), 300))})
    target = rows["ward"].isin(["a", "c", "f"]) ^ (rows["x"] > 0.3)
    return HistGradientBoostingClassifier(max_iter=3, max_depth=3).fit(rows, target), rows


def test_a_model_of_categories_comes_as_a_skops_file(tmp_path: Path) -> None:
    """It names `functools.partial`, which calls nothing but scikit-learn's check of an array."""
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    model, rows = by_category()
    skops.dump(model, tmp_path / "model.skops")
    loaded = load_estimator(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert compile_model(loaded, rows).report["agreement_plain"] == 1.0


def test_another_partial_is_refused(tmp_path: Path) -> None:
    """It would be called with the rows; also beside one that is harmless, and under another name."""
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    model, _ = by_category()
    for number, called in enumerate((np.add, Booster, load_iris)):
        model.extra = FunctionTransformer(partial(called, 1))
        skops.dump(model, tmp_path / f"{number}.skops")
        with pytest.raises(ValueError, match=r"functools\.partial"):
            load_estimator(tmp_path / f"{number}.skops")
    del model.extra
    skops.dump(model, tmp_path / "good.skops")
    for old, new in (('"__class__": "partial"', '"__class__": "ufunc"'), ('"PartialNode"', '"TypeNode"')):
        with zipfile.ZipFile(tmp_path / "good.skops") as good, zipfile.ZipFile(tmp_path / "bad.skops", "w") as bad:
            for name in good.namelist():
                text = good.read(name)
                bad.writestr(name, text.replace(old.encode(), new.encode()) if name == "schema.json" else text)
        with pytest.raises(ValueError, match=r"check_array|functools\.partial"):
            load_estimator(tmp_path / "bad.skops")


def test_a_tree_that_leads_to_sets_that_are_not_there_is_refused(tmp_path: Path) -> None:
    """Native code would read past the end."""
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    for spoil in ("the number", "the sets"):
        model, _ = by_category()
        predictor = model._predictors[0][0]
        if spoil == "the number":
            predictor.nodes["bitset_idx"][predictor.nodes["is_categorical"] == 1] = 1000
        else:
            predictor.raw_left_cat_bitsets = predictor.raw_left_cat_bitsets[:, :1].copy()
        skops.dump(model, tmp_path / "model.skops")
        with pytest.raises(ValueError, match="set of categories that is not there"):
            load_estimator(tmp_path / "model.skops")


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    """The error lists what can be read."""
    with pytest.raises(ValueError, match=r"got a \.onnx file"):
        load_estimator(tmp_path / "model.onnx")


def test_a_question_mark_is_a_missing_number_and_text_stays_text(tmp_path: Path) -> None:
    """As in the files that clinics hand over; a column of text is one of categories."""
    (tmp_path / "rows.csv").write_text("a,b\n1,x\n?,y\n", encoding="utf-8")
    rows, _ = read_rows(tmp_path / "rows.csv")
    assert rows["a"].isna().tolist() == [False, True]
    assert rows["b"].tolist() == ["x", "y"]


def test_the_answers_are_taken_apart_from_the_rows(tmp_path: Path) -> None:
    """They may be text; a column of answers that is not there is named."""
    (tmp_path / "rows.csv").write_text("a,outcome\n1,yes\n2,no\n", encoding="utf-8")
    rows, answers = read_rows(tmp_path / "rows.csv", "outcome")
    assert list(rows.columns) == ["a"]
    assert answers is not None
    assert answers.tolist() == ["yes", "no"]
    with pytest.raises(ValueError, match="no column 'result'"):
        read_rows(tmp_path / "rows.csv", "result")


@pytest.mark.parametrize(
    ("estimator", "family"),
    [
        pytest.param(LogisticRegression(), "linear", id="linear"),
        pytest.param(make_pipeline(StandardScaler(), LogisticRegression()), "linear", id="behind a scaler"),
        pytest.param(make_pipeline(PublicBins(4), LogisticRegression()), "additive", id="behind bins"),
        pytest.param(make_pipeline(KBinsDiscretizer(), Ridge()), "additive", id="behind scikit-learn's bins"),
        pytest.param(make_pipeline(PublicBins(4), XGBClassifier()), "trees", id="XGBoost behind bins"),
        pytest.param(XGBClassifier(), "trees", id="XGBoost"),
        pytest.param(RandomForestClassifier(), "trees", id="forest"),
        pytest.param(MLPClassifier(), "concrete", id="network"),
    ],
)
def test_the_family_is_chosen_by_the_estimator(estimator: Any, family: str) -> None:
    """Nobody waits seconds for what takes microseconds."""
    assert choose_family(estimator) == family


@pytest.mark.parametrize("suffix", [".json", ".ubj", ".skops", ".joblib", ".pkl"])
def test_a_file_that_is_none_of_its_kind_is_named_in_one_line(suffix: str, tmp_path: Path) -> None:
    """Not as an error of zip archives, nor with XGBoost's own trace."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"{}")
    if suffix == ".skops":
        pytest.importorskip("skops", reason="the extra `compile` is not installed")
    with pytest.raises(ValueError, match=rf"model{suffix} is not") as caught:
        load_estimator(path, trust_pickle=True)
    assert len(str(caught.value).splitlines()) == 1


def test_an_accuracy_that_has_no_number_is_not_stated() -> None:
    """R² of one row, or of answers that are all the same."""
    rows, target = load_diabetes(return_X_y=True, as_frame=True)
    model = LinearRegression().fit(rows, target)
    assert plain_accuracy(model, rows[:1], target[:1]) is None
    assert plain_accuracy(model, rows, target) == pytest.approx(model.score(rows, target))
