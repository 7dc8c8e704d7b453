"""From a network with other activations to one with squares: replaced, then trained a little further.

A ReLU, a tanh or a logistic function is no polynomial. Over the numbers that a layer really sees, a polynomial of degree 2 is near
it; after some more training, of all layers, the network hardly notices. So, for scikit-learn's MLPs:

1. **Replace**, layer by layer: the polynomial that fits the activation best on the rows given, by least squares.
2. **Train** with Adam on those rows. The targets are what the network itself says, probabilities or numbers, so no answers
   are needed: it is to be imitated, not bettered. Everything is numpy, the random source is seeded.
3. **Report** how often both agree, on rows that were kept back. Whoever publishes decides whether that is good enough.

The more rows there are, the nearer it comes; a hundred are few.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label
from blindgate_models.compilers.squares import Quadratic, SquareNetwork, decided
from blindgate_models.network.noise import Affine

Floats = NDArray[np.float64]

_KEPT_BACK: Final = 5
_BATCH: Final = 64
_STEPS: Final = 4000
_RATE: Final = 2e-3
_DECAY: Final = 1e-5
_LONGEST: Final = 1.0
_LEAST_BEND: Final = 0.15
_SAME: Final = 1e-12
_MOMENTS: Final = (0.9, 0.999)
_ACTIVATIONS: Final[dict[str, Callable[[Floats], Floats]]] = {
    "identity": lambda y: y,
    "logistic": lambda y: 1 / (1 + np.exp(-np.clip(y, -500, 500))),
    "relu": lambda y: np.maximum(y, 0),
    "tanh": np.tanh,
}


class Plain(NamedTuple):
    """A fitted MLP of scikit-learn.

    Attributes:
        layers: weights as `(units, inputs)`.
        activation: of all hidden layers, by scikit-learn's name.
        labels: the classes, or `None` for a regression.
    """

    layers: tuple[Affine, ...]
    activation: str
    labels: tuple[Label, ...] | None

    def scores(self, rows: Floats) -> Floats:
        """The raw scores of `(n, features)` rows: `(n, outputs)`."""
        *hidden, last = self.layers
        for layer in hidden:
            rows = _ACTIVATIONS[self.activation](rows @ layer.weights.T + layer.bias)
        return np.asarray(rows @ last.weights.T + last.bias)


@dataclass(frozen=True)
class Tuned:
    """A network with squares, and how near it came.

    Attributes:
        network: it.
        kept: which rows were kept back to compare on.
        agreement: the share of them on which both decide alike; for a regression, 1 minus the mean square of the difference as
            a share of the variance, of the output that comes out worst.
    """

    network: SquareNetwork
    kept: NDArray[np.intp]
    agreement: float


def read_mlp(model: Any) -> Plain:
    """Take scikit-learn's `MLPClassifier` or `MLPRegressor` apart.

    Raises `TypeError` on another estimator, or one that is none of a network; `ValueError` on weights that are not finite.
    """
    if not (hasattr(model, "coefs_") and hasattr(model, "intercepts_") and model.activation in _ACTIVATIONS):
        msg = (
            f"estimator: got {type(model).__name__}, expected a fitted MLPClassifier or MLPRegressor, a SquareNetwork, or torch's "
            "nn.Sequential"
        )
        raise TypeError(msg)
    if model.out_activation_ == "exp":
        msg = f"estimator: got {type(model).__name__} with the loss 'poisson', expected 'squared_error'"
        raise TypeError(msg)
    if model.out_activation_ not in {"identity", "logistic", "softmax"} or (
        model.out_activation_ == "logistic" and model.n_outputs_ > 1
    ):
        msg = f"estimator: {model.n_outputs_} outputs through {model.out_activation_!r}: more than one label a row"
        raise TypeError(msg)
    layers = tuple(
        Affine(np.asarray(weights, dtype=np.float64).T, np.asarray(bias, dtype=np.float64))
        for weights, bias in zip(model.coefs_, model.intercepts_, strict=True)
    )
    for place, layer in enumerate(layers):
        if not (np.isfinite(layer.weights).all() and np.isfinite(layer.bias).all()):
            msg = f"estimator: layer {place} of the {type(model).__name__}: a weight is not finite"
            raise ValueError(msg)
    if len(layers) == 1:
        msg = (
            f"estimator: {type(model).__name__} without hidden layers is a linear model: fit LogisticRegression or Ridge, for the "
            "family linear"
        )
        raise TypeError(msg)
    labels = tuple(np.asarray(model.classes_).tolist()) if hasattr(model, "classes_") else None
    return Plain(layers, model.activation, labels)


def fine_tune(plain: Plain, rows: Floats, *, steps: int = _STEPS, seed: int = 0) -> Tuned:
    """Replace the activations of `plain` and train on `rows`, `(n, features)`, as they enter its first layer (1 to 3 above).

    Raises `ValueError` on fewer than ten rows.
    """
    if len(rows) < 2 * _KEPT_BACK:
        msg = (
            f"calibration: got {len(rows)} rows, expected at least {2 * _KEPT_BACK} to train polynomial activations on"
        )
        raise ValueError(msg)
    order = np.random.default_rng(seed).permutation(len(rows))
    kept, seen = np.sort(order[: len(rows) // _KEPT_BACK]), rows[order[len(rows) // _KEPT_BACK :]]
    network = train(_replaced(plain, seen), seen, _targets(plain, seen), steps=steps, seed=seed)
    got, wanted = network.scores(rows[kept]), plain.scores(rows[kept])
    if plain.labels is None:
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        agreement = 1 - float((((got - wanted) ** 2).sum(axis=0) / np.where(spread > 0, spread, 1.0)).max())
    else:
        agreement = float((decided(got) == decided(wanted)).mean())
    return Tuned(network, kept, agreement)


def _replaced(plain: Plain, rows: Floats) -> SquareNetwork:
    """Step 1. An odd function bends nowhere, so its square is made large enough to be folded in.

    A layer that gives the same for all rows, as one of ReLUs that are never above 0, is that number.
    """
    *hidden, _ = plain.layers
    function = _ACTIVATIONS[plain.activation]
    quadratics: list[Quadratic | None] = []
    for layer in hidden:
        values = rows @ layer.weights.T + layer.bias
        rows = function(values)
        square, linear, constant = 0.0, 0.0, float(rows.flat[0])
        if np.ptp(rows) > 0:
            square, linear, constant = np.polyfit(values.ravel(), rows.ravel(), 2)
            bend = _LEAST_BEND * abs(linear) / float(values.std())
            square = square if abs(square) >= bend else bend
        units = len(layer.bias)
        quadratics.append(Quadratic(*(np.full(units, number) for number in (square, linear, constant))))
    return SquareNetwork.of(plain.layers, quadratics, plain.labels)


def _targets(plain: Plain, rows: Floats) -> Floats:
    """What the network says: probabilities, or numbers."""
    scores = plain.scores(rows)
    return scores if plain.labels is None else _probabilities(scores)


def _probabilities(scores: Floats) -> Floats:
    if scores.shape[1] == 1:
        return np.asarray(_ACTIVATIONS["logistic"](scores))
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def train(
    network: SquareNetwork, rows: Floats, targets: Floats, *, steps: int = _STEPS, seed: int = 0
) -> SquareNetwork:
    """Train a network of squares: Adam, its rate falling to 0, on gradients that are cut to a length of 1.

    The numbers of a regression are brought to a mean of 0 and a deviation of 1 meanwhile, each output by itself: Adam's steps are
    as long for a weight of a million as for one of a millionth.

    Args:
        network: where to begin.
        rows: `(n, features)`.
        targets: `(n, outputs)`: probabilities of the classes, for one output of the second; numbers for a regression.
        steps: of 64 rows each.
        seed: of the choice of rows.
    """
    rng = np.random.default_rng(seed)
    classifies = network.labels is not None
    middle, unit = (np.zeros(1), np.ones(1)) if classifies else _units(targets)
    *hidden, last = network.layers
    scaled = Affine(last.weights / unit[:, None], (last.bias - middle) / unit)
    targets = (targets - middle) / unit
    numbers = [part.copy() for layer in (*hidden, scaled) for part in layer]
    first, second = [np.zeros_like(part) for part in numbers], [np.zeros_like(part) for part in numbers]
    for step in range(1, steps + 1):
        batch = rng.integers(len(rows), size=min(_BATCH, len(rows)))
        gradients = _gradients(numbers, rows[batch], targets[batch], classifies=classifies)
        length = np.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        rate = _RATE * (1 - (step - 1) / steps)
        for place, gradient in enumerate(gradients):
            cut = gradient * min(1.0, _LONGEST / (length + 1e-12)) + _DECAY * numbers[place]
            first[place] += (1 - _MOMENTS[0]) * (cut - first[place])
            second[place] += (1 - _MOMENTS[1]) * (cut**2 - second[place])
            mean, square = first[place] / (1 - _MOMENTS[0] ** step), second[place] / (1 - _MOMENTS[1] ** step)
            numbers[place] -= rate * mean / (np.sqrt(square) + 1e-8)
    *layers, last = (Affine(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))
    return SquareNetwork((*layers, Affine(last.weights * unit[:, None], last.bias * unit + middle)), network.labels)


def _units(targets: Floats) -> tuple[Floats, Floats]:
    """The mean and deviation of each output, `(outputs,)`; of numbers that are all the same but for the last digits, 1."""
    middle, unit = targets.mean(axis=0), targets.std(axis=0)
    return middle, np.where(unit > _SAME * np.abs(middle), unit, 1.0)


def _gradients(numbers: list[Floats], rows: Floats, targets: Floats, *, classifies: bool) -> list[Floats]:
    """Of the cross entropy, or of half the square of the error, by weights and biases in turn."""
    inputs, sums = [rows], []
    for weights, bias in zip(numbers[:-2:2], numbers[1:-2:2], strict=True):
        sums.append(inputs[-1] @ weights.T + bias)
        inputs.append(sums[-1] ** 2)
    scores = inputs[-1] @ numbers[-2].T + numbers[-1]
    error = (_probabilities(scores) - targets if classifies else scores - targets) / len(rows)
    gradients: list[Floats] = []
    for layer in range(len(inputs) - 1, -1, -1):
        gradients[:0] = [error.T @ inputs[layer], error.sum(axis=0)]
        if layer:
            error = (error @ numbers[2 * layer]) * 2 * sums[layer - 1]
    return gradients
