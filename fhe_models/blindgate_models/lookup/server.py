"""The node's half of a table of records: every query meets every record, whatever it asks.

The table is encoded once, when the half is built, and shared by the workers that are forked from the process that built it.
"""

from typing import Self

import numpy as np

from blindgate_models.halves import Part
from blindgate_models.lookup.spec import ServerPart, matrix, rows_per_job, server_part
from blindgate_models.product.server import MatrixHalf, ProductServer


class LookupServer(MatrixHalf):
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart) -> None:
        """Take a parsed part. Raises `PackageError` when its parameters do not hold a table of its shape, or do not hide it."""
        part.require_bounds()
        shape = part.shape
        table = matrix(part.content(), part.digit_bits)
        constants = np.zeros(shape.outputs, dtype=np.int64)
        super().__init__(ProductServer(shape), table, constants, rows_per_job(shape))

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))
