"""Tree ensembles are read exactly, and bin numbers lose nothing of what the trees ask."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.compilers.forests import Binning, Forest, coded, read_forest
from blindgate_models.concrete.client import Bins

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

Floats = NDArray[np.float64]

SMALL: dict[str, Any] = {"n_estimators": 5, "max_depth": 3, "random_state": 0, "n_jobs": 1}
ESTIMATORS = [
    pytest.param(XGBClassifier(**SMALL), load_breast_cancer, id="XGBoost, two classes"),
    pytest.param(XGBClassifier(**SMALL), load_iris, id="XGBoost, three classes"),
    pytest.param(XGBRegressor(**SMALL), load_diabetes, id="XGBoost, a number"),
    pytest.param(RandomForestClassifier(**SMALL), load_breast_cancer, id="forest, two classes"),
    pytest.param(RandomForestClassifier(**SMALL), load_iris, id="forest, three classes"),
    pytest.param(RandomForestRegressor(**SMALL), load_diabetes, id="forest, a number"),
    pytest.param(DecisionTreeClassifier(max_depth=4, random_state=0), load_iris, id="tree, three classes"),
    pytest.param(DecisionTreeRegressor(max_depth=4, random_state=0), load_diabetes, id="tree, a number"),
]


def plain_scores(estimator: Any, rows: Floats) -> Floats:
    """The estimator's own raw scores, as a matrix."""
    if isinstance(estimator, XGBClassifier):
        scores = estimator.predict(rows, output_margin=True)
    elif hasattr(estimator, "predict_proba"):
        scores = estimator.predict_proba(rows)
    else:
        scores = estimator.predict(rows)
    return np.asarray(scores, dtype=np.float64).reshape(len(rows), -1)


def bins(forest: Forest, binning: Binning) -> Bins:
    """The client's quantiser for a binning."""
    return Bins(kind="bins", strict=not forest.strict, edges=[list(edges) for edges in binning.edges])


def by_code(forest: Forest, binning: Binning) -> Forest:
    """The forest that the compiler gets: thresholds in bin numbers."""
    part = coded(binning.snap(forest), binning)
    documents = part.get("trees") or part["booster"]["learner"]["gradient_booster"]["model"]["trees"]
    thresholds = [document.get("threshold") or document["split_conditions"] for document in documents]
    trees = [
        type(tree)(tree.left, tree.right, tree.feature, np.asarray(threshold, dtype=np.float64), tree.value)
        for tree, threshold in zip(forest.trees, thresholds, strict=True)
    ]
    return Forest(
        forest.framework,
        forest.estimator,
        tuple(trees),
        forest.strict,
        forest.bias,
        forest.features,
        forest.labels,
        forest.link,
    )


@pytest.mark.parametrize(("estimator", "load"), ESTIMATORS)
def test_a_forest_gives_its_estimators_own_scores(estimator: Any, load: Any) -> None:
    """Leaves, thresholds, the base score and the averaging are read as the estimator uses them."""
    rows, target = load(return_X_y=True)
    forest = read_forest(estimator.fit(rows, target))
    np.testing.assert_allclose(forest.scores(rows), plain_scores(estimator, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("estimator", "load"), ESTIMATORS)
def test_bin_numbers_answer_every_question_exactly(estimator: Any, load: Any) -> None:
    """Also on rows that lie on a threshold, and one float32 beside it: nothing is rounded but the leaves."""
    rows, target = load(return_X_y=True)
    forest = read_forest(estimator.fit(rows, target))
    binning = Binning.of(forest)
    generator = np.random.default_rng(1)
    near = rows[generator.integers(len(rows), size=400)].copy()
    for j, edges in enumerate(binning.edges):
        if edges:
            at = np.float32(generator.choice(edges, size=len(near)))
            toward = generator.choice([-np.inf, np.inf], size=len(near)).astype(np.float32)
            near[:, j] = np.where(generator.random(len(near)) < 0.5, at, np.nextafter(at, toward))
    both = np.concatenate([rows, near])
    codes = bins(forest, binning).apply(both)
    assert codes.min() >= 0
    assert codes.max() < 1 << binning.bits
    np.testing.assert_array_equal(by_code(forest, binning).scores(codes.astype(np.float64)), forest.scores(both))


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
        pytest.param(ExtraTreesClassifier(n_estimators=2), TypeError, "ExtraTreesClassifier", id="another ensemble"),
        pytest.param(XGBClassifier(n_estimators=2, booster="gblinear"), ValueError, "gblinear", id="no trees"),
        pytest.param(XGBRegressor(n_estimators=2, objective="count:poisson"), ValueError, "poisson", id="another link"),
    ],
)
def test_what_the_reading_does_not_cover_is_refused(estimator: Any, error: type[Exception], message: str) -> None:
    """An ensemble that sums its trees in another way is not guessed at."""
    rows, target = load_breast_cancer(return_X_y=True)
    with pytest.raises(error, match=message):
        read_forest(estimator.fit(rows, target))
