"""Models that take columns for categories by themselves: every split by category is the estimator's own, for every value."""

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
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from xgboost import XGBClassifier, XGBRegressor

from blindgate_models.bits import answers, with_groups
from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.ensembles import read_forest
from blindgate_models.compilers.pipelines import split
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.rules import Rule
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.compilers.trees import compile_trees
from blindgate_models.trees.client import TreesClient
from blindgate_models.trees.server import TreesServer
from blindgate_models.trees.spec import client_part, server_part
from blindgate_models.trees_batch.client import TreesBatchClient
from blindgate_models.trees_batch.server import TreesBatchServer
from blindgate_protocol.manifest import Column

Floats = NDArray[np.float64]

BOOSTED: dict[str, Any] = {"max_iter": 6, "max_depth": 3, "random_state": 0}
LIGHT: dict[str, Any] = {
    "n_estimators": 6,
    "max_depth": 3,
    "min_child_samples": 5,
    "min_data_per_group": 5,
    "cat_smooth": 1,
}
LIGHT |= {"verbose": -1, "n_jobs": 1, "random_state": 0}
EXTREME: dict[str, Any] = {
    "n_estimators": 6,
    "max_depth": 3,
    "n_jobs": 1,
    "enable_categorical": True,
    "max_cat_to_onehot": 2,
}


def applicants() -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Categories as text and as numbers, some of which go together."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": rng.normal(size=600),
            "purpose": rng.choice(["boat", "car", "house", "school", "travel", "wedding", "work", "yard"], 600),
            "grade": rng.choice([1, 3, 4, 7, 9, 12], 600),
        }
    )
    asked = table["purpose"].isin(["boat", "house", "wedding"]) ^ (table["amount"] > 0.3) ^ table["grade"].isin([3, 7])
    return table, asked.to_numpy().astype(np.int64)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """With pandas' type for categories."""
    return table.astype({"purpose": "category", "grade": "category"})


def coded(table: pd.DataFrame) -> Floats:
    """With numbers for texts, in no order."""
    order = ["yard", "car", "school", "boat", "house", "work", "wedding", "travel"]
    return table.assign(purpose=table["purpose"].map(order.index)).to_numpy(dtype=np.float64)


def light_on_codes(rows: Floats, target: Any) -> Any:
    """LightGBM is told which columns are categories when it is fitted."""
    return LGBMClassifier(**LIGHT).fit(rows, target, categorical_feature=[1, 2])


def histograms(rows: pd.DataFrame, target: Any) -> Any:
    """scikit-learn's."""
    return HistGradientBoostingClassifier(**BOOSTED).fit(rows, target)


def extreme(rows: pd.DataFrame, target: Any) -> Any:
    """XGBoost's."""
    return XGBClassifier(**EXTREME).fit(rows, target)


MODELS = [
    pytest.param(histograms, typed, True, id="histograms"),
    pytest.param(
        lambda x, y: HistGradientBoostingRegressor(**BOOSTED).fit(x, y), typed, True, id="histograms, a number"
    ),
    pytest.param(
        lambda x, y: HistGradientBoostingClassifier(categorical_features=[1, 2], **BOOSTED).fit(x, y),
        coded,
        True,
        id="histograms on codes",
    ),
    pytest.param(lambda x, y: LGBMClassifier(**LIGHT).fit(x, y), typed, True, id="LightGBM"),
    pytest.param(lambda x, y: LGBMRegressor(**LIGHT).fit(x, y), typed, True, id="LightGBM, a number"),
    pytest.param(light_on_codes, coded, True, id="LightGBM on codes"),
    pytest.param(extreme, typed, False, id="XGBoost"),
    pytest.param(lambda x, y: XGBRegressor(**EXTREME).fit(x, y), typed, False, id="XGBoost, a number"),
    pytest.param(
        lambda x, y: XGBClassifier(**EXTREME | {"max_cat_to_onehot": 20}).fit(x, y), typed, False, id="XGBoost, one-hot"
    ),
    pytest.param(
        lambda x, y: XGBClassifier(feature_types=["q", "c", "c"], **EXTREME).fit(x, y),
        coded,
        True,
        id="XGBoost on codes",
    ),
]
"""How it is fitted, on what, and whether it takes categories that it has not seen."""

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")


def positions(prepared: Prepared, table: Any) -> Floats:
    """A table as the client gives it, whatever values it has."""
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table, columns=prepared.names)
    columns = []
    for column in prepared.columns:
        values = frame[column["name"]].tolist()
        places = {value: place for place, value in enumerate(column.get("categories", ()))}
        found = [places.get(each, len(places)) if places else each for each in values]
        columns.append([np.nan if pd.isna(each) else place for each, place in zip(values, found, strict=True)])
    return np.array(columns, dtype=np.float64).T


def widest(prepared: Prepared) -> int:
    """The most positions of a column: its categories, others and none."""
    return max(
        len(column["categories"]) + (column["out_of_range"] == "other") + (column.get("missing") == "model")
        for column in prepared.columns[1:]
    )


def scores(compiled: CompiledModel, rows: Floats) -> Floats:
    """What the parts of a private forest compute, in the clear."""
    client, server = client_part(compiled.client), server_part(compiled.server)
    conditions = with_groups(answers(client.questions, rows), server.groups)
    total = np.zeros((len(rows), client.outputs))
    for public, secret in zip(client.sums, server.sums, strict=True):
        total[:, public.outputs] += secret.bias
        for tree in secret.trees:
            for leaf in tree:
                fits = (conditions[:, leaf.bits] == np.array(leaf.wanted, dtype=bool)).all(axis=1)
                total[np.ix_(fits, public.outputs)] += leaf.value
    return np.ldexp(total, -client.scale_bits)


def own_scores(model: Any, table: Any) -> Floats:
    """The estimator's own raw scores of its own table."""
    if type(model).__name__.startswith("XGB"):
        found = model.predict(table, output_margin=True)
    elif type(model).__name__.startswith("LGBM"):
        found = model.predict(table, raw_score=True)
    else:
        found = (model.decision_function if hasattr(model, "decision_function") else model.predict)(table)
    return np.asarray(found, dtype=np.float64).reshape(len(table), -1)


def with_others(table: Any, own: Any) -> Any:
    """Rows of which each third has a purpose, and each fourth a grade, that was never seen."""
    if not isinstance(table, pd.DataFrame):
        strange = table.copy()
        strange[::3, 1], strange[::4, 2] = 77, 2
        return strange
    strange = table.astype({"purpose": "object", "grade": "object"})
    strange.loc[::3, "purpose"], strange.loc[::4, "grade"] = "yacht", 2
    return strange.astype(dict.fromkeys(("purpose", "grade"), "category")) if own else strange


@pytest.mark.parametrize(("fit", "written", "others"), MODELS)
def test_every_row_gets_the_models_own_score(
    fit: Callable[[Any, Any], Any], written: Callable[[pd.DataFrame], Any], others: bool
) -> None:
    """Every category, with every other; values that it has not seen go the way that it sends them, or are refused by the rule."""
    table, target = applicants()
    own = written(table)
    model = fit(own, target)
    prepared = Prepared.of(model, own, {})
    assert [column["type"] for column in prepared.columns] == ["number", "category", "category"]
    compiled = compile_trees(model, own)
    assert compiled.report["agreement_plain"] == 1.0
    tables = [own]
    if others:
        tables.append(with_others(own, own=True))
    assert [column["out_of_range"] for column in prepared.columns[1:]] == (["other"] * 2 if others else ["refuse"] * 2)
    for given in tables:
        expected = own_scores(model, given)
        error = np.abs(scores(compiled, positions(prepared, given)) - expected).max()
        assert error <= compiled.client["error_bound"] + 1e-6 * np.abs(expected).max()
    asked = {(question["column"], question["kind"]) for question in compiled.client["questions"]}
    assert asked == {(0, "at_least"), (1, "is"), (2, "is")}
    assert compiled.server["members"] == widest(prepared) // 2
    assert bool(compiled.server["groups"]) == (
        model.get_params().get("max_cat_to_onehot") != 20
    )  # one against all others


@pytest.mark.parametrize(
    ("fit", "written"),
    [
        pytest.param(histograms, typed, id="histograms"),
        pytest.param(light_on_codes, coded, id="LightGBM on codes"),
        pytest.param(extreme, typed, id="XGBoost"),
    ],
)
def test_both_families_say_so_under_encryption(
    fit: Callable[[Any, Any], Any], written: Callable[[pd.DataFrame], Any]
) -> None:
    """One row at a time, and a table at once."""
    table, target = applicants()
    own = written(table)
    model = fit(own, target)
    rows = positions(Prepared.of(model, own, {}), own)[:40]
    expected = model.predict(own)[:40]
    single, batch = compile_trees(model, own), compile_trees_batch(model, own)
    asker, node = TreesClient.from_part(single.client), TreesServer.from_part(single.server)
    secret = asker.make_keys().secret
    got = asker.decrypt(secret, node.evaluate(None, asker.encrypt(secret, rows)), len(rows))
    np.testing.assert_array_equal(got[:, 0] > 0, expected)
    table_asker, table_node = TreesBatchClient.from_part(batch.client), TreesBatchServer.from_part(batch.server)
    secret = table_asker.make_keys().secret
    got = table_asker.decrypt(secret, table_node.evaluate(None, table_asker.encrypt(secret, rows)), len(rows))
    np.testing.assert_array_equal(got[:, 0] > 0, expected)


@pytest.mark.parametrize(("fit", "written", "others"), MODELS)
def test_what_was_read_is_the_forest(fit: Callable[[Any, Any], Any], written: Any, others: bool) -> None:
    """Sets of codes, walked node by node, on codes as the step in front of the model gives them."""
    table, target = applicants()
    own = written(table)
    model = fit(own, target)
    steps, _ = split(model, prepared := Prepared.of(model, own, {}))
    forest = read_forest(model)
    assert len(forest.categorical) == 2
    rows = prepared.rows.copy()
    if others:
        rows[::5, 1] = len(prepared.columns[1]["categories"])
    expected = own_scores(model, prepared.ask(rows) if others else own)
    np.testing.assert_allclose(forest.scores(steps(rows)), expected, atol=1e-5)


@pytest.mark.parametrize("trained", [True, False], ids=["trained on gaps", "trained without"])
@pytest.mark.parametrize(("fit", "written", "others"), MODELS)
def test_an_empty_cell_goes_the_models_own_way(
    fit: Callable[[Any, Any], Any], written: Callable[[pd.DataFrame], Any], others: bool, trained: bool
) -> None:
    """Beside any group, in one column or both; the client has the column's empty cells as the model's to treat."""
    table, target = applicants()
    rng = np.random.default_rng(1)
    whole, holed = written(table), written(table)
    gaps = rng.random((2, len(table))) < [[0.15], [0.1]]
    for place, missing in enumerate(gaps, 1):
        if isinstance(holed, pd.DataFrame):
            holed.iloc[missing, place] = np.nan
        else:
            holed[missing, place] = np.nan
    model = fit(holed if trained else whole, target ^ gaps[0])
    prepared = Prepared.of(model, holed, {})
    for column in prepared.columns[1:]:
        assert Column(**column).missing == "model"
    compiled, expected = compile_trees(model, holed), own_scores(model, holed)
    error = np.abs(scores(compiled, positions(prepared, holed)) - expected).max()
    assert error <= compiled.client["error_bound"] + 1e-6 * np.abs(expected).max()
    kinds = {(question["column"], question["kind"]) for question in compiled.client["questions"]}
    assert kinds == {(0, "at_least"), *((place, kind) for place in (1, 2) for kind in ("is", "is_missing"))}
    assert compiled.server["members"] == widest(prepared) // 2
    assert compile_trees_batch(model, holed).report["agreement_plain"] == 1.0


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("native", [False, True])
def test_boosting_of_two_columns_is_additive(depth: int, native: bool) -> None:
    """Splits by category, or behind an encoder that puts others first: tables over categories, none of them among these."""
    table, target = applicants()
    kept = table[["amount", "purpose"]]
    model: Any = HistGradientBoostingClassifier(**BOOSTED | {"max_depth": depth})
    if native:
        model.fit(kept.astype({"purpose": "category"}), target)
    else:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        steps = make_column_transformer((encoder, ["purpose"]), remainder="passthrough")
        model = make_pipeline(steps, model).fit(kept, target)
    compiled = compile_additive(model, kept)
    assert compiled.report["agreement_plain"] == 1.0


def test_a_column_that_no_tree_asks_for_needs_no_encoder_either() -> None:
    """A ward that tells nothing."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=300), "ward": pd.Categorical(["a", "b"] * 150)})
    for model in (XGBClassifier(**EXTREME), LGBMClassifier(**LIGHT), HistGradientBoostingClassifier(**BOOSTED)):
        assert compile_trees(model.fit(table, table["size"] > 0), table).report["agreement_plain"] == 1.0


def test_a_list_of_categories_may_be_shorter_or_longer_than_the_models() -> None:
    """By a rule: the model's codes go by name."""
    table, target = applicants()
    model = LGBMClassifier(**LIGHT).fit(typed(table), target)
    few = table[table["purpose"].isin(["boat", "car"])]
    rule = Rule(type="category", categories=("car", "boat", "plane"), out_of_range="refuse")
    prepared = Prepared.of(model, typed(few), {"purpose": rule})
    compiled = compile_trees(model, prepared)
    given = typed(
        few.reset_index(drop=True).assign(purpose=["boat", "plane", "car"] * (len(few) // 3) + ["car"] * (len(few) % 3))
    )
    error = np.abs(scores(compiled, positions(prepared, given)) - own_scores(model, given)).max()
    assert error <= compiled.client["error_bound"] + 1e-9


def test_what_is_not_supported_says_what_to_do() -> None:
    """Names that XGBoost cuts, categories that it would take for others, a rule that makes numbers of categories, gaps, TFHE."""
    table, target = applicants()
    nordic = typed(table.assign(purpose=table["purpose"].str.replace("a", "å")))
    with pytest.raises(ValueError, match="ASCII"):
        compile_trees(extreme(nordic, target), nordic)
    boosted = extreme(typed(table), target)
    with pytest.raises(ValueError, match="takes no other categories"):
        Prepared.of(boosted, typed(table), {"purpose": Rule(type="category", out_of_range="other")})
    light = light_on_codes(coded(table), target)
    with pytest.raises(TypeError, match="for categories: say so"):
        compile_trees(light, Prepared.of(light, coded(table), {"x1": Rule(type="number")}))
    gaps = typed(table)
    gaps.loc[::9, "purpose"] = np.nan
    steps = make_column_transformer((OrdinalEncoder(), ["purpose", "grade"]), remainder="passthrough")
    gappy = make_pipeline(steps, HistGradientBoostingClassifier(**BOOSTED)).fit(gaps, target)
    with pytest.raises(ValueError, match="give it a category to fill in"):
        compile_trees(gappy, gaps)
    with pytest.raises(TypeError, match="by category, into groups: encode it with OneHotEncoder"):
        compile_concrete(boosted, typed(table))
