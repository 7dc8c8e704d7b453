"""The node's half of an additive model: one secret matrix, encoded once, times encrypted bits.

The matrix serves every row; what hides it in a reply (`product.server.Cover`) serves one. A worker that waits for its job has a
cover ready.
"""

from typing import Self

import numpy as np

from blindgate_models.additive.spec import ServerPart, server_part
from blindgate_models.halves import Part
from blindgate_models.product.server import Cover, ProductServer
from blindgate_models.product.spec import MAX_BLOB_BYTES
from blindgate_models.randomness import SYSTEM, Source
from blindgate_protocol.errors import EvaluationKeyError


class AdditiveServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart, source: Source = SYSTEM) -> None:
        """Take a parsed part. `source` is where covers come from."""
        shape = part.shape
        self._product = ProductServer.of(shape, source)
        self._private = part.parameters.privacy == "model_private"
        self._multipliers = self._product.multipliers(np.array(part.weights, dtype=np.int64))
        self._constants = self._product.constants(np.array(part.constants, dtype=np.int64))
        self._most_rows = max(1, MAX_BLOB_BYTES // min(shape.reply_bytes, shape.input_bytes(2) - shape.input_bytes(1)))
        self._ready: list[Cover] = []

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))

    def prepare(self) -> None:
        """Draw the cover of the next row, ahead of time."""
        if self._private and not self._ready:
            self._ready.append(self._product.cover())

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds. Raises `CiphertextError`."""
        return self._product.rows(ciphertexts, self._most_rows)

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute the scores of one input blob.

        Raises:
            CiphertextError: not an input blob of these parameters.
            EvaluationKeyError: there is one, and this family has none.
        """
        if evaluation_key is not None:
            msg = f"evaluation key: got {len(evaluation_key)} bytes, expected none"
            raise EvaluationKeyError(msg)
        zeros, rows = self._product.open_input(ciphertexts, self._most_rows)
        replies = []
        for row in rows:
            cover = None
            if self._private:
                cover = self._ready.pop() if self._ready else self._product.cover()
            replies.append(self._product.reply(zeros, row, self._multipliers, self._constants, cover))
        return self._product.result(replies)
