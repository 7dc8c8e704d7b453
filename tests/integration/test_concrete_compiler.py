"""From a fitted estimator to a model that answers under encryption, through the compile environment where there is one."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from blindgate_models.compilers.compile_environment import (
    CompilerError,
    Conversation,
    compile_worker,
    find_compile_python,
)
from blindgate_models.package import parse_part, read_package

pytest.importorskip("mlir", reason="the extra `concrete` is not installed")
pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("xgboost", reason="the extra `demo` is not installed")

from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier, XGBRegressor

import campaigns
from blindgate.held_out import try_out
from blindgate_models.compilers import concrete
from blindgate_models.compilers.concrete import compile_concrete
from blindgate_models.compilers.ensembles import read_forest
from blindgate_models.compilers.forests import Binning, coded
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.concrete.client import ConcreteClient
from blindgate_models.concrete.server import ConcreteServer
from models import breast_cancer

needs_compiler = pytest.mark.skipif(
    find_compile_python() is None, reason="no compile environment: `make compile-env` makes it, with Python 3.11"
)
PACKAGES = Path(breast_cancer.__file__).parent


def committed_parts(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts in the repository's package."""
    files = read_package(PACKAGES / f"{name}.bgmodel")
    return parse_part(files.client), parse_part(files.server)


@pytest.fixture(scope="module")
def worker() -> Iterator[Conversation]:
    """One of the compile environment for this file's models: it takes seconds to start, and stays for the next request."""
    with compile_worker() as made:
        yield made


@pytest.fixture
def shared_worker(worker: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled now is compiled by it."""
    monkeypatch.setattr(concrete, "compile_worker", lambda _: nullcontext(worker))


@needs_compiler
@pytest.mark.slow
def test_every_patient_gets_the_plaintext_models_label(worker: Conversation) -> None:
    """Concrete ML's integers for all 569 patients, scored by the client half, decide as XGBoost does in the clear."""
    train, held_out, *_ = breast_cancer.patients()
    client = ConcreteClient.from_part(committed_parts(breast_cancer.TREES)[0])
    plain = breast_cancer.plain_trees()
    forest = read_forest(plain)
    binning = Binning.of(forest)
    for patients in (train, held_out):
        codes = client.quantise(patients.to_numpy(dtype=np.float64))
        answer = worker.ask(
            "forest",
            estimator=forest.estimator,
            model=coded(binning.snap(forest), binning),
            codes=codes.tolist(),
            input_bits=binning.bits,
            leaf_bits=5,
        )
        scores = np.array([client.scores(np.array(row)[None])[0] for row in answer["outputs"]])
        np.testing.assert_array_equal(scores > 0, plain.predict(patients) == 1)


def test_a_held_out_patient_is_answered_under_encryption() -> None:
    """The package in the repository gives a patient the plaintext model's label, and a score within the leaves' rounding."""
    client_part, server_part = committed_parts(breast_cancer.TREES)
    client, server = ConcreteClient.from_part(client_part), ConcreteServer.from_part(server_part)
    plain = breast_cancer.plain_trees()
    patient = breast_cancer.patients()[1].iloc[[0]]
    keys = client.make_keys()
    result = server.evaluate(keys.evaluation, client.encrypt(keys.secret, patient.to_numpy(dtype=np.float64)))
    (score,) = client.decrypt(keys.secret, result, 1)[0]
    assert (score > 0) == (plain.predict(patient)[0] == 1)
    assert abs(score - plain.predict(patient, output_margin=True)[0]) < 10 * client_part["scores"]["scale"] / 2


@needs_compiler
@pytest.mark.usefixtures("shared_worker")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("estimator", "outputs", "keyless"),
    [
        pytest.param(
            make_pipeline(StandardScaler(), RandomForestClassifier(2, max_depth=2, random_state=0)),
            3,
            False,
            id="a forest behind a scaler",
        ),
        pytest.param(
            make_pipeline(StandardScaler(), LogisticRegression()), 3, True, id="a linear model behind a scaler"
        ),
        pytest.param(
            make_pipeline(StandardScaler(), MLPClassifier((3,), random_state=0, max_iter=3000)),
            3,
            False,
            id="a network",
        ),
    ],
)
def test_each_kind_of_model_compiles_and_agrees(estimator: Any, outputs: int, *, keyless: bool) -> None:
    """The compiler encrypts two rows itself and compares; almost all labels on the calibration rows are the estimator's.

    The network is of 2 bits, on two columns; in `make nightly` of the 5 that are the default, whose rows take three times as long.
    """
    rows, target = load_iris(return_X_y=True, as_frame=True)
    given: dict[str, Any] = {}
    if isinstance(estimator[-1], MLPClassifier):
        rows, given = rows.iloc[:, 2:], {"bits": campaigns.of(5, slice_of=2)}
    compiled = compile_concrete(estimator.fit(rows, target), rows, **given)
    assert compiled.report["agreement_plain"] >= 0.95
    assert len(compiled.client["scores"]["bias"]) == outputs
    assert (compiled.server["evaluation_key"] is None) is keyless
    assert compiled.determinism == ("bit-exact" if keyless else "varies")
    assert [column["name"] for column in compiled.columns] == list(rows.columns)
    json.dumps([compiled.client, compiled.server])


@pytest.fixture(scope="module")
def patients() -> tuple[pd.DataFrame, pd.Series]:
    """Numbers between texts, in another order than the model gets them."""
    rng = np.random.default_rng(0)
    dose, age = rng.normal(5, 2, 200), rng.integers(20, 80, 200)
    ward, mood = rng.choice(["a", "b", "c"], 200), rng.choice(["low", "middle", "high"], 200)
    answer = (dose + 3 * (ward == "b") + 2 * (mood == "high") + age / 40 > 8).astype(int)
    return pd.DataFrame({"ward": ward, "dose": dose, "mood": mood, "age": age}), pd.Series(answer)


def encoding(model: Any) -> Any:
    """A pipeline that encodes two kinds of categories and turns the columns around."""
    order = OrdinalEncoder(categories=[["low", "middle", "high"]])
    first = make_column_transformer(
        (StandardScaler(), ["age", "dose"]), (order, ["mood"]), (OneHotEncoder(handle_unknown="ignore"), ["ward"])
    )
    return make_pipeline(first, model)


def sure(estimator: Any, rows: pd.DataFrame) -> pd.DataFrame:
    """The row whose label is the surest, or two: quantised networks may differ on others, and each takes ten seconds and more."""
    many = campaigns.of(2, slice_of=1)
    found: pd.DataFrame = rows.iloc[np.argsort(-estimator.predict_proba(rows).max(axis=1))[:many]]
    return found


@needs_compiler
@pytest.mark.usefixtures("shared_worker")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(RandomForestClassifier(4, max_depth=3, random_state=0), id="forest"),
        pytest.param(XGBClassifier(n_estimators=2, max_depth=2, n_jobs=1), id="XGBoost"),
        pytest.param(LogisticRegression(), id="linear"),
        pytest.param(MLPClassifier((3,), random_state=0, max_iter=2000), id="network"),
    ],
)
def test_users_give_categories_as_they_are(model: Any, patients: tuple[pd.DataFrame, pd.Series]) -> None:
    """Encoders and scalers become data in the client part: raw rows are encrypted, and some of a ward that nobody knows."""
    if not isinstance(
        model, LogisticRegression
    ):  # tests/unit/test_concrete_forests.py has forests behind encoders in the clear
        campaigns.leave_to_nightly()
    rows, target = patients
    estimator = encoding(model).fit(rows, target)
    prepared = Prepared.of(estimator, rows, {})
    compiled = compile_concrete(estimator, prepared)
    assert compiled.report["agreement_plain"] >= 0.95
    assert [column["name"] for column in compiled.columns] == ["ward", "dose", "mood", "age"]
    assert compiled.columns[0]["out_of_range"] == "other"
    asked = [sure(estimator, table) for table in (rows, rows.assign(ward="x"))]
    assert try_out(compiled, prepared, pd.concat(asked)).accuracy.agreement == 1


@needs_compiler
@pytest.mark.usefixtures("shared_worker")
@pytest.mark.parametrize(
    ("model", "classes"),
    [
        pytest.param(LinearSVC(), 2, id="a machine without probabilities"),
        pytest.param(SGDClassifier(loss="log_loss", random_state=0), 3, id="one class against each other"),
    ],
)
def test_probabilities_are_not_made_up(model: Any, classes: int) -> None:
    """What the estimator does not say, or says by another function, the manifest does not promise."""
    rows, target = load_iris(return_X_y=True)
    chosen = target < classes
    compiled = compile_concrete(make_pipeline(StandardScaler(), model).fit(rows[chosen], target[chosen]), rows[chosen])
    assert (compiled.task, compiled.link) == ("classification", "identity")
    assert compiled.report["agreement_plain"] >= 0.95


@needs_compiler
@pytest.mark.usefixtures("shared_worker")
def test_several_numbers_a_row_compile() -> None:
    """A linear regression of two targets, under encryption."""
    rows, target = load_diabetes(return_X_y=True)
    both = np.stack([target, -2 * target], axis=1)
    compiled = compile_concrete(LinearRegression().fit(rows, both), rows)
    assert compiled.report["agreement_plain"] >= 0.95
    assert len(compiled.client["scores"]["bias"]) == 2


@needs_compiler
def test_what_concrete_ml_says_is_what_the_owner_reads(worker: Conversation) -> None:
    """The worker's refusals come back in its own words, and it stays for the next request."""
    for _ in range(2):
        with pytest.raises(CompilerError, match="Concrete ML: KeyError"):
            worker.ask("forest")


@needs_compiler
@pytest.mark.usefixtures("shared_worker")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(PoissonRegressor(max_iter=1000), id="a Poisson regression"),
        pytest.param(
            XGBRegressor(n_estimators=3, max_depth=2, objective="count:poisson", n_jobs=1), id="trees that count"
        ),
    ],
)
def test_a_log_link_is_read_and_named(estimator: Any) -> None:
    """Scores are logarithms, under encryption too, and the manifest says what makes numbers of them."""
    if isinstance(estimator, XGBRegressor):
        campaigns.leave_to_nightly()
    rows, target = load_diabetes(return_X_y=True)
    compiled = compile_concrete(estimator.fit(rows[:100], target[:100]), rows[:100])
    assert (compiled.task, compiled.link) == ("regression", "exp")
    assert compiled.report["agreement_plain"] == 1
    client, server = ConcreteClient.from_part(compiled.client), ConcreteServer.from_part(compiled.server)
    keys = client.make_keys()
    result = server.evaluate(keys.evaluation, client.encrypt(keys.secret, rows[:2]))
    scores = client.decrypt(keys.secret, result, 2)
    np.testing.assert_allclose(np.exp(scores[:, 0]), estimator.predict(rows[:2]), rtol=0.05)


def test_a_missing_compile_environment_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to guess what `compile` needs."""
    monkeypatch.setenv("BLINDGATE_COMPILE_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(CompilerError, match="make compile-env"), compile_worker():
        pass
