"""The data owner's half of a batch: answers the public questions, encrypts every answer, decrypts scores, holds the secret.

All bits are sent, used or not, in blobs of one length, whatever the number of rows: slots past the last row repeat the rows from
the first on, so that a reply holds nothing about any other row. Every reply decrypts to something, right or wrong; no outcome
changes what this half does next.
"""

from collections.abc import Iterator
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bitpacking import pack_rows, packed_bytes, unpack
from blindgate_models.bits import answers
from blindgate_models.halves import KeySet, Part, Progress
from blindgate_models.rows import require_rows
from blindgate_models.seal.bgv import Ring
from blindgate_models.seal.serial import Secret
from blindgate_models.secret_keys import SecretFormat
from blindgate_models.trees_batch.spec import INPUT, RESULT, ClientPart, Shape, client_part, header, open_blob
from blindgate_protocol.errors import ResultError

_SECRET_MAGIC: Final = b"BGBK"


class TreesBatchClient:
    """See `blindgate_models.halves.ClientHalf`."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part. Raises `PackageError` when its parameters make no ring."""
        self._part = part
        self._parameters = part.parameters
        self._shape = Shape(part.parameters, part.bits, part.outputs)
        self._ring = Ring(self._parameters.degree, self._parameters.data_bits, self._parameters.plain_modulus)
        self._secrets = SecretFormat(
            _SECRET_MAGIC,
            self._parameters.key_parameters,
            self._parameters.degree,
            [prime.bit_length() for prime in self._ring.secret_primes],
        )

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def key_parameters(self) -> Part:
        """The ring's parameters: forests of any shape over the same ring share keys."""
        return self._parameters.key_parameters

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return self._part.outputs

    @property
    def error_bound(self) -> float:
        """0: the rounded forest's scores come back exactly."""
        return 0.0

    @property
    def rows_per_job(self) -> int:
        """The slots of a ciphertext."""
        return self._parameters.degree

    @property
    def rows_at_once(self) -> int:
        """Likewise: a job costs the same however few rows it has."""
        return self._parameters.degree

    def input_bytes(self, rows: int) -> int:  # noqa: ARG002  (the interface's; it does not depend on them)
        """The length of an input blob."""
        return self._shape.input_bytes

    def result_bytes(self, rows: int) -> int:  # noqa: ARG002  (likewise)
        """The length of a result blob."""
        return self._shape.result_bytes

    def make_keys(self) -> KeySet:
        """Draw a secret key; there is no evaluation key."""
        return KeySet(self._secrets.write(self._ring.new_secret()), None)

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt `rows`, `(n, columns)`, 1 ≤ n ≤ `rows_per_job`, into one blob. A missing value is NaN.

        Raises:
            InputError: another shape.
            KeyStoreError: the secret key is not one of these parameters.
        """
        require_rows(rows, self.rows_per_job, self._part.columns)
        key = self._secret(secret)
        seeds, bodies = [], []
        for done, slots in enumerate(self._polynomials(rows), 1):
            sealed = self._ring.encrypt(key, slots)
            seeds.append(sealed.seed)
            bodies.append(pack_rows(sealed.words, self._parameters.data_bits))
            if progress is not None:
                progress(done, self._shape.polynomials)
        return b"".join([header(INPUT, self._shape, len(rows)), *seeds, *bodies])

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into raw scores, `(rows, outputs)`: multiples of 2^-scale_bits.

        Raises:
            ResultError: not a result of these parameters, or not of `rows` rows.
            KeyStoreError: the secret key is not one of these parameters.
        """
        key = self._secret(secret)
        try:
            found, body = open_blob(RESULT, self._shape, result)
            size = self._shape.reply_bytes
            replies = [body[start : start + size] for start in range(0, len(body), size)]
            slots = np.stack([self._ring.decrypt(key, self._words(reply))[:rows] for reply in replies], axis=1)
        except (ValueError, RuntimeError) as error:
            msg = f"result: {error}"
            raise ResultError(msg) from None
        if found != rows:
            msg = f"result: rows: got {found}, expected {rows}"
            raise ResultError(msg)
        centred = np.where(slots > self._parameters.plain_modulus // 2, slots - self._parameters.plain_modulus, slots)
        return np.ldexp(centred.astype(np.float64), -self._part.scale_bits)

    def _polynomials(self, rows: NDArray[np.float64]) -> Iterator[NDArray[np.int64] | None]:
        """What an input blob encrypts: zero, then each bit of every slot."""
        yield None
        bits = answers(self._part.questions, rows).astype(np.int64)
        slots = np.arange(self._parameters.degree) % len(rows)
        for column in bits.T:
            yield column[slots]

    def _words(self, reply: memoryview) -> NDArray[np.uint64]:
        """The words of one output's reply, `(components, kept, degree)`."""
        degree, kept = self._parameters.degree, self._parameters.data_bits[: self._parameters.kept]
        words = np.empty((self._parameters.components, len(kept), degree), dtype=np.uint64)
        position = 0
        for polynomial in words:
            for row, bits in zip(polynomial, kept, strict=True):
                size = packed_bytes(degree, bits)
                row[:] = unpack(reply[position : position + size], degree, bits)
                position += size
        return words

    def _secret(self, secret: bytes) -> Secret:
        return self._secrets.read(secret, self._ring.secret)
