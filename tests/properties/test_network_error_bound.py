"""The error bound of a network holds: random shapes, random weights, random and worst inputs; and it follows from the scales."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import campaigns
from blindgate_models.compilers.polynomial import network_parts
from blindgate_models.compilers.squares import Quadratic, SquareNetwork
from blindgate_models.network.noise import Affine, budget
from blindgate_models.network.packing import Packing
from square_networks import drawn, halves, of_parts

Floats = NDArray[np.float64]


@st.composite
def networks(draw: st.DrawFn) -> tuple[SquareNetwork, Floats]:
    """One or two squares, of any width, with weights and ranges of different magnitudes."""
    hidden = draw(st.lists(st.integers(1, 40), min_size=1, max_size=2))
    features = draw(st.integers(1, 60))
    reads = draw(st.one_of(st.none(), st.integers(1, features)))
    seed = draw(st.integers(0, 2**32 - 1))
    network = drawn([features, *hidden, draw(st.integers(1, 12))], seed, reads=reads, size=draw(st.floats(0.1, 2)))
    rng = np.random.default_rng(seed)
    low = rng.normal(size=features) * 10 ** draw(st.floats(-2, 2))
    width = rng.uniform(0.1, 1, features) * 10 ** draw(st.floats(-2, 2))
    centred = network.after(
        np.diag(2 / width), np.asarray(-2 * low / width - 1, dtype=np.float64)
    )  # weights that suit the ranges
    return centred, np.stack([low, low + width], axis=1)


def corners(network: SquareNetwork, ranges: Floats, rng: np.random.Generator, count: int) -> Floats:
    """Rows from within the ranges, and from the corner where the first unit is largest."""
    low, high = ranges.T
    rows = low + rng.uniform(size=(count, len(low))) * (high - low)
    rows[0] = np.where(network.layers[0].weights[0] > 0, high, low)
    rows[-1] = np.where(network.layers[0].weights[0] > 0, low, high)
    return np.asarray(np.clip(rows, low, high))


@settings(max_examples=campaigns.of(100, slice_of=5))
@given(made=networks(), seed=st.integers(0, 2**32 - 1), share=st.sampled_from([1e-2, 1.0, 1e9]))
def test_no_score_is_further_off_than_the_part_says(
    made: tuple[SquareNetwork, Floats], seed: int, share: float
) -> None:
    """A manifest may promise the bound: for any network, any row in range, dear parameters and cheap ones."""
    network, ranges = made
    rows = corners(network, ranges, np.random.default_rng(seed), 5)
    try:
        parts = network_parts(network, ranges, precision=share * float(np.abs(network.scores(rows)).max()))
    except ValueError:  # its worst row is so far from these that no parameters are as exact as that
        parts = network_parts(network, ranges, precision=1e30)
    halves = of_parts(network, *parts)
    error = np.abs(halves.scores(rows) - network.scores(rows)).max(axis=0)
    assert (error <= halves.client_part.error_bound).all()


@settings(max_examples=campaigns.of(25, slice_of=8))
@given(made=networks())
def test_the_chosen_scales_leave_room_for_every_value(made: tuple[SquareNetwork, Floats]) -> None:
    """No value can wrap around: not with the chosen parameters, whatever the weights."""
    network, ranges = made
    _, server = network_parts(network, ranges, precision=1e30)
    layers = [Affine.of(layer) for layer in server.layers]
    assert budget(Packing(server.parameters, server.shape), layers).headroom < 1


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), hidden=st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_folding_and_balancing_change_no_score(seed: int, hidden: list[int]) -> None:
    """Any activation of degree 2 is a square between other layers, and balanced layers stay within [-1, 1]."""
    rng = np.random.default_rng(seed)
    plain = drawn([5, *hidden, 3], seed)
    activations = [
        Quadratic(rng.uniform(0.1, 1, units) * rng.choice([-1, 1]), rng.normal(size=units), rng.normal(size=units))
        for units in hidden
    ]
    rows = rng.uniform(-1, 1, (20, 5))
    expected = rows
    for layer, activation in zip(plain.layers, activations, strict=False):
        sums = expected @ layer.weights.T + layer.bias
        expected = activation.square * sums**2 + activation.linear * sums + activation.constant
    expected = expected @ plain.layers[-1].weights.T + plain.layers[-1].bias
    folded = SquareNetwork.of(plain.layers, activations, None)
    np.testing.assert_allclose(folded.scores(rows), expected, rtol=1e-8, atol=1e-8)
    balanced = folded.balanced()
    np.testing.assert_allclose(balanced.scores(rows), expected, rtol=1e-6, atol=1e-6)
    values = rows
    for layer in balanced.layers[:-1]:
        values = values @ layer.weights.T + layer.bias
        assert np.abs(values).max() <= 1 + 1e-9
        values = values**2


@pytest.mark.parametrize("cut", ["input_scale_bits", "weight_scale_bits"])
def test_a_scale_that_is_cut_breaks_the_bound(cut: str) -> None:
    """The bound follows from the scales: with one a thousand times smaller, scores leave it, and its own bound says by how much."""
    made = halves(drawn([30, 16, 2]), precision=1e-2)
    parameters = made.server_part.parameters
    scales = parameters.weight_scale_bits
    smaller = (
        {"weight_scale_bits": [scales[0] - 10, *scales[1:]]}
        if cut == "weight_scale_bits"
        else {"input_scale_bits": parameters.input_scale_bits - 12}
    )
    changed = {"parameters": parameters.model_copy(update=smaller)}
    poorer = of_parts(
        made.network, made.client_part.model_copy(update=changed), made.server_part.model_copy(update=changed)
    )
    rows = made.rows(64)
    error = np.abs(poorer.scores(rows) - made.network.scores(rows)).max()
    assert error > max(made.client_part.error_bound)
    layers = [Affine.of(layer) for layer in made.server_part.layers]
    assert error <= budget(poorer.server.packing, layers).error_bound.max()


def test_the_bound_is_no_wild_guess() -> None:
    """It is a limit for the worst row and 2^-40; what random rows meet is within a few hundred times of it."""
    made = halves(drawn([64, 64, 10]), precision=1e-2)
    rows = made.rows(8)
    error = np.abs(made.scores(rows) - made.network.scores(rows)).max()
    assert error < max(made.client_part.error_bound) < 500 * error
