"""A published model shows no digit that the noise of its encryption could have changed by more than one."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from blindgate import frames
from blindgate_models.compilers.additive import compile_additive
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.linear import compile_linear
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.compilers.trees import compile_trees
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_models.publishing import finest_decimals, open_package
from blindgate_protocol.manifest import Output
from signed_packages import package


def output_of(compiled: CompiledModel, **changes: Any) -> Output:
    """What the signed manifest says of a model's answers."""
    return open_package(package(compiled, **changes)).manifest.document.scores()


def raw_scores(compiled: CompiledModel, rows: Any) -> Any:
    """What a client decrypts."""
    client, server = LinearClient.from_part(compiled.client), LinearServer.from_part(compiled.server)
    secret = client.make_keys().secret
    return client.decrypt(secret, server.evaluate(None, client.encrypt(secret, rows)), len(rows))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e4], ids=["millionths", "ones", "tens of thousands"])
def test_a_number_is_rounded_to_what_its_noise_leaves(unit: float) -> None:
    """Twice the same question: the same number or the next one, and few of those; digits before the point too."""
    rows, answers = load_diabetes(return_X_y=True)
    model = Ridge().fit(rows, answers * unit)
    compiled = compile_linear(model, rows)
    output = output_of(compiled)
    step = 10.0**-output.decimals
    assert step >= 2 * max(compiled.client["error_bound"])
    first, second = (frames.predictions(raw_scores(compiled, rows), output) for _ in range(2))
    assert np.abs(first - second).max() <= step * 1.001
    assert (first == second).mean() > 0.8
    np.testing.assert_allclose(first, model.predict(rows), atol=step)


@pytest.mark.parametrize(
    "load", [pytest.param(load_breast_cancer, id="two classes"), pytest.param(load_iris, id="three")]
)
def test_a_probability_is_rounded_to_what_its_noise_leaves(load: Any) -> None:
    """A link passes on a part of the noise, and the decimals follow it."""
    rows, labels = load(return_X_y=True)
    compiled = compile_linear(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows, labels), rows)
    output = output_of(compiled)
    first, second = (frames.probabilities(raw_scores(compiled, rows), output) for _ in range(2))
    assert np.abs(first - second).max() <= 10.0**-output.decimals * 1.001
    assert (first == second).mean() > 0.8


@pytest.mark.parametrize("compiler", [compile_trees, compile_trees_batch, compile_additive])
@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1.0], ids=["hundred-millionths", "ten-thousandths", "ones"])
def test_small_numbers_keep_the_digits_that_tell_them_apart(compiler: Any, unit: float) -> None:
    """Rates of a disease in a million people are no zeros, whatever unit they come in."""
    rows, answers = load_diabetes(return_X_y=True)
    model = GradientBoostingRegressor(n_estimators=5, max_depth=2, random_state=0).fit(rows, answers * unit)
    compiled = compiler(model, rows)
    step = 10.0 ** -output_of(compiled).decimals
    assert step <= max(1e-4, compiled.encryption.error_bound)
    assert step <= 1e-3 * np.ptp(model.predict(rows))


def test_more_decimals_than_the_noise_leaves_are_refused() -> None:
    """The owner is told how many there may be."""
    rows, answers = load_diabetes(return_X_y=True)
    compiled = compile_linear(Ridge().fit(rows, answers), rows)
    most = output_of(compiled).decimals
    assert output_of(compiled, decimals=most - 1).decimals == most - 1
    with pytest.raises(ValueError, match=f"got {most + 1}, expected at most {most}"):
        package(compiled, decimals=most + 1)


def test_decryption_without_noise_leaves_every_decimal() -> None:
    """TFHE decrypts to the integers that were computed."""
    assert finest_decimals(0) == 12
