"""Ensembles that are not the sum of their trees, or not of trees over numbers: refused, in words that say what to do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")
pytest.importorskip("lightgbm", reason="only tests read LightGBM's models")

from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, QuantileTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.estimators import compile_model
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.compilers.trees import compile_trees

Floats = NDArray[np.float64]

SMALL: dict[str, Any] = {"n_estimators": 5, "max_depth": 3, "random_state": 0, "n_jobs": 1}
LIGHT: dict[str, Any] = SMALL | {"verbose": -1, "min_child_samples": 5}


@pytest.mark.parametrize(
    ("steps", "error", "says"),
    [
        pytest.param([PCA(2)], TypeError, "PCA", id="mixes columns"),
        pytest.param([Normalizer()], TypeError, "Normalizer", id="scales rows"),
        pytest.param([FunctionTransformer(np.negative)], TypeError, "around", id="turns columns around"),
        pytest.param([FunctionTransformer(np.square), StandardScaler()], None, "", id="rises where the numbers are"),
        pytest.param([QuantileTransformer(n_quantiles=20)], None, "", id="only rises"),
        pytest.param([FunctionTransformer(lambda x: np.sin(9 * x))], TypeError, "around", id="waves"),
    ],
)
def test_steps_that_mix_or_turn_columns_are_refused(steps: list[Any], error: type[Exception] | None, says: str) -> None:
    """What compiles gives the pipeline's own labels; what does not is refused with its name."""
    rows, target = load_iris(return_X_y=True)
    model = make_pipeline(*steps, DecisionTreeClassifier(max_depth=3)).fit(rows, target)
    if error is None:
        assert compile_trees(model, rows).report["agreement_plain"] == 1.0
        return
    with pytest.raises(error, match=says):
        compile_trees(model, rows)


def early(_: Floats) -> Any:
    """Boosting that begins with another model's scores."""
    return GradientBoostingClassifier(n_estimators=2, max_depth=2, init=LogisticRegression(max_iter=9000))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        pytest.param(lambda _: XGBClassifier(booster="dart", **SMALL), ValueError, "dart", id="XGBoost's DART"),
        pytest.param(
            lambda _: XGBClassifier(booster="gblinear", n_estimators=2), ValueError, "gblinear", id="no trees"
        ),
        pytest.param(
            lambda _: LGBMClassifier(boosting_type="rf", subsample_freq=1, subsample=0.5, **LIGHT),
            ValueError,
            "boosting_type",
            id="LightGBM's forest",
        ),
        pytest.param(
            lambda _: LGBMClassifier(linear_tree=True, **LIGHT), ValueError, "linear_tree", id="linear leaves"
        ),
        pytest.param(
            lambda _: LGBMRegressor(objective=lambda y, p: (p - y, np.ones_like(y)), **LIGHT),
            ValueError,
            "custom",
            id="a loss of one's own",
        ),
        pytest.param(lambda _: XGBClassifier(missing=7.0, **SMALL), ValueError, "missing=7", id="a number for a gap"),
        pytest.param(lambda _: LGBMClassifier(zero_as_missing=True, **LIGHT), ValueError, "zeros", id="zeros as gaps"),
        pytest.param(lambda _: AdaBoostClassifier(n_estimators=2), TypeError, "AdaBoost", id="another ensemble"),
        pytest.param(lambda _: LogisticRegression(max_iter=9000), TypeError, "LogisticRegression", id="no ensemble"),
        pytest.param(
            lambda _: RandomForestClassifier(2, max_depth=12, random_state=0), ValueError, "depth", id="too deep"
        ),
        pytest.param(
            lambda _: GradientBoostingClassifier(n_estimators=2, loss="exponential"),
            ValueError,
            "exponential",
            id="loss",
        ),
        pytest.param(early, ValueError, "predict", id="boosting that begins elsewhere"),
    ],
)
def test_an_ensemble_that_is_something_else_is_refused_by_name(
    make: Callable[[Any], Any], error: type[Exception], says: str
) -> None:
    """Nothing is guessed at."""
    rows, target = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rows[:, :5] * (rng.random((len(rows), 5)) > 0.1)
    target = target ^ (rng.random(len(target)) < 0.2)
    with pytest.raises(error, match=says):
        compile_trees(make(rows).fit(rows, target), rows)


@pytest.mark.parametrize("family", [compile_trees, compile_trees_batch])
def test_more_questions_or_leaves_than_fit_are_refused_in_words(family: Callable[..., CompiledModel]) -> None:
    """And say what to do: not as a part that its own reader refuses."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 60))
    target = rows[:, 0] + rows[:, 1] * rows[:, 2] > 0
    with pytest.raises(
        ValueError, match=r"ask \d+ questions of a row, expected at most 4096: fit it behind PublicBins"
    ):
        family(RandomForestClassifier(60, max_depth=9, random_state=0).fit(rows, target), rows)
    if family is compile_trees:
        with pytest.raises(ValueError, match=r"102400 leaves, .* expected at most 65536: fit fewer trees"):
            family(RandomForestClassifier(100, max_depth=10, random_state=0).fit(rows[:, :1], target), rows[:, :1])


def test_decoys_give_way_where_a_row_can_be_asked_no_more() -> None:
    """Rather than a refusal: one column is asked more often than 200 could be, and has all its thresholds."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 200))
    forest = XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1).fit(rows, np.sin(20 * rows[:, 0]) > 0)
    compiled = compile_trees(forest, rows)
    assert compiled.report["agreement_plain"] == 1
    asked = [len(each["values"]) for each in compiled.client["questions"]]
    assert max(asked) > 4096 // 200
    assert 4096 - 200 < sum(asked) <= 4096


@pytest.mark.parametrize("answers", [[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
@pytest.mark.parametrize("family", [compile_trees, compile_trees_batch])
def test_a_tie_is_no_reason_to_refuse(family: Callable[..., CompiledModel], answers: list[int]) -> None:
    """As many of an answer as of the other: boosting's score is 0, or what adding up leaves of it. Others are told apart."""
    rows = np.array([[0.0], [0.0], [1.0], [1.0], [2.0], [2.0]])
    model = GradientBoostingClassifier(n_estimators=2, max_depth=2).fit(rows, np.array(answers))
    assert abs(model.decision_function([[1.0]])[0]) < 1e-12
    report = family(model, rows).report
    assert report["agreement_plain"] >= 4 / 6
    assert report["max_error"] < 1e-2


@pytest.mark.parametrize("family", [compile_trees, compile_trees_batch])
def test_labels_that_agree_by_luck_are_no_proof(family: Callable[..., CompiledModel]) -> None:
    """One calibration row, and its label: whoever looks at no score compiles another model than the one that was fitted."""
    rows, target = load_breast_cancer(return_X_y=True)
    begins_elsewhere = GradientBoostingClassifier(n_estimators=2, max_depth=2, init=LogisticRegression(max_iter=9000))
    model = begins_elsewhere.fit(rows[:, :5], target)
    with pytest.raises(ValueError, match="scores"):
        family(model, rows[-1:, :5])


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(DecisionTreeClassifier(), id="tree"),
        pytest.param(XGBClassifier(**SMALL), id="XGBoost"),
        pytest.param(LGBMClassifier(**LIGHT), id="LightGBM"),
    ],
)
def test_a_classifier_of_one_class_is_refused_in_words(estimator: Any) -> None:
    """An extract without a single case: there is nothing to tell apart, and the message says so."""
    rows, _ = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="one class"):
        compile_trees(estimator.fit(rows, np.zeros(len(rows), dtype=np.int64)), rows)


@pytest.mark.parametrize("family", [compile_trees, compile_trees_batch])
def test_a_forest_and_rows_that_ask_nothing_are_refused_in_words(family: Callable[..., CompiledModel]) -> None:
    """Columns that never change, and a model that learned nothing from them."""
    rows = np.ones((20, 2))
    with pytest.raises(ValueError, match="nothing to ask"):
        family(XGBClassifier(**SMALL).fit(rows, np.arange(20) % 2), rows)


def test_a_search_for_settings_is_asked_for_what_it_found() -> None:
    """`GridSearchCV` is how most models are fitted; the one to compile is in it."""
    rows, target = load_iris(return_X_y=True)
    search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 3]}).fit(rows, target)
    assert compile_model(search, rows).family == "trees"
    assert compile_model(search, rows).report["agreement_plain"] == 1.0
