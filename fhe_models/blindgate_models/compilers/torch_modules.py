"""A torch `nn.Sequential` as affine layers and polynomial activations, read by its attributes: torch is not imported here.

1. Linear, convolutions, means over windows, batch norms and Flatten are **affine**, so each becomes a matrix.
2. Whatever else stands between them must work on every **number by itself**, as a polynomial of degree 2: it is asked for a few
   numbers, and read off from what it answers. Asked again for rows whose numbers differ, it must answer by the same.
3. A Sigmoid or Softmax **at the end** of a classifier is the link from scores to probabilities, which the client applies.
4. The model is asked for whole rows and must **answer as what was read** of it does: a hook, a module that does more than its name
   says, or one that is a polynomial near 0 only, is found out so.

It is read as it predicts (`eval`), and left in the mode that it was in.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label
from blindgate_models.compilers.squares import Quadratic, SquareNetwork
from blindgate_models.compilers.windows import Side, convolution, mean
from blindgate_models.network.noise import Affine

Floats: TypeAlias = NDArray[np.float64]
Image: TypeAlias = tuple[int, ...]
"""Channels, height, width; or channels, length."""

_PROBES: Final = (-1.0, 0.0, 1.0, -2.5, 3.0, 0.3, -30.0, 30.0)
_SCATTERED: Final = (5, 3.0)
"""Rows of numbers that differ, and how far from 0 they lie."""
_CLOSE: Final = 1e-5
_ALIKE: Final = 1e-3
_LEAST_BYTES: Final = 4
_LINKS: Final = {"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "softmax"}
_CONVOLUTIONS: Final = {"Conv1d": 2, "Conv2d": 3}
_MEANS: Final = {"AvgPool1d": 2, "AvgPool2d": 3, "AdaptiveAvgPool1d": 2, "AdaptiveAvgPool2d": 3}
_NORMS: Final = ("BatchNorm1d", "BatchNorm2d")
_NOTHING: Final = ("Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout")
_READ: Final = "Linear, Conv1d, Conv2d, AvgPool, BatchNorm, Flatten, Dropout"


def is_sequential(estimator: Any) -> bool:
    """Whether this is torch's `nn.Sequential`, or looks like one."""
    return type(estimator).__name__ == "Sequential" and hasattr(estimator, "_modules")


def read_sequential(
    model: Any, features: int, image: Image | None, labels: Sequence[Label] | None, rows: Floats | None = None
) -> SquareNetwork:
    """Take a trained model apart, for rows of `features` numbers.

    Args:
        model: the `nn.Sequential`, which may hold others.
        features: how many numbers a row has.
        image: what they are, channels first, where the model begins with a convolution and with no `Unflatten`; by
            default a square image, or a signal, of as many channels as it takes.
        labels: the classes in the order of the outputs, or `None` for a regression.
        rows: `(n, features)`, to ask the model about and compare (step 4); without them it is not asked.

    Raises `TypeError` on a module that is neither affine nor a polynomial of degree 2, or a model that answers otherwise than
    its modules say; `ValueError` on sizes that do not fit.
    """
    modules = list(_flattened(model))
    with _predicting(model):
        reader = _Reader(features, image, modules)
        link = _link(modules)  # 3
        for place, module in modules[:-1] if link else modules:
            reader.take(place, module)
        network = SquareNetwork.of(*reader.ended(), labels)
        if link is not None and _LINKS[link] != network.link:
            msg = (
                f"module {modules[-1][0]}, {link}: got {len(network.layers[-1].bias)} outputs and {len(labels or ())} labels; "
                "expected a Sigmoid of one output for two labels, or a Softmax of one for each; without labels, none"
            )
            raise TypeError(msg)
        if rows is not None:
            _compare(model, network, reader, rows, link)  # 4
    return network


class _Reader:
    """Modules, one after the other: the affine ones are multiplied together until an activation stands between.

    Attributes:
        given: the image that a row is as it comes to the model; `None` where it is as many numbers.
    """

    def __init__(self, features: int, image: Image | None, modules: Sequence[tuple[str, Any]]) -> None:
        self.given: Image | None = image
        self._image = image
        self._flat = False
        self._layers: list[Affine] = []
        self._activations: list[Quadratic | None] = []
        self._open: Affine | None = None
        self._width = features
        self._what = "model"
        weights = (getattr(module, "weight", None) for _, module in modules)
        self._like = next((weight for weight in weights if weight is not None), None)

    def take(self, place: str, module: Any) -> None:
        """Read one module."""
        name = type(module).__name__.removeprefix("Parametrized")
        self._what = f"module {place}, {name}"
        if name == "Linear":
            self.given = None if self._begins else self.given
            weights = self._numbers(module.weight)
            self._join(weights, self._bias(module, len(weights)))
            self._image, self._flat = None, True
        elif name in _CONVOLUTIONS:
            self._convolve(module, _CONVOLUTIONS[name])
        elif name in _MEANS:
            self._pool(module, _MEANS[name])
        elif name in _NORMS:
            self._normalise(module)
        elif name == "Flatten":
            self._image, self._flat = None, True
        elif name == "Unflatten":
            self._unflatten(module)
        elif name not in _NOTHING:
            self._activate(module)

    def ended(self) -> tuple[list[Affine], list[Quadratic | None]]:
        """Layers and the activations between them. Raises `ValueError` where there is nothing at the end."""
        if self._open is None:
            msg = f"{self._what}: expected a linear layer at the end"
            raise ValueError(msg)
        return [*self._layers, self._open], self._activations

    @property
    def _begins(self) -> bool:
        return self._open is None and not self._layers and not self._flat

    def tensor(self, values: Floats) -> Any:
        """A tensor of the model's kind."""
        return self._like.new_tensor(values.tolist())  # type: ignore[union-attr]

    def _join(self, weights: Floats, bias: Floats) -> None:
        if weights.shape[1] != self._width:
            msg = f"{self._what}: takes {weights.shape[1]} numbers, and gets {self._width}"
            raise ValueError(msg)
        before = self._open
        self._open = (
            Affine(weights, bias) if before is None else Affine(weights @ before.weights, weights @ before.bias + bias)
        )
        self._width = len(bias)

    def _scale(self, slope: Floats, offset: Floats) -> None:
        """Every number by itself."""
        before = self._open or Affine(np.eye(self._width), np.zeros(self._width))
        self._open = Affine(slope[:, None] * before.weights, slope * before.bias + offset)

    def _convolve(self, module: Any, sizes: int) -> None:
        kernel = self._numbers(module.weight)
        shape = self._as_image(kernel.shape[1] * module.groups, sizes)
        stride, dilation = _pair(module.stride), _pair(module.dilation)
        kernel = kernel.reshape(*kernel.shape[:2], *_pair(kernel.shape[2:], 1))
        needed = [step * (window - 1) for step, window in zip(dilation, kernel.shape[2:], strict=True)]
        if module.padding == "same":
            padding = [(more // 2, more - more // 2) for more in needed]
        else:
            padding = [(each, each) for each in _pair(0 if module.padding == "valid" else module.padding, 0)]
        if any(map(any, padding)) and module.padding_mode != "zeros":
            msg = f"{self._what}: got padding_mode {module.padding_mode!r:.20}, expected 'zeros'"
            raise TypeError(msg)
        sides = [
            Side(size, window, step, *ends, apart)
            for size, window, step, ends, apart in zip(
                _pair(shape[1:], 1), kernel.shape[2:], stride, padding, dilation, strict=True
            )
        ]
        self._windows(lambda: convolution(kernel, sides, module.groups), sizes, module)

    def _pool(self, module: Any, sizes: int) -> None:
        channels, *image = self._as_image(None, sizes)
        if hasattr(module, "output_size"):
            sides = [self._even(*each) for each in zip(image, _repeated(module.output_size, sizes - 1), strict=True)]
        else:
            padding = _repeated(module.padding, sizes - 1)
            counts_alike = module.count_include_pad or not any(padding)
            if module.ceil_mode or not counts_alike or getattr(module, "divisor_override", None):
                msg = f"{self._what}: expected windows that all count alike (no ceil_mode, no divisor)"
                raise TypeError(msg)
            given = (_repeated(each, sizes - 1) for each in (module.kernel_size, module.stride))
            sides = [
                Side(size, window, stride, around, around)
                for size, window, stride, around in zip(image, *given, padding, strict=True)
            ]
        both = [Side(1, 1, 1, 0, 0)] * (3 - sizes) + sides
        self._windows(lambda: mean(channels, both), sizes, None)

    def _even(self, size: int, wanted: int | None) -> Side:
        """Windows that lie beside each other, `wanted` of them."""
        count = size if wanted is None else wanted
        if size % count:
            msg = f"{self._what}: got an output of {count} for an input of {size}, expected one that divides it"
            raise TypeError(msg)
        return Side(size, size // count, size // count, 0, 0)

    def _windows(self, made: Callable[[], tuple[Floats, tuple[int, int, int]]], sizes: int, biased: Any) -> None:
        try:
            matrix, shape = made()
        except ValueError as error:
            msg = f"{self._what}: {error}"
            raise ValueError(msg) from None
        bias = np.zeros(shape[0]) if biased is None else self._bias(biased, shape[0])
        self._join(matrix, np.repeat(bias, shape[1] * shape[2]))
        self._image = (shape[0], *shape[4 - sizes :])

    def _normalise(self, module: Any) -> None:
        if module.running_var is None:
            msg = f"{self._what}: keeps no running mean and variance (track_running_stats), so a row's answer depends on others'"
            raise TypeError(msg)
        variance = self._numbers(module.running_var) + module.eps
        slope = (np.ones(len(variance)) if module.weight is None else self._numbers(module.weight)) / np.sqrt(variance)
        offset = self._bias(module, len(slope)) - slope * self._numbers(module.running_mean)
        if self._width % len(slope):
            msg = f"{self._what}: takes {len(slope)} numbers or channels, and gets {self._width}"
            raise ValueError(msg)
        repeat = self._width // len(slope)
        self._scale(np.repeat(slope, repeat), np.repeat(offset, repeat))

    def _unflatten(self, module: Any) -> None:
        sizes = [int(size) for size in module.unflattened_size]
        rest = math.prod(size for size in sizes if size >= 0)
        self._image = tuple(size if size >= 0 else self._width // rest for size in sizes)
        self.given = None if self._begins else self.given
        if math.prod(self._image) != self._width:
            msg = f"{self._what}: got sizes {tuple(sizes)}, expected those of {self._width} numbers"
            raise ValueError(msg)

    def _activate(self, module: Any) -> None:
        """Step 2."""
        if self._open is None or self._like is None:
            msg = f"{self._what}: is no layer that is read ({_READ}), and an activation needs one right before it"
            raise TypeError(msg)
        probes = np.repeat(np.array(_PROBES)[:, None], self._width, axis=1)
        got = self._asked(module, probes)
        constant = got[1]
        square, linear = (got[2] + got[0]) / 2 - constant, (got[2] - got[0]) / 2
        size = np.abs(square) + np.abs(linear) + np.abs(constant)

        def says(rows: Floats, answers: Floats) -> bool:
            expected = square * rows**2 + linear * rows + constant
            return bool((np.abs(answers - expected) <= _CLOSE * size * np.maximum(1, rows**2)).all())

        if not says(probes, got):
            msg = f"{self._what}: no polynomial of degree 2; train the network with one, such as x · x, in its place"
            raise TypeError(msg)
        count, reach = _SCATTERED
        scattered = np.random.default_rng(0).uniform(-reach, reach, (count, self._width))
        if not says(scattered, self._asked(module, scattered)):
            msg = (
                f"{self._what}: what it gives for a number depends on others; expected a module that works on every number by "
                f"itself, or a layer that is read: {_READ}"
            )
            raise TypeError(msg)
        if (np.abs(square) <= _CLOSE * size).all():
            self._scale(linear, constant)
            return
        self._layers.append(self._open)
        self._activations.append(Quadratic(square, linear, constant))
        self._open = None

    def _asked(self, module: Any, rows: Floats) -> Floats:
        """What a module gives for `(n, width)` numbers, which it gets in the shape that they have at this place."""
        given = rows.reshape(len(rows), *(self._image or (self._width,)))
        try:
            answers = self._numbers(module(self.tensor(given)), finite=False)
        except Exception as error:
            msg = f"{self._what}: is no layer that is read ({_READ}), and works not on every number by itself: {error}"
            raise TypeError(msg) from error
        if answers.shape != given.shape:
            msg = (
                f"{self._what}: got a module that changes the shape, expected one that works on every number by itself"
            )
            raise TypeError(msg)
        return answers.reshape(rows.shape)

    def _as_image(self, channels: int | None, sizes: int) -> Image:
        """What the numbers are at this place: channels and one or two sides."""
        image = self._image
        if image is None and channels is not None and not self._flat:
            long = self._width // channels
            image = (channels, long) if sizes == _CONVOLUTIONS["Conv1d"] else (channels, *[math.isqrt(long)] * 2)
            self.given = image
        what = "channels, height and width" if sizes == _CONVOLUTIONS["Conv2d"] else "channels and length"
        if image is None or len(image) != sizes or math.prod(image) != self._width:
            msg = f"{self._what}: image: got {image}, expected {what} of {self._width} numbers"
            raise ValueError(msg)
        if channels not in {None, image[0]}:
            msg = f"{self._what}: takes {channels} channels, and gets an image of {image}"
            raise ValueError(msg)
        self._image = image
        return image

    def _bias(self, module: Any, units: int) -> Floats:
        return np.zeros(units) if module.bias is None else self._numbers(module.bias)

    def _numbers(self, tensor: Any, *, finite: bool = True) -> Floats:
        try:
            numbers = tensor.detach().cpu().numpy()
        except TypeError:  # numpy has no bfloat16
            numbers = np.zeros(1, dtype=np.float16)
        if numbers.dtype.itemsize < _LEAST_BYTES:
            msg = f"{self._what}: holds numbers of half precision; call .float() on the model first"
            raise TypeError(msg)
        if finite and not np.isfinite(numbers).all():
            msg = f"{self._what}: a number is not finite"
            raise ValueError(msg)
        return np.asarray(numbers, dtype=np.float64)


def _link(modules: Sequence[tuple[str, Any]]) -> str | None:
    """The kind of the last module, where it makes probabilities of scores."""
    name = type(modules[-1][1]).__name__ if modules else ""
    return name if name in _LINKS else None


def _compare(model: Any, network: SquareNetwork, reader: _Reader, rows: Floats, link: str | None) -> None:
    """Step 4. Raises `TypeError`."""
    try:
        answers = model(reader.tensor(rows.reshape(len(rows), *(reader.given or rows.shape[1:]))))
    except Exception as error:
        msg = f"model: does not take rows of shape {reader.given or rows.shape[1:]}: {error}"
        raise TypeError(msg) from error
    got = np.asarray(answers.detach().cpu().numpy(), dtype=np.float64).reshape(len(rows), -1)
    expected = network.scores(rows)
    if got.shape != expected.shape:
        msg = f"model: gives {got.shape[1]} numbers a row, and its modules say {expected.shape[1]}"
        raise TypeError(msg)
    there = np.isfinite(got).all(axis=1)  # float32 ends before double
    got, expected = got[there], expected[there]
    if link == "Sigmoid":
        expected = 0.5 * (1 + np.tanh(0.5 * expected))
    elif link is not None:
        expected = expected - expected.max(axis=1, keepdims=True)
        expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
        expected = np.exp(expected) if link == "Softmax" else expected
    off, much = float(np.abs(got - expected).max(initial=0.0)), float(np.abs(expected).max(initial=0.0))
    if not off <= _ALIKE * much:
        msg = (
            f"model: answers otherwise than its modules say, by up to {off:.2g} where {much:.2g} is much: a hook, or a module that "
            "does more than its name says, or is a polynomial near 0 only"
        )
        raise TypeError(msg)


@contextmanager
def _predicting(model: Any) -> Iterator[None]:
    """The model as it predicts, and afterwards as it was."""
    each = [(module, module.training) for module in model.modules()] if hasattr(model, "modules") else []
    try:
        for module, _ in each:
            module.training = False
        yield
    finally:
        for module, training in each:
            module.training = training


def _flattened(model: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The modules in order, with where they stand: `0`, `1.2`."""
    for name, module in model._modules.items():  # noqa: SLF001  (what `children` would give, were it not torch's)
        if is_sequential(module):
            yield from _flattened(module, f"{above}{name}.")
        else:
            yield f"{above}{name}", module


def _repeated(given: Any, count: int) -> tuple[Any, ...]:
    """One for each side."""
    return tuple(given) if isinstance(given, tuple | list) else (given,) * count


def _pair(given: Any, other: int = 1) -> tuple[int, int]:
    """Two sides; of one, `other` stands before it."""
    if isinstance(given, int):
        return given, given
    return (other, int(given[0])) if len(given) == 1 else (int(given[0]), int(given[1]))
