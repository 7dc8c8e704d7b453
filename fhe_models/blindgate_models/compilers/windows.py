"""Convolutions and means over windows as matrices: for images, channels first, whose numbers stand in one row.

A signal of one dimension is an image of height 1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_MOST_NUMBERS: Final = 1 << 27
"""Of a matrix: a gibibyte."""


class Side(NamedTuple):
    """How windows lie along one side.

    Attributes:
        size: of the image.
        window: how many numbers of it a window takes.
        stride: from one window to the next.
        before: zeros that are put before the image.
        after: and after it.
        dilation: from one number of a window to the next.
    """

    size: int
    window: int
    stride: int
    before: int
    after: int
    dilation: int = 1

    @property
    def places(self) -> list[list[int]]:
        """For each window the places of its numbers; outside of the image, too. Raises `ValueError` where none fits."""
        padded = self.size + self.before + self.after
        count = (padded - self.dilation * (self.window - 1) - 1) // self.stride + 1
        if count < 1:
            msg = f"a window of {self.window} does not fit into {padded}"
            raise ValueError(msg)
        return [
            [start * self.stride - self.before + self.dilation * entry for entry in range(self.window)]
            for start in range(count)
        ]


def convolution(kernel: Floats, sides: Sequence[Side], groups: int) -> tuple[Floats, tuple[int, int, int]]:
    """A convolution's matrix, and the channels, height and width of what it gives.

    Args:
        kernel: `(channels out, channels in of a group, height, width)`.
        sides: down and across.
        groups: of channels.

    Raises `ValueError` where no window fits, or the matrix would take more than a gibibyte.
    """
    (down, across), (out, inside) = sides, kernel.shape[:2]
    places = [down.places, across.places]
    matrix = _zeros((out, len(places[0]), len(places[1]), inside * groups, down.size, across.size))
    per_group = out // groups
    for (top, row), (left, column) in _windows(places):
        for i, j in _within(row, column, down.size, across.size):
            for group in range(groups):
                outs = slice(group * per_group, (group + 1) * per_group)
                ins = slice(group * inside, (group + 1) * inside)
                matrix[outs, top, left, ins, row[i], column[j]] = kernel[outs, :, i, j]
    shape = (out, len(places[0]), len(places[1]))
    return matrix.reshape(math.prod(shape), -1), shape


def mean(channels: int, sides: Sequence[Side]) -> tuple[Floats, tuple[int, int, int]]:
    """The matrix of means over windows, which zeros around the image count in, and what it gives. Raises as `convolution`."""
    down, across = sides
    kernel = np.full((channels, 1, down.window, across.window), 1 / (down.window * across.window))
    return convolution(kernel, sides, channels)


def _zeros(shape: tuple[int, ...]) -> Floats:
    numbers = math.prod(shape)
    if numbers > _MOST_NUMBERS:
        msg = (
            f"as a matrix it has {numbers} numbers, expected at most {_MOST_NUMBERS}: fewer channels, or smaller images"
        )
        raise ValueError(msg)
    return np.zeros(shape)


def _windows(places: Sequence[list[list[int]]]) -> Iterator[tuple[tuple[int, list[int]], tuple[int, list[int]]]]:
    for row in enumerate(places[0]):
        for column in enumerate(places[1]):
            yield row, column


def _within(row: list[int], column: list[int], height: int, width: int) -> Iterator[tuple[int, int]]:
    """The entries of a window that fall inside of the image."""
    for i, y in enumerate(row):
        for j, x in enumerate(column):
            if 0 <= y < height and 0 <= x < width:
                yield i, j
