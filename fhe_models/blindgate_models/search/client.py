"""The asker's half of an index: encrypts queries, decrypts the scores of all entries, knows what entries are called.

Scores are exact whole numbers, of what the query and the index became in eight bits (`spec.quantised_queries`), if the node is
honest; any numbers modulo t, if it is not. No outcome of a decryption changes what this half does next.
"""

from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import Part
from blindgate_models.product.client import ProductHalf
from blindgate_models.search.spec import ClientPart, client_part, quantised_queries, rows_per_job, score_ranges
from blindgate_protocol.errors import InputError

_BYTES_AT_ONCE: Final = 8 << 20


class SearchClient(ProductHalf):
    """See `blindgate_models.halves.ClientHalf` and `IndexHalf`. Rows are queries; a value that is no finite number is refused.

    Attributes:
        corpus: what makes the index a corpus; `None` where it is none.
    """

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part."""
        super().__init__(part.shape, part.width)
        self._scale = part.scale
        self._ids = part.ids
        self.corpus = part.corpus

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

    def score_ranges(
        self, rows: NDArray[np.float64], entries: NDArray[np.float64], within: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between which inner products a true score lies: see `IndexHalf`."""
        queries, scales = quantised_queries(rows)
        least, most = score_ranges(entries, self._scale, queries, within)
        units = 1.0 / (self._scale * scales)[:, None]
        return least * units, most * units

    @property
    def rows_per_job(self) -> int:
        """The most queries that keep both blobs under 64 MiB together."""
        return rows_per_job(self._shape)

    @property
    def rows_at_once(self) -> int:
        """As many queries as have blobs of about 8 MiB together."""
        one = self._shape.input_bytes(1) + self._shape.result_bytes(1)
        return max(1, min(self.rows_per_job, _BYTES_AT_ONCE // one))

    def _numbers(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        if not np.isfinite(rows).all():
            row, column = (int(index) for index in np.argwhere(~np.isfinite(rows))[0])
            msg = f"row {row}, column {column}: not a finite number"
            raise InputError(msg, column=str(column), row=row)
        return quantised_queries(rows)[0]
