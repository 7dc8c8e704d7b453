"""Parameters for a network: the cheapest ring and scales whose error bound is small enough, found by trying.

A network's circuit leaves few choices: the scale of the input, that of the weights, and to which scales ciphertexts come down
between layers. Those say how many bits each step takes; the steps are filled with primes of at most 60 bits, few and long rather
than many and short, since rotations and switching keys cost by the square of their number. What is left of the bits that 128-bit
security allows goes to the special prime, which makes rotations exact.

    input   fresh                                       a
    layer 0 product, square                             2 (a + b)
    layer l dropped to e, product, dropped to f, square 2 f          l = 1, 2, …
    scores  product, dropped to one prime               + b

Each candidate's headroom and error bound are computed from the weights (`network.noise`), never guessed.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.squares import SquareNetwork
from blindgate_models.network.noise import Affine, Budget, budget
from blindgate_models.network.packing import Packing
from blindgate_models.network.spec import (
    DEGREES,
    LEAST_PRIME_BITS,
    LEAST_SCALE_BITS,
    MAX_DROP,
    MAX_INPUTS,
    MAX_PRIME_BITS,
    MAX_PRIMES,
    MAX_RESULTS,
    MOST_SCALE_BITS,
    Parameters,
    Shape,
    power_of_two,
)
from blindgate_models.security import MODULUS_BITS_AT_128

Floats: TypeAlias = NDArray[np.float64]

_INPUT_SCALES: Final = (22, 45)
_WEIGHT_SCALES: Final = (16, 37)
_BETWEEN_SCALES: Final = (26, 51)
_FINE, _COARSE = 2, 4
_WORTH_CLIMBING: Final = 100
_LEAST_SPECIAL: Final = 10
"""How many bits shorter than the longest data prime the special one may be: a rotation's noise grows by as much."""


@dataclass(frozen=True)
class Chosen:
    """Parameters, the packing that they were chosen for, and what follows."""

    packing: Packing
    budget: Budget


def first_reads(network: SquareNetwork) -> list[list[int]]:
    """The columns that each unit of the first layer reads, filled up with -1 to the same number."""
    read = [np.flatnonzero(unit).tolist() for unit in network.layers[0].weights]
    most = max(1, *map(len, read))
    return [[*unit, *[-1] * (most - len(unit))] for unit in read]


def choose_parameters(network: SquareNetwork, tolerance: float | Floats) -> Chosen:
    """The parameters that compute a balanced network at least cost, with no score further off than `tolerance`, all or each.

    Raises `ValueError` when none do, telling the best bound that was found.
    """
    best, nearest = math.inf, np.full(1, math.inf)
    fan_in = len(first_reads(network)[0])
    for degree in DEGREES:
        shape = _shape(network, fan_in, degree // 2)
        if shape is None:
            continue
        search = _Search(network, degree, shape, tolerance)
        by_cost: dict[float, list[_Scales]] = {}
        for scales, cost in search.candidates():
            by_cost.setdefault(cost, []).append(scales)
        for cost, group in sorted(by_cost.items(), key=lambda pair: pair[0]):
            found = search.best(group)
            if found is not None and 1 < found.off <= _WORTH_CLIMBING:
                found = search.climbed(found, cost)
            if found is None:
                continue
            if found.off < best:
                best, nearest = found.off, found.budget.error_bound
            if found.off <= 1:
                return Chosen(found.packing, found.budget)
    wanted = np.broadcast_to(tolerance, len(nearest))
    worst = int((nearest / wanted).argmax())
    msg = (
        f"no parameters at 128-bit security compute this network: the scores would be up to {nearest[worst]:.3g} off, expected "
        f"at most {wanted[worst]:.3g}; allow a larger tolerance, fewer layers, or narrower ranges"
    )
    raise ValueError(msg)


def _as_read(network: SquareNetwork, shape: Shape) -> list[Affine]:
    """The layers as the node has them: the first one unit by unit, where it is."""
    first, *others = network.layers
    return [packed_first(first, first_reads(network)) if shape.fan_in else first, *others]


def packed_first(layer: Affine, columns: list[list[int]]) -> Affine:
    """The first layer's weights in the order of the columns that each unit reads, zeros where there is none."""
    padded = np.pad(layer.weights, ((0, 0), (0, 1)))
    return Affine(np.take_along_axis(padded, np.asarray(columns), axis=1), layer.bias)


def _shape(network: SquareNetwork, fan_in: int, slots: int) -> Shape | None:
    """The shape with most rows a ciphertext of those that take no more ciphertexts for it; `None` if none fits."""
    widths = [network.layers[0].weights.shape[1], *(len(layer.bias) for layer in network.layers)]
    periods = [power_of_two(width) for width in widths]

    def taken(rows: int, reads: int) -> tuple[int, int] | None:
        inputs = -(-reads * periods[1] * rows // slots) if reads else 1
        results = -(-widths[-1] * periods[-2] * rows // slots)
        fits = max(periods[1 if reads else 0 : -1]) * rows <= slots and inputs <= MAX_INPUTS and results <= MAX_RESULTS
        return (inputs, results) if fits else None

    for reads in (fan_in, 0):
        least = taken(1, reads)
        if least is not None:
            rows = 1
            while taken(2 * rows, reads) == least:
                rows *= 2
            return Shape(widths=widths, fan_in=reads, rows=rows)
    return None


class _Scales(NamedTuple):
    """In bits: of the input and the first weights, of a later layer's input, weights and square, of the last weights."""

    start: int
    first: int
    entry: int
    later: int
    square: int
    end: int


class _Found(NamedTuple):
    """Scales that leave room for every value, and what follows: how far off scores may be, as shares of what is accepted."""

    scales: _Scales
    packing: Packing
    budget: Budget
    off: float


class _Search:
    """Scales for one network at one degree."""

    def __init__(self, network: SquareNetwork, degree: int, shape: Shape, tolerance: float | Floats) -> None:
        last = network.layers[-1]
        products = float(np.abs(last.weights).max() + np.abs(last.bias).max())
        self._room = math.ceil(math.log2(max(products, 1.0)) + 1.05)
        self._hidden = len(network.layers) - 1
        self._degree = degree
        self._shape = shape
        self._layers = _as_read(network, shape)
        self._tolerance = tolerance

    def candidates(self) -> Iterator[tuple[_Scales, float]]:
        """A grid of scales that fit into the bits that the degree allows, and what a row costs with each."""
        stride = _FINE if self._hidden == 1 else _COARSE
        inputs, weights, between = (range(*ends, stride) for ends in (_INPUT_SCALES, _WEIGHT_SCALES, _BETWEEN_SCALES))
        later = [(0, 0)] if self._hidden == 1 else itertools.product(between, between)
        for (entry, square), start, step, end in itertools.product(later, inputs, weights, weights):
            scales = _Scales(start, step, entry, step, square, end)
            packing = self._packing(scales)
            if packing is not None:
                yield scales, _cost(packing)

    def best(self, group: Sequence[_Scales]) -> _Found | None:
        """Those with the least bound, of those that leave room for every value."""
        found = [each for each in map(self._found, group) if each is not None]
        return min(found, key=lambda each: each.off, default=None)

    def climbed(self, found: _Found, cost: float) -> _Found:
        """Move bits from one scale to another, at the same cost, until that helps no more or is no longer needed."""
        while found.off > 1:
            neighbours = [_Scales(*np.add(found.scales, move).tolist()) for move in _moves()]
            packed = [(scales, self._packing(scales)) for scales in neighbours]
            nearer = self.best([scales for scales, packing in packed if packing is not None and _cost(packing) == cost])
            if nearer is None or nearer.off >= found.off:
                break
            found = nearer
        return found

    def _found(self, scales: _Scales) -> _Found | None:
        packing = self._packing(scales)
        if packing is None:
            return None
        followed = budget(packing, self._layers)
        off = float((followed.error_bound / self._tolerance).max())
        return _Found(scales, packing, followed, off) if followed.headroom < 1 else None

    def _packing(self, scales: _Scales) -> Packing | None:
        parameters = _filled(self._degree, self._hidden, self._room, scales)
        return None if parameters is None else Packing(parameters, self._shape)


def _moves() -> Iterator[list[int]]:
    """One scale up or down by a bit or two, or that and another the other way."""
    places = range(len(_Scales._fields))
    for place, change in itertools.product(places, (-2, -1, 1, 2)):
        yield [change if each == place else 0 for each in places]
    for (up, down), more, less in itertools.product(itertools.permutations(places, 2), (1, 2), (1, 2)):
        yield [more if each == up else -less if each == down else 0 for each in places]


def _filled(degree: int, hidden: int, room: int, scales: _Scales) -> Parameters | None:
    """Parameters for these scales: what is dropped, from the last step back to the first; `None` where they do not fit."""
    start, first, entry, later, square, end = scales
    squares = [start + first, *[square] * (hidden - 1)]
    kept = _primes(2 * squares[-1] + end + room)
    if kept is None:
        return None
    data, drops = kept, [[0, 0] for _ in squares]
    for layer in range(hidden - 1, 0, -1):
        before, after = _primes(entry + later - square), _primes(2 * squares[layer - 1] - entry)
        if before is None or after is None:
            return None
        drops[layer][0], drops[layer - 1][1] = len(before), len(after)
        data = [*data, *before, *after]
    special = min(MAX_PRIME_BITS, MODULUS_BITS_AT_128[degree] - sum(data))
    weights = [first, *[later] * (hidden - 1), end]
    if (
        special < max(LEAST_PRIME_BITS, max(data) - _LEAST_SPECIAL)
        or len(data) > MAX_PRIMES
        or max(map(max, drops)) > MAX_DROP
        or not all(LEAST_SCALE_BITS <= scale <= MOST_SCALE_BITS for scale in (start, *weights))
    ):
        return None
    return Parameters(
        scheme="ckks",
        degree=cast("Literal[8192, 16384, 32768]", degree),
        data_bits=data,
        special_bits=special,
        input_scale_bits=start,
        weight_scale_bits=weights,
        drops=drops,
    )


def _primes(bits: int) -> list[int] | None:
    """The fewest primes with so many bits together, as alike as can be; `None` where there are none."""
    if bits <= 0:
        return [] if bits == 0 else None
    count = -(-bits // MAX_PRIME_BITS)
    even = [bits // count + (place < bits % count) for place in range(count)]
    return even if min(even) >= LEAST_PRIME_BITS else None


def _cost(packing: Packing) -> float:
    """What a row costs, in number theoretic transforms of one prime at degree 8192."""
    parameters, shape = packing.parameters, packing.shape
    primes, total = len(parameters.data_bits), 0.0
    for layer, drops in enumerate(parameters.drops):
        if layer == 0 and shape.fan_in:
            products, rotations = packing.inputs, len(packing.first_folds)
        else:
            plan = packing.diagonals(layer)
            products, rotations = plan.baby * plan.giant, plan.baby + plan.giant - 2 + len(plan.folds)
        total += products * primes * 0.6 + rotations * _switch(primes)
        primes -= drops[0]
        total += _switch(primes)
        primes -= drops[1]
    total += packing.results * primes * 3
    return round(total * parameters.degree / 8192 / shape.rows, 6)


def _switch(primes: int) -> float:
    return primes * (primes + 1) + 3 * primes + 2
