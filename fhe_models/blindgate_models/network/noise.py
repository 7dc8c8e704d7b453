"""How wrong a network's scores can be, and whether any value can leave its modulus: from the weights and the declared ranges.

Values first. u is within [-1, 1], so every y is within an interval that follows from the weights, and every y² too. The largest
value of a layer times its scale must stay below half of the modulus of its level, or it would wrap around (`headroom`).

Noise next, slot by slot. It comes from the rounding of what is encoded, from encryption, from switching keys and from dropping
primes. Each is a polynomial with independent coefficients of mean 0 (SEAL draws those of an encryption so; those of roundings
are taken to be), hence subgaussian, and so is its value in a slot, whose standard deviation is √N times a coefficient's. Values in
different slots of one polynomial are uncorrelated: the embedding is orthogonal. So

- the error of Σ_k w_k x_k, from fresh noise or from the rounding of encoded weights, has deviation ‖w‖₂ and ‖x‖₂ times a slot's;
- later layers share what earlier ones left, so their deviations are added up, weight by weight, as if all went one way;
- the noise of a square is 2·|y|·e + e², with the largest |y| that the ranges allow;
- a rounding of c1 meets the secret, whose value in a slot is at most `SIGMAS` of its own deviations √(2N/3);
- a switching key's ciphertext for prime q is multiplied by numbers from 0 to q, whose mean does not vanish in a slot: at most
  q·N/π, and `SIGMAS` deviations q·√(N/12) besides.

An error bound is `SIGMAS` deviations of what reaches a score. For a fixed row that fails with probability at most 2^-40 for all
slots and all roundings of a reply together: a subgaussian value of the plane leaves 7 deviations with less than 128·e^-48.5,
2^-62, in each of at most 2^13 slots of 2^9 polynomials. That is what a manifest's error bound promises; roundings are no drawn
numbers, so it is as good as their independence, which tests/properties measure.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.network.packing import DROPPED_BITS, Packing
from blindgate_models.network.spec import Layer, Parameters
from blindgate_models.security import NOISE_BOUND

Floats = NDArray[np.float64]

SIGMAS = 7.0
"""How many standard deviations a bound allows."""

_FRESH = NOISE_BOUND / 2
"""Variance of a fresh error's coefficient."""

_FLOATING = 2.0**-40
"""What numbers in doubles lose on the way through the encoder, as a share of the largest."""

_PRIME_SHARE = 1 - 2.0**-16
"""A prime of b bits is the largest or nearly so: at least this share of 2^b."""


class Budget(NamedTuple):
    """What became of a network under its parameters.

    Attributes:
        headroom: the largest value of any step, as a share of what its modulus holds: right below 1.
        error_bound: for each score, how far it may be from the exact one.
        scale: of the result, with primes counted as powers of two.
    """

    headroom: float
    error_bound: Floats
    scale: float


class Affine(NamedTuple):
    """A layer's numbers, and the columns that it reads, for the noise alone: `(units, inputs)` and `(units,)`."""

    weights: Floats
    bias: Floats

    @classmethod
    def of(cls, layer: Layer) -> "Affine":
        """From a part's layer."""
        return cls(np.array(layer.weights), np.array(layer.bias))


def budget(packing: Packing, layers: list[Affine]) -> Budget:
    """Follow values and noise through the network."""
    parameters = packing.parameters
    noise = _Noise(parameters)
    exponent = float(parameters.input_scale_bits)
    primes = len(parameters.data_bits)
    low, high = (np.full(layers[0].weights.shape[1], side) for side in (-1.0, 1.0))
    deviation = np.full(len(low), noise.slot(_FRESH + 1 / 12) / 2**exponent + _FLOATING)
    headroom = 0.0
    for place, (layer, drops) in enumerate(zip(layers[:-1], parameters.drops, strict=True)):
        largest = np.maximum(np.abs(low), np.abs(high)) + SIGMAS * deviation
        step = parameters.weight_scale_bits[place]
        rotations = _rotations(packing, place, noise.switch(primes), exponent)
        weights = np.abs(layer.weights)
        carried = np.sqrt(weights**2 @ deviation**2) if place == 0 else weights @ deviation
        read = float(np.linalg.norm(largest)) if packing.shape.fan_in == 0 or place else _read_norm(packing, largest)
        encoded = noise.slot(1 / 12) / 2**step * read
        low, high = interval(layer, low, high)
        exponent += step
        headroom = max(headroom, noise.share(low, high, exponent, primes))
        shared = rotations.before * weights.sum(axis=1)
        deviation = np.sqrt(carried**2 + encoded**2) + shared + rotations.after + _FLOATING * (weights.sum(axis=1) + 1)
        exponent, primes, deviation = noise.dropped(exponent, primes, drops[0], deviation)
        least, largest = np.minimum(np.abs(low), np.abs(high)), np.maximum(np.abs(low), np.abs(high))
        crosses = (low < 0) & (high > 0)
        deviation = 2 * largest * deviation + SIGMAS * deviation**2
        deviation = deviation + noise.switch(primes) / 2 ** (2 * exponent)
        high = np.asarray(largest**2)
        low = np.asarray(np.where(crosses, 0.0, least**2))
        exponent *= 2
        headroom = max(headroom, noise.share(low, high, exponent, primes))
        exponent, primes, deviation = noise.dropped(exponent, primes, drops[1], deviation)
    return _scores(packing, layers[-1], noise, _State(low, high, deviation, exponent, primes, headroom))


class _State(NamedTuple):
    """Where values and noise stand before the last layer."""

    low: Floats
    high: Floats
    deviation: Floats
    exponent: float
    primes: int
    headroom: float


def _scores(packing: Packing, layer: Affine, noise: "_Noise", state: _State) -> Budget:
    """The last layer: products, which the client adds up."""
    parameters = packing.parameters
    weights = np.abs(layer.weights)
    largest = np.maximum(np.abs(state.low), np.abs(state.high)) + SIGMAS * state.deviation
    step = parameters.weight_scale_bits[-1]
    exponent = state.exponent + step
    products = float((weights * largest).max() + np.abs(layer.bias).max())
    headroom = max(state.headroom, noise.largest(products, exponent, state.primes))
    encoded = noise.slot(1 / 12) / 2**step * float(np.linalg.norm(largest))
    carried = weights @ state.deviation
    scale, _, rounding = noise.dropped(exponent, state.primes, parameters.last_drop, np.zeros(1))
    headroom = max(headroom, noise.largest(products, scale, 1))
    cut = noise.rounding * 2.0**DROPPED_BITS / 2**scale
    added = (rounding + cut) * math.sqrt(packing.periods[-1])
    total = weights @ largest + np.abs(layer.bias)
    bound = SIGMAS * (np.sqrt(carried**2 + encoded**2) + added) + _FLOATING * total
    return Budget(headroom, bound, 2**scale)


class _Noise:
    """Standard deviations of what a slot may be off, in units of a ciphertext's integers."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._degree = parameters.degree
        secret = SIGMAS * math.sqrt(2 * self._degree / 3)
        self.rounding = self.slot(1 / 12) * math.sqrt(1 + secret**2)

    def slot(self, variance: float) -> float:
        """Of a polynomial with coefficients of this variance."""
        return math.sqrt(self._degree * variance)

    def switch(self, primes: int) -> float:
        """Of switching keys for a ciphertext of so many primes."""
        reach = self._degree / math.pi + SIGMAS * self.slot(1 / 12)
        digits = math.sqrt(sum(4.0**bits for bits in self._parameters.data_bits[:primes]))
        return self.slot(_FRESH) * reach * digits / 2.0**self._parameters.special_bits + self.rounding

    def dropped(self, exponent: float, primes: int, count: int, deviation: Floats) -> tuple[float, int, Floats]:
        """Scale, primes and deviation after `count` more primes were dropped."""
        for _ in range(count):
            primes -= 1
            exponent -= self._parameters.data_bits[primes]
            deviation = deviation + self.rounding / 2**exponent
        return exponent, primes, deviation

    def share(self, low: Floats, high: Floats, exponent: float, primes: int) -> float:
        """The largest value of an interval as a share of what the modulus holds."""
        return self.largest(float(np.maximum(np.abs(low), np.abs(high)).max()), exponent, primes)

    def largest(self, value: float, exponent: float, primes: int) -> float:
        """The same of one value; noise is less than a 2^-10 of it."""
        bits = sum(self._parameters.data_bits[:primes])
        return float(value * (1 + 2.0**-10) * 2.0 ** (exponent - bits + 1) / _PRIME_SHARE**primes)


class _Rotations(NamedTuple):
    """What rotations add: to what the weights meet, and to their products."""

    before: float
    after: float


def _rotations(packing: Packing, layer: int, one: float, exponent: float) -> _Rotations:
    """Of a layer whose input has this scale, where one rotation adds `one`."""
    after = 2.0 ** (exponent + packing.parameters.weight_scale_bits[layer])
    if layer == 0 and packing.shape.fan_in:
        return _Rotations(0.0, one * (2.0 ** len(packing.first_folds) - 1) / after)
    plan = packing.diagonals(layer)
    folded = 2.0 ** len(plan.folds)
    return _Rotations(one * (plan.baby - 1) / 2.0**exponent, one * (folded * plan.giant - 1) / after)


def _read_norm(packing: Packing, largest: Floats) -> float:
    """‖u‖₂ of what a unit reads, where u is at most `largest` in every place."""
    return float(largest.max()) * math.sqrt(packing.shape.fan_in)


def interval(layer: Affine, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The least and the most that each unit can be."""
    middle, half = (low + high) / 2, (high - low) / 2
    centre, reach = layer.weights @ middle + layer.bias, np.abs(layer.weights) @ half
    return centre - reach, centre + reach
