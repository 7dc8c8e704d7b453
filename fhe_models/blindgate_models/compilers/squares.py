"""Networks whose every activation is a square: what the family `network` computes, and what others are turned into.

x = y² after every hidden layer is as general as any activation of degree 2: a·y² + c·y + d = a·(y + c/2a)² + (d - c²/4a), whose
shift belongs to the layer before and whose factor and constant belong to the layer after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.network.noise import Affine, interval
from blindgate_models.network.spec import MAX_FEATURES, MAX_LAYERS, MAX_WEIGHTS, MAX_WIDTH

Floats = NDArray[np.float64]

_BINARY: Final = 2
_LEAST_SQUARE: Final = 1e-6
"""A unit whose square counts less than this, beside its linear part, is no square: its shift would drown it."""


@dataclass(frozen=True)
class Quadratic:
    """An activation: square · y² + linear · y + constant, a number a unit each."""

    square: Floats
    linear: Floats
    constant: Floats


@dataclass(frozen=True)
class SquareNetwork:
    """Affine layers with a square between every two, with scikit-learn's names for what it predicts.

    Attributes:
        layers: in order; weights are `(units, inputs)`.
        labels: the classes in the order of the scores, or `None` for a regression.
    """

    layers: tuple[Affine, ...]
    labels: tuple[Label, ...] | None

    @classmethod
    def of(
        cls, layers: Sequence[Affine], activations: Sequence[Quadratic | None], labels: Sequence[Label] | None
    ) -> Self:
        """Fold activations in; where there is none between two layers, the two are one.

        Raises `ValueError` on a unit that is linear, without a square, or a network with no square at all.
        """
        folded = [layers[0]]
        for layer, activation in zip(layers[1:], activations, strict=True):
            before = folded[-1]
            if activation is None:
                folded[-1] = Affine(layer.weights @ before.weights, layer.weights @ before.bias + layer.bias)
                continue
            square, linear = activation.square, activation.linear
            still = (square == 0) & (linear == 0)  # the same number, whatever comes
            if ((np.abs(square) <= _LEAST_SQUARE * np.abs(linear)) & ~still).any():
                msg = f"layer {len(folded)}: a unit's activation has no square; expected degree 2, or none at all"
                raise ValueError(msg)
            shift = linear / np.where(still, 1.0, 2 * square)
            folded[-1] = Affine(before.weights, before.bias + shift)
            constant = activation.constant - square * shift**2
            folded.append(Affine(layer.weights * square, layer.bias + layer.weights @ constant))
        if len(folded) == 1:
            msg = "a network without activations is one linear layer; expected at least one square (see the family linear)"
            raise ValueError(msg)
        return cls(tuple(folded), None if labels is None else tuple(labels))

    @property
    def link(self) -> Link:
        """From scores to probabilities or numbers."""
        if self.labels is None:
            return "identity"
        return "sigmoid" if len(self.layers[-1].bias) == 1 else "softmax"

    def scores(self, rows: Floats) -> Floats:
        """The raw scores of `(n, features)` rows: `(n, outputs)`."""
        *hidden, last = self.layers
        for layer in hidden:
            rows = (rows @ layer.weights.T + layer.bias) ** 2
        return np.asarray(rows @ last.weights.T + last.bias)

    def decision_function(self, rows: Floats) -> Floats:
        """The raw scores, by scikit-learn's name: `(n, outputs)`, of two classes that share one `(n,)`."""
        scores = self.scores(np.asarray(rows, dtype=np.float64))
        return scores[:, 0] if scores.shape[1] == 1 else scores

    @property
    def classes_(self) -> NDArray[np.generic]:
        """The labels. Raises `AttributeError` for a regression."""
        if self.labels is None:
            msg = "a regression has no classes"
            raise AttributeError(msg)
        return np.asarray(self.labels)

    def predict(self, rows: Floats) -> NDArray[np.generic]:
        """Labels, or numbers: `(n,)`, of several outputs `(n, outputs)`."""
        scores = self.scores(np.asarray(rows, dtype=np.float64))
        if self.labels is None:
            return scores[:, 0] if scores.shape[1] == 1 else scores
        return np.asarray(self.classes_[decided(scores)])

    def after(self, factors: Floats, constants: Floats) -> "SquareNetwork":
        """The network that takes x where this one takes factors · x + constants: `(inputs, features)` and `(inputs,)`."""
        first, *others = self.layers
        layer = Affine(first.weights @ factors, first.bias + first.weights @ constants)
        return replace(self, layers=(layer, *others))

    def balanced(self) -> "SquareNetwork":
        """The same function of inputs within [-1, 1], where no hidden y can leave [-1, 1]: so scales fit all units alike."""
        low, high = (np.full(self.layers[0].weights.shape[1], side) for side in (-1.0, 1.0))
        layers = [*self.layers]
        for place in range(len(layers) - 1):
            layer = layers[place]
            least, most = interval(layer, low, high)
            reach = np.maximum(np.abs(least), np.abs(most))
            reach = np.where(reach > 0, reach, 1.0)
            layers[place] = Affine(layer.weights / reach[:, None], layer.bias / reach)
            following = layers[place + 1]
            layers[place + 1] = Affine(following.weights * reach**2, following.bias)
            low, high = np.zeros(len(reach)), np.ones(len(reach))
        return replace(self, layers=tuple(layers))


def require_sizes(layers: Sequence[Affine]) -> None:
    """Refuse layers that the family has no room for, by their place. Raises `ValueError`."""
    if len(layers) > MAX_LAYERS:
        msg = f"estimator: got {len(layers)} layers, expected at most {MAX_LAYERS}"
        raise ValueError(msg)
    columns = layers[0].weights.shape[1]
    if columns > MAX_FEATURES:
        msg = f"estimator: reads {columns} columns and categories, expected at most {MAX_FEATURES}"
        raise ValueError(msg)
    for place, layer in enumerate(layers):
        units, reads = len(layer.bias), int(np.count_nonzero(layer.weights, axis=1).max()) if place == 0 else 0
        numbers = units * (reads or layer.weights.shape[1])
        if units > MAX_WIDTH:
            msg = f"estimator: layer {place} has {units} units, expected at most {MAX_WIDTH}"
            raise ValueError(msg)
        if numbers > MAX_WEIGHTS:
            msg = f"estimator: layer {place} has {numbers} weights, expected at most {MAX_WEIGHTS}"
            raise ValueError(msg)


def decided(scores: Floats) -> NDArray[np.intp]:
    """The position of each row's label."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.intp)
    return np.asarray(scores.argmax(axis=1))
