"""From trained networks to packages: same classes on every held-out row, and refusals instead of guesses."""

import dataclasses
import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

import campaigns
from blindgate_models.compilers.compiled import CompiledModel, Report
from blindgate_models.compilers.estimators import choose_family, compile_model
from blindgate_models.compilers.fine_tuning import fine_tune, read_mlp, train
from blindgate_models.compilers.network_parameters import choose_parameters
from blindgate_models.compilers.polynomial import compile_network, polynomial_network
from blindgate_models.compilers.squares import Quadratic, SquareNetwork, decided
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.noise import Affine
from blindgate_models.network.server import NetworkServer
from blindgate_models.security import MODULUS_BITS_AT_128
from square_networks import drawn

Floats = NDArray[np.float64]


def scores(compiled: CompiledModel, rows: Floats) -> Floats:
    """The raw scores of `rows` under encryption, job by job."""
    client, server = NetworkClient.from_part(compiled.client), NetworkServer.from_part(compiled.server)
    keys = client.make_keys()
    compute = server.direct(keys.evaluation)
    parts = [rows[start : start + client.rows_per_job] for start in range(0, len(rows), client.rows_per_job)]
    return np.concatenate(
        [client.decrypt(keys.secret, compute(client.encrypt(keys.secret, part)), len(part)) for part in parts]
    )


def fitted(model: Any, rows: Floats, answers: NDArray[Any]) -> Any:
    """The model, fitted; scikit-learn's complaint about the number of rounds is of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(rows, answers)


@pytest.fixture(scope="module")
def digits() -> tuple[Floats, Floats, NDArray[np.intp], NDArray[np.intp]]:
    """Rows to train on and rows held out, 360 or the first of them, and their classes."""
    rows, classes = load_digits(return_X_y=True)
    seen, held_out, answers, wanted = train_test_split(rows, classes, test_size=0.2, random_state=0)
    asked = campaigns.of(len(held_out), slice_of=60)
    return seen, held_out[:asked], answers, wanted[:asked]


def test_every_held_out_digit_has_the_plaintext_networks_class(digits: Any) -> None:
    """A network that was trained with squares loses nothing under encryption: 60 rows of 60, and 360 of 360 in `make nightly`."""
    seen, held_out, answers, wanted = digits
    rng = np.random.default_rng(0)
    start = SquareNetwork(
        tuple(Affine(rng.normal(size=(o, i)) / np.sqrt(i), np.zeros(o)) for i, o in ((64, 64), (64, 10))),
        tuple(range(10)),
    )
    network = train(start, seen / 16, np.eye(10)[answers])
    compiled = compile_network(network, seen / 16, ranges=[(0.0, 1.0)] * 64)
    exact = network.scores(held_out / 16)
    got = scores(compiled, held_out / 16)
    assert (decided(got) == decided(exact)).all()
    assert np.abs(got - exact).max() <= max(compiled.client["error_bound"])
    assert (decided(got) == wanted).mean() > 0.95
    assert compiled.report["agreement_plain"] == 1
    assert compiled.report["max_error"] <= max(compiled.client["error_bound"])
    assert (compiled.family, compiled.link, compiled.privacy.mode) == ("network", "softmax", "model_public")


@pytest.mark.parametrize(
    "activation",
    [
        "relu",
        pytest.param("tanh", marks=pytest.mark.skipif(campaigns.CAMPAIGN == 1, reason="in make nightly")),
        "logistic",
    ],
)
def test_other_activations_are_trained_into_squares(digits: Any, activation: str) -> None:
    """The polynomial network decides as the MLP did on nearly all rows, and the encrypted one as the polynomial one on all."""
    seen, held_out, answers, wanted = digits
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((32,), activation=activation, max_iter=200, random_state=0)
    )
    model = fitted(pipeline, seen, answers)
    tuned = polynomial_network(model, seen)
    compiled = compile_network(tuned.network, seen, ranges=[(0.0, 16.0)] * 64)
    exact = tuned.network.scores(held_out)
    got = scores(compiled, held_out)
    assert (decided(got) == decided(exact)).all()
    assert np.abs(got - exact).max() <= max(compiled.client["error_bound"])
    assert tuned.agreement > 0.93
    assert (decided(got) == model.predict(held_out)).mean() > 0.93
    assert (decided(got) == wanted).mean() > model.score(held_out, wanted) - 0.03


def test_two_classes_share_a_score_and_keep_their_labels() -> None:
    """As scikit-learn has it: text labels, one output, a sigmoid."""
    rows, target = load_breast_cancer(return_X_y=True)
    labels = np.array(["malignant", "benign"])[target]
    model = fitted(make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=200, random_state=0)), rows, labels)
    compiled = compile_network(model, rows)
    got = scores(compiled, rows[:100])
    assert compiled.labels == ["benign", "malignant"]
    assert (compiled.link, got.shape) == ("sigmoid", (100, 1))
    assert (np.array(compiled.labels)[decided(got)] == model.predict(rows[:100])).mean() > 0.95


def test_a_regression_gives_numbers() -> None:
    """Near the MLP's: the report says how near."""
    rows, target = load_diabetes(return_X_y=True)
    model = fitted(
        make_pipeline(MinMaxScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=2000, random_state=0)),
        rows,
        target,
    )
    compiled = compile_network(model, rows)
    got, expected = scores(compiled, rows[:60])[:, 0], model.predict(rows[:60])
    assert (compiled.task, compiled.labels, compiled.link) == ("regression", None, "identity")
    assert np.corrcoef(got, expected)[0, 1] > 0.99


def regressor(factors: list[float], shift: float = 0.0) -> tuple[Any, Floats]:
    """An MLP of one output for each of `factors`, whose numbers are those of one MLP, times them, and shifted; and its rows."""
    rows, target = load_diabetes(return_X_y=True)
    answers = np.stack([(target - 152) / 77, rows[:, 2] * 20, rows[:, 8] * 20], axis=1)[:, : len(factors)]
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=300, random_state=0)
    pipeline = fitted(make_pipeline(StandardScaler(), model), rows, answers[:, 0] if len(factors) == 1 else answers)
    model.coefs_[1] = model.coefs_[1] * factors
    model.intercepts_[1] = model.intercepts_[1] * factors + shift
    return pipeline, rows


@cache
def report_of_one_output() -> Report:
    """What is reported of the plain one."""
    return compile_network(*regressor([1.0])).report


@pytest.mark.parametrize(
    ("factor", "shift"),
    [
        (77.0, 1e6),
        (1e-4, 0.0),
        pytest.param(0.1, 2000.0, marks=pytest.mark.skipif(campaigns.CAMPAIGN == 1, reason="in make nightly")),
    ],
)
def test_a_regression_is_as_exact_as_its_numbers_spread(factor: float, shift: float) -> None:
    """Wherever they lie: trained alike, bounds as small beside the spread, and the report says the same."""
    expected = report_of_one_output()
    moved, rows = regressor([factor], shift)
    compiled = compile_network(moved, rows)
    numbers = moved.predict(rows)
    assert max(compiled.client["error_bound"]) <= 1e-4 * np.ptp(numbers)
    assert compiled.report["max_error"] == pytest.approx(factor * expected["max_error"], rel=0.01)
    assert compiled.report["agreement_plain"] == pytest.approx(expected["agreement_plain"], abs=0.05)
    off = np.abs(scores(compiled, rows)[:, 0] - numbers)
    assert compiled.report["agreement_plain"] == pytest.approx((off <= 0.01 * np.ptp(numbers)).mean(), abs=0.15)


def test_outputs_of_different_size_are_trained_alike_and_refused_where_one_would_be_rounded_away() -> None:
    """All numbers of a row are rounded to what the noisiest leaves."""
    alike = polynomial_network(*regressor([1.0, 1.0, 1.0]))
    apart, rows = regressor([1.0, 1e-5, 1e4])
    assert polynomial_network(apart, rows).agreement == pytest.approx(alike.agreement, rel=1e-6)
    compiled = compile_network(*regressor([1.0, 0.1, 10.0]))
    assert (
        np.array(compiled.client["error_bound"]) <= 1e-4 * np.ptp(regressor([1.0, 0.1, 10.0])[0].predict(rows), axis=0)
    ).all()
    with pytest.raises(ValueError, match=r"output 2 can be .* off, and output 1 spreads to .* rounded alike"):
        compile_network(*regressor([1.0, 3e-4, 10.0]))
    with pytest.raises(ValueError, match="no parameters"):
        compile_network(apart, rows)


def test_the_family_is_asked_for_by_name() -> None:
    """An MLP goes to Concrete unless the owner says otherwise; squares have no other family."""
    rows, target = load_breast_cancer(return_X_y=True, as_frame=True)
    table = rows.iloc[:, :5]
    model = fitted(make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=50, random_state=0)), table, target)
    assert choose_family(model) == "concrete"
    assert choose_family(drawn([3, 4, 2])) == "network"
    compiled = compile_model(model, table, family="network")
    assert compiled.family == "network"
    assert [column["name"] for column in compiled.columns] == list(table.columns)
    reordered = compile_model(model, table[table.columns[::-1]], family="network")
    assert [column["name"] for column in reordered.columns] == list(table.columns)


@pytest.mark.parametrize(
    ("widths", "reads"),
    [
        pytest.param([8, 4, 2], None, id="small"),
        pytest.param([64, 64, 10], None, id="one square"),
        pytest.param([100, 64, 16, 3], 25, id="two squares"),
    ],
)
def test_parameters_are_within_the_128_bit_table(widths: list[int], reads: int | None) -> None:
    """Special prime included, whatever the tolerance."""
    for tolerance in (1e-1, 1e-3):
        chosen = choose_parameters(drawn(widths, reads=reads).balanced(), tolerance)
        parameters = chosen.packing.parameters
        assert sum(parameters.data_bits) + parameters.special_bits <= MODULUS_BITS_AT_128[parameters.degree]
        assert chosen.budget.headroom < 1
        assert chosen.budget.error_bound.max() <= tolerance


def test_rows_share_a_ciphertext_where_they_fit() -> None:
    """A small network computes several rows for the price of one."""
    assert choose_parameters(drawn([30, 16, 2]).balanced(), 1e-2).packing.rows == 8
    assert choose_parameters(drawn([64, 64, 10]).balanced(), 1e-2).packing.rows == 1


def test_a_convolution_is_laid_out_unit_by_unit() -> None:
    """Few columns a unit: few ciphertexts, and few rotations."""
    packing = choose_parameters(drawn([784, 256, 10], reads=49).balanced(), 1e-1).packing
    assert packing.shape.fan_in == 49
    assert packing.inputs <= 4


ROWS = np.random.default_rng(0).uniform(-1, 1, (40, 4))
CLASSES = np.arange(40) % 2


def changed(model: Any, **attributes: Any) -> Any:
    """The model, fitted, with attributes that were changed afterwards."""
    for name, value in attributes.items():
        setattr(fitted(model, ROWS, CLASSES), name, value)
    return model


@pytest.mark.parametrize(
    ("estimator", "error", "says"),
    [
        pytest.param(LogisticRegression().fit(ROWS, CLASSES), TypeError, "MLPClassifier", id="another model"),
        pytest.param(
            fitted(make_pipeline(Normalizer(), MLPClassifier((3,), max_iter=5)), ROWS, CLASSES),
            TypeError,
            "Normalizer.*keep the columns apart",
            id="a step that mixes columns",
        ),
        pytest.param(
            fitted(MLPClassifier((3,), max_iter=5), ROWS, np.eye(3, dtype=int)[np.arange(40) % 3]),
            TypeError,
            "more than one label",
            id="several labels a row",
        ),
        pytest.param(
            fitted(MLPClassifier((), max_iter=5), ROWS, CLASSES),
            TypeError,
            "MLPClassifier without hidden layers is a linear model: fit LogisticRegression",
            id="a linear model",
        ),
        pytest.param(
            changed(MLPRegressor(hidden_layer_sizes=(3,), max_iter=5), out_activation_="exp"),
            TypeError,
            "MLPRegressor with the loss 'poisson'",
            id="numbers behind an exponential",
        ),
        pytest.param(
            changed(MLPClassifier((3,), max_iter=5), intercepts_=[np.zeros(3), np.array([np.nan])]),
            ValueError,
            "layer 1 of the MLPClassifier: a weight is not finite",
            id="no number",
        ),
        pytest.param(
            fitted(MLPClassifier((2100,), max_iter=1), ROWS, CLASSES),
            ValueError,
            "^estimator: layer 0 has 2100 units, expected at most 2048$",
            id="a wide layer",
        ),
        pytest.param(
            fitted(MLPClassifier((2,) * 8, max_iter=1), ROWS, CLASSES),
            ValueError,
            "^estimator: got 9 layers, expected at most 8$",
            id="many layers",
        ),
        pytest.param(
            fitted(MLPClassifier((1100, 1100), max_iter=1), ROWS, CLASSES),
            ValueError,
            "^estimator: layer 1 has 1210000 weights, expected at most 1048576$",
            id="many weights",
        ),
        pytest.param(
            dataclasses.replace(drawn([4, 3, 2]), labels=("a", "b", "c")),
            ValueError,
            "labels: got 3, expected one for each of the 2 outputs",
            id="labels one too many",
        ),
        pytest.param(
            dataclasses.replace(drawn([4, 3, 2]), labels=("a", "a")),
            ValueError,
            "labels: expected a name of its own for each class",
            id="labels alike",
        ),
        pytest.param(
            SquareNetwork((drawn([4, 3, 2]).layers[0], Affine(np.zeros((2, 3)), np.zeros(2))), ("a", "b")),
            ValueError,
            "output 0 is 0 for every calibration row",
            id="nothing but 0",
        ),
        pytest.param(
            SquareNetwork(tuple(Affine(1e-40 * weights, bias + 1) for weights, bias in drawn([4, 3, 2]).layers), None),
            ValueError,
            "says the same of every row: its hidden units died",
            id="nothing that depends on the row",
        ),
        pytest.param(drawn([5, 3, 2]), ValueError, "columns", id="a network of other rows"),
        pytest.param(
            dataclasses.replace(drawn([4, 3, 2]), labels=("a", "b", "c", "d")),
            ValueError,
            "labels",
            id="labels too many",
        ),
        pytest.param(
            drawn([4, 8, 8, 8, 8, 8, 2], size=8.0),
            ValueError,
            "no parameters",
            id="deeper than any modulus",
            marks=pytest.mark.skipif(campaigns.CAMPAIGN == 1, reason="in make nightly"),
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(estimator: Any, error: Any, says: str) -> None:
    """By name, before anything is encrypted."""
    with pytest.raises(error, match=says):
        compile_network(estimator, ROWS)


def test_an_activation_without_a_square_is_refused() -> None:
    """Its shift would be infinite."""
    layers = drawn([4, 3, 2]).layers
    flat = Quadratic(np.zeros(3), np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="no square"):
        SquareNetwork.of(layers, [flat], None)
    with pytest.raises(ValueError, match="linear"):
        SquareNetwork.of(layers, [None], None)


def test_more_columns_than_there_is_room_for_are_refused_before_training() -> None:
    """Columns and categories, in Blindgate's own words."""
    rows = np.random.default_rng(0).normal(size=(20, 4097))
    model = fitted(MLPClassifier((2,), max_iter=1), rows, np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"^estimator: reads 4097 columns and categories, expected at most 4096$"):
        compile_network(model, rows)


def test_an_outlier_past_all_sense_is_named() -> None:
    """Not by the words of a singular value decomposition."""
    rows = ROWS.copy()
    rows[3, 2] = 1e300
    with pytest.raises(ValueError, match=r"column 'x2' reaches 1.5e\+300, expected at most 1e\+30: clip it by a rule"):
        compile_network(fitted(MLPClassifier((3,), max_iter=5), ROWS, CLASSES), rows)


def test_relus_that_are_never_above_0_are_a_constant() -> None:
    """A layer that died in training gives the same for all rows: so does the encrypted network, nearly."""
    dead = [np.full(3, -100.0), np.array([3.0])]
    compiled = compile_network(changed(MLPClassifier((3,), max_iter=5, random_state=0), intercepts_=dead), ROWS)
    np.testing.assert_allclose(scores(compiled, ROWS), 3, atol=0.2)
    assert compiled.report["agreement_plain"] == 1


def test_a_regression_of_several_numbers_gives_them_all() -> None:
    """One row, as many numbers as outputs; one output gives `(n,)`."""
    network = dataclasses.replace(drawn([4, 3, 2]), labels=None)
    np.testing.assert_array_equal(network.predict(ROWS), network.scores(ROWS))
    assert dataclasses.replace(drawn([4, 3, 1]), labels=None).predict(ROWS).shape == (40,)


def test_too_few_rows_to_train_on_are_refused() -> None:
    """Activations cannot be trained on a handful."""
    model = fitted(MLPClassifier((3,), max_iter=5), ROWS, CLASSES)
    with pytest.raises(ValueError, match="at least 10"):
        compile_network(model, pd.DataFrame(ROWS[:9]))


def test_tuning_twice_gives_the_same_network() -> None:
    """The random source is seeded: an owner can compile again."""
    plain = read_mlp(fitted(MLPClassifier((3,), max_iter=20, random_state=0), ROWS, CLASSES))
    first, second = (fine_tune(plain, ROWS, steps=50).network.scores(ROWS) for _ in range(2))
    assert (first == second).all()
