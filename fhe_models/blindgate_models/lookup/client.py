"""The asker's half of a table of records: encrypts positions, decrypts records.

A node that is not honest makes any bytes of a record; whoever knows its digest notices. No outcome of a decryption changes what
this half does next.
"""

from collections.abc import Iterable
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import Part
from blindgate_models.lookup.spec import NOTHING, PURPOSE, ClientPart, client_part, record, rows_per_job
from blindgate_models.product.client import ProductHalf
from blindgate_protocol.errors import InputError

_COLUMNS: Final = 1


class LookupClient(ProductHalf):
    """See `blindgate_models.halves.ClientHalf`. A row is a position, from 0, or -1 for no record."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part. Raises `PackageError` when its parameters do not hold a table of its shape."""
        part.require_bounds()
        super().__init__(part.shape, _COLUMNS)
        self._part = part

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def key_parameters(self) -> Part:
        """The ring's parameters, for keys of its own.

        Which position is asked for may depend on what replies decrypted to (a search's scores), and a node that lies chooses those.
        Under their key, what is encrypted would depend on the key itself, and its secrecy rest on circular security.
        """
        return {**super().key_parameters, "purpose": PURPOSE}

    def __len__(self) -> int:
        """How many records there are."""
        return self._part.records

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self._part.size

    @property
    def rows_per_job(self) -> int:
        """The most fetches that keep both blobs under 64 MiB together."""
        return rows_per_job(self._shape)

    @property
    def rows_at_once(self) -> int:
        """All of them: a fixed number of fetches is one job, whose sizes say nothing."""
        return self.rows_per_job

    def records(self, scores: NDArray[np.float64]) -> list[bytes]:
        """The records that decrypted scores, `(rows, digits)`, are: `size` bytes each; of no record, zeros."""
        digits = scores.astype(np.int64) % (1 << self._part.digit_bits)  # they are decrypted as numbers of both signs
        return [record(row, self.size, self._part.digit_bits) for row in digits]

    def _numbers(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.stack(list(self._units(rows[:, 0])))

    def _units(self, positions: Iterable[float]) -> Iterable[NDArray[np.int64]]:
        for row, position in enumerate(positions):
            if not (NOTHING <= position < len(self) and float(position).is_integer()):
                msg = (
                    f"row {row}: not the position of a record, a whole number from 0 to {len(self) - 1}, nor {NOTHING}"
                )
                raise InputError(msg, row=row)
            unit = np.zeros(len(self), dtype=np.int64)
            if position != NOTHING:
                unit[int(position)] = 1
            yield unit
