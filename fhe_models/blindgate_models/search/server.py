"""The node's half of an index: every query meets every entry, whatever it asks.

The index is encoded once, when the half is built: a product with a polynomial that is ready costs a quarter of one that is not.
That takes 8 bytes a number in `model_public` and 16 in `model_private` (a word for each prime), is bounded by
`MAX_ENCODED_BYTES`, and is shared by all workers that are forked from the process that built it.
"""

from typing import Self

import numpy as np

from blindgate_models.halves import Part
from blindgate_models.product.server import MatrixHalf, ProductServer
from blindgate_models.search.spec import ServerPart, require_fitting, rows_per_job, server_part


class SearchServer(MatrixHalf):
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart) -> None:
        """Take a parsed part. Raises `PackageError` when its parameters do not hold its index, or do not hide it."""
        index = part.index()
        require_fitting(part.parameters, index)
        constants = np.zeros(part.entries, dtype=np.int64)
        super().__init__(ProductServer(part.shape), index, constants, rows_per_job(part.shape))

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))
