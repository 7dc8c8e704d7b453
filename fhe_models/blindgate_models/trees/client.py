"""The data owner's half of a private forest: answers the public questions, encrypts the bits, adds up what comes back.

A reply holds a flag and masked values for every leaf, in an order that only the node knew. The score is the sum of the values
whose flag is 0, whatever their number: nothing here asks again, refuses or reports because of what was decrypted.
"""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import answers
from blindgate_models.halves import Part
from blindgate_models.product.client import ProductHalf
from blindgate_models.trees.spec import ClientPart, client_part

_AT_ONCE: Final = 8
"""Rows in one job, so that nodes share a table: each takes tens of milliseconds to answer."""


class TreesClient(ProductHalf):
    """See `blindgate_models.halves.ClientHalf`. A missing value is NaN; whether a column may have one is the manifest's to say."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part."""
        super().__init__(part.shape, part.columns, part.scale_bits)
        self._part = part

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def outputs(self) -> int:
        """How many scores a row has: the product has more outputs, flags and values of every leaf."""
        return self._part.outputs

    @property
    def rows_at_once(self) -> int:
        """See `_AT_ONCE`."""
        return min(_AT_ONCE, self.rows_per_job)

    def _numbers(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        return answers(self._part.questions, rows).astype(np.int64)

    def _totals(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = len(numbers)
        totals = np.zeros((rows, self.outputs), dtype=np.int64)
        moduli = np.array(self._part.flag_moduli)
        start = 0
        for each in self._part.sums:
            flags = -(-each.leaves // len(moduli))
            remainders = numbers[:, start : start + flags, None] % moduli
            chosen = remainders.reshape(rows, -1)[:, : each.leaves] == 0
            start += flags
            values = numbers[:, start : start + each.leaves * len(each.outputs)]
            start += each.leaves * len(each.outputs)
            totals[:, each.outputs] += (values.reshape(rows, -1, each.leaves) * chosen[:, None]).sum(axis=2)
        return totals % self._part.parameters.plain_modulus
