"""From fitted ensembles to batches: what users fitted is what they get."""

import warnings
from typing import Any

import numpy as np
import pytest
from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.public_bins import PublicBins
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer

EBM: dict[str, Any] = {"max_rounds": 20, "outer_bags": 2, "max_bins": 8, "max_interaction_bins": 6}
EBM |= {"random_state": 0, "n_jobs": 1}


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(
            make_pipeline(PublicBins(8), RandomForestClassifier(12, max_depth=3, random_state=0)), id="forest"
        ),
        pytest.param(HistGradientBoostingClassifier(max_iter=5, max_depth=3), id="three classes, missing values"),
    ],
)
def test_classes_are_the_estimators(estimator: object) -> None:
    """Three kinds of iris, some measurements missing where the estimator takes that."""
    rows, answers = load_iris(return_X_y=True)
    if isinstance(estimator, HistGradientBoostingClassifier):
        rows = rows.copy()
        rows[np.random.default_rng(0).uniform(size=rows.shape) < 0.1] = np.nan
    fitted = estimator.fit(rows, answers)  # type: ignore[attr-defined]
    compiled = compile_trees_batch(fitted, rows)
    assert compiled.report["agreement_plain"] == 1.0
    assert list(compiled.labels or ()) == [0, 1, 2]
    client, server = TreesBatchClient.from_part(compiled.client), TreesBatchServer.from_part(compiled.server)
    secret = client.make_keys().secret
    scores = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))
    assert (scores.argmax(axis=1) == fitted.predict(rows)).all()


def test_a_regression_is_within_its_bound() -> None:
    """Thresholds of its own, among decoys, and the manifest says so."""
    rows, answers = load_diabetes(return_X_y=True)
    fitted = GradientBoostingRegressor(n_estimators=20, max_depth=3, random_state=0).fit(rows, answers)
    compiled = compile_trees_batch(fitted, rows)
    assert compiled.task == "regression"
    assert compiled.report["max_error"] <= compiled.encryption.error_bound
    assert compiled.encryption.error_bound <= 2.0**-10 * 1.2 * fitted.predict(rows).max()
    assert "among decoys" in compiled.discloses["to_client"][0]


@pytest.mark.parametrize(
    ("estimator", "load"),
    [
        pytest.param(ExplainableBoostingClassifier(interactions=0, **EBM), load_breast_cancer, id="EBM"),
        pytest.param(ExplainableBoostingClassifier(interactions=1, **EBM), load_breast_cancer, id="EBM with a pair"),
        pytest.param(ExplainableBoostingRegressor(interactions=1, **EBM), load_diabetes, id="EBM, a number"),
        pytest.param(
            make_pipeline(PublicBins(6), OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=9000)),
            load_iris,
            id="public bins, one-hot, three classes",
        ),
    ],
)
def test_additive_models_answer_tables_too(estimator: Any, load: Any) -> None:
    """Many rows at once where the family `additive` takes one after the other: every class, every number within the bound."""
    rows, answers = load(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = estimator.fit(rows, answers)
    compiled = compile_trees_batch(fitted, rows)
    assert compiled.report["agreement_plain"] == 1.0
    client, server = TreesBatchClient.from_part(compiled.client), TreesBatchServer.from_part(compiled.server)
    secret = client.make_keys().secret
    scores = client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))
    if compiled.task == "regression":
        assert np.abs(scores[:, 0] - fitted.predict(rows)).max() <= compiled.encryption.error_bound + 1e-9
    else:
        classes = scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > 0
        assert (classes == fitted.predict(rows)).all()


def test_what_is_neither_trees_nor_additive_is_refused() -> None:
    """With what would help."""
    rows, answers = load_iris(return_X_y=True)
    with pytest.raises(TypeError, match="put PublicBins in front"):
        compile_trees_batch(LogisticRegression(max_iter=500).fit(rows, answers), rows)
