"""The node's half of an additive model: one secret matrix, encoded once, times encrypted bits."""

from typing import Self

import numpy as np

from blindgate_models.additive.spec import ServerPart, server_part
from blindgate_models.halves import Part
from blindgate_models.product.server import MatrixHalf, ProductServer
from blindgate_models.product.spec import MAX_BLOB_BYTES
from blindgate_models.randomness import SYSTEM, Source


class AdditiveServer(MatrixHalf):
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart, source: Source = SYSTEM) -> None:
        """Take a parsed part. `source` is where covers come from."""
        shape = part.shape
        super().__init__(
            ProductServer.of(shape, source),
            np.array(part.weights, dtype=np.int64),
            np.array(part.constants, dtype=np.int64),
            max(1, MAX_BLOB_BYTES // min(shape.reply_bytes, shape.input_bytes(2) - shape.input_bytes(1))),
        )

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))
