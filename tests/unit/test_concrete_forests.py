"""Tree ensembles are read exactly, and bin numbers lose nothing of what the trees ask."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.ensembles import read_forest
from blindgate_models.compilers.forests import Binning, Forest, coded
from blindgate_models.compilers.pipelines import Steps
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import declared_ranges
from blindgate_models.compilers.steps import before_steps
from blindgate_models.concrete.client import Bins

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBModel, XGBRegressor

Floats = NDArray[np.float64]

SMALL: dict[str, Any] = {"n_estimators": 5, "max_depth": 3, "random_state": 0, "n_jobs": 1}
ESTIMATORS = [
    pytest.param(XGBClassifier(**SMALL), load_breast_cancer, id="XGBoost, two classes"),
    pytest.param(XGBClassifier(**SMALL), load_iris, id="XGBoost, three classes"),
    pytest.param(XGBRegressor(**SMALL), load_diabetes, id="XGBoost, a number"),
    pytest.param(XGBRegressor(objective="count:poisson", **SMALL), load_diabetes, id="XGBoost, counts"),
    pytest.param(XGBRegressor(objective="reg:gamma", **SMALL), load_diabetes, id="XGBoost, amounts"),
    pytest.param(XGBRegressor(objective="reg:tweedie", **SMALL), load_diabetes, id="XGBoost, claims"),
    pytest.param(XGBRegressor(objective="reg:absoluteerror", **SMALL), load_diabetes, id="XGBoost, a median"),
    pytest.param(RandomForestClassifier(**SMALL), load_breast_cancer, id="forest, two classes"),
    pytest.param(RandomForestClassifier(**SMALL), load_iris, id="forest, three classes"),
    pytest.param(RandomForestRegressor(**SMALL), load_diabetes, id="forest, a number"),
    pytest.param(DecisionTreeClassifier(max_depth=4, random_state=0), load_iris, id="tree, three classes"),
    pytest.param(DecisionTreeRegressor(max_depth=4, random_state=0), load_diabetes, id="tree, a number"),
]


def plain_scores(estimator: Any, rows: Floats) -> Floats:
    """The estimator's own raw scores, as a matrix."""
    if isinstance(estimator, XGBModel):
        scores = estimator.predict(rows, output_margin=True)
    elif hasattr(estimator, "predict_proba"):
        scores = estimator.predict_proba(rows)
    else:
        scores = estimator.predict(rows)
    return np.asarray(scores, dtype=np.float64).reshape(len(rows), -1)


def bins(forest: Forest, binning: Binning) -> Bins:
    """The client's quantiser for a binning."""
    return Bins(kind="bins", edges=[list(edges) for edges in binning.edges])


def by_code(forest: Forest, binning: Binning, *, at: bool) -> Forest:
    """The forest that the compiler gets: thresholds in bin numbers, and `at` one a row goes left where the framework says so."""
    part = coded(binning.snap(forest), binning)
    documents = part.get("trees") or part["booster"]["learner"]["gradient_booster"]["model"]["trees"]
    thresholds = [document.get("threshold") or document["split_conditions"] for document in documents]
    trees = tuple(
        replace(tree, threshold=np.asarray(threshold, dtype=np.float64))
        for tree, threshold in zip(forest.trees, thresholds, strict=True)
    )
    return replace(forest, trees=trees, strict=not at)


def limits(rows: Floats) -> Floats:
    """What a manifest would declare."""
    found: Floats = declared_ranges(rows, [str(j) for j in range(rows.shape[1])], None)
    return found


@pytest.mark.parametrize(("estimator", "load"), ESTIMATORS)
def test_a_forest_gives_its_estimators_own_scores(estimator: Any, load: Any) -> None:
    """Leaves, thresholds, the base score and the averaging are read as the estimator uses them."""
    rows, target = load(return_X_y=True)
    forest = read_forest(estimator.fit(rows, target))
    np.testing.assert_allclose(forest.scores(rows), plain_scores(estimator, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", [XGBClassifier, XGBRegressor])
def test_trees_after_the_best_round_are_left_out_as_the_estimator_leaves_them(model: Any) -> None:
    """Where fitting stopped early, more trees lie in the file than predict adds up."""
    rows, target = load_breast_cancer(return_X_y=True)
    estimator = model(n_estimators=60, max_depth=2, learning_rate=0.8, early_stopping_rounds=4, n_jobs=1)
    estimator.fit(rows[:300], target[:300], eval_set=[(rows[300:], target[300:])], verbose=False)
    forest = read_forest(estimator)
    assert len(forest.trees) == estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    np.testing.assert_allclose(forest.scores(rows), plain_scores(estimator, rows), rtol=1e-5, atol=1e-5)


def test_more_than_one_target_is_refused_by_name() -> None:
    """Whoever fitted it reads what is wrong, and not an index."""
    rows, target = load_diabetes(return_X_y=True)
    for estimator in (XGBRegressor(n_estimators=2), DecisionTreeRegressor(max_depth=2)):
        with pytest.raises(ValueError, match="more than one target"):
            read_forest(estimator.fit(rows, np.stack([target, target], axis=1)))


@pytest.mark.parametrize(("estimator", "load"), ESTIMATORS)
def test_bin_numbers_answer_every_question_exactly(estimator: Any, load: Any) -> None:
    """Also on rows that lie on a threshold, and the double or the float32 beside it: nothing is rounded but the leaves."""
    rows, target = load(return_X_y=True)
    fitted = read_forest(estimator.fit(rows, target))
    forest, _ = before_steps(fitted, behind([], estimator, rows))
    binning = Binning.of(forest)
    both = np.concatenate([rows, near(rows, Binning.of(fitted)), near(rows, binning)])
    codes = bins(forest, binning).apply(both)
    assert codes.min() >= 0
    assert codes.max() < 1 << binning.bits
    np.testing.assert_array_equal(forest.scores(both), fitted.scores(both))
    by_codes = by_code(forest, binning, at=not fitted.strict)
    np.testing.assert_array_equal(by_codes.scores(codes.astype(np.float64)), fitted.scores(both))


def behind(steps: list[Any], estimator: Any, rows: Floats) -> Steps:
    """Steps in front of a forest, and the rows that they are asked about."""
    return Steps(steps, Prepared.of(estimator, rows, {}))


def near(rows: Floats, binning: Binning) -> Floats:
    """Rows whose values lie on edges, or beside them."""
    generator = np.random.default_rng(1)
    found: Floats = rows[generator.integers(len(rows), size=400)].copy()
    for j, edges in enumerate(binning.edges):
        if edges:
            at = generator.choice(edges, size=len(found))
            toward = generator.choice([-np.inf, np.inf], size=len(found))
            beside = np.nextafter(at, toward), np.nextafter(np.float32(at), toward.astype(np.float32)), at
            found[:, j] = np.choose(generator.integers(3, size=len(found)), beside)
    return found


STEPS = [
    pytest.param(lambda: [StandardScaler()], id="standardised"),
    pytest.param(lambda: [SimpleImputer(), RobustScaler(), MinMaxScaler()], id="three steps"),
    pytest.param(lambda: [PowerTransformer()], id="made normal"),
    pytest.param(lambda: [QuantileTransformer(n_quantiles=50)], id="quantiles"),
    pytest.param(lambda: [KBinsDiscretizer(10, encode="ordinal", quantile_method="linear")], id="bins"),
]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("load", [load_breast_cancer, load_digits], ids=["measurements", "pixels"])
@pytest.mark.parametrize("model", [RandomForestClassifier(**SMALL), XGBClassifier(**SMALL)], ids=["forest", "XGBoost"])
@pytest.mark.filterwarnings("ignore:Bins whose width are too small", "ignore:Feature .* is constant")
def test_a_forest_behind_steps_is_the_same_forest_before_them(model: Any, load: Any, steps: Any) -> None:
    """On the rows, on others within the range, and on the very edges: the pipeline's own scores to the last bit."""
    rows, target = load(return_X_y=True)
    pipeline = make_pipeline(*steps(), clone(model)).fit(rows, target)
    fitted = read_forest(pipeline[-1])
    reach = limits(rows)
    forest, _ = before_steps(fitted, behind([step for _, step in pipeline.steps[:-1]], pipeline, rows))
    others = reach[:, 0] + np.random.default_rng(0).random((500, len(reach))) * (reach[:, 1] - reach[:, 0])
    for table in (rows, others, near(rows, Binning.of(forest))):
        np.testing.assert_array_equal(forest.scores(table), fitted.scores(pipeline[:-1].transform(table)))


def test_a_tree_that_asks_nothing_stays_one() -> None:
    """Fitted on one answer, it is a leaf."""
    rows, _ = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(rows, np.full(len(rows), 7.0))
    forest, _ = before_steps(read_forest(pipeline[-1]), behind([pipeline[0]], pipeline, rows))
    assert set(forest.scores(rows).ravel()) == {7.0}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(PCA(), id="mixes columns"),
        pytest.param(PolynomialFeatures(), id="adds columns"),
        pytest.param(FunctionTransformer(np.negative), id="turns them around"),
        pytest.param(Normalizer(), id="scales rows"),
    ],
)
def test_a_step_that_changes_the_question_is_refused_by_name(step: Any) -> None:
    """A threshold after it is none before it."""
    rows, target = load_iris(return_X_y=True)
    pipeline = make_pipeline(step, DecisionTreeClassifier(max_depth=2)).fit(rows, target)
    with pytest.raises(TypeError, match=type(step).__name__):
        before_steps(read_forest(pipeline[-1]), behind([step], pipeline, rows))


def test_fewer_bits_merge_thresholds_and_keep_their_order() -> None:
    """A cheaper circuit is a coarser forest, and never more edges than the bits can count."""
    rows, target = load_breast_cancer(return_X_y=True)
    forest = read_forest(XGBClassifier(n_estimators=30, max_depth=4, n_jobs=1).fit(rows, target))
    exact, coarse = Binning.of(forest), Binning.of(forest, 1)
    assert exact.bits > coarse.bits == 1
    assert all(set(few) <= set(many) for few, many in zip(coarse.edges, exact.edges, strict=True))
    assert all(list(edges) == sorted(edges) for edges in coarse.edges)
    same = np.mean((coarse.snap(forest).scores(rows) > 0) == (forest.scores(rows) > 0))
    assert 0.8 < same < 1


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        pytest.param(AdaBoostClassifier(n_estimators=2), TypeError, "AdaBoostClassifier", id="another ensemble"),
        pytest.param(XGBClassifier(n_estimators=2, booster="gblinear"), ValueError, "gblinear", id="no trees"),
        pytest.param(XGBRegressor(n_estimators=2, objective="reg:logistic"), ValueError, "logistic", id="another link"),
    ],
)
def test_what_the_reading_does_not_cover_is_refused(estimator: Any, error: type[Exception], message: str) -> None:
    """An ensemble that sums its trees in another way is not guessed at."""
    rows, target = load_breast_cancer(return_X_y=True)
    with pytest.raises(error, match=message):
        read_forest(estimator.fit(rows, target))
