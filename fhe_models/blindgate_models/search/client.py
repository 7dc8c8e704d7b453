"""The asker's half of an index: encrypts queries, decrypts the scores of all entries, knows what entries are called.

Scores are exact whole numbers, of what the query and the index became in eight bits (`spec.quantised_queries`), if the node is
honest; any numbers modulo t, if it is not. No outcome of a decryption changes what this half does next.
"""

from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import KeySet, Part, Progress
from blindgate_models.product.client import ProductClient
from blindgate_models.search.spec import ClientPart, client_part, quantised_queries, rows_per_job
from blindgate_protocol.errors import InputError

_BYTES_AT_ONCE: Final = 8 << 20
_DIMENSIONS: Final = 2


class SearchClient:
    """See `blindgate_models.halves.ClientHalf` and `IndexHalf`."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part."""
        self._shape = part.shape
        self._scale = part.scale
        self._ids = part.ids
        self._product = ProductClient(self._shape)

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def ids(self) -> NDArray[Any]:
        """What the entries are called, `(entries,)`: texts, whole numbers, or their positions."""
        return np.arange(self.outputs) if self._ids is None else np.asarray(self._ids)

    def units(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a score of each of these queries is to be multiplied by for the inner product itself, `(n,)`."""
        return np.asarray(1.0 / (self._scale * quantised_queries(rows)[1]))

    @property
    def key_parameters(self) -> Part:
        """The ring's parameters: all products over one ring share keys."""
        return self._shape.parameters.key_parameters

    @property
    def outputs(self) -> int:
        """Scores of a query: one an entry."""
        return self._shape.outputs

    @property
    def error_bound(self) -> float:
        """0: decryption is exact, and a score carries no noise."""
        return 0.0

    @property
    def rows_per_job(self) -> int:
        """The most queries that keep both blobs under 64 MiB together."""
        return rows_per_job(self._shape)

    @property
    def rows_at_once(self) -> int:
        """As many queries as have blobs of about 8 MiB together."""
        one = self._shape.input_bytes(1) + self._shape.result_bytes(1)
        return max(1, min(self.rows_per_job, _BYTES_AT_ONCE // one))

    def input_bytes(self, rows: int) -> int:
        """The exact length of an input blob."""
        return self._shape.input_bytes(rows)

    def result_bytes(self, rows: int) -> int:
        """The exact length of a result blob."""
        return self._shape.result_bytes(rows)

    def make_keys(self) -> KeySet:
        """Draw a secret key; there is no evaluation key."""
        return self._product.make_keys()

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt queries, `(n, width)`, 1 ≤ n ≤ `rows_per_job`, into one blob whose length depends on n alone.

        Raises:
            InputError: another shape, or a value that is no finite number.
            KeyStoreError: the secret key is not one of these parameters.
        """
        expected = self._shape.inputs
        if rows.ndim != _DIMENSIONS or rows.shape[1] != expected or not 1 <= len(rows) <= self.rows_per_job:
            msg = f"rows: got shape {rows.shape}, expected (1 to {self.rows_per_job}, {expected})"
            raise InputError(msg)
        if not np.isfinite(rows).all():
            row, column = (int(index) for index in np.argwhere(~np.isfinite(rows))[0])
            msg = f"row {row}, column {column}: not a finite number"
            raise InputError(msg, column=str(column), row=row)
        return self._product.encrypt(secret, quantised_queries(rows)[0], progress)

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into the exact scores of all entries, `(rows, entries)`, whole numbers.

        Raises:
            ResultError: not a result of these parameters, or not of `rows` queries.
            KeyStoreError: the secret key is not one of these parameters.
        """
        residues = self._product.decrypt(secret, result, rows)
        modulus = self._shape.parameters.plain_modulus
        return np.where(2 * residues > modulus, residues - modulus, residues).astype(np.float64)
