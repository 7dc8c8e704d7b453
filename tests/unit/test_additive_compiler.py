"""From a fitted additive estimator to tables under encryption: exact shape functions, and a refusal for what is not additive."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")
pytest.importorskip("lightgbm", reason="only tests read LightGBM's models")
pytest.importorskip("interpret", reason="only tests read InterpretML's models")

from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from blindgate_models.additive.client import AdditiveClient
from blindgate_models.additive.server import AdditiveServer
from blindgate_models.additive.spec import client_part, inputs_of, server_part
from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.public_bins import PublicBins
from blindgate_protocol.errors import PackageError

Floats = NDArray[np.float64]

FEW: dict[str, Any] = {"n_estimators": 20, "random_state": 0, "n_jobs": 1}
EBM: dict[str, Any] = {"max_rounds": 20, "outer_bags": 2, "max_bins": 16, "random_state": 0, "n_jobs": 1}
LINEAR = LogisticRegression(max_iter=9000)
ONE_HOT = OneHotEncoder(handle_unknown="ignore")
MODELS = [
    pytest.param(ExplainableBoostingClassifier(interactions=0, **EBM), load_breast_cancer, id="EBM"),
    pytest.param(ExplainableBoostingClassifier(interactions=3, **EBM), load_breast_cancer, id="EBM with pairs"),
    pytest.param(ExplainableBoostingClassifier(interactions=0, **EBM), load_iris, id="EBM, three classes"),
    pytest.param(ExplainableBoostingRegressor(interactions=2, **EBM), load_diabetes, id="EBM, a number"),
    pytest.param(
        make_pipeline(PublicBins(6), ONE_HOT, LINEAR), load_breast_cancer, id="public bins, one-hot, logistic"
    ),
    pytest.param(make_pipeline(PublicBins(6), StandardScaler(), LINEAR), load_iris, id="public bins, scaled, logistic"),
    pytest.param(make_pipeline(PublicBins(8), LinearRegression()), load_diabetes, id="public bins, linear"),
    pytest.param(make_pipeline(SimpleImputer(), PublicBins(6), LINEAR), load_iris, id="filled, public bins, logistic"),
    pytest.param(
        make_pipeline(KBinsDiscretizer(5, quantile_method="linear"), LINEAR),
        load_breast_cancer,
        id="scikit-learn's bins",
    ),
    pytest.param(XGBClassifier(max_depth=1, **FEW), load_breast_cancer, id="XGBoost stumps"),
    pytest.param(XGBClassifier(max_depth=1, **FEW), load_iris, id="XGBoost stumps, three classes"),
    pytest.param(XGBRegressor(max_depth=1, **FEW), load_diabetes, id="XGBoost stumps, a number"),
    pytest.param(
        XGBRegressor(max_depth=1, objective="count:poisson", **FEW), load_diabetes, id="XGBoost stumps, counts"
    ),
    pytest.param(make_pipeline(PublicBins(8), XGBClassifier(max_depth=2, **FEW)), load_breast_cancer, id="depth 2"),
    pytest.param(LGBMClassifier(max_depth=1, verbose=-1, **FEW), load_breast_cancer, id="LightGBM stumps"),
    pytest.param(HistGradientBoostingClassifier(max_iter=10, max_depth=1), load_breast_cancer, id="histogram stumps"),
]


def scores(compiled: CompiledModel, rows: Floats) -> Floats:
    """What both parts compute of client rows, in the clear."""
    client, server = client_part(compiled.client), server_part(compiled.server)
    inputs = inputs_of(client.questions, client.pairs, rows).astype(np.int64)
    total = inputs @ np.array(server.weights).T + np.array(server.constants)
    return np.asarray(np.ldexp(total.astype(np.float64), -client.scale_bits))


def own_scores(estimator: Any, table: Any) -> Floats:
    """The estimator's own raw scores."""
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    kind = type(last).__name__
    if kind.startswith("XGB"):
        got = estimator.predict(table, output_margin=True)
    elif kind.startswith("LGBM"):
        got = estimator.predict(table, raw_score=True)
    elif hasattr(estimator, "decision_function"):
        got = estimator.decision_function(table)
    else:
        got = estimator.predict(table)
    return np.asarray(got, dtype=np.float64).reshape(len(got), -1)


def others(compiled: CompiledModel, rows: Floats) -> Floats:
    """Rows that nobody calibrated with: each column from another row, edges and their neighbours among the values."""
    rng = np.random.default_rng(4)
    found = np.column_stack([rng.permutation(column) for column in rows.T])
    for asked in client_part(compiled.client).questions:
        if asked.kind == "at_least":
            at = rng.choice(asked.values, size=len(found))
            beside = np.choose(
                rng.integers(3, size=len(found)), (at, np.nextafter(at, -np.inf), found[:, asked.column])
            )
            column = compiled.columns[asked.column]
            found[:, asked.column] = np.clip(beside, column["minimum"], column["maximum"])
    return found


@pytest.mark.parametrize(("model", "load"), MODELS)
@pytest.mark.filterwarnings(
    "ignore:X does not have valid feature names", "ignore:Bins whose width", "ignore:.*interactions"
)
def test_shape_functions_are_the_estimators_own(model: Any, load: Any) -> None:
    """On the calibration rows and on every mixture of them, edges included: within the bound that the part states."""
    rows, target = load(return_X_y=True)
    rows = rows[:, :10]
    model.fit(rows, target)
    compiled = compile_additive(model, rows)
    assert compiled.report["agreement_plain"] == 1.0
    assert (compiled.privacy.bits or 0) >= 40
    for table in (rows, others(compiled, rows)):
        expected = own_scores(model, table)
        error = np.abs(scores(compiled, table) - expected).max()
        assert error <= compiled.client["error_bound"] + 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
def test_an_encrypted_row_is_the_table_in_clear(privacy: Any) -> None:
    """Exactly, for several rows and classes; a public model's replies are the same bytes every time, a private one's never."""
    rows, target = load_iris(return_X_y=True)
    model = make_pipeline(PublicBins(6), LINEAR).fit(rows, target)
    compiled = compile_additive(model, rows, privacy=privacy)
    asker, node = AdditiveClient.from_part(compiled.client), AdditiveServer.from_part(compiled.server)
    secret = asker.make_keys().secret
    node.prepare()
    blob = asker.encrypt(secret, rows[:20])
    first, second = node.evaluate(None, blob), node.evaluate(None, blob)
    for result in (first, second):
        np.testing.assert_array_equal(asker.decrypt(secret, result, 20), scores(compiled, rows[:20]))
    assert (first == second) == (privacy == "model_public") == (compiled.determinism == "bit-exact")
    assert compiled.privacy.mode == privacy
    told = " ".join(compiled.discloses["to_client"])
    assert ("anyone who examines a reply" in told) == (privacy == "model_public")


def test_categories_and_gaps_have_cells_of_their_own() -> None:
    """A category, one that is none of them, and a missing number each add what the estimator adds."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"c": rng.choice(["a", "b", "c"], 300), "n": rng.normal(size=300), "m": rng.normal(size=300)})
    table.loc[rng.random(300) < 0.2, "m"] = np.nan
    target = (table["c"] == "b") ^ (table["n"] > 0) ^ table["m"].isna()
    steps = make_column_transformer((ONE_HOT, ["c"]), (make_pipeline(PublicBins(5), ONE_HOT), ["n", "m"]))
    model = make_pipeline(steps, LINEAR).fit(table, target)
    compiled = compile_additive(model, table)
    assert [column["type"] for column in compiled.columns] == ["category", "number", "number"]
    assert compiled.columns[0]["out_of_range"] == "other"
    assert compiled.columns[2].get("missing") == "model"
    prepared = Prepared.of(model, table, {})
    rows = np.concatenate([prepared.rows, np.where(np.arange(3) == 0, 3.0, prepared.rows)])
    expected = own_scores(model, prepared.ask(rows))
    assert np.abs(scores(compiled, rows) - expected).max() <= compiled.client["error_bound"] + 1e-6


@pytest.mark.parametrize("columns", [[0, 2], slice(0, 2), [True, False, True, False], np.array([1, 3])])
def test_columns_may_be_chosen_in_any_of_scikit_learns_ways(columns: Any) -> None:
    """By position, slice or mask, and a remainder."""
    rows, target = load_iris(return_X_y=True)
    for rest in ("drop", PublicBins(4)):
        steps = ColumnTransformer([("bins", PublicBins(6), columns)], remainder=rest)
        assert compile_additive(make_pipeline(steps, LINEAR).fit(rows, target), rows).report["agreement_plain"] == 1.0


@pytest.mark.parametrize(
    ("model", "says"),
    [
        pytest.param(LINEAR, "PublicBins", id="no bins"),
        pytest.param(make_pipeline(PublicBins(6), KNeighborsClassifier(3)), "not a sum", id="neighbours"),
        pytest.param(
            make_pipeline(PublicBins(6), RandomForestClassifier(3, max_depth=4, random_state=0)),
            "three columns",
            id="depth 4",
        ),
        pytest.param(
            make_pipeline(ColumnTransformer([("bins", PublicBins(4), [0])], remainder="passthrough"), LINEAR),
            "nothing cuts the column 'x1'",
            id="a column that is not cut",
        ),
    ],
)
def test_what_is_not_additive_over_bins_is_refused_by_name(model: Any, says: str) -> None:
    """With what would help."""
    rows, target = load_iris(return_X_y=True)
    model.fit(rows, target)
    with pytest.raises(TypeError, match=says):
        compile_additive(model, rows)


def test_too_many_bits_are_refused_before_anything_of_that_size_is_made() -> None:
    """Two columns of eleven hundred bins have more than a million products."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 2))
    bins = {"max_interaction_bins": 1100, "interactions": [(0, 1)], "max_rounds": 1, "outer_bags": 1, "n_jobs": 1}
    model = ExplainableBoostingRegressor(**bins).fit(rows, rng.normal(size=3000))
    started = time.process_time()
    with pytest.raises(ValueError, match="products of bits for 1 scores, expected at most 1048576: use fewer bins or"):
        compile_additive(model, rows)
    assert time.process_time() - started < 2


def test_a_model_that_nothing_can_hide_is_refused() -> None:
    """A tolerance so tight that no ring holds the modulus gives the largest there is, or an error by name; never less privacy."""
    rows, target = load_iris(return_X_y=True)
    model = make_pipeline(PublicBins(6), LINEAR).fit(rows, target)
    try:
        compiled = compile_additive(model, rows, tolerance=1e-15)
    except PackageError:
        return
    assert (compiled.privacy.bits or 0) >= 40


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e25])
def test_numbers_of_any_magnitude_have_a_scale(scale: float) -> None:
    """Also where every score is tiny, or all are one."""
    rows, target = load_diabetes(return_X_y=True)
    model = make_pipeline(PublicBins(4), LinearRegression()).fit(rows, target * scale)
    assert compile_additive(model, rows).report["max_error"] <= 5e-4 * 400 * scale


@pytest.mark.parametrize("privacy", ["model_private", "model_public"])
def test_a_model_that_ignores_every_column_answers(privacy: Any) -> None:
    """A constant, from a matrix of zeros."""
    rows, _ = load_iris(return_X_y=True)
    model = make_pipeline(PublicBins(4), LinearRegression()).fit(rows, np.full(len(rows), 7.0))
    assert compile_additive(model, rows, privacy=privacy).report["max_error"] < 1e-2
