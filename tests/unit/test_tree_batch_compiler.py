"""From fitted ensembles to batches: what users fitted is what they get."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.public_bins import PublicBins
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer


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


def test_what_is_no_ensemble_is_refused() -> None:
    """By its kind."""
    rows, answers = load_iris(return_X_y=True)
    with pytest.raises(TypeError, match="LogisticRegression"):
        compile_trees_batch(LogisticRegression(max_iter=500).fit(rows, answers), rows)
