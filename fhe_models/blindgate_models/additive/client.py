"""The data owner's half of an additive model: answers the public questions, encrypts the bits, scales what comes back."""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.additive.spec import ClientPart, client_part, inputs_of
from blindgate_models.halves import Part
from blindgate_models.product.client import ProductHalf

_AT_ONCE: Final = 64
"""Rows in one job, so that nodes share a table."""


class AdditiveClient(ProductHalf):
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
    def rows_at_once(self) -> int:
        """See `_AT_ONCE`."""
        return min(_AT_ONCE, self.rows_per_job)

    def _numbers(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        return inputs_of(self._part.questions, self._part.pairs, rows).astype(np.int64)
