"""From a logistic model to a network of one unit whose sigmoid the node applies: who asks learns probabilities and holds no score.

1. **Read** weights and labels as the family `linear` does, estimator tested against them.
2. **Bound the score**: within the declared ranges no |z| exceeds Z = Σ|w| + |b|, folded to those ranges. t = z / Z.
3. **Approximate** sigmoid(Z t) - ½ by an odd polynomial, as evenly as its degree allows (Lawson 1961), of the least degree within
   `tolerance`. Odd, so that it is exactly ½ at z = 0; checked to be above ½ for every z > 0, so that labels are the
   estimator's.
4. **Choose** a ring whose noise leaves the rest of `tolerance`, or go on to the next degree, whose polynomial leaves more to it;
   and run the parts on calibration rows, as for any network.

A wide range costs a high degree: 63 is good for |z| up to about 45, 127 up to 90. The network is public to who examines
replies, as all of its family are: what is hidden from users of the SDK is the score, by rounding and by the flat ends of the
sigmoid.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import PUBLIC, CompiledModel, Disclosures, steepness
from blindgate_models.compilers.linear import Logistic, read_logistic
from blindgate_models.compilers.polynomial import encryption, measured
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.compilers.ranges import Ranges
from blindgate_models.features import expand, reach
from blindgate_models.network.activation import LEAST_DOUBLINGS, MOST_DOUBLINGS, levels, plan
from blindgate_models.network.noise import Affine, Budget, budget
from blindgate_models.network.packing import Packing
from blindgate_models.network.spec import (
    DEGREES,
    DETERMINISM,
    DISCLOSES_TO_NODE,
    FAMILY,
    LEAST_PRIME_BITS,
    MAX_FEATURES,
    MAX_PRIME_BITS,
    VERSION,
    Activation,
    ClientPart,
    Layer,
    Parameters,
    ServerPart,
    Shape,
    power_of_two,
)
from blindgate_models.rows import middle_and_half
from blindgate_models.security import MODULUS_BITS_AT_128

Floats = NDArray[np.float64]

DEFAULT_TOLERANCE: Final = 0.005
"""Of a probability: two decimals."""

DISCLOSES_TO_CLIENT: Final = (
    "the weights and the intercept, to anyone who examines a reply",
    "the probabilities, to the decimals shown; where the sigmoid is not flat, scores follow from them",
)

_EVEN: Final = 0.5
_APPROXIMATION: Final = 0.9
"""The share of the tolerance that the polynomial may take; the rest is the noise's."""
_OF_SIGNAL: Final = 0.02
"""How far off a probability may be, as a share of the most that one of the calibration rows lies from ½."""
_REACHED: Final = 0.05
"""Some row comes as near as this to the largest score that the ranges allow, whatever the calibration rows are."""
_INPUTS: Final = 4
_END_SCALES: Final = range(10, 25)
_ROOM: Final = 2
"""Bits that the last prime leaves above a probability."""
_SAMPLES_PER_TERM: Final = 16
_BETWEEN_SAMPLES: Final = 1.01
"""The polynomial is no further off between two samples than this many times what it is at them: 32 a degree, as tests measure."""
_ROUNDS: Final = 50
_OUT_OF_REACH: Final = 20
"""Least squares are no more than so many times as far off as the best polynomial of these degrees."""
_GUARD: Final = 1 - 2.0**-30
"""Keeps |t| within 1 after rounding."""


class _Chosen(NamedTuple):
    parameters: Parameters
    shape: Shape
    budget: Budget


def compile_hidden_scores(
    estimator: Any,
    calibration: pd.DataFrame | NDArray[Any] | Prepared,
    *,
    ranges: Ranges | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> CompiledModel:
    """Compile a fitted logistic model of two classes, or a pipeline that ends in one, so that only probabilities come back.

    Args:
        estimator: as for `compile_linear`, with a `predict_proba` that is the sigmoid of its score.
        calibration: rows like those to come.
        ranges: `(lo, hi)` for each column; by default those of `calibration`, widened. The wider, the larger the score can be, and
            the higher the polynomial's degree.
        tolerance: how far a probability may be off, all told; but no more than 1 in 50 of how far those of the calibration rows lie
            from ½, or labels would be those of the noise.

    Raises:
        TypeError: not a linear model, or a step that is not affine.
        ValueError: not a logistic model of two classes, one whose weights are all 0, or ranges too wide for the tolerance.
    """
    if not tolerance > 0:
        msg = f"tolerance: got {tolerance:g}, expected a share of a probability above 0"
        raise ValueError(msg)
    prepared = Prepared.given(estimator, calibration, ranges)
    try:
        read = read_logistic(estimator, prepared)
    except TypeError as error:
        msg = f"scores are hidden of logistic models of two classes, and of none else: {error}"
        raise TypeError(msg) from error
    if not read.weights.any():
        msg = (
            "estimator: every weight is 0, so the model says the same of every row: there is nothing to encrypt for it"
        )
        raise ValueError(msg)
    if len(read.features) > MAX_FEATURES:
        msg = f"estimator: reads {len(read.features)} columns and categories, expected at most {MAX_FEATURES}"
        raise ValueError(msg)
    limits = reach(read.features, prepared.limits)
    middle, half = middle_and_half(limits)
    weights, constant = read.weights * half, read.intercept + float(read.weights @ middle)
    largest = (float(np.abs(weights).sum()) + abs(constant)) / _GUARD
    first = Affine(weights[None] / largest, np.array([constant / largest]))
    last = Affine(np.ones((1, 1)), np.array([_EVEN]))

    def probabilities(rows: Floats) -> Floats:
        return _sigmoid(expand(read.features, rows) @ read.weights + read.intercept)[:, None]

    signal = max(
        float(np.abs(probabilities(prepared.rows) - _EVEN).max()),
        _REACHED * float(_sigmoid(np.array(largest))) - _REACHED / 2,
    )
    wanted = min(tolerance, _OF_SIGNAL * signal)
    nearest = math.inf
    for odd, off in _polynomials(largest, wanted):
        chosen, noise = _choose(first, last, odd, wanted - off)
        nearest = min(nearest, off + noise)
        if chosen is not None:
            break
    else:
        if math.isinf(nearest):
            raise ValueError(_too_wide(prepared, read, weights, constant, limits))
        msg = f"no parameters at 128-bit security are exact enough: {nearest:.2g} off, expected at most {wanted:.2g}"
        if wanted < tolerance:
            msg += f", since probabilities lie within {signal:.2g} of a half"
        raise ValueError(msg)
    reads = [list(range(len(limits)))]
    client = ClientPart(
        family=FAMILY,
        version=VERSION,
        parameters=chosen.parameters,
        shape=chosen.shape,
        columns=1 + max(feature.column for feature in read.features),
        features=read.features,
        reads=reads,
        ranges=limits.tolist(),
        error_bound=(off + chosen.budget.error_bound).tolist(),
    )
    server = ServerPart(
        family=FAMILY,
        version=VERSION,
        parameters=chosen.parameters,
        shape=chosen.shape,
        layers=[Layer(weights=layer.weights.tolist(), bias=layer.bias.tolist()) for layer in (first, last)],
        activation=odd.tolist(),
    )
    return CompiledModel(
        family=FAMILY,
        client=client.model_dump(),
        server=server.model_dump(),
        columns=prepared.columns,
        task="classification",
        labels=read.labels,
        link="probability",
        steepness=steepness("probability", np.ones(1)),
        encryption=encryption(client),
        privacy=PUBLIC,
        determinism=DETERMINISM,
        discloses=Disclosures(to_client=list(DISCLOSES_TO_CLIENT), to_node=list(DISCLOSES_TO_NODE)),
        report=measured(client, server, prepared.rows, probabilities, _decided),
    )


def sigmoid_polynomial(largest: float, doublings: int, tolerance: float = 0.0) -> tuple[Floats, float]:
    """The best c_1, c_3, … of sigmoid(`largest` · t) - ½ for |t| ≤ 1, of degree below 2^doublings, and how far off it is at most.

    Gives up early, with what it has, where `tolerance` is out of reach. Infinitely far where it is not above 0 for all t > 0.
    """
    samples = _SAMPLES_PER_TERM << doublings
    points = np.cos(np.pi * (np.arange(samples) + 0.5) / (2 * samples))  # t > 0
    wanted = _sigmoid(largest * points) - _EVEN
    terms = np.cos(np.arccos(points)[:, None] * np.arange(1, 1 << doublings, 2))  # T_1, T_3, …
    weights = np.full(samples, 1 / samples)
    odd, off = np.zeros(terms.shape[1]), math.inf
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(terms * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(terms @ found - wanted)
        if error.max() * _BETWEEN_SAMPLES < off:
            odd, off = found, float(error.max()) * _BETWEEN_SAMPLES
        if off > _OUT_OF_REACH * tolerance > 0:
            break
        weights = weights * error
        weights /= weights.sum()
    return (odd, off) if (terms @ odd > 0).all() else (odd, math.inf)


def _polynomials(largest: float, tolerance: float) -> Iterator[tuple[Floats, float]]:
    """Those that are near enough, of rising degree, and how far off they are."""
    for doublings in range(LEAST_DOUBLINGS, MOST_DOUBLINGS + 1):
        odd, off = sigmoid_polynomial(largest, doublings, _APPROXIMATION * tolerance)
        if off <= _APPROXIMATION * tolerance:
            yield odd, off


def _too_wide(prepared: Prepared, read: Logistic, weights: Floats, constant: float, limits: Floats) -> str:
    """Why no polynomial covers a model whose score is `weights` · u + `constant`, |u| ≤ 1."""
    widest = int(np.abs(weights).argmax())
    column = prepared.columns[read.features[widest].column]
    reached = float(np.abs(weights).sum())
    told = (
        f"within the declared ranges the score can be anything up to ±{reached + abs(constant):.3g}, and there no polynomial of "
        f"degree {(1 << MOST_DOUBLINGS) - 1} is near enough: "
    )
    if abs(constant) > reached:
        return f"{told}in the middle of the ranges it is {constant:.3g}, so that all probabilities are nearly 0 or nearly 1"
    return (
        f"{told}declare narrower ranges; most of it, ±{abs(float(weights[widest])):.3g}, is column {column['name']!r}, from "
        f"{limits[widest][0]:g} to {limits[widest][1]:g}"
    )


def _choose(first: Affine, last: Affine, odd: Floats, precision: float) -> tuple[_Chosen | None, float]:
    """The smallest ring that is exact enough, and in it the split of bits that is most exact; and the least bound found."""
    doublings = len(odd).bit_length()
    bound, steps = math.inf, plan(odd)
    for degree in DEGREES:
        found = [
            _Chosen(parameters, shape, budget(Packing(parameters, shape), [first, last], steps))
            for parameters, shape in _candidates(degree, doublings, first.weights.shape[1])
        ]
        sound = [each for each in found if each.budget.headroom < 1]
        best = min(sound, key=lambda each: float(each.budget.error_bound.max()), default=None)
        if best is not None:
            bound = min(bound, float(best.budget.error_bound.max()))
            if bound <= precision:
                return best, bound
    return None, bound


def _candidates(degree: int, doublings: int, features: int) -> Iterator[tuple[Parameters, Shape]]:
    slots = degree // 2
    reads = max(1, power_of_two(-(-features // _INPUTS)))
    if reads > slots:
        return
    shape = Shape(widths=[features, 1, 1], fan_in=features, rows=slots // reads)
    steps = 1 + levels(doublings)
    for kept, end in itertools.product(range(MAX_PRIME_BITS, LEAST_PRIME_BITS, -1), _END_SCALES):
        step = min((MODULUS_BITS_AT_128[degree] - 2 * kept) // steps, kept - end - _ROOM)
        if step < LEAST_PRIME_BITS:
            continue
        parameters = Parameters(
            scheme="ckks",
            degree=cast("Literal[8192, 16384, 32768]", degree),
            data_bits=[kept, *[step] * steps],
            special_bits=kept,
            input_scale_bits=step,
            weight_scale_bits=[step, end],
            drops=[[1, levels(doublings)]],
            activation=Activation(doublings=doublings, scale_bits=step),
        )
        yield parameters, shape


def _decided(probabilities: Floats) -> NDArray[np.intp]:
    return (probabilities[:, 0] > _EVEN).astype(np.intp)


def _sigmoid(scores: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))
