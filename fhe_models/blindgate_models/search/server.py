"""The node's half of an index: every query meets every entry, whatever it asks.

The index is encoded once, when the half is built: a product with a polynomial that is ready costs a quarter of one that is not.
That takes 8 bytes a number in `model_public` and 16 in `model_private` (a word for each prime), is bounded by
`MAX_ENCODED_BYTES`, and is shared by all workers that are forked from the process that built it.

What hides a private reply, a `Cover`, needs no query: a worker that waits for its job has one ready (`prepare`), and the worker's
process ends with its job. None is drawn when the half is built, since what two workers had from there would be used twice.
"""

from typing import Self

import numpy as np

from blindgate_models.halves import Part
from blindgate_models.product.server import Cover, ProductServer
from blindgate_models.search.spec import ServerPart, require_fitting, rows_per_job, server_part
from blindgate_protocol.errors import EvaluationKeyError


class SearchServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart) -> None:
        """Take a parsed part. Raises `PackageError` when its parameters do not hold its index, or do not hide it."""
        index = part.index()
        require_fitting(part.parameters, index)
        self._private = part.parameters.privacy == "model_private"
        self._most = rows_per_job(part.shape)
        self._product = ProductServer(part.shape)
        self._multipliers = self._product.multipliers(index)
        self._constants = self._product.constants(np.zeros(part.entries, dtype=np.int64))
        self._ready: list[Cover] = []

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))

    def prepare(self) -> None:
        """Draw what hides the next reply. For a process that serves one job and was forked for it alone."""
        if self._private and not self._ready:
            self._ready.append(self._product.cover())

    def rows(self, ciphertexts: bytes) -> int:
        """How many queries an input blob holds. Raises `CiphertextError`."""
        return self._product.rows(ciphertexts, self._most)

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute the scores of one input blob's queries.

        Raises:
            CiphertextError: not an input blob of these parameters.
            EvaluationKeyError: there is one, and this family has none.
        """
        if evaluation_key is not None:
            msg = f"evaluation key: got {len(evaluation_key)} bytes, expected none"
            raise EvaluationKeyError(msg)
        zeros, queries = self._product.open_input(ciphertexts, self._most)
        return self._product.result(
            [self._product.reply(zeros, query, self._multipliers, self._constants, self._cover()) for query in queries]
        )

    def _cover(self) -> Cover | None:
        if not self._private:
            return None
        return self._ready.pop() if self._ready else self._product.cover()
