"""What a manifest states of rows that the model has not seen is what users of it get."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

import campaigns
from blindgate.held_out import try_out
from blindgate_models.compilers.estimators import compile_model
from blindgate_models.compilers.hidden_scores import compile_hidden_scores
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.squares import SquareNetwork
from blindgate_protocol.errors import InputError
from square_networks import drawn

TABLE = load_breast_cancer(as_frame=True)
TRAIN, TEST, KNOWN, WANTED = train_test_split(TABLE.data, TABLE.target_names[TABLE.target], random_state=2)
MODEL = make_pipeline(StandardScaler(), LogisticRegression()).fit(TRAIN, KNOWN)


def test_rows_that_users_could_not_ask_about_are_left_out_and_explained() -> None:
    """The first is named by its place and column; the accuracies are of the others, with their own answers."""
    prepared = Prepared.of(MODEL, TRAIN, {})
    asked = TEST.copy()
    asked.iloc[3, 0] = 4000.0
    asked.iloc[9, 5] = np.nan
    trial = try_out(compile_model(MODEL, prepared), prepared, asked, pd.Series(WANTED))
    kept = np.delete(np.arange(len(TEST)), [3, 9])
    right = (MODEL.predict(TEST.iloc[kept]) == WANTED[kept]).mean()
    assert (trial.rows, trial.refused) == (len(kept), 2)
    assert trial.why is not None
    assert trial.why.startswith("column 'mean radius', row 3: the value lies outside the model's declared range")
    assert trial.plain == trial.encrypted == trial.accuracy.plain == right
    assert (trial.accuracy.rows, trial.accuracy.held_out, trial.accuracy.agreement) == (len(kept), True, 1.0)
    with pytest.raises(InputError, match="none can be asked about: column 'mean radius', row 0"):
        try_out(compile_model(MODEL, prepared), prepared, TEST + 1e4)
    with pytest.raises(InputError, match="mean radius"):
        try_out(compile_model(MODEL, prepared), prepared, TEST.drop(columns="mean radius"))


def test_a_model_that_differs_is_told_to_differ() -> None:
    """Compiled from other weights than those it is compared with: the agreement and both accuracies say so."""
    prepared = Prepared.of(MODEL, TRAIN, {})
    compiled = compile_model(MODEL, prepared)
    other = make_pipeline(StandardScaler(), LogisticRegression(C=1e-6)).fit(TRAIN, KNOWN)
    trial = try_out(compiled, Prepared.of(other, TRAIN, {}), TEST, pd.Series(WANTED))
    assert trial.accuracy.agreement == (MODEL.predict(TEST) == other.predict(TEST)).mean() < 1
    assert trial.plain == (other.predict(TEST) == WANTED).mean()
    assert trial.encrypted == (MODEL.predict(TEST) == WANTED).mean()
    apart = np.abs(MODEL.decision_function(TEST) - other.decision_function(TEST)).max()
    assert trial.accuracy.max_error == pytest.approx(apart, rel=1e-3)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("family", ["linear", "network"])
def test_principal_components_and_a_search_for_settings_compile_as_they_are(family: str) -> None:
    """Components are weighted sums of all columns; users give the columns, and the package holds what the search found."""
    last = LogisticRegression() if family == "linear" else MLPClassifier((8,), max_iter=300, random_state=0)
    model = make_pipeline(StandardScaler(), PCA(6), last)
    search = GridSearchCV(model, {"pca__n_components": [2, 6]})
    prepared = Prepared.of(search.fit(TRAIN, KNOWN), TRAIN, {})
    trial = try_out(compile_model(search, prepared, family=family), prepared, TEST, pd.Series(WANTED))
    assert trial.rows == len(TEST)
    assert trial.accuracy.agreement == 1 if family == "linear" else trial.accuracy.agreement > 0.95


@pytest.mark.parametrize("model", [Ridge(), XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1)])
def test_numbers_are_compared_to_a_hundredth_of_their_spread(model: Ridge | XGBRegressor) -> None:
    """The accuracy is R², and nearly the same of both."""
    rows, answers = load_diabetes(return_X_y=True, as_frame=True)
    train, test, known, wanted = train_test_split(rows, answers, random_state=0)
    prepared = Prepared.of(model.fit(train, known), train, {})
    seen: list[tuple[int, int]] = []
    trial = try_out(
        compile_model(model, prepared), prepared, test, wanted, lambda done, total: seen.append((done, total))
    )
    assert trial.accuracy.agreement == 1
    assert trial.plain is not None
    assert trial.encrypted == pytest.approx(trial.plain, abs=1e-3)
    assert trial.accuracy.max_error < 1e-2 * np.ptp(wanted)
    assert seen[-1] == (trial.rows, trial.rows)
    one = try_out(compile_model(model, prepared), prepared, test[:1])  # which has no spread
    assert one.accuracy.agreement == 1


def test_each_output_is_compared_by_its_own_spread() -> None:
    """One that is wrong does not agree because another's numbers are larger."""
    rows, answers = load_diabetes(return_X_y=True, as_frame=True)
    train, test, known, _ = train_test_split(rows, answers, random_state=0)
    both = np.column_stack([known, known / 100])
    prepared = Prepared.of(Ridge().fit(train, both), train, {})
    compiled = compile_model(prepared.estimator, prepared)
    assert try_out(compiled, prepared, test).accuracy.agreement == 1
    other = Ridge().fit(train, np.column_stack([known, known[::-1] / 100]))
    assert try_out(compiled, Prepared.of(other, train, {}), test).accuracy.agreement < 0.5


@pytest.mark.parametrize("labels", [None, (0, 1)])
def test_a_network_of_squares_is_compared_by_its_scores(labels: tuple[int, ...] | None) -> None:
    """It has scores and no probabilities."""
    rows = pd.DataFrame(np.random.default_rng(0).uniform(-1, 1, (40, 4)), columns=list("abcd"))
    network = SquareNetwork(drawn([4, 3, 1]).layers, labels)
    prepared = Prepared.of(network, rows, {})
    trial = try_out(compile_model(network, prepared), prepared, rows)
    assert trial.accuracy.agreement == 1
    assert 0 < trial.accuracy.max_error < 1e-4


def test_what_does_not_predict_is_not_compared() -> None:
    """Torch's models are compiled, and have no predict."""
    prepared = Prepared.of(SimpleNamespace(), TEST, {})
    with pytest.raises(InputError, match="a SimpleNamespace has no predict to compare with"):
        try_out(compile_model(MODEL, Prepared.of(MODEL, TRAIN, {})), prepared, TEST)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_model_with_evaluation_keys_is_tried_under_encryption_as_well() -> None:
    """One whose scores stay hidden, and a network, which has no scores that an MLP's could be compared with."""
    asked, few = slice(campaigns.of(len(TEST), slice_of=20)), list(TRAIN.columns[:4])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(TRAIN[few], KNOWN)
    prepared = Prepared.of(model, TRAIN[few], {})
    trial = try_out(compile_hidden_scores(model, prepared), prepared, TEST[few][asked], pd.Series(WANTED[asked]))
    assert trial.accuracy.agreement == 1
    mlp = make_pipeline(StandardScaler(), MLPClassifier((8,), alpha=1.0, random_state=0)).fit(TRAIN, KNOWN)
    prepared = Prepared.of(mlp, TRAIN, {})
    compiled = compile_model(mlp, prepared, family="network")
    trial = try_out(compiled, prepared, TEST[asked], pd.Series(WANTED[asked]))
    assert trial.accuracy.agreement > 0.95
    assert trial.accuracy.max_error == compiled.report["max_error"]
