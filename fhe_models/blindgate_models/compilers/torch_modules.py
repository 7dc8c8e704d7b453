"""A torch `nn.Sequential` as affine layers and polynomial activations, read by its attributes: torch is not imported here.

Linear, Conv2d, AvgPool2d, batch norms and Flatten are affine, so each becomes a matrix. Whatever else stands between them must work
on every number by itself, as a polynomial of degree 2: it is asked for a few numbers, and read off from what it answers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.compilers.compiled import Label
from blindgate_models.compilers.squares import Quadratic, SquareNetwork
from blindgate_models.network.noise import Affine

Floats: TypeAlias = NDArray[np.float64]
Image: TypeAlias = tuple[int, int, int]
"""Channels, height, width."""

_PROBES: Final = (-1.0, 0.0, 1.0, -2.5, 3.0, 0.3)
_CLOSE: Final = 1e-5
_NOTHING: Final = ("Dropout", "Dropout2d", "Identity", "Flatten", "Unflatten")


def is_sequential(estimator: Any) -> bool:
    """Whether this is torch's `nn.Sequential`, or looks like one."""
    return type(estimator).__name__ == "Sequential" and hasattr(estimator, "_modules")


def read_sequential(model: Any, features: int, image: Image | None, labels: Sequence[Label] | None) -> SquareNetwork:
    """Take a trained model apart, for rows of `features` numbers.

    Args:
        model: the `nn.Sequential`, which may hold others.
        features: how many numbers a row has.
        image: what they are, channels first, where the model begins with a convolution and with no `Unflatten`; by
            default a square image of as many channels as it takes.
        labels: the classes in the order of the outputs, or `None` for a regression.

    Raises `TypeError` on a module that is neither affine nor a polynomial of degree 2, `ValueError` on sizes that do not fit.
    """
    reader = _Reader(features, image)
    for module in _flattened(model):
        reader.take(module)
    return SquareNetwork.of(*reader.ended(), labels)


class _Reader:
    """Modules, one after the other: the affine ones are multiplied together until an activation stands between."""

    def __init__(self, features: int, image: Image | None) -> None:
        self._image = image
        self._layers: list[Affine] = []
        self._activations: list[Quadratic | None] = []
        self._open: Affine | None = None
        self._width = features
        self._tensor: Callable[[Any], Any] | None = None

    def take(self, module: Any) -> None:
        """Read one module."""
        name = type(module).__name__
        if name == "Linear":
            self._tensor = module.weight.new_tensor
            self._join(_array(module.weight), _bias(module, len(module.weight)))
        elif name == "Conv2d":
            self._tensor = module.weight.new_tensor
            self._convolve(module)
        elif name == "AvgPool2d":
            self._pool(module)
        elif name in {"BatchNorm1d", "BatchNorm2d"}:
            self._normalise(module)
        elif name in _NOTHING:
            if name == "Unflatten":
                self._image = _shape(module.unflattened_size)
        else:
            self._activate(module, name)

    def ended(self) -> tuple[list[Affine], list[Quadratic | None]]:
        """Layers and the activations between them. Raises `ValueError` where there is nothing at the end."""
        if self._open is None:
            msg = "model: expected a linear layer at the end"
            raise ValueError(msg)
        return [*self._layers, self._open], self._activations

    def _join(self, weights: Floats, bias: Floats) -> None:
        if weights.shape[1] != self._width:
            msg = f"model: a layer takes {weights.shape[1]} numbers, and gets {self._width}"
            raise ValueError(msg)
        before = self._open
        self._open = (
            Affine(weights, bias) if before is None else Affine(weights @ before.weights, weights @ before.bias + bias)
        )
        self._width = len(bias)

    def _convolve(self, module: Any) -> None:
        kernel = _array(module.weight)
        channels, height, width = self._as_image(kernel.shape[1] * module.groups)
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            msg = (
                f"Conv2d: got padding {module.padding!r:.20} of {module.padding_mode!r:.20}, expected numbers of zeros"
            )
            raise TypeError(msg)
        places = [
            _places(*sizes)
            for sizes in zip(
                (height, width), kernel.shape[2:], module.stride, module.padding, module.dilation, strict=True
            )
        ]
        out, per_group = kernel.shape[0], kernel.shape[0] // module.groups
        matrix = np.zeros((out, len(places[0]), len(places[1]), channels, height, width))
        for (down, row), (right, column) in _products(places):
            for i, j in _inside(row, column, height, width):
                for group in range(module.groups):
                    outs = slice(group * per_group, (group + 1) * per_group)
                    ins = slice(group * kernel.shape[1], (group + 1) * kernel.shape[1])
                    matrix[outs, down, right, ins, row[i], column[j]] = kernel[outs, :, i, j]
        positions = len(places[0]) * len(places[1])
        self._join(matrix.reshape(out * positions, -1), np.repeat(_bias(module, out), positions))
        self._image = (out, len(places[0]), len(places[1]))

    def _pool(self, module: Any) -> None:
        channels, height, width = self._as_image(None)
        size, stride, padding = (_pair(given) for given in (module.kernel_size, module.stride, module.padding))
        if module.ceil_mode or (any(padding) and not module.count_include_pad) or module.divisor_override:
            msg = "AvgPool2d: expected windows that all count alike (no ceil_mode, no divisor)"
            raise TypeError(msg)
        places = [_places(*sizes, 1) for sizes in zip((height, width), size, stride, padding, strict=True)]
        matrix = np.zeros((len(places[0]), len(places[1]), height, width))
        for (down, row), (right, column) in _products(places):
            for i, j in _inside(row, column, height, width):
                matrix[down, right, row[i], column[j]] = 1 / (size[0] * size[1])
        one = matrix.reshape(len(places[0]) * len(places[1]), -1)
        self._join(np.kron(np.eye(channels), one), np.zeros(channels * len(one)))
        self._image = (channels, len(places[0]), len(places[1]))

    def _normalise(self, module: Any) -> None:
        variance = _array(module.running_var) + module.eps
        slope = (np.ones(len(variance)) if module.weight is None else _array(module.weight)) / np.sqrt(variance)
        offset = (0 if module.bias is None else _array(module.bias)) - slope * _array(module.running_mean)
        repeat = self._width // len(slope)
        self._join(np.diag(np.repeat(slope, repeat)), np.repeat(offset, repeat))

    def _activate(self, module: Any, name: str) -> None:
        if self._open is None or self._tensor is None:
            msg = f"{name}: expected a linear layer before an activation"
            raise TypeError(msg)
        answers = module(self._tensor([[probe] * self._width for probe in _PROBES]))
        got = _array(answers)
        if got.shape != (len(_PROBES), self._width):
            msg = f"{name}: got a module that changes the shape, expected one that works on every number by itself"
            raise TypeError(msg)
        constant = got[1]
        square, linear = (got[2] + got[0]) / 2 - constant, (got[2] - got[0]) / 2
        probes = np.array(_PROBES)[:, None]
        if not np.allclose(got, square * probes**2 + linear * probes + constant, rtol=_CLOSE, atol=_CLOSE):
            msg = f"{name}: no polynomial of degree 2; train the network with one, such as x · x, in its place"
            raise TypeError(msg)
        self._layers.append(self._open)
        self._activations.append(Quadratic(square, linear, constant))
        self._open = None

    def _as_image(self, channels: int | None) -> Image:
        """What the numbers are at this place."""
        image = self._image
        if image is None and channels is not None:
            side = math.isqrt(self._width // channels)
            image = (channels, side, side)
        if image is None or math.prod(image) != self._width or channels not in {None, image[0]}:
            msg = f"image: got {image}, expected channels, height and width of {self._width} numbers"
            raise ValueError(msg)
        return image


def _flattened(model: Any) -> Iterator[Any]:
    for module in model._modules.values():  # noqa: SLF001  (what `children` would give, were it not torch's)
        if is_sequential(module):
            yield from _flattened(module)
        else:
            yield module


def _array(tensor: Any) -> Floats:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _bias(module: Any, units: int) -> Floats:
    return np.zeros(units) if module.bias is None else _array(module.bias)


def _pair(given: Any) -> tuple[int, int]:
    return (given, given) if isinstance(given, int) else (given[0], given[1])


def _shape(given: Any) -> Image:
    sizes = tuple(int(size) for size in given)
    if len(sizes) != 3:  # noqa: PLR2004  (an image)
        msg = f"Unflatten: got {len(sizes)} sizes, expected channels, height and width"
        raise ValueError(msg)
    return sizes[0], sizes[1], sizes[2]


def _places(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    """For each output along one side, the inputs that the kernel's entries fall on; outside of the image, too."""
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return [[start * stride - padding + dilation * entry for entry in range(kernel)] for start in range(outputs)]


def _products(places: Sequence[list[list[int]]]) -> Iterator[tuple[tuple[int, list[int]], tuple[int, list[int]]]]:
    for row in enumerate(places[0]):
        for column in enumerate(places[1]):
            yield row, column


def _inside(row: list[int], column: list[int], height: int, width: int) -> Iterator[tuple[int, int]]:
    """The kernel's entries that fall inside of the image."""
    for i, y in enumerate(row):
        for j, x in enumerate(column):
            if 0 <= y < height and 0 <= x < width:
                yield i, j
