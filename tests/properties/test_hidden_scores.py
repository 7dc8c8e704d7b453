"""A probability is never further off than the part says: any weights, any ranges, any row within them, the corners first."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import campaigns
from blindgate_models.compilers.hidden_scores import compile_hidden_scores
from blindgate_models.network.client import NetworkClient
from blindgate_models.network.server import NetworkServer


@settings(max_examples=campaigns.of(160, slice_of=3))
@given(
    seed=st.integers(0, 2**32 - 1),
    features=st.integers(1, 70),
    largest=st.floats(0.5, 60),
    intercept=st.floats(-0.9, 0.9),
)
def test_no_probability_is_further_off_than_the_part_says(
    seed: int, features: int, largest: float, intercept: float
) -> None:
    """Largest scores from nearly nothing to 60, intercepts up to nine tenths of them."""
    assume(
        abs(abs(intercept) - 0.5) > 1e-6
    )  # a corner's score would be 0 but for its last digits, and so would its class
    rng = np.random.default_rng(seed)
    low = rng.normal(size=features) * 10.0 ** rng.integers(-3, 4, features)
    width = rng.uniform(0.1, 2, features) * 10.0 ** rng.integers(-3, 4, features)
    parts = rng.normal(size=features)
    model = LogisticRegression()
    model.coef_ = (parts / np.abs(parts).sum() * largest * (1 - abs(intercept)) / (width / 2))[None]
    model.intercept_ = np.array([largest * intercept - float((model.coef_ @ (low + width / 2))[0])])
    model.classes_, model.n_features_in_ = np.array([0, 1]), features
    shares = rng.uniform(size=(20, features))
    shares[0], shares[1] = parts > 0, parts < 0
    rows = np.clip(low + shares * width, low, low + width)
    compiled = compile_hidden_scores(model, rows, ranges=list(zip(low, low + width, strict=True)))
    client, server = NetworkClient.from_part(compiled.client), NetworkServer.from_part(compiled.server)
    keys = client.make_keys()
    found = client.decrypt(keys.secret, server.evaluate(keys.evaluation, client.encrypt(keys.secret, rows)), len(rows))
    expected = model.predict_proba(rows)[:, 1]
    assert np.abs(found[:, 0] - expected).max() <= client.error_bound <= 0.005
    sure = np.abs(expected - 0.5) > client.error_bound
    assert ((found[:, 0] > 0.5) == (expected > 0.5))[sure].all()
