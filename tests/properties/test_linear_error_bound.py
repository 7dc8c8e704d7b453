"""The error bound of a linear model is a limit, not an estimate: random models, random inputs, worst inputs."""

from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blindgate_models.compilers.linear import linear_parts
from blindgate_models.linear.client import LinearClient
from blindgate_models.linear.server import LinearServer
from blindgate_models.linear.spec import Circuit, ClientPart, ServerPart
from campaigns import of

Floats = NDArray[np.float64]


class Model(NamedTuple):
    """A model by its numbers."""

    weights: Floats
    intercept: Floats
    ranges: Floats

    def scores(self, rows: Floats) -> Floats:
        """What it says in clear."""
        return np.asarray(rows @ self.weights.T + self.intercept)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Any shape, with weights, intercepts and ranges of very different magnitudes."""
    features = draw(st.one_of(st.integers(1, 40), st.integers(1, 2048), st.integers(4000, 8192)))
    outputs = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.floats(0, 3))
    weights = rng.normal(size=(outputs, features)) * 10 ** rng.uniform(-spread, spread, features)
    weights *= rng.uniform(size=features) < draw(st.sampled_from([1.0, 0.3, 0.0]))
    intercept = rng.normal(size=outputs) * 10 ** draw(st.floats(-4, 4))
    low = rng.normal(size=features) * 10 ** draw(st.floats(-3, 3))
    width = rng.uniform(size=features) * 10 ** draw(st.floats(-3, 3)) * (rng.uniform(size=features) < 0.9)
    return Model(weights, intercept, np.stack([low, low + width], axis=1))


@st.composite
def rows_of(draw: st.DrawFn, model: Model) -> Floats:
    """Rows from within the ranges, or from their corners, where scores are largest."""
    count = draw(st.one_of(st.integers(1, 20), st.integers(1, max(20, 20000 // len(model.ranges)))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    place = rng.uniform(size=(count, len(model.ranges)))
    if draw(st.booleans()):
        place = np.rint(place)
    if draw(st.booleans()):
        place[0], place[-1] = model.weights[0] > 0, model.weights[0] < 0
    low, high = model.ranges.T
    return np.asarray(np.clip(low + place * (high - low), low, high))


def decrypted(client: ClientPart, server: ServerPart, rows: Floats) -> Floats:
    """The scores of `rows`, through both halves."""
    asker, node = LinearClient.from_part(client.model_dump()), LinearServer.from_part(server.model_dump())
    secret = asker.make_keys().secret
    return asker.decrypt(secret, node.evaluate(None, asker.encrypt(secret, rows)), len(rows))


@settings(max_examples=of(40, slice_of=12))
@given(data=st.data(), model=models(), precision=st.sampled_from([0.0, 1e-6, 1e-3, 1e3]))
def test_no_score_is_further_off_than_the_part_says(data: st.DataObject, model: Model, precision: float) -> None:
    """A manifest may promise the bound: for any model, any row in range, each modulus."""
    client, server = linear_parts(*model, precision=precision)
    rows = data.draw(rows_of(model))
    error = np.abs(decrypted(client, server, rows) - model.scores(rows)).max(axis=0)
    assert (error <= client.error_bound).all()


@settings(max_examples=of(60, slice_of=20))
@given(model=models(), precision=st.sampled_from([0.0, 1e-3, 1e3]))
def test_the_chosen_scales_leave_room_and_waste_little_of_it(model: Model, precision: float) -> None:
    """No sum can wrap around, and the modulus is used to within two bits."""
    _, server = linear_parts(*model, precision=precision)
    headroom = Circuit.of(server.parameters, server.weights, server.intercept).headroom
    assert headroom < 1
    assert headroom > 0.2 or not np.any(model.weights)


@settings(max_examples=of(60, slice_of=20))
@given(model=models())
def test_the_bound_is_small_beside_the_largest_score(model: Model) -> None:
    """At the largest modulus: one part in ten thousand of what the declared ranges allow a score to reach."""
    client, server = linear_parts(*model)
    largest = (np.abs(server.weights).sum(axis=1) + np.abs(server.intercept)).max()
    assert max(client.error_bound) <= 1e-4 * largest or largest == 0


def test_a_scale_that_is_cut_breaks_the_bound() -> None:
    """The bound follows from the scales: with an input scale 64 times smaller, scores leave it."""
    rng = np.random.default_rng(3)
    model = Model(rng.normal(size=(1, 30)), rng.normal(size=1), np.stack([np.full(30, -1.0), np.full(30, 1.0)], axis=1))
    client, server = linear_parts(*model, precision=1e-2)
    rows = rng.uniform(-1, 1, (500, 30))
    cut = server.parameters.model_copy(update={"input_scale_bits": server.parameters.input_scale_bits - 6})
    got = decrypted(client.model_copy(update={"parameters": cut}), server.model_copy(update={"parameters": cut}), rows)
    assert np.abs(got - model.scores(rows)).max() > client.error_bound[0]
    cut_bound = Circuit.of(cut, server.weights, server.intercept).error_bound[0]
    assert np.abs(got - model.scores(rows)).max() < cut_bound
