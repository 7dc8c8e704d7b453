"""From fitted scikit-learn models to linear packages: same labels, same scores, and refusals instead of guesses."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer


class Bent(LinearRegression):  # type: ignore[misc]
    """A regression that predicts something else than its coefficients say."""

    def predict(self, rows: Any) -> Any:
        """Never below 0."""
        return np.abs(super().predict(rows))


def scores(compiled: CompiledModel, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The raw scores of `rows` under encryption."""
    client, server = LinearClient.from_part(compiled.client), LinearServer.from_part(compiled.server)
    secret = client.make_keys().secret
    return client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))


def logistic(**options: Any) -> LogisticRegression:
    """A logistic regression that converges on all of these."""
    return LogisticRegression(max_iter=5000, **options)


@pytest.mark.parametrize(
    ("load", "estimator", "link"),
    [
        pytest.param(load_breast_cancer, make_pipeline(StandardScaler(), logistic()), "sigmoid", id="binary"),
        pytest.param(load_breast_cancer, make_pipeline(RobustScaler(), LinearSVC()), "identity", id="support vectors"),
        pytest.param(
            load_breast_cancer,
            make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
            "sigmoid",
            id="stochastic gradient",
        ),
        pytest.param(
            load_breast_cancer,
            make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=0)),
            "identity",
            id="probabilities by another link",
        ),
        pytest.param(load_iris, make_pipeline(MinMaxScaler(), logistic()), "softmax", id="three classes"),
        pytest.param(load_digits, make_pipeline(MaxAbsScaler(), logistic()), "softmax", id="ten classes"),
        pytest.param(
            load_wine, make_pipeline("passthrough", StandardScaler(), RidgeClassifier()), "identity", id="ridge classes"
        ),
        pytest.param(
            load_wine,
            make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
            "identity",
            id="one class against the rest",
        ),
        pytest.param(
            load_iris,
            make_pipeline(StandardScaler(with_mean=False), MinMaxScaler(), logistic(fit_intercept=False)),
            "softmax",
            id="two scalers and no intercept",
        ),
    ],
)
def test_a_compiled_classifier_decides_as_the_estimator_does(load: Any, estimator: Any, link: str) -> None:
    """Labels under encryption are the estimator's own, and its link was recognised by what it computes."""
    table, target = load(return_X_y=True, as_frame=True)
    estimator.fit(table, target)
    compiled = compile_linear(estimator, table)
    got = scores(compiled, table.to_numpy())
    picked = (got[:, 0] > 0).astype(int) if got.shape[1] == 1 else got.argmax(axis=1)
    assert compiled.labels is not None
    assert (np.array(compiled.labels)[picked] == estimator.predict(table)).all()
    expected = estimator.decision_function(table).reshape(got.shape)
    assert (np.abs(got - expected) <= compiled.client["error_bound"]).all()
    assert (compiled.family, compiled.task, compiled.link) == ("linear", "classification", link)
    assert compiled.report["agreement_plain"] == 1
    assert 0 < compiled.report["max_error"] <= max(compiled.client["error_bound"])


@pytest.mark.parametrize(
    ("estimator", "link"),
    [
        pytest.param(SGDClassifier(loss="modified_huber", random_state=0), "identity", id="another link"),
        pytest.param(SGDClassifier(loss="log_loss", random_state=0), "sigmoid", id="its own"),
    ],
)
def test_rows_whose_probabilities_are_all_0_or_1_do_not_tell_a_link(estimator: Any, link: str) -> None:
    """Far from where classes meet, every link says the same: so a row near there is asked about, even if none is of one class."""
    table, target = load_breast_cancer(return_X_y=True)
    model = estimator.fit(table, target)
    far = table[np.abs(model.decision_function(table)) > 100]
    assert len(set(model.predict(far))) == 2
    assert compile_linear(model, far).link == link
    assert compile_linear(model, far[model.predict(far) == 0]).link == link


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(LinearRegression(), id="least squares"),
        pytest.param(Ridge(), id="ridge"),
        pytest.param(Lasso(alpha=0.5), id="lasso"),
        pytest.param(make_pipeline(StandardScaler(), ElasticNet()), id="elastic net after a scaler"),
    ],
)
def test_a_compiled_regression_predicts_within_its_bound(estimator: Any) -> None:
    """The score is the prediction."""
    table, target = load_diabetes(return_X_y=True)
    compiled = compile_linear(estimator.fit(table, target), table)
    error = np.abs(scores(compiled, table)[:, 0] - estimator.predict(table))
    assert error.max() <= compiled.client["error_bound"][0] <= 1e-5 * np.abs(estimator.predict(table)).max()
    assert (compiled.task, compiled.labels, compiled.link) == ("regression", None, "identity")


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(PoissonRegressor(max_iter=1000), id="counts"),
        pytest.param(make_pipeline(StandardScaler(), GammaRegressor()), id="amounts, after a scaler"),
        pytest.param(TweedieRegressor(power=1.5, link="log"), id="claims"),
    ],
)
def test_a_regression_with_a_log_link_keeps_its_relative_error(estimator: Any) -> None:
    """The score is the logarithm of the prediction, and the manifest says so."""
    table, target = load_diabetes(return_X_y=True)
    compiled = compile_linear(estimator.fit(table, target), table)
    assert (compiled.task, compiled.link) == ("regression", "exp")
    got, expected = np.exp(scores(compiled, table)[:, 0]), estimator.predict(table)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert np.abs(got - expected).max() <= compiled.client["error_bound"][0] * compiled.steepness


@pytest.mark.parametrize(
    "shift",
    [pytest.param(lambda y: y + 1e7, id="far from 0"), pytest.param(lambda y: np.stack([1e3 * y, y], 1), id="unlike")],
)
def test_numbers_are_as_exact_as_they_spread(shift: Any) -> None:
    """Years from 1900 to 2000 tell a hundred things apart, not 2000; and no target drowns in a larger one."""
    table, target = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(table, shift(target))
    wanted = model.predict(table).reshape(len(table), -1)
    error = np.abs(scores(compile_linear(model, table), table) - wanted)
    assert (error.max(axis=0) <= 1e-4 * np.ptp(wanted, axis=0)).all()


def test_ranges_so_wide_that_scores_drown_are_refused() -> None:
    """Naming the column that is at fault: a model that agrees with the estimator by chance is no model."""
    table, target = load_iris(return_X_y=True, as_frame=True)
    ranges = [(0.0, 10.0), (0.0, 10.0), (-1e12, 1e12), (0.0, 10.0)]
    with pytest.raises(ValueError, match=r"petal length \(cm\)': declare narrower ranges"):
        compile_linear(logistic().fit(table, target), table, ranges=ranges)


def test_several_targets_are_several_outputs() -> None:
    """A regression of two targets keeps them apart and in order."""
    table, target = load_diabetes(return_X_y=True)
    both = LinearRegression().fit(table, np.stack([target, -2 * target + table[:, 0]], axis=1))
    got = scores(compile_linear(both, table), table)
    assert np.abs(got - both.predict(table)).max() < 0.01


def test_sparse_coefficients_are_read() -> None:
    """`sparsify` changes how a model is kept, not what it says."""
    table, target = load_iris(return_X_y=True)
    model = logistic(C=0.1).fit(table, target)
    expected = model.decision_function(table)
    got = scores(compile_linear(model.sparsify(), table), table)
    assert np.abs(got - expected).max() < 1e-3


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["benign", "malignant"], id="text"),
        pytest.param([False, True], id="truth values"),
        pytest.param([3, 7], id="numbers"),
    ],
)
def test_labels_keep_their_type(labels: list[Any]) -> None:
    """What the manifest carries are plain Python values, in the order of the scores."""
    table, target = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), logistic()).fit(table, np.array(labels)[target])
    compiled = compile_linear(model, table)
    assert compiled.labels == labels
    assert [type(label) for label in compiled.labels] == [type(label) for label in labels]


def test_columns_keep_the_estimators_names_and_order() -> None:
    """A calibration table with its columns in another order compiles to the same model."""
    table, target = load_iris(return_X_y=True, as_frame=True)
    model = logistic().fit(table, target)
    compiled = compile_linear(model, table[table.columns[::-1]])
    assert [column["name"] for column in compiled.columns] == list(table.columns)
    assert compiled.client == compile_linear(model, table).client


def test_ranges_are_generous_and_not_below_zero_without_need() -> None:
    """By default half a width is added on each side; a quantity that is never negative stays so."""
    table = pd.DataFrame({"a": [1.0, 3.0], "b": [-1.0, 1.0], "c": [5.0, 5.0]})
    compiled = compile_linear(LinearRegression().fit(table, [0.0, 1.0]), table)
    limits = [(column["minimum"], column["maximum"]) for column in compiled.columns]
    assert limits == [(0.0, 4.0), (-2.0, 2.0), (2.5, 7.5)]
    assert compiled.client["ranges"] == [list(pair) for pair in limits]


def test_a_pixel_that_stayed_dark_may_be_as_bright_as_the_others() -> None:
    """Columns of one unit share a range; columns of different units do not."""
    images = np.random.default_rng(5).uniform(0, 16, (50, 12))
    images[:, 0] = 0.0
    target = (images[:, 5] > 8).astype(int)
    ranges = np.array(compile_linear(LinearRegression().fit(images, target), images).client["ranges"])
    assert (ranges[:, 0] == 0).all()
    assert ranges[0, 1] == np.ptp(images, axis=0).max() / 2
    mixed = images * np.geomspace(1, 1e4, 12)
    ranges = np.array(compile_linear(LinearRegression().fit(mixed, target), mixed).client["ranges"])
    assert ranges[0, 1] == 0.5
    assert (ranges[1:, 1] < 2 * mixed.max(axis=0)[1:]).all()


@pytest.mark.parametrize("columns", [2, 3])
def test_columns_are_not_of_one_unit_because_they_are_few(columns: int) -> None:
    """Years beside the numbers of accounts are years still."""
    table = np.random.default_rng(5).integers(
        [1950] + [10**9] * (columns - 1), [2020] + [10**10] * (columns - 1), (50, columns)
    )
    ranges = np.array(compile_linear(LinearRegression().fit(table, table[:, 0]), table).client["ranges"])
    assert ranges[0].min() > 1900
    assert ranges[0].max() < 2060


def test_declared_ranges_are_taken_as_they_are() -> None:
    """The owner's ranges are public and replace those of the calibration rows."""
    table, target = load_iris(return_X_y=True)
    declared = [(0.0, 10.0)] * 4
    compiled = compile_linear(logistic().fit(table, target), table, ranges=declared)
    assert compiled.client["ranges"] == [list(pair) for pair in declared]


def test_a_stricter_tolerance_takes_a_larger_modulus() -> None:
    """Exactness is bought with bytes, a step at a time."""
    table, target = load_iris(return_X_y=True)
    model = logistic().fit(table, target)
    moduli = [compile_linear(model, table, tolerance=t).client["parameters"]["modulus_bits"] for t in (1e-2, 1e-5, 0)]
    assert moduli == [40, 48, 56]


def fitted(estimator: Any) -> Any:
    """The estimator, fitted on the iris data."""
    return estimator.fit(*load_iris(return_X_y=True))


@pytest.mark.parametrize(
    "model",
    [
        OneVsRestClassifier(LogisticRegression()),
        OneVsRestClassifier(LinearSVC()),
        MultiOutputRegressor(Ridge()),
    ],
)
def test_one_linear_model_for_each_class_or_target_is_one_linear_model(model: Any) -> None:
    """Their weights stand side by side."""
    rows, classes = load_iris(return_X_y=True)
    targets = rows[:, :2] * 3 + 1
    whole = make_pipeline(StandardScaler(), model).fit(
        rows, targets if isinstance(model, MultiOutputRegressor) else classes
    )
    compiled = compile_linear(whole, rows)
    assert compiled.report["agreement_plain"] == 1
    assert LinearClient.from_part(compiled.client).outputs == (3 if compiled.labels else 2)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(OneVsRestClassifier(make_pipeline(StandardScaler(), logistic())), id="a pipeline for each class"),
        pytest.param(
            make_pipeline(MinMaxScaler(), make_pipeline(StandardScaler(), logistic())), id="a pipeline in one"
        ),
        pytest.param(make_pipeline(StandardScaler(), GridSearchCV(logistic(), {"C": [0.1, 1]})), id="a search in one"),
        pytest.param(TransformedTargetRegressor(Ridge(), transformer=StandardScaler()), id="a scaled target"),
        pytest.param(PLSRegression(2), id="partial least squares"),
        pytest.param(RANSACRegressor(random_state=0), id="a model without outliers"),
        pytest.param(MultiOutputRegressor(make_pipeline(StandardScaler(), Ridge())), id="a pipeline for each target"),
        pytest.param(RegressorChain(Ridge()), id="a chain of targets"),
    ],
)
def test_linear_models_inside_of_others_are_found_by_asking(model: Any) -> None:
    """What they say is a weighted sum all over the ranges; how it is kept inside does not matter."""
    rows, classes = load_iris(return_X_y=True)
    model.fit(rows, rows[:, :2] * 3 + 1 if "Output" in repr(model) or "Chain" in repr(model) else classes)
    compiled = compile_linear(model, rows)
    wanted = model.predict(rows) if compiled.labels is None else model.decision_function(rows)
    assert (np.abs(scores(compiled, rows) - wanted.reshape(150, -1)) <= compiled.client["error_bound"]).all()
    assert compiled.report["agreement_plain"] == 1


IRIS = load_iris().data


@pytest.mark.parametrize(
    ("estimator", "options", "error", "match"),
    [
        pytest.param(fitted(DecisionTreeClassifier()), {}, TypeError, "coef_", id="not linear"),
        pytest.param(LogisticRegression(), {}, TypeError, "fitted", id="not fitted"),
        pytest.param(
            OneVsRestClassifier(LogisticRegression()).fit(IRIS, IRIS[:, :2] > [5.8, 3.0]),
            {},
            ValueError,
            "more than one label a row",
            id="several labels",
        ),
        pytest.param(
            fitted(make_pipeline(Normalizer(), logistic())), {}, TypeError, "Normalizer", id="a step that mixes"
        ),
        pytest.param(
            fitted(make_pipeline(MinMaxScaler(clip=True), logistic())), {}, TypeError, "bends", id="a step that clips"
        ),
        pytest.param(fitted(Bent()), {}, ValueError, "neither its linear score", id="a score behind another link"),
        pytest.param(
            fitted(logistic()), {"ranges": [(0, 1)] * 4}, ValueError, "outside", id="ranges that are too narrow"
        ),
        pytest.param(fitted(logistic()), {"ranges": [(9, 0)] * 4}, ValueError, "lo < hi", id="ranges upside down"),
        pytest.param(fitted(logistic()), {"ranges": [(0, 10)] * 3}, ValueError, "shape", id="a range too few"),
        pytest.param(fitted(logistic()), {"calibration": IRIS[:, :3]}, ValueError, "3 columns", id="a column too few"),
        pytest.param(fitted(logistic()), {"calibration": IRIS[:0]}, ValueError, "row", id="no rows"),
        pytest.param(
            fitted(logistic()), {"calibration": IRIS * np.nan}, ValueError, "empty cells", id="rows without numbers"
        ),
    ],
)
def test_what_cannot_be_compiled_faithfully_is_refused(
    estimator: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    """A package that would answer something else than the estimator is never made."""
    with pytest.raises(error, match=match):
        compile_linear(estimator, **({"calibration": IRIS} | options))


def test_the_compiler_reads_estimators_without_their_library() -> None:
    """scikit-learn is the owner's, not ours: importing the compiler does not import it."""
    program = "import sys, blindgate_models.compilers.linear; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_report_says_who_learns_the_model() -> None:
    """A publisher reads that the weights are open to node and asker before anything is published."""
    table, target = load_iris(return_X_y=True)
    compiled = compile_linear(logistic().fit(table, target), table)
    assert any("weights" in line for line in compiled.discloses["to_client"])
    assert any("weights" in line for line in compiled.discloses["to_node"])
    assert compiled.determinism == "bit-exact"
    assert compiled.report["evaluation_key_bytes"] == 0
