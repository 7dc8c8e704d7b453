"""The data owner's half of a network: encrypts rows, decrypts scores, holds the secret.

`encrypt` refuses a value outside its column's declared range, since the proof that no value wraps around rests on it.
`decrypt` takes any well-formed reply, right or wrong: what a node computed is not proven by this family, and no outcome of a
decryption changes what this half does next. Scores leave at full precision, noise included; the SDK rounds them as the
manifest says before anyone sees them.

The evaluation key is made with the secret: relinearisation and the rotations that the packing asks for, seeds in place of
their second halves.
"""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bitpacking import pack_rows, unpack
from blindgate_models.halves import KeySet, Part, Progress
from blindgate_models.network.packing import (
    DROPPED_BITS,
    EVALUATION_KEY,
    INPUT,
    RESULT,
    Packing,
)
from blindgate_models.network.spec import ClientPart, client_part
from blindgate_models.rows import FeatureRanges, require_rows
from blindgate_models.seal.serial import Secret
from blindgate_models.seal.slots import RELINEARISATION, Ring
from blindgate_models.secret_keys import SecretFormat
from blindgate_protocol.errors import ResultError

_SECRET_MAGIC: Final = b"BGNK"
_BLOCKS_AT_ONCE: Final = 16


class NetworkClient:
    """See `blindgate_models.halves.ClientHalf`."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part."""
        parameters = part.parameters
        self.packing = Packing(parameters, part.shape)
        self._bits = parameters.data_bits
        self._columns, self._reads = part.columns, part.reads
        self._ranges = FeatureRanges(part.features, part.ranges)
        self._ring = Ring(parameters.degree, parameters.data_bits, parameters.special_bits)
        self._secrets = SecretFormat(
            _SECRET_MAGIC, self.packing.key_parameters, parameters.degree, self.packing.key_bits
        )
        self._input_scale = 2.0**parameters.input_scale_bits
        self._result_scale = self.packing.result_scale(self._ring.primes)
        self._error_bound = max(part.error_bound)

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def key_parameters(self) -> Part:
        """The ring and the rotations: networks of the same shape and parameters share keys."""
        return self.packing.key_parameters

    @property
    def error_bound(self) -> float:
        """The largest of the part's bounds."""
        return self._error_bound

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return self.packing.outputs

    @property
    def rows_per_job(self) -> int:
        """The most rows of one job."""
        return self.packing.rows_per_blob

    @property
    def rows_at_once(self) -> int:
        """A few ciphertexts' worth: while one job is under way, the next is encrypted."""
        return min(self.rows_per_job, self.packing.rows * _BLOCKS_AT_ONCE)

    def input_bytes(self, rows: int) -> int:
        """The most bytes of an input blob of up to `rows` rows."""
        return self.packing.input_bytes(rows)

    def result_bytes(self, rows: int) -> int:
        """The most bytes of a result blob of up to `rows` rows."""
        return self.packing.result_bytes(rows)

    def make_keys(self) -> KeySet:
        """Draw a secret key, and the switching keys that go up to the node."""
        words, switching = self._ring.new_keys(self.packing.steps)
        bits = self.packing.key_bits
        evaluation = [self.packing.header(EVALUATION_KEY, 0)]
        for name in (RELINEARISATION, *self.packing.steps):
            for seed, rows in switching[name]:
                evaluation += [seed, pack_rows(rows, bits)]
        return KeySet(self._secrets.write(words), b"".join(evaluation))

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt `rows`, `(n, columns)`, 1 ≤ n ≤ `rows_per_job`, into one blob whose length depends on n alone.

        Raises:
            InputError: another shape, or a value that is not a number within its column's range.
            KeyStoreError: the secret key is not one of these parameters.
        """
        require_rows(rows, self.rows_per_job, self._columns)
        units = self._ranges.units(rows)
        key = self._secret(secret)
        parts = [self.packing.header(INPUT, len(rows))]
        total = self.packing.blocks(len(rows))
        for done in range(total):
            block = units[done * self.packing.rows : (done + 1) * self.packing.rows]
            for values in self.packing.spread(block, self._reads):
                seed, words = self._ring.encrypt(key, values, self._input_scale)
                parts += [seed, pack_rows(words, self._bits)]
            if progress is not None:
                progress(done + 1, total)
        return b"".join(parts)

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into raw scores, `(rows, outputs)`.

        An honest node's scores are within the part's `error_bound`; another's are any finite number.

        Raises:
            ResultError: not a result of these parameters, or not of `rows` rows.
            KeyStoreError: the secret key is not one of these parameters.
        """
        key = self._secret(secret)
        try:
            found, body = self.packing.open_blob(RESULT, result)
            self._require_rows(found, rows)
            size = self.packing.result_ciphertext_bytes
            values = [self._values(key, body[start : start + size]) for start in range(0, len(body), size)]
        except (ValueError, RuntimeError) as error:
            msg = f"result: {error}"
            raise ResultError(msg) from None
        blocks = np.stack(values).reshape(-1, self.packing.results, self.packing.slots)
        return np.concatenate([self.packing.gather(block) for block in blocks])[:rows]

    def _require_rows(self, found: int, expected: int) -> None:
        if found != expected:
            msg = f"rows: got {found}, expected {expected}"
            raise ValueError(msg)

    def _values(self, key: Secret, data: memoryview) -> NDArray[np.float64]:
        """Decrypt one result: its slots."""
        degree, kept = self.packing.parameters.degree, self._bits[0] - DROPPED_BITS
        words = np.stack([unpack(half, degree, kept) for half in (data[: len(data) // 2], data[len(data) // 2 :])])
        words = words << np.uint64(DROPPED_BITS)
        return self._ring.decrypt(key, self._ring.from_words(words, self._result_scale))

    def _secret(self, secret: bytes) -> Secret:
        return self._secrets.read(secret, self._ring.secret)
