"""The asker's half of a secret product: encrypts vectors, decrypts y, holds the secret.

Every reply decrypts to something, right or wrong; no outcome changes what this half does next.

Additive models, private forests and search differ in what stands for a row and in what the decrypted numbers mean. All else of
their client halves, from keys to the lengths of blobs, follows from the product's shape: `ProductHalf`.
"""

from abc import ABC, abstractmethod
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bitpacking import pack_rows, packed_bytes, unpack
from blindgate_models.halves import KeySet, Part, Progress
from blindgate_models.product.spec import INPUT, RESULT, Shape, header, open_blob
from blindgate_models.rows import require_rows
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Secret
from blindgate_models.secret_keys import SecretFormat
from blindgate_protocol.errors import ResultError

_SECRET_MAGIC: Final = b"BGPK"


class ProductClient:
    """One shape of product, from the asker's side."""

    def __init__(self, shape: Shape) -> None:
        """Take a shape whose parameters were checked."""
        self._shape = shape
        self._parameters = shape.parameters
        self._ring = Ring(self._parameters.degree, self._parameters.data_bits, self._parameters.plain_modulus)
        self._secrets = SecretFormat(
            _SECRET_MAGIC,
            self._parameters.key_parameters,
            self._parameters.degree,
            [prime.bit_length() for prime in self._ring.secret_primes],
        )

    def make_keys(self) -> KeySet:
        """Draw a secret key; there is no evaluation key."""
        return KeySet(self._secrets.write(self._ring.new_secret()), None)

    def encrypt(self, secret: bytes, vectors: NDArray[np.int64], progress: Progress | None = None) -> bytes:
        """Encrypt `(n, inputs)` numbers modulo t into one blob whose length depends on n alone.

        How long it takes tells how many polynomials are not zero. A vector of zeros takes as long as one of which a single
        polynomial is another: so a unit vector and nothing take the same (`lookup`).

        Raises `KeyStoreError` when the secret key is not one of these parameters.
        """
        key = self._secret(secret)
        group = self._parameters.group
        filling = self._shape.groups * group - self._shape.inputs
        padded = np.pad(vectors % self._parameters.plain_modulus, ((0, 0), (0, filling)))
        polynomials = [*np.zeros((self._shape.zeros, 1), dtype=np.int64), *padded.reshape(-1, group)]
        starts = range(self._shape.zeros, len(polynomials), self._shape.groups)
        nothing = {start for start, vector in zip(starts, padded, strict=True) if not vector.any()}
        sealed = []
        for done, polynomial in enumerate(polynomials, 1):
            sealed.append(self._ring.encrypt(key, polynomial, like_any=done - 1 in nothing))
            if progress is not None:
                progress(done, len(polynomials))
        words = np.stack([seeded.words for seeded in sealed], axis=1)
        seeds = [seeded.seed for seeded in sealed]
        return b"".join(
            [header(INPUT, self._shape, len(vectors)), *seeds, pack_rows(words, self._parameters.data_bits)]
        )

    def decrypt(self, secret: bytes, result: bytes, vectors: int) -> NDArray[np.int64]:
        """Decrypt a result: `(vectors, outputs)` numbers from 0 to t - 1.

        Raises `ResultError` on what is no result for so many vectors, `KeyStoreError` on another key.
        """
        key = self._secret(secret)
        try:
            found, body = open_blob(RESULT, self._shape, result, vectors)
        except ValueError as error:
            msg = f"result: {error}"
            raise ResultError(msg) from None
        if found != vectors:
            msg = f"result: rows: got {found}, expected {vectors}"
            raise ResultError(msg)
        size = self._shape.reply_bytes
        replies = [self._opened(key, body[start : start + size]) for start in range(0, vectors * size, size)]
        return np.stack(replies)

    def _opened(self, key: Secret, reply: memoryview) -> NDArray[np.int64]:
        """One reply's numbers, `(outputs,)`."""
        parameters = self._parameters
        blocks, degree, block = self._shape.blocks, parameters.degree, parameters.block
        bits = parameters.data_bits[0]
        cut = packed_bytes(blocks * degree, bits - parameters.dropped_c1)
        c1 = self._restored(unpack(reply[:cut], blocks * degree, bits - parameters.dropped_c1), parameters.dropped_c1)
        c0 = self._restored(unpack(reply[cut:], blocks * block, bits - parameters.dropped_c0), parameters.dropped_c0)
        numbers = np.empty((blocks, block), dtype=np.int64)
        places = slice(parameters.group - 1, block * parameters.group, parameters.group)
        for index in range(blocks):
            words = np.zeros((2, degree), dtype=np.uint64)
            words[0, places] = c0[index * block : (index + 1) * block]
            words[1] = c1[index * degree : (index + 1) * degree]
            numbers[index] = self._ring.decrypt(key, words)[places]
        return numbers.ravel()[: self._shape.outputs]

    def _restored(self, sent: NDArray[np.uint64], dropped: int) -> NDArray[np.uint64]:
        """The middle of the range that each word may have come from. Raises `ResultError` on one past the prime."""
        words = sent << np.uint64(dropped)
        prime = self._ring.primes[0]
        if int(words.max()) >= prime:
            msg = "result: a word is not below the modulus"
            raise ResultError(msg)
        half = np.uint64((1 << dropped) >> 1)
        return np.minimum(words + half, np.uint64(prime - 1))

    def _secret(self, secret: bytes) -> Secret:
        return self._secrets.read(secret, self._ring.secret)

    @classmethod
    def of(cls, shape: Shape) -> Self:
        """Build after checking the shape's parameters. Raises `PackageError`."""
        shape.parameters.check()
        return cls(shape)


class ProductHalf(ABC):
    """What the client halves over one product share: see `blindgate_models.halves.ClientHalf`.

    A family says which numbers stand for rows (`_numbers`), how many rows are best sent at once, and, where scores are not simply
    the decrypted numbers, how these add up to them (`_totals`).
    """

    def __init__(self, shape: Shape, columns: int, scale_bits: int = 0) -> None:
        """Take the product's shape, the width of a row, and S: scores are whole numbers times 2^-S."""
        self._shape = shape
        self._columns = columns
        self._scale_bits = scale_bits
        self._product = ProductClient.of(shape)

    @property
    def key_parameters(self) -> Part:
        """The ring's parameters: all products over one ring share keys."""
        return self._shape.parameters.key_parameters

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return self._shape.outputs

    @property
    def error_bound(self) -> float:
        """0: decryption is exact, so a score carries no noise of the key."""
        return 0.0

    @property
    def rows_per_job(self) -> int:
        """The most rows that keep a blob under 64 MiB."""
        return self._shape.vectors_per_blob

    @property
    @abstractmethod
    def rows_at_once(self) -> int:
        """How many rows go into one job, at most `rows_per_job`."""

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
        """Encrypt `rows`, `(n, columns)`, 1 ≤ n ≤ `rows_per_job`, into one blob whose length depends on n alone.

        Raises:
            InputError: another shape, or a value that the family has no number for.
            KeyStoreError: the secret key is not one of these parameters.
        """
        require_rows(rows, self.rows_per_job, self._columns)
        return self._product.encrypt(secret, self._numbers(rows), progress)

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into raw scores, `(rows, outputs)`, exactly what the node computed.

        Raises:
            ResultError: not a result of these parameters, or not of `rows` rows.
            KeyStoreError: the secret key is not one of these parameters.
        """
        totals = self._totals(self._product.decrypt(secret, result, rows))
        modulus = self._shape.parameters.plain_modulus
        centred = np.where(totals > modulus // 2, totals - modulus, totals)
        return np.ldexp(centred.astype(np.float64), -self._scale_bits)

    @abstractmethod
    def _numbers(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """What is encrypted for rows of the right shape: `(n, inputs)`. May raise `InputError`."""

    def _totals(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Scores modulo t, `(rows, outputs)`, from the decrypted numbers. The same steps, whatever the numbers are."""
        return numbers
