"""A fitted estimator arrives from a file without running it."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from blindgate_models.compilers.accuracy import plain_accuracy
from blindgate_models.compilers.estimators import choose_family, compile_model, load_estimator, read_rows
from blindgate_models.compilers.from_files import Choices, compile_files
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


@pytest.mark.parametrize(
    ("estimator", "load"),
    [
        pytest.param("LGBMClassifier", load_breast_cancer, id="two classes"),
        pytest.param("LGBMClassifier", load_iris, id="three classes"),
        pytest.param("LGBMRegressor", load_diabetes, id="a number"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_lightgbms_own_format_is_read(estimator: str, load: Any, *, named: bool, tmp_path: Path) -> None:
    """What it predicts is what was fitted, and it compiles, with whatever names the table has."""
    lightgbm = pytest.importorskip("lightgbm", reason="the extra `dev` is not installed")
    rows, target = load(return_X_y=True, as_frame=named)
    model = getattr(lightgbm, estimator)(n_estimators=3, max_depth=2, verbose=-1).fit(rows, target)
    path = tmp_path / "model.txt"
    model.booster_.save_model(path)
    loaded = load_estimator(path)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert choose_family(loaded) == "trees"
    compiled = compile_model(loaded, rows)
    assert compiled.report["agreement_plain"] == 1
    assert compiled.labels == (tuple(model.classes_.tolist()) if estimator == "LGBMClassifier" else None)


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
        pytest.param(make_pipeline(PublicBins(4), XGBClassifier(n_estimators=2)), "trees", id="XGBoost behind bins"),
        pytest.param(
            make_pipeline(PublicBins(4), make_pipeline(StandardScaler(), XGBClassifier(n_estimators=2))),
            "trees",
            id="a pipeline in a pipeline",
        ),
        pytest.param(XGBClassifier(n_estimators=2), "trees", id="XGBoost"),
        pytest.param(XGBClassifier(n_estimators=2, max_depth=1), "additive", id="XGBoost of one question a tree"),
        pytest.param(RandomForestClassifier(3), "trees", id="forest"),
        pytest.param(MLPClassifier(max_iter=2), "concrete", id="network"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_family_is_chosen_by_the_estimator(estimator: Any, family: str) -> None:
    """Nobody waits seconds for what takes microseconds."""
    rows, target = load_iris(return_X_y=True)
    assert choose_family(estimator.fit(rows[:, :2], target)) == family


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(LogisticRegression(), id="linear"),
        pytest.param(make_pipeline(StandardScaler(), RandomForestClassifier()), id="pipeline"),
        pytest.param(XGBClassifier(), id="XGBoost"),
    ],
)
def test_an_estimator_that_was_not_fitted_is_refused_in_words(estimator: Any) -> None:
    """Whoever reads it in would otherwise miss an attribute."""
    for refusing in (choose_family, lambda model: compile_model(model, np.zeros((3, 2)))):
        with pytest.raises(ValueError, match="is not fitted: call its fit first"):
            refusing(estimator)


def test_a_pipeline_in_a_pipeline_is_one_pipeline() -> None:
    """Inside a search for settings as well: what it predicts is what comes out."""
    rows, target = load_iris(return_X_y=True)
    nested = make_pipeline(StandardScaler(), make_pipeline(PublicBins(8), XGBClassifier(n_estimators=3, max_depth=2)))
    searched = GridSearchCV(nested, {"pipeline__publicbins__bins": [4, 8]}, cv=2).fit(rows, target)
    assert compile_model(searched, rows).report["agreement_plain"] == 1


@pytest.mark.parametrize("suffix", [".json", ".txt", ".ubj", ".skops", ".joblib", ".pkl"])
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


@pytest.mark.parametrize("family", ["linear", "network"])
def test_bins_for_a_family_that_takes_none_are_refused_before_anything_is_fitted(family: str, tmp_path: Path) -> None:
    """Two fits for each fold would come first, and their warnings."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(LogisticRegression()))  # one that was never fitted
    (tmp_path / "rows.csv").write_text("a,answer\n1,0\n2,1\n")
    choices = Choices(target="answer", family=family, bins=4, trust_pickle=True)
    with pytest.raises(ValueError, match=f"bins: the family {family} takes none; see additive"):
        compile_files(tmp_path / "model.pkl", tmp_path / "rows.csv", choices)
