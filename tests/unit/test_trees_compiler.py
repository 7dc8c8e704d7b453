"""From a fitted ensemble to a private forest: every framework, gaps, categories, steps; and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")
pytest.importorskip("lightgbm", reason="only tests read LightGBM's models")

from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from blindgate_models.bits import answers, with_groups
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.compilers.trees import compile_trees
from blindgate_models.public_bins import PublicBins
from blindgate_models.trees.spec import client_part, server_part
from blindgate_protocol.manifest import Column
from campaigns import leave_to_nightly

Floats = NDArray[np.float64]

SMALL: dict[str, Any] = {"n_estimators": 5, "max_depth": 3, "random_state": 0, "n_jobs": 1}
BOOSTED: dict[str, Any] = {"max_iter": 5, "max_depth": 3, "random_state": 0}
LIGHT: dict[str, Any] = SMALL | {"verbose": -1, "min_child_samples": 5}
ESTIMATORS = [
    pytest.param(XGBClassifier(**SMALL), load_breast_cancer, id="XGBoost, two classes"),
    pytest.param(XGBClassifier(**SMALL), load_iris, id="XGBoost, three classes"),
    pytest.param(XGBRegressor(**SMALL), load_diabetes, id="XGBoost, a number"),
    pytest.param(XGBRegressor(objective="count:poisson", **SMALL), load_diabetes, id="XGBoost, counts"),
    pytest.param(XGBRFClassifier(**SMALL), load_breast_cancer, id="XGBoost's forest"),
    pytest.param(LGBMClassifier(**LIGHT), load_breast_cancer, id="LightGBM, two classes"),
    pytest.param(LGBMClassifier(**LIGHT), load_iris, id="LightGBM, three classes"),
    pytest.param(LGBMRegressor(**LIGHT), load_diabetes, id="LightGBM, a number"),
    pytest.param(LGBMRegressor(objective="poisson", **LIGHT), load_diabetes, id="LightGBM, counts"),
    pytest.param(LGBMClassifier(boosting_type="dart", **LIGHT), load_breast_cancer, id="LightGBM's DART"),
    pytest.param(RandomForestClassifier(**SMALL), load_iris, id="forest, three classes"),
    pytest.param(RandomForestRegressor(**SMALL), load_diabetes, id="forest, a number"),
    pytest.param(ExtraTreesClassifier(**SMALL), load_breast_cancer, id="extra trees, two classes"),
    pytest.param(ExtraTreesRegressor(**SMALL), load_diabetes, id="extra trees, a number"),
    pytest.param(ExtraTreeClassifier(max_depth=4, random_state=0), load_iris, id="one extra tree"),
    pytest.param(
        GradientBoostingClassifier(n_estimators=5, max_depth=3), load_breast_cancer, id="boosting, two classes"
    ),
    pytest.param(GradientBoostingClassifier(n_estimators=3, max_depth=2), load_iris, id="boosting, three classes"),
    pytest.param(GradientBoostingClassifier(n_estimators=3, init="zero"), load_iris, id="boosting from zero"),
    pytest.param(GradientBoostingRegressor(n_estimators=5, max_depth=3), load_diabetes, id="boosting, a number"),
    pytest.param(HistGradientBoostingClassifier(**BOOSTED), load_breast_cancer, id="histograms, two classes"),
    pytest.param(HistGradientBoostingClassifier(**BOOSTED), load_iris, id="histograms, three classes"),
    pytest.param(HistGradientBoostingRegressor(**BOOSTED), load_diabetes, id="histograms, a number"),
    pytest.param(HistGradientBoostingRegressor(loss="poisson", **BOOSTED), load_diabetes, id="histograms, counts"),
    pytest.param(DecisionTreeClassifier(max_depth=6, random_state=0), load_breast_cancer, id="one tree"),
    pytest.param(
        DecisionTreeRegressor(max_depth=10, random_state=0, max_leaf_nodes=20), load_diabetes, id="a deep tree"
    ),
]


def scores(compiled: CompiledModel, rows: Floats) -> Floats:
    """What both parts compute of client rows, in the clear: `(n, outputs)`."""
    client, server = client_part(compiled.client), server_part(compiled.server)
    bits = with_groups(answers(client.questions, rows), server.groups)
    total = np.zeros((len(rows), client.outputs))
    for public, secret in zip(client.sums, server.sums, strict=True):
        total[:, public.outputs] += secret.bias
        for tree in secret.trees:
            for leaf in tree:
                fits = (bits[:, leaf.bits] == np.array(leaf.wanted, dtype=bool)).all(axis=1)
                total[np.ix_(fits, public.outputs)] += leaf.value
    return np.asarray(np.ldexp(total, -client.scale_bits))


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
    elif hasattr(estimator, "predict_proba"):
        got = estimator.predict_proba(table)
    else:
        got = estimator.predict(table)
        got = np.log(got) if getattr(last, "loss", "") == "poisson" else got
    return np.asarray(got, dtype=np.float64).reshape(len(got), -1)


def on_edges(compiled: CompiledModel, rows: Floats) -> Floats:
    """Rows whose numbers lie on published edges, or on the doubles beside them, within the declared ranges."""
    rng = np.random.default_rng(2)
    found: Floats = rows[rng.integers(len(rows), size=200)].copy()
    for asked in client_part(compiled.client).questions:
        if not asked.kind.startswith("at_least"):
            continue
        at = rng.choice(asked.values, size=len(found))
        column = compiled.columns[asked.column]
        beside = np.choose(rng.integers(3, size=len(found)), (at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)))
        found[:, asked.column] = np.clip(beside, column["minimum"], column["maximum"])
    return found


@pytest.mark.parametrize("bins", [False, True], ids=["own thresholds", "public bins"])
@pytest.mark.parametrize(("estimator", "load"), ESTIMATORS)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:.*was fitted without feature names")
def test_a_forest_is_the_estimators_within_its_rounding(estimator: Any, load: Any, bins: bool) -> None:
    """On the calibration rows, on the very edges, and beside them: scores differ by the bound that the part states, and no more."""
    rows, target = load(return_X_y=True)
    model = make_pipeline(PublicBins(8), estimator) if bins else estimator
    model.fit(rows, target)
    compiled = compile_trees(model, rows)
    assert compiled.report["agreement_plain"] == 1.0
    for table in (rows, on_edges(compiled, rows)):
        expected = own_scores(model, table)
        error = np.abs(scores(compiled, table) - expected).max()
        assert error <= compiled.client["error_bound"] + 1e-6 * np.abs(expected).max()
    told = compiled.discloses["to_client"][0]
    assert ("public bins" in told) == bins
    assert ("thresholds" in told) != bins
    assert compiled.privacy.mode == "model_private"
    assert (compiled.privacy.bits or 0) >= 40


def test_lightgbm_takes_what_is_next_to_zero_for_zero() -> None:
    """Its thresholds beside 0 are ±1e-35 in float32, and numbers up to just there count as 0, on either side."""
    rng = np.random.default_rng(0)
    rows = rng.choice([-1.0, 0.0, 1.0], (300, 2))
    model = LGBMClassifier(**LIGHT).fit(rows, (rows[:, 0] < 0) ^ (rows[:, 1] > 0))
    compiled = compile_trees(model, rows)
    least = float(np.float32(1e-35))
    beside = [sign * number for sign in (1, -1) for number in (0.0, least / 2, least, np.nextafter(least, 1))]
    table = np.array([[first, second] for first in beside for second in beside])
    assert np.abs(scores(compiled, table) - own_scores(model, table)).max() <= compiled.client["error_bound"] + 1e-9


def test_public_bins_publish_the_same_edges_whatever_the_forest_asks() -> None:
    """Two forests over one table, one of which asks for a single column: their questions are the same."""
    rows, target = load_breast_cancer(return_X_y=True)
    many = make_pipeline(PublicBins(6), RandomForestClassifier(**SMALL)).fit(rows, target)
    one = make_pipeline(PublicBins(6), DecisionTreeClassifier(max_depth=1)).fit(rows, target)
    assert compile_trees(many, rows).client["questions"] == compile_trees(one, rows).client["questions"]


def test_own_thresholds_stand_among_decoys() -> None:
    """Every column has as many edges as the one with the most, used or not; and the same ones whenever the model is compiled."""
    rows, target = load_breast_cancer(return_X_y=True)
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(rows, target)
    compiled = compile_trees(tree, rows)
    lengths = {len(asked["values"]) for asked in compiled.client["questions"]}
    assert len(compiled.client["questions"]) == rows.shape[1]
    assert lengths == {max(4, *lengths)}
    again = compile_trees(tree, rows)
    assert again.client["questions"] == compiled.client["questions"]


GAPS = [
    pytest.param(XGBClassifier(**SMALL), id="XGBoost"),
    pytest.param(LGBMClassifier(**LIGHT), id="LightGBM"),
    pytest.param(HistGradientBoostingClassifier(**BOOSTED), id="histograms"),
    pytest.param(RandomForestClassifier(**SMALL), id="forest"),
    pytest.param(DecisionTreeClassifier(max_depth=4, random_state=0), id="tree"),
]


def with_gaps(rows: Floats, target: NDArray[Any]) -> Floats:
    """Rows in which gaps tell something, one way in one column and the other in another."""
    rng = np.random.default_rng(0)
    holed = rows.copy()
    holed[(rng.random(len(rows)) < 0.4) & (target == 0), 0] = np.nan
    holed[(rng.random(len(rows)) < 0.4) & (target == 1), 1] = np.nan
    holed[rng.random(len(rows)) < 0.2, 7] = np.nan
    return holed


@pytest.mark.parametrize("bins", [False, True], ids=["own thresholds", "public bins"])
@pytest.mark.parametrize("estimator", GAPS)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:.*was fitted without feature names")
def test_a_missing_value_goes_the_way_that_the_model_sends_it(estimator: Any, bins: bool) -> None:
    """Left in one node and right in another, column by column: also in rows that no calibration row is like."""
    rows, target = load_breast_cancer(return_X_y=True)
    rows = with_gaps(rows[:, :8], target)
    model = make_pipeline(PublicBins(8), estimator) if bins else estimator
    model.fit(rows, target)
    compiled = compile_trees(model, rows)
    assert [column.get("missing") for column in compiled.columns] == ["model", "model", *[None] * 5, "model"]
    kinds = {(asked["column"], asked["kind"]) for asked in compiled.client["questions"]}
    assert {(0, "at_least"), (0, "at_least_or_missing")} <= kinds
    assert (2, "at_least_or_missing") not in kinds
    fewer = rows.copy()
    fewer[::2, [0, 1, 7]] = np.nan
    for table in (rows, fewer):
        expected = own_scores(model, table)
        assert np.abs(scores(compiled, table) - expected).max() <= compiled.client["error_bound"] + 1e-6


@pytest.mark.parametrize("step", [PublicBins(6), StandardScaler()], ids=["public bins", "scaler"])
def test_every_calibration_row_may_miss_something(step: Any) -> None:
    """A wide table of a hospital's has no complete row: its steps are asked about rows that are filled up."""
    rows, target = load_breast_cancer(return_X_y=True)
    holed = rows[:, :6].copy()
    holed[np.arange(len(rows)), np.arange(len(rows)) % 6] = np.nan
    model = make_pipeline(step, XGBClassifier(**SMALL)).fit(holed, target)
    compiled = compile_trees(model, holed)
    assert np.abs(scores(compiled, holed) - own_scores(model, holed)).max() <= compiled.client["error_bound"] + 1e-6


@pytest.mark.parametrize("family", [compile_trees, compile_trees_batch])
def test_gaps_that_a_later_step_fills_are_not_read_as_the_models(family: Callable[..., CompiledModel]) -> None:
    """Labels of the calibration rows may agree by luck where scores do not: it is refused, with what to do."""
    rows, target = load_breast_cancer(return_X_y=True)
    filled = SimpleImputer(strategy="constant", fill_value=3.0)
    model = make_pipeline(PublicBins(4), filled, RandomForestClassifier(3, max_depth=2, random_state=0)).fit(
        rows, target
    )
    holed = rows.copy()
    holed[:3, 0] = np.nan
    with pytest.raises(TypeError, match="put a SimpleImputer first"):
        family(model, holed)
    first = make_pipeline(SimpleImputer(), PublicBins(4), RandomForestClassifier(**SMALL)).fit(holed, target)
    compiled = family(first, holed)
    assert compiled.columns[0].get("fill") == pytest.approx(np.nanmean(holed[:, 0]))


def applicants() -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """A table of categories and numbers."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "purpose": rng.choice(["car", "house", "school", "travel"], 300),
            "grade": rng.choice([1, 2, 3, 5], 300),
            "amount": rng.normal(size=300),
        }
    )
    target = table["purpose"].isin(["car", "travel"]) ^ (table["amount"] > 0.2) ^ (table["grade"] == 3)
    return table, target.to_numpy().astype(np.int64)


ENCODERS = [
    pytest.param(OneHotEncoder(), id="one-hot"),
    pytest.param(OneHotEncoder(handle_unknown="ignore"), id="one-hot that takes others"),
    pytest.param(OneHotEncoder(drop="first"), id="one-hot without the first"),
    pytest.param(OrdinalEncoder(), id="ordinal"),
    pytest.param(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9), id="ordinal, others at the end"),
    pytest.param(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), id="ordinal, others first"),
    pytest.param(OrdinalEncoder(categories=[["travel", "car", "school", "house"], [1, 2, 3, 5]]), id="another order"),
    pytest.param(TargetEncoder(cv=StratifiedKFold(3)), id="by the target"),
]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("model", [XGBClassifier(**SMALL), RandomForestClassifier(**SMALL)], ids=["XGBoost", "forest"])
def test_categories_are_asked_for_by_name(model: Any, encoder: Any) -> None:
    """Every combination of categories, one that is none of them where the encoder takes such: the pipeline's own scores."""
    if isinstance(model, RandomForestClassifier) and not isinstance(encoder, OneHotEncoder | TargetEncoder):
        leave_to_nightly()  # how a column is encoded is read before the model is
    table, target = applicants()
    steps = make_column_transformer((encoder, ["purpose", "grade"]), (PublicBins(6), ["amount"]))
    pipeline = make_pipeline(steps, model).fit(table, target)
    compiled = compile_trees(pipeline, table)
    assert [column["type"] for column in compiled.columns] == ["category", "category", "number"]
    assert compiled.columns[0].get("categories") == ("car", "house", "school", "travel")
    for column in compiled.columns:
        Column(**column)
    prepared = Prepared.of(pipeline, table, {})
    grid = np.array([[a, b, x] for a in range(4) for b in range(4) for x in prepared.rows[:10, 2]])
    tables = [prepared.rows, grid]
    if compiled.columns[0]["out_of_range"] == "other":
        tables.append(np.where(np.arange(3) == 0, 4.0, grid))
    for rows in tables:
        expected = own_scores(pipeline, prepared.ask(rows))
        assert np.abs(scores(compiled, rows) - expected).max() <= compiled.client["error_bound"] + 1e-6
    asked = {question["kind"] for question in compiled.client["questions"]}
    assert asked <= {"at_least", "is"}


SELECTIONS = [
    pytest.param([0, 2], id="positions"),
    pytest.param(slice(0, 3), id="a slice"),
    pytest.param([True, False, True, False], id="a mask"),
    pytest.param(np.array([True, False, True, False]), id="a mask as an array"),
]


@pytest.mark.parametrize("columns", SELECTIONS)
def test_columns_may_be_chosen_in_any_of_scikit_learns_ways(columns: Any) -> None:
    """By position, slice or mask; what is left over is not asked for."""
    rows, target = load_iris(return_X_y=True)
    steps = ColumnTransformer([("bins", PublicBins(6), columns)])
    model = make_pipeline(steps, DecisionTreeClassifier(max_depth=3)).fit(rows, target)
    assert compile_trees(model, rows).report["agreement_plain"] == 1.0


def test_steps_in_front_of_bins_keep_the_edges_public() -> None:
    """Scaled and cut: one edge for each bin, in the column's own numbers."""
    rows, target = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), PublicBins(6), DecisionTreeClassifier(max_depth=3)).fit(rows, target)
    compiled = compile_trees(model, rows)
    assert "public bins" in compiled.discloses["to_client"][0]
    for asked in compiled.client["questions"]:
        column = rows[:, asked["column"]]
        assert len(asked["values"]) == 5
        assert column.min() <= asked["values"][0] <= asked["values"][-1] <= column.max()


def test_bins_that_are_scaled_again_are_no_public_bins_any_more() -> None:
    """They compile on the forest's own thresholds, and the manifest says so."""
    rows, target = load_iris(return_X_y=True)
    model = make_pipeline(PublicBins(6), StandardScaler(), DecisionTreeClassifier(max_depth=3)).fit(rows, target)
    compiled = compile_trees(model, rows)
    assert "thresholds" in compiled.discloses["to_client"][0]
    assert compiled.report["agreement_plain"] == 1.0


@pytest.mark.parametrize("bins", [False, True], ids=["own thresholds", "public bins"])
def test_calibration_rows_may_be_a_corner_of_what_the_model_was_trained_on(bins: bool) -> None:
    """A tree that asks past the declared range gets one answer there, within which the scores are the model's."""
    rows, target = load_breast_cancer(return_X_y=True)
    few = rows[(rows[:, :5] < np.median(rows[:, :5], axis=0)).all(axis=1)]
    forest = RandomForestClassifier(**SMALL)
    model = (make_pipeline(PublicBins(8), forest) if bins else forest).fit(rows, target)
    compiled = compile_trees(model, few)
    for table in (few, on_edges(compiled, few)):
        assert np.abs(scores(compiled, table) - own_scores(model, table)).max() <= compiled.client["error_bound"] + 1e-9


def test_a_tree_that_asks_nothing_is_a_forest() -> None:
    """Fitted on one answer, it is a leaf; somebody compiles it sooner or later."""
    rows, _ = load_iris(return_X_y=True)
    model = make_pipeline(PublicBins(4), DecisionTreeRegressor()).fit(rows, np.full(len(rows), 7.0))
    compiled = compile_trees(model, rows)
    np.testing.assert_allclose(scores(compiled, rows), 7.0, atol=1e-3)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(RandomForestClassifier(**SMALL), id="forest"),
        pytest.param(GradientBoostingClassifier(n_estimators=3, max_depth=2), id="boosting"),
        pytest.param(HistGradientBoostingClassifier(**BOOSTED), id="histograms"),
        pytest.param(XGBClassifier(**SMALL), id="XGBoost"),
        pytest.param(LGBMClassifier(**LIGHT), id="LightGBM"),
    ],
)
def test_a_table_may_have_one_column(estimator: Any) -> None:
    """A forest over a single number, with the estimator's own scores."""
    rows, target = load_iris(return_X_y=True)
    model = estimator.fit(rows[:, 2:3], target)
    compiled = compile_trees(model, rows[:, 2:3])
    assert compiled.report["agreement_plain"] == 1.0
    error = np.abs(scores(compiled, rows[:, 2:3]) - own_scores(model, rows[:, 2:3])).max()
    assert error <= compiled.client["error_bound"] + 1e-6


def test_a_tighter_tolerance_is_kept() -> None:
    """The rounding is within the share that was asked for, at the price of a larger modulus."""
    rows, target = load_breast_cancer(return_X_y=True)
    model = make_pipeline(PublicBins(8), XGBClassifier(**SMALL)).fit(rows, target)
    loose, tight = compile_trees(model, rows), compile_trees(model, rows, tolerance=1e-6)
    largest = np.abs(own_scores(model, rows)).max()
    assert loose.client["error_bound"] <= 5e-4 * largest
    assert tight.client["error_bound"] <= 1e-6 * largest
    assert tight.client["parameters"]["plain_modulus"] > loose.client["parameters"]["plain_modulus"]
