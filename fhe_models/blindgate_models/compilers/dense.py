"""Linear models and small networks as plain layers, for the Concrete ML compiler.

One quantiser serves all features of such a model, so columns of different units are first brought to one range: x
becomes (x - centre) / spread with each column's middle and half range in the calibration rows, and the first layer
takes the inverse. Steps in front of the estimator that are weighted sums of features are folded in the same way.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label, Link
from blindgate_models.compilers.pipelines import Steps, read_affine
from blindgate_models.features import Feature

_CLOSE: Final = 1e-9
_BINARY: Final = 2


@dataclass(frozen=True)
class Layer:
    """x @ weights + bias: `(inputs, outputs)` and `(outputs,)`."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]


@dataclass(frozen=True)
class Dense:
    """Layers with a ReLU between every two.

    Attributes:
        layers: in order.
        labels: the classes, or `None` for a regression.
        link: from scores to probabilities or numbers.
    """

    layers: tuple[Layer, ...]
    labels: tuple[Label, ...] | None
    link: Link

    def scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The raw scores of `rows`, `(n, features)`: `(n, outputs)` float64."""
        first, *others = self.layers
        values = rows @ first.weights + first.bias
        for layer in others:
            values = np.maximum(values, 0) @ layer.weights + layer.bias
        return values

    def after(self, slope: NDArray[np.float64], offset: NDArray[np.float64]) -> "Dense":
        """The model that takes x where this one takes slope · x + offset."""
        first, *others = self.layers
        layer = Layer(first.weights * slope[:, None], first.bias + offset @ first.weights)
        return replace(self, layers=(layer, *others))


@dataclass(frozen=True)
class Scaling:
    """slope · x + offset, column by column: both `(features,)`."""

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]


def read_dense(model: Any, steps: Steps) -> tuple[Dense, list[Feature]]:
    """Take a fitted linear model or network of ReLUs apart, and the steps before it: a model over features.

    Raises `TypeError` on another estimator, or steps that are no weighted sums.
    """
    dense = _read_model(model)
    features, factors, constants = read_affine(steps)
    first, *others = dense.layers
    layer = Layer(factors.T @ first.weights, first.bias + constants @ first.weights)
    return replace(dense, layers=(layer, *others)), features


def read_steps(steps: Sequence[Any], rows: NDArray[np.float64]) -> Scaling:
    """The steps before a model as one scaling, tested on `rows`. Raises `TypeError` on a step that is none."""
    slope, offset = np.ones(rows.shape[1]), np.zeros(rows.shape[1])
    with warnings.catch_warnings():
        # A scaler that was fitted on named columns says so when it is asked about numbers.
        warnings.simplefilter("ignore", UserWarning)
        for step in steps:
            if step == "passthrough":
                continue
            step_offset = step.transform(np.zeros((1, rows.shape[1])))[0]
            step_slope = step.transform(np.ones((1, rows.shape[1])))[0] - step_offset
            if not np.allclose(step.transform(rows), rows * step_slope + step_offset, rtol=_CLOSE, atol=_CLOSE):
                msg = f"estimator: the step {type(step).__name__} does not scale each column by itself"
                raise TypeError(msg)
            slope, offset = slope * step_slope, offset * step_slope + step_offset
    return Scaling(slope, offset)


def _read_model(model: Any) -> Dense:
    labels = tuple(np.asarray(model.classes_).tolist()) if hasattr(model, "classes_") else None
    if hasattr(model, "coefs_"):
        if model.activation != "relu" and len(model.coefs_) > 1:
            msg = f"estimator: got the activation {model.activation!r}, expected 'relu'"
            raise TypeError(msg)
        layers = tuple(
            Layer(np.asarray(w, float), np.asarray(b, float))
            for w, b in zip(model.coefs_, model.intercepts_, strict=True)
        )
    elif hasattr(model, "coef_"):
        weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        layers = (Layer(weights.T, np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (len(weights),))),)
    else:
        msg = (
            f"estimator: {type(model).__name__} is no linear model or network that Concrete ML compiles; a network that "
            "Concrete ML fitted comes as the file that its dump wrote"
        )
        raise TypeError(msg)
    if labels is None:
        return Dense(layers, None, "identity")
    return Dense(layers, labels, "sigmoid" if len(labels) == _BINARY else "softmax")
