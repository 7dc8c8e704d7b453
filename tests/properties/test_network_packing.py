"""The packing of a network, without encryption: arrays of slots stand for ciphertexts, so any shape is tried in milliseconds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blindgate_models.compilers.network_parameters import first_reads, packed_first
from blindgate_models.compilers.squares import SquareNetwork
from blindgate_models.network.packing import Packing
from blindgate_models.network.spec import Parameters, Shape, power_of_two
from square_networks import drawn

Floats = NDArray[np.float64]
SLOTS = 4096


@st.composite
def shapes(draw: st.DrawFn) -> tuple[list[int], int | None, int, bool]:
    """Widths, how many columns a unit reads, rows together, and whether the client lays out the first layer."""
    widths = draw(st.lists(st.integers(1, 70), min_size=3, max_size=5))
    unit_by_unit = draw(st.booleans())
    reads = draw(st.one_of(st.none(), st.integers(1, widths[0])))
    rows = 1 << draw(st.integers(0, 3))
    return widths, reads, rows, unit_by_unit


def packing_of(network: SquareNetwork, rows: int, *, unit_by_unit: bool) -> Packing:
    """A packing of the network's shape; the scales do not matter here."""
    hidden = len(network.layers) - 1
    widths = [network.layers[0].weights.shape[1], *(len(layer.bias) for layer in network.layers)]
    parameters = Parameters(
        scheme="ckks",
        degree=2 * SLOTS,  # type: ignore[arg-type]
        data_bits=[40],
        special_bits=40,
        input_scale_bits=20,
        weight_scale_bits=[20] * (hidden + 1),
        drops=[[0, 0]] * hidden,
    )
    fan_in = len(first_reads(network)[0]) if unit_by_unit else 0
    return Packing(parameters, Shape(widths=widths, fan_in=fan_in, rows=rows))


def computed(packing: Packing, network: SquareNetwork, rows: Floats) -> tuple[Floats, set[int]]:
    """What the node computes, slot by slot, and the rotations that it took."""
    taken: set[int] = set()

    def rotated(values: Floats, step: int) -> Floats:
        taken.add(step)
        return np.roll(values, -step)

    columns = first_reads(network)
    block = packing.spread(rows, columns)
    values = block[0]
    for place, layer in enumerate(network.layers[:-1]):
        if place == 0 and packing.shape.fan_in:
            values = (block * packing.first_products(packed_first(layer, columns).weights)).sum(axis=0)
            folds = packing.first_folds
        else:
            plan = packing.diagonals(place)
            inputs = [values]
            for _ in range(plan.baby - 1):
                inputs.append(rotated(inputs[-1], packing.rows))
            values = np.zeros(SLOTS)
            for group in reversed(range(plan.giant)):
                if group < plan.giant - 1:
                    values = rotated(values, plan.baby * packing.rows)
                for small, given in enumerate(inputs):
                    product = packing.diagonal(place, layer.weights, group * plan.baby + small)
                    values = values + given * np.roll(product, group * plan.baby * packing.rows)
            folds = plan.folds
        for step in folds:
            values = values + rotated(values, step)
        values = (values + packing.bias(place, layer.bias)) ** 2
    last = network.layers[-1]
    results = values * packing.last_products(last.weights) + packing.last_bias(last.bias)
    return packing.gather(results)[: len(rows)], taken


@settings(max_examples=150)
@given(made=shapes(), seed=st.integers(0, 2**32 - 1))
def test_slots_hold_the_networks_scores(made: tuple[list[int], int | None, int, bool], seed: int) -> None:
    """Whatever the widths, the rows together and the way of the first layer; with the announced rotations and no other."""
    widths, reads, together, unit_by_unit = made
    network = drawn(widths, seed, reads=reads)
    packing = packing_of(network, together, unit_by_unit=unit_by_unit)
    rows = np.random.default_rng(seed).uniform(-1, 1, (max(1, together - seed % 3), widths[0]))
    got, taken = computed(packing, network, rows)
    np.testing.assert_allclose(got, network.scores(rows), atol=1e-9)
    assert taken == set(packing.steps)


@settings(max_examples=100)
@given(number=st.integers(1, 5000))
def test_powers_of_two(number: int) -> None:
    """The least that is not below."""
    power = power_of_two(number)
    assert power >= number > power // 2
    assert power & (power - 1) == 0
