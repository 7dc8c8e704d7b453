"""The data owner's half of a private forest: answers the public questions, encrypts the bits, adds up what comes back.

A reply holds a flag and masked values for every leaf, in an order that only the node knew. The score is the sum of the values
whose flag is 0, whatever their number: nothing here asks again, refuses or reports because of what was decrypted.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bits import answers
from blindgate_models.halves import KeySet, Part, Progress
from blindgate_models.product.client import ProductClient
from blindgate_models.product.spec import MAX_BLOB_BYTES, Shape
from blindgate_models.trees.spec import ClientPart, client_part
from blindgate_protocol.errors import InputError

_AT_ONCE = 8
"""Rows in one job, so that nodes share a table: each takes tens of milliseconds to answer."""


class TreesClient:
    """See `blindgate_models.halves.ClientHalf`."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part."""
        self._part = part
        self._shape: Shape = part.shape
        self._product = ProductClient.of(part.shape)

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def key_parameters(self) -> Part:
        """The ring's parameters."""
        return self._part.parameters.key_parameters

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return self._part.outputs

    @property
    def error_bound(self) -> float:
        """0: decryption is exact, so a score carries no noise of the key."""
        return 0.0

    @property
    def rows_per_job(self) -> int:
        """The most rows that keep a blob under 64 MiB."""
        row = max(self._shape.input_bytes(2) - self._shape.input_bytes(1), self._shape.reply_bytes)
        return max(1, (MAX_BLOB_BYTES - self._shape.input_bytes(1)) // row)

    @property
    def rows_at_once(self) -> int:
        """See `_AT_ONCE`."""
        return min(_AT_ONCE, self.rows_per_job)

    def input_bytes(self, rows: int) -> int:
        """The bytes of an input blob of `rows` rows."""
        return self._shape.input_bytes(rows)

    def result_bytes(self, rows: int) -> int:
        """The bytes of a result blob of `rows` rows."""
        return self._shape.result_bytes(rows)

    def make_keys(self) -> KeySet:
        """Draw a secret key; there is no evaluation key."""
        return self._product.make_keys()

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt the bits of `rows`, `(n, columns)`, 1 ≤ n ≤ `rows_per_job`, into one blob whose length depends on n alone.

        A missing value is NaN; whether a column may have one is the manifest's to say. Raises `InputError` or `KeyStoreError`.
        """
        if rows.ndim != 2 or rows.shape[1] != self._part.columns or not 1 <= len(rows) <= self.rows_per_job:  # noqa: PLR2004
            msg = f"rows: got shape {rows.shape}, expected (1 to {self.rows_per_job}, {self._part.columns})"
            raise InputError(msg)
        return self._product.encrypt(secret, answers(self._part.questions, rows).astype(np.int64), progress)

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into raw scores, `(rows, outputs)`. Raises `ResultError` or `KeyStoreError`."""
        numbers = self._product.decrypt(secret, result, rows)
        modulus = self._part.parameters.plain_modulus
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
        totals %= modulus
        centred = np.where(totals > modulus // 2, totals - modulus, totals)
        return np.ldexp(centred.astype(np.float64), -self._part.scale_bits)
