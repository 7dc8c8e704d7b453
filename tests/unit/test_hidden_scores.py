"""Logistic models whose sigmoid the node applies: exact enough, the plaintext model's labels, and nothing but probabilities."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from numpy.polynomial import Chebyshev
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.hidden_scores import compile_hidden_scores, sigmoid_polynomial
from blindgate_models.network.activation import Joint, Leaf, levels, plan
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.packing import RESULT
from blindgate_models.network.server import NetworkServer
from blindgate_models.publishing import finest_decimals
from blindgate_protocol.errors import PackageError
from campaigns import CAMPAIGN

Floats = NDArray[np.float64]


def rows(count: int, columns: int = 6, seed: int = 3) -> Floats:
    """Numbers of different magnitudes."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(count, columns)) * 10.0 ** rng.integers(-1, 3, columns))


def fitted(columns: int = 6) -> LogisticRegression:
    """A model of two classes by name."""
    train = rows(300, columns)
    answers = np.where(train @ (1 / np.abs(train).mean(axis=0)) > 0, "sick", "well")
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(train, answers)


@pytest.fixture(scope="module")
def compiled() -> CompiledModel:
    """A compiled one."""
    return compile_hidden_scores(fitted(), rows(300))


@pytest.mark.parametrize("doublings", [3, 4, 6, 8])
def test_a_plan_computes_the_polynomial(doublings: int) -> None:
    """Leaves and joints give Σ c_i T_i."""
    odd = np.random.default_rng(doublings).normal(size=1 << (doublings - 1))
    points = np.linspace(-1, 1, 101)
    powers = [Chebyshev(np.eye(1 << doublings)[1 << power])(points) for power in range(doublings)]
    basis = np.array([points, points * powers[1], points * powers[2], points * powers[1] * powers[2]])

    def value(node: Joint | Leaf) -> Floats:
        if isinstance(node, Leaf):
            found = node.numbers @ basis
        else:
            found = value(node.remainder) + powers[node.power] * value(node.quotient)
        assert np.abs(found).max() <= node.largest
        return np.asarray(found)

    coefficients = np.zeros(1 << doublings)
    coefficients[1::2] = odd
    np.testing.assert_allclose(value(plan(odd)), Chebyshev(coefficients)(points), atol=1e-12)


@pytest.mark.parametrize(("largest", "doublings"), [(4.0, 3), (12.0, 5), (40.0, 6), (90.0, 7)])
def test_the_polynomial_is_as_near_as_it_says_and_crosses_where_the_sigmoid_does(
    largest: float, doublings: int
) -> None:
    """Between the points that it was fitted on too."""
    odd, off = sigmoid_polynomial(largest, doublings)
    points = np.linspace(0, 1, 20_001)[1:]
    coefficients = np.zeros(1 << doublings)
    coefficients[1::2] = odd
    found = Chebyshev(coefficients)(points)
    assert off < 0.01
    assert np.abs(found + 0.5 - 1 / (1 + np.exp(-largest * points))).max() <= off
    assert (found > 0).all()


def test_probabilities_are_within_the_bound_and_labels_are_the_same(compiled: CompiledModel) -> None:
    """Of rows that were not calibrated on, from all over the ranges."""
    client, server = NetworkClient.from_part(compiled.client), NetworkServer.from_part(compiled.server)
    low, high = np.array([(column["minimum"], column["maximum"]) for column in compiled.columns]).T
    asked = np.clip(
        np.concatenate([rows(200, seed=8), low + np.random.default_rng(1).uniform(size=(50, 6)) * (high - low)]),
        low,
        high,
    )
    keys = client.make_keys()
    given = server.evaluate(keys.evaluation, client.encrypt(keys.secret, asked))
    found = client.decrypt(keys.secret, given, len(asked))[:, 0]
    model = fitted()
    assert compiled.labels == ["sick", "well"]
    expected = model.predict_proba(asked)[:, 1]
    assert np.abs(found - expected).max() <= client.error_bound <= 0.005
    assert (np.where(found > 0.5, "well", "sick") == model.predict(asked)).all()
    assert compiled.link == "probability"
    assert finest_decimals(client.error_bound) >= 2
    assert compiled.report["agreement_plain"] == 1.0


def test_a_reply_holds_probabilities_and_zeros_alone(compiled: CompiledModel) -> None:
    """Whoever decrypts every slot of a reply finds a probability for each row that was asked or filled up, and no score."""
    client, server = NetworkClient.from_part(compiled.client), NetworkServer.from_part(compiled.server)
    keys = client.make_keys()
    asked = rows(5)
    given = server.evaluate(keys.evaluation, client.encrypt(keys.secret, asked))
    _, body = client.packing.open_blob(RESULT, given)
    slots = client._values(client._secret(keys.secret), body)  # what a curious client could do
    used = client.packing.rows
    assert (slots[:used] > -0.01).all()
    assert (slots[:used] < 1.01).all()
    assert np.abs(slots[used:]).max(initial=0) < 0.01


def test_a_scale_that_is_cut_breaks_the_bound(compiled: CompiledModel) -> None:
    """The bound follows from the scales: with that of the sigmoid's result far smaller, probabilities leave it."""
    poorer = {"activation": {"doublings": compiled.client["parameters"]["activation"]["doublings"], "scale_bits": 17}}
    parts = [part | {"parameters": part["parameters"] | poorer} for part in (compiled.client, compiled.server)]
    client, server = NetworkClient.from_part(parts[0]), NetworkServer.from_part(parts[1])
    keys = client.make_keys()
    asked = rows(50, seed=4)
    found = client.decrypt(keys.secret, server.evaluate(keys.evaluation, client.encrypt(keys.secret, asked)), 50)
    assert np.abs(found[:, 0] - fitted().predict_proba(asked)[:, 1]).max() > client.error_bound


def weighted(weights: list[float], intercept: float = 0.0) -> tuple[LogisticRegression, Floats]:
    """A logistic model of these weights, and rows that reach from -1 to 1 in every column."""
    asked = np.random.default_rng(5).uniform(-1, 1, (200, len(weights)))
    model = LogisticRegression().fit(asked, np.arange(200) % 2)
    model.coef_[0], model.intercept_[0] = weights, intercept
    return model, asked


@pytest.mark.parametrize(
    "largest", [3e-4, pytest.param(90.0, marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"))]
)
def test_every_label_is_the_models_however_near_to_even_it_stays_or_steep_it_is(largest: float) -> None:
    """Where probabilities all lie near ½ they are exact to fit; where a degree leaves the noise too little, the next is taken."""
    model, asked = weighted([largest / 6] * 6)
    found = compile_hidden_scores(model, asked, ranges=[(-1, 1)] * 6)
    assert found.report["agreement_plain"] == 1
    assert max(found.client["error_bound"]) <= min(0.005, 0.02 * np.abs(model.predict_proba(asked) - 0.5).max())
    client, server = NetworkClient.from_part(found.client), NetworkServer.from_part(found.server)
    keys = client.make_keys()
    got = client.decrypt(keys.secret, server.evaluate(keys.evaluation, client.encrypt(keys.secret, asked)), 200)
    assert ((got[:, 0] > 0.5) == model.predict(asked)).all()


@pytest.mark.parametrize(
    ("weights", "intercept", "tolerance", "says"),
    [
        pytest.param([0.0] * 6, 0.0, 0.005, "every weight is 0, so the model says the same of every row", id="nothing"),
        pytest.param([0.0] * 6, -2.0, 0.005, "every weight is 0", id="an intercept alone"),
        pytest.param(
            [1e-9] * 6,
            0.0,
            0.005,
            "exact enough: .* since probabilities lie within .* of a half",
            id="noise",
            marks=pytest.mark.skipif(CAMPAIGN == 1, reason="in make nightly"),  # every polynomial there is, in vain
        ),
        pytest.param([1.0] * 6, 1e4, 0.005, r"in the middle of the ranges it is 1e\+04, so", id="no doubt at all"),
        pytest.param([1.0] * 6, 0.0, 1e-9, "exact enough: .* off, expected at most 1e-09$", id="more than there is"),
        pytest.param([1.0] * 6, 0.0, 0.0, "tolerance: got 0, expected", id="no tolerance"),
        pytest.param(
            [1.0] * 4097, 0.0, 0.005, "reads 4097 columns and categories, expected at most 4096", id="columns"
        ),
    ],
)
def test_a_logistic_model_that_cannot_be_is_refused_in_so_many_words(
    weights: list[float], intercept: float, tolerance: float, says: str
) -> None:
    """And not in a solver's, or a parser's."""
    model, asked = weighted(weights, intercept)
    with pytest.raises(ValueError, match=says):
        compile_hidden_scores(model, asked, ranges=[(-1, 1)] * len(weights), tolerance=tolerance)


def test_what_is_no_logistic_model_of_two_classes_is_refused() -> None:
    """By the name of what was handed in."""
    train = rows(100)
    for model, answers in (
        (LogisticRegression(), np.arange(100) % 3),
        (Ridge(), train[:, 0]),
        (LinearSVC(), np.arange(100) % 2),
    ):
        with pytest.raises(ValueError, match=f"{type(model).__name__}: expected a logistic model of two classes"):
            compile_hidden_scores(make_pipeline(StandardScaler(), model).fit(train, answers), train)


def test_a_model_without_weights_is_told_what_scores_are_hidden_of() -> None:
    """It is no linear model, and need not be one for anything else."""
    train = rows(30)
    tree = DecisionTreeClassifier().fit(train, np.arange(30) % 2)
    with pytest.raises(
        TypeError, match=r"scores are hidden of logistic models of two classes.*: DecisionTreeClassifier"
    ):
        compile_hidden_scores(tree, train)


def test_ranges_that_no_polynomial_covers_are_refused_with_what_to_do() -> None:
    """A score that could be anything up to thousands has no polynomial."""
    with pytest.raises(ValueError, match="declare narrower ranges"):
        compile_hidden_scores(fitted(), rows(300), ranges=[(-1e6, 1e6)] * 6)
    with pytest.raises(ValueError, match=r"most of it, ±[0-9.e+]+, is column 'x4', from -1e\+06 to 1e\+06"):
        compile_hidden_scores(fitted(), rows(300), ranges=[*[(-1e3, 1e3)] * 4, (-1e6, 1e6), (-1e3, 1e3)])


def test_names_and_gaps_are_treated_as_for_linear_models() -> None:
    """Columns keep their names."""
    frame = pd.DataFrame(rows(300), columns=list("abcdef"))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, frame["a"] > 0)
    found = compile_hidden_scores(model, frame)
    assert [column["name"] for column in found.columns] == list("abcdef")
    assert found.labels == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part | {"activation": part["activation"][:-1]}, "activation: got"),
        (lambda part: part | {"activation": []}, "activation: got 0 numbers"),
        (
            lambda part: part | {"parameters": part["parameters"] | {"drops": [[1, 2]]}},
            "drops: expected one hidden layer",
        ),
        (
            lambda part: part | {"parameters": part["parameters"] | {"activation": None}},
            "drops: got",
        ),
        (
            lambda part: part | {"layers": [part["layers"][0] | {"bias": [1.5]}, part["layers"][1]]},
            "activation: expected numbers that count",
        ),
        (
            lambda part: part | {"activation": [0.0] * len(part["activation"])},
            "activation: expected numbers that count",
        ),
        (
            lambda part: part | {"activation": [1e-30] * len(part["activation"])},
            "activation: expected numbers that count",
        ),
        (
            lambda part: part | {"activation": [1e9, *part["activation"][1:]]},
            "the scales let a value reach",
        ),
    ],
)
def test_a_server_part_that_does_not_fit_is_refused(compiled: CompiledModel, change: object, message: str) -> None:
    """Before anything is encoded: numbers missing, levels that the activation does not have, a score that could leave [-1, 1]."""
    with pytest.raises(PackageError, match=message):
        NetworkServer.from_part(change(compiled.server))  # type: ignore[operator]


def test_an_activation_drops_a_prime_for_each_doubling_and_one_more() -> None:
    """As the manifest's levels say."""
    assert levels(6) == 7
