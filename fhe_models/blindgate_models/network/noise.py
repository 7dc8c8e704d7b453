"""How wrong a network's scores can be, and whether any value can leave its modulus: from the weights and the declared ranges.

Values first. u is within [-1, 1], so every y is within an interval that follows from the weights, and every y² too. The largest
value of a layer times its scale must stay below half of the modulus of its level, or it would wrap around (`headroom`).

Noise next, slot by slot. It comes from the rounding of what is encoded, from encryption, from switching keys and from dropping
primes. Each is a polynomial with independent coefficients of mean 0 (SEAL draws those of an encryption so; those of roundings
are taken to be), hence subgaussian, and so is its value in a slot, whose standard deviation is √N times a coefficient's. Values in
different slots of one polynomial are uncorrelated: the embedding is orthogonal. So

- the error of Σ_k w_k x_k, from fresh noise or from the rounding of encoded weights, has deviation ‖w‖₂ and ‖x‖₂ times a slot's;
- units that read slots of their own have uncorrelated errors, and the next layer adds up their squares likewise; units that
  read the same slots, as by diagonals, may all err one way, so there the deviations themselves are added up;
- the noise of a square is 2·|y|·e, with the largest |y| that the ranges allow, and e², which has a mean;
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

from blindgate_models.network.activation import Joint, Leaf, evaluate
from blindgate_models.network.packing import DROPPED_BITS, Packing
from blindgate_models.network.spec import Activation, Layer, Parameters
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


class _State(NamedTuple):
    """Where values and noise stand between two steps.

    Attributes:
        low, high: of each number.
        alone: the deviation of each number's error, of parts that are uncorrelated between numbers.
        shared: that of parts that may all go one way.
        exponent: of the scale, as a power of two.
        primes: how many are left.
        headroom: so far.
    """

    low: Floats
    high: Floats
    alone: Floats
    shared: Floats
    exponent: float
    primes: int
    headroom: float

    @property
    def largest(self) -> Floats:
        """The largest each number can be."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def reach(self) -> Floats:
        """The same, noise included."""
        return np.asarray(self.largest + SIGMAS * (self.alone + self.shared))


def budget(packing: Packing, layers: list[Affine], activation: Joint | Leaf | None = None) -> Budget:
    """Follow values and noise through the network, whose hidden layer has an `activation` where the parameters name one."""
    parameters = packing.parameters
    noise = _Noise(parameters)
    ones = np.ones(layers[0].weights.shape[1])
    fresh = noise.slot(_FRESH + 1 / 12) / 2.0**parameters.input_scale_bits + _FLOATING
    primes = len(parameters.data_bits)
    state = _State(-ones, ones, fresh * ones, 0 * ones, float(parameters.input_scale_bits), primes, 0.0)
    for place, (layer, (before, after)) in enumerate(zip(layers[:-1], parameters.drops, strict=True)):
        state = noise.dropped(_affine(packing, noise, place, layer, state), before)
        state = state._replace(alone=state.alone + noise.slot(1 / 12) / 2**state.exponent)  # the bias
        if activation is None or parameters.activation is None:
            state = noise.dropped(_square(noise, state), after)
        else:
            state = _activated(noise, state, activation, parameters.activation)
    return _scores(packing, layers[-1], noise, state)


def _affine(packing: Packing, noise: "_Noise", place: int, layer: Affine, state: _State) -> _State:
    """A hidden layer up to its bias. By diagonals, units read the same slots, so what these bring is shared."""
    weights = np.abs(layer.weights)
    carried, shared = np.sqrt(weights**2 @ state.alone**2), weights @ state.shared
    step = packing.parameters.weight_scale_bits[place]
    alone = noise.slot(1 / 12) / 2.0**step * float(np.linalg.norm(state.reach)) + np.zeros(len(layer.bias))
    one, exponent = noise.switch(state.primes), state.exponent + step
    if place == 0 and packing.shape.fan_in:
        rotations = 2.0 ** len(packing.first_folds) - 1
        alone = np.sqrt(alone**2 + carried**2)
    else:
        plan = packing.diagonals(place)
        rotations = 2.0 ** len(plan.folds) * plan.giant - 1
        shared = shared + carried + one * (plan.baby - 1) / 2**state.exponent * weights.sum(axis=1)
    alone = alone + one * rotations / 2**exponent
    shared = shared + _FLOATING * (weights.sum(axis=1) + 1)
    low, high = interval(layer, state.low, state.high)
    return noise.checked(_State(low, high, alone, shared, exponent, state.primes, state.headroom))


def _square(noise: "_Noise", state: _State) -> _State:
    """(y + e)² = y² + 2·y·e + e²: the last has a mean, so it is shared."""
    largest = state.largest
    alone = 2 * largest * state.alone + noise.switch(state.primes) / 4**state.exponent
    shared = 2 * largest * state.shared + SIGMAS * (state.alone + state.shared) ** 2
    crosses = (state.low < 0) & (state.high > 0)
    low = np.where(crosses, 0.0, np.minimum(np.abs(state.low), np.abs(state.high)) ** 2)
    return noise.checked(
        state._replace(low=low, high=largest**2, alone=alone, shared=shared, exponent=2 * state.exponent)
    )


def _activated(noise: "_Noise", state: _State, root: Joint | Leaf, activation: Activation) -> _State:
    """An odd polynomial of every number. Its errors may all go one way, so they are shared.

    Nothing holds one of a number that can leave [-1, 1], nor one whose numbers all come to nothing at their scale.
    """
    if float(state.largest.max()) > 1 + _FLOATING:
        return state._replace(headroom=math.inf)
    given = _Bounded(1.0, SIGMAS * float((state.alone + state.shared).max()), state.exponent, state.primes)
    bounds = _Bounds(noise, state.headroom)
    found = evaluate(bounds, given, root, 2.0**activation.scale_bits)
    if found is None or not bounds.counts:
        return state._replace(headroom=math.inf)
    high = found.largest * np.ones(len(state.low))
    shared = found.error / SIGMAS * np.ones(len(state.low))
    return _State(-high, high, 0 * high, shared, found.exponent, found.left, bounds.headroom)


class _Bounded(NamedTuple):
    """A number under encryption: the largest that it can be, how far off, its scale as a power of two, its primes."""

    largest: float
    error: float
    exponent: float
    left: int


class _Bounds:
    """The arithmetic of bounds (`network.activation.Arithmetic`).

    Attributes:
        headroom: the largest share of a modulus so far.
        counts: whether some number in the clear is more than nothing when it is encoded, on any machine.
    """

    def __init__(self, noise: "_Noise", headroom: float) -> None:
        self._noise = noise
        self.headroom = headroom
        self.counts = False

    def primes(self, number: _Bounded) -> int:
        return number.left

    def product(self, left: _Bounded, right: _Bounded, largest: float) -> _Bounded:
        error = left.largest * right.error + right.largest * left.error + left.error * right.error
        primes, exponent = min(left.left, right.left), left.exponent + right.exponent
        error += SIGMAS * self._noise.switch(primes) / 2.0**exponent
        return self._dropped(_Bounded(min(largest, left.largest * right.largest), error, exponent, primes))

    def doubled_less_one(self, number: _Bounded) -> _Bounded:
        error = 2 * number.error + 0.5 / 2.0**number.exponent + _FLOATING
        return self._held(number._replace(largest=1.0, error=error))

    def sum_of(self, terms: list[tuple[_Bounded, float]], primes: int, scale: float, largest: float) -> _Bounded:
        error = 0.0
        for number, factor in terms:
            factor_scale = self.factor_scale(self.lowered(number, primes + 1), scale)
            self.counts |= abs(factor) * factor_scale >= 1
            encoded = 0.5 / factor_scale
            error += abs(factor) * number.error + (encoded + _FLOATING * abs(factor)) * (number.largest + number.error)
        exponent = math.log2(scale) + self._noise.bits(primes)
        return self._dropped(_Bounded(largest, error, exponent, primes + 1))

    def lowered(self, number: _Bounded, primes: int) -> _Bounded:
        return self._held(number._replace(left=primes))

    def added(self, left: _Bounded, right: _Bounded, largest: float) -> _Bounded:
        return self._held(left._replace(largest=largest, error=left.error + right.error))

    def factor_scale(self, number: _Bounded, scale: float) -> float:
        return float(scale * 2.0 ** (self._noise.bits(number.left - 1) - number.exponent))

    def _dropped(self, number: _Bounded) -> _Bounded:
        left = self._held(number).left - 1
        exponent = number.exponent - self._noise.bits(left)
        error = number.error + SIGMAS * self._noise.rounding / 2.0**exponent
        return self._held(number._replace(error=error, exponent=exponent, left=left))

    def _held(self, number: _Bounded) -> _Bounded:
        share = self._noise.largest(np.array([number.largest + number.error]), number.exponent, number.left)
        self.headroom = max(self.headroom, share)
        return number


def _scores(packing: Packing, layer: Affine, noise: "_Noise", state: _State) -> Budget:
    """The last layer: products, which the client adds up."""
    parameters = packing.parameters
    weights = np.abs(layer.weights)
    step = parameters.weight_scale_bits[-1]
    encoded = noise.slot(1 / 12) / 2.0**step * float(np.linalg.norm(state.reach))
    carried = np.sqrt(weights**2 @ state.alone**2 + encoded**2) + weights @ state.shared
    products = weights * state.reach + np.abs(layer.bias)[:, None]
    before = noise.largest(products, state.exponent + step, state.primes)
    ended = noise.dropped(
        state._replace(exponent=state.exponent + step, alone=np.zeros(1), shared=np.zeros(1)), parameters.last_drop
    )
    rounding = float(ended.alone[0]) + (noise.rounding * 2.0**DROPPED_BITS + noise.slot(1 / 12)) / 2**ended.exponent
    after = noise.largest(products + SIGMAS * rounding, ended.exponent, 1)
    total = weights @ state.largest + np.abs(layer.bias)
    bound = SIGMAS * (carried + rounding * math.sqrt(packing.periods[-1])) + _FLOATING * total
    return Budget(max(state.headroom, before, after), bound, 2**ended.exponent)


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

    def bits(self, place: int) -> int:
        """The length of a data prime."""
        return self._parameters.data_bits[place]

    def dropped(self, state: _State, count: int) -> _State:
        """After `count` more primes were dropped."""
        for _ in range(count):
            primes = state.primes - 1
            exponent = state.exponent - self._parameters.data_bits[primes]
            alone = state.alone + self.rounding / 2**exponent
            state = state._replace(alone=alone, exponent=exponent, primes=primes)
        return state

    def checked(self, state: _State) -> _State:
        """With the largest of its numbers in the headroom."""
        share = self.largest(state.reach, state.exponent, state.primes)
        return state._replace(headroom=max(state.headroom, share))

    def largest(self, values: Floats, exponent: float, primes: int) -> float:
        """The largest of values in a slot, which coefficients do not exceed, as a share of what the modulus holds.

        The scale itself must fit too, for SEAL.
        """
        bits = sum(self._parameters.data_bits[:primes])
        return float(max(1.0, values.max()) * 2.0 ** (exponent - bits + 1) / _PRIME_SHARE**primes)


def interval(layer: Affine, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The least and the most that each unit can be."""
    middle, half = (low + high) / 2, (high - low) / 2
    centre, reach = layer.weights @ middle + layer.bias, np.abs(layer.weights) @ half
    return centre - reach, centre + reach
