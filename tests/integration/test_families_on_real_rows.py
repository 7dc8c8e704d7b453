"""Real tables through a real gateway and a real node: on every held-out row, the class that the plaintext model gives.

`make nightly` asks for every held-out row, `make test` for the first dozen of them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from numpy.typing import NDArray
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from xgboost import XGBClassifier

import campaigns
from blindgate import Client
from blindgate_models.compilers.estimators import compile_model
from blindgate_models.compilers.hidden_scores import compile_hidden_scores
from blindgate_models.compilers.polynomial import polynomial_network
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.rules import Rule, Rules
from blindgate_models.features import Feature, expand
from blindgate_models.public_bins import PublicBins
from blindgate_protocol.errors import InputError
from runs import SOON_IN_THE_LOG
from shared import shared
from signed_packages import PUBLISHER, package
from world import World

HEART = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal"]
ASKED = 12
"""So many of the held-out rows are asked for in `make test`."""
FEW = 4
"""So many of those once more, with their probabilities."""
NUMBERS = make_column_selector(dtype_include="number")
TEXTS = make_column_selector(dtype_exclude="number")


class Table(NamedTuple):
    """Rows to train with, with their answers, and rows to ask about."""

    train: pd.DataFrame
    test: pd.DataFrame
    answers: NDArray[Any]


def cut(rows: pd.DataFrame, answers: Any) -> Table:
    """Three quarters to train with."""
    train, test, known, _ = train_test_split(rows, np.asarray(answers), random_state=0)
    return Table(train, test[: campaigns.of(len(test), slice_of=ASKED)], known)


def breast_cancer() -> Table:
    """Numbers, two classes by name."""
    data = load_breast_cancer(as_frame=True)
    return cut(data.data, data.target_names[data.target])


def digits() -> Table:
    """Pixels, ten classes."""
    data = load_digits(as_frame=True)
    return cut(data.data, data.target)


def heart() -> Table:
    """Numbers with gaps, two classes."""
    table = pd.read_csv(shared("data/heart_cleveland.csv"), names=[*HEART, "disease"], na_values="?")
    return cut(table[HEART], np.where(table["disease"] > 0, "yes", "no"))


def german() -> Table:
    """Thirteen columns of categories as text and seven of numbers."""
    table = pd.read_csv(shared("data/german_credit.csv"), header=None).rename(columns=lambda name: f"a{name}")
    return cut(table.drop(columns="a20"), table["a20"])


def scaled(numbers: Any) -> Any:
    """A logistic model over raw columns."""
    steps = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), TEXTS), (numbers, NUMBERS))
    return make_pipeline(steps, LogisticRegression(max_iter=9000))


def linear() -> Any:
    """Gaps filled, scaled."""
    return scaled(make_pipeline(SimpleImputer(), StandardScaler()))


def additive() -> Any:
    """Cut into public bins, a number for each."""
    return scaled(
        make_pipeline(SimpleImputer(strategy="median"), PublicBins(5), OneHotEncoder(handle_unknown="ignore"))
    )


def trees() -> Any:
    """Boosted trees over public bins; gaps are theirs to treat."""
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = make_column_transformer((encoder, TEXTS), (PublicBins(8), NUMBERS))
    return make_pipeline(steps, XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1, random_state=0))


MODELS: dict[str, Callable[[], Any]] = {"linear": linear, "additive": additive, "trees": trees}
TABLES: dict[str, Callable[[], Table]] = {
    "breast-cancer": breast_cancer,
    "digits": digits,
    "heart": heart,
    "german": german,
}


@pytest.fixture(scope="module")
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway and one node for this file's models."""
    with World(tmp_path_factory.mktemp("families"), gateway=SOON_IN_THE_LOG) as made:
        made.trust("tests", PUBLISHER.id)
        made.start_gateway()
        made.start_node("node-1")
        yield made


@pytest.fixture(scope="module")
def client(own_world: World) -> Iterator[Client]:
    """One tenant."""
    with own_world.client() as made:
        yield made


def rules(table: Table) -> Rules:
    """Ranges that hold the rows to come as well: a publisher knows what its columns may be."""
    whole = pd.concat([table.train, table.test]).select_dtypes("number")
    return {
        str(name): Rule(minimum=float(column.min()) - 1, maximum=float(column.max()) + 1)
        for name, column in whole.items()
    }


def test_a_model_of_thousands_of_columns_answers_like_any_other(own_world: World, client: Client) -> None:
    """A row takes two polynomials; its manifest still fits where manifests go."""
    columns = [f"gene{number}" for number in range(campaigns.of(8000, slice_of=4200))]
    rows, target = make_classification(120, len(columns), n_informative=50, random_state=0)
    table = pd.DataFrame(rows, columns=columns)
    ranges = [(float(low) - 1, float(high) + 1) for low, high in zip(rows.min(axis=0), rows.max(axis=0), strict=True)]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(table[:80], target[:80])
    own_world.publish(package(compile_model(model, table[:80], ranges=ranges), name="genes"))
    found = client.model("genes")
    np.testing.assert_array_equal(found.predict(table[80:], timeout=60), model.predict(table[80:]))
    proba = found.predict_proba(table[80:], timeout=60)
    np.testing.assert_allclose(proba, model.predict_proba(table[80:]), atol=2e-3)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("data", TABLES)
def test_every_held_out_row_gets_the_networks_class(
    data: str, own_world: World, client: Client, tmp_path: Path
) -> None:
    """Of the network of squares that an MLP becomes, for every row; and that is nearly always the MLP's own."""
    if data == "breast-cancer":  # two classes by numbers, as heart's, which have gaps too
        campaigns.leave_to_nightly()
    table = TABLES[data]()
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = make_column_transformer((encoder, TEXTS), (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS))
    model = make_pipeline(steps, MLPClassifier((16,), max_iter=400, alpha=1.0, random_state=0))
    model.fit(table.train, table.answers)
    prepared = Prepared.of(model, table.train, rules(table))
    compiled = compile_model(model, prepared, family="network")
    squares = polynomial_network(model, prepared).network
    features = [Feature.model_validate(feature) for feature in compiled.client["features"]]
    asked = Prepared.of(model, table.test, rules(table)).require_complete()
    own_world.publish(package(compiled, name=f"{data}-network"))
    got = client.model(f"{data}-network").predict(table.test, timeout=120)
    np.testing.assert_array_equal(got, squares.predict(expand(features, asked)))
    assert (got == model.predict(table.test)).mean() > 0.9


@pytest.mark.parametrize("data", TABLES)
@pytest.mark.parametrize("family", MODELS)
def test_every_held_out_row_gets_the_plaintext_models_class(
    family: str, data: str, own_world: World, client: Client, tmp_path: Path
) -> None:
    """Raw columns in, the model's own labels out: for every row, and the same probabilities to the decimals that are told."""
    if data == "breast-cancer":  # two classes by numbers, as heart's, which have gaps too
        campaigns.leave_to_nightly()
    table = TABLES[data]()
    model = MODELS[family]()
    labels, known = np.unique(table.answers, return_inverse=True)
    model.fit(table.train, known if family == "trees" else table.answers)
    compiled = compile_model(model, Prepared.of(model, table.train, rules(table)), family=family)
    assert compiled.family == family
    own_world.publish(package(compiled, name=f"{data}-{family}"))
    asked = table.test
    expected = model.predict(asked)
    found = client.model(f"{data}-{family}")
    got = found.predict(asked, timeout=120)
    np.testing.assert_array_equal(got, expected)
    assert set(np.unique(labels[got] if family == "trees" else got)) <= set(labels)
    few = asked[:FEW]
    np.testing.assert_allclose(found.predict_proba(few, timeout=120), model.predict_proba(few), atol=2e-3)


@pytest.mark.parametrize("family", ["trees", "trees-batch"])
def test_every_held_out_row_gets_the_class_where_trees_ask_for_groups_of_categories(
    family: str, own_world: World, client: Client
) -> None:
    """Categories by number, unknown ones below all: the groups are the node's secret, the labels and shares are the model's own."""
    table = german()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    steps = make_column_transformer((encoder, TEXTS), ("passthrough", NUMBERS))
    model = make_pipeline(steps, HistGradientBoostingClassifier(max_iter=20, max_depth=3, random_state=0))
    model.fit(table.train, table.answers)
    compiled = compile_model(model, Prepared.of(model, table.train, rules(table)), family=family)
    assert len(compiled.server["groups"]) > 10
    own_world.publish(package(compiled, name=f"german-groups-{family}"))
    found = client.model(f"german-groups-{family}")
    strange = table.test.copy()
    strange.loc[strange.index[::3], "a3"] = "A499"
    for asked in (table.test, strange)[
        campaigns.of(0, slice_of=1) :
    ]:  # two of three strange rows are those of the table
        np.testing.assert_array_equal(found.predict(asked, timeout=120), model.predict(asked))
    few = table.test[:FEW]
    np.testing.assert_allclose(found.predict_proba(few, timeout=120), model.predict_proba(few), atol=2e-3)


@pytest.mark.filterwarnings("ignore:Missing values detected")
@pytest.mark.parametrize("data", ["heart", "german"])
def test_an_explainable_boosting_machine_answers_as_it_comes(data: str, own_world: World, client: Client) -> None:
    """With InterpretML's default settings: pairs of columns, gaps, categories; the family is chosen by itself."""
    if data != "heart":
        campaigns.leave_to_nightly()
    glassbox = pytest.importorskip("interpret.glassbox", reason="the extra `demo` is not installed")
    table = TABLES[data]()
    model = glassbox.ExplainableBoostingClassifier(n_jobs=1, outer_bags=2).fit(table.train, table.answers)
    compiled = compile_model(model, Prepared.of(model, table.train, rules(table)))
    assert compiled.family == "additive"
    assert compiled.privacy.mode == "model_private"
    own_world.publish(package(compiled, name=f"{data}-boosting"))
    found = client.model(f"{data}-boosting").predict(table.test, timeout=120)
    np.testing.assert_array_equal(found, model.predict(table.test))


@pytest.mark.parametrize("data", ["breast-cancer", "heart", "german"])
def test_every_held_out_row_gets_the_class_where_the_node_applies_the_sigmoid(
    data: str, own_world: World, client: Client
) -> None:
    """The labels of the logistic model, and its probabilities to two decimals, from a model that never sends a score."""
    if data != "heart":  # the smallest table with gaps; narrow ranges, as breast cancer's, want the largest parameters
        campaigns.leave_to_nightly()
    table = TABLES[data]()
    model = linear().fit(table.train, table.answers)
    known = (
        {} if data == "breast-cancer" else rules(table)
    )  # a range wider by 1 is wide where all numbers are below 0.1
    compiled = compile_hidden_scores(model, Prepared.of(model, table.train, known))
    own_world.publish(package(compiled, name=f"{data}-hidden"))
    found = client.model(f"{data}-hidden")
    np.testing.assert_array_equal(found.predict(table.test, timeout=120), model.predict(table.test))
    np.testing.assert_allclose(
        found.predict_proba(table.test, timeout=120), model.predict_proba(table.test), atol=0.0051 + 0.005
    )


def test_a_category_that_is_none_is_refused_or_taken_as_the_manifest_says(own_world: World, client: Client) -> None:
    """By its column's name and row, before anything is sent; where the encoder ignores others, so does the encrypted model."""
    table = german()
    for handling in ("error", "ignore"):
        encoder = OneHotEncoder(handle_unknown=handling)
        steps = make_column_transformer((encoder, TEXTS), (make_pipeline(PublicBins(4)), NUMBERS))
        model = make_pipeline(steps, LogisticRegression(max_iter=9000)).fit(table.train, table.answers)
        compiled = compile_model(model, Prepared.of(model, table.train, rules(table)), family="additive")
        own_world.publish(package(compiled, name=f"german-{handling}"))
        strange = table.test[:3].copy()
        strange.loc[strange.index[1], "a3"] = "A499"
        found = client.model(f"german-{handling}")
        if handling == "ignore":
            np.testing.assert_array_equal(found.predict(strange, timeout=60), model.predict(strange))
            continue
        with pytest.raises(InputError, match="none of the model's categories") as caught:
            found.predict(strange)
        assert (caught.value.column, caught.value.row) == ("a3", 1)
        assert "A499" not in str(caught.value)
