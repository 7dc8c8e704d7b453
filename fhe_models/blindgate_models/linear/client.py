"""The data owner's half of a linear model: encrypts rows, decrypts scores, holds the secret.

`encrypt` refuses a value outside its column's declared range, since the proof that no sum wraps around rests on it.
`decrypt` takes any well-formed reply, right or wrong: what a node computed is not proven by this family, and no outcome
of a decryption changes what this half does next. Scores leave at full precision, noise included; the SDK rounds them as
the manifest says before anyone sees them.

One core encrypts faster than the other parts of a job can follow, so there is no pool of processes here.
"""

from collections.abc import Iterator
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import KeySet, Part, Progress
from blindgate_models.linear.packing import Block, Magic, Packing, Way, pack_words, unpack_words
from blindgate_models.linear.spec import DROPPED_BITS, ClientPart, client_part
from blindgate_models.rows import FeatureRanges, require_rows
from blindgate_models.seal.ckks import Ring
from blindgate_models.seal.serial import Secret
from blindgate_models.secret_keys import SecretFormat
from blindgate_protocol.errors import ResultError

_SECRET_MAGIC: Final = b"BGLK"
_DROPPED_BYTES: Final = DROPPED_BITS // 8
_BYTES_AT_ONCE: Final = 4 << 20


class LinearClient:
    """See `blindgate_models.halves.ClientHalf`."""

    def __init__(self, part: ClientPart) -> None:
        """Take a parsed part."""
        self._parameters = part.parameters
        self._packing = Packing(part.parameters, len(part.ranges), part.outputs)
        self._ring = Ring(part.parameters.degree, part.parameters.modulus_bits)
        self._secrets = SecretFormat(
            _SECRET_MAGIC, part.parameters.key_parameters, part.parameters.degree, [part.parameters.modulus_bits]
        )
        self._columns = part.columns
        self._ranges = FeatureRanges(part.features, part.ranges)
        self._error_bound = max(part.error_bound)

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""
        return cls(client_part(part))

    @property
    def key_parameters(self) -> Part:
        """The ring's parameters: all linear models with the same modulus share keys."""
        return self._parameters.key_parameters

    @property
    def error_bound(self) -> float:
        """The largest of the part's bounds."""
        return self._error_bound

    @property
    def rows_per_job(self) -> int:
        """The most rows that keep both blobs under 64 MiB together."""
        return self._packing.rows_per_blob

    @property
    def rows_at_once(self) -> int:
        """Whole ciphertexts of about 4 MiB together: while one job is under way, the next is encrypted."""
        if self.rows_per_job < self._packing.degree:
            row = self._packing.input_bytes(self._packing.capacity)
            return min(self.rows_per_job, self._packing.capacity * max(1, _BYTES_AT_ONCE // row))
        full = self._packing.input_bytes(self._packing.degree)
        return min(self.rows_per_job, self._packing.degree * max(1, _BYTES_AT_ONCE // full))

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return self._packing.outputs

    def input_bytes(self, rows: int) -> int:
        """The most bytes of an input blob of up to `rows` rows."""
        return self._packing.most_input_bytes(rows)

    def result_bytes(self, rows: int) -> int:
        """The most bytes of a result blob of up to `rows` rows."""
        return self._packing.most_result_bytes(rows)

    def make_keys(self) -> KeySet:
        """Draw a secret key; there is no evaluation key."""
        return KeySet(self._secrets.write(self._ring.new_secret()[None]), None)

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt `rows`, `(n, columns)`, 1 ≤ n ≤ `rows_per_job`, into one blob whose length depends on n alone.

        Raises:
            InputError: another shape, or a value that is not a number within its column's range.
            KeyStoreError: the secret key is not one of these parameters.
        """
        require_rows(rows, self.rows_per_job, self._columns)
        units = self._ranges.units(rows)
        key = self._secret(secret)
        blocks = list(self._packing.blocks(len(rows)))
        total = sum(block.inputs for block in blocks)
        parts = [self._packing.header(Magic.INPUT, len(rows))]
        done = 0
        for block in blocks:
            for polynomial in self._polynomials(block, units[block.start : block.start + block.rows]):
                seed, words = self._ring.encrypt(key, self._ring.encode(polynomial))
                parts += [seed, pack_words(words, self._parameters.word_bytes)]
                done += 1
                if progress is not None:
                    progress(done, total)
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
            found, body = self._packing.open_blob(Magic.RESULT, result)
        except ValueError as error:
            msg = f"result: {error}"
            raise ResultError(msg) from None
        if found != rows:
            msg = f"result: rows: got {found}, expected {rows}"
            raise ResultError(msg)
        scores = np.empty((rows, self._packing.outputs))
        position = 0
        for block in self._packing.blocks(rows):
            for output in range(block.outputs):
                size = self._packing.result_polynomial_bytes(block, output)
                places = self._packing.places(block, output)
                coefficients = self._coefficients(key, body[position : position + size], places)
                scores[block.start : block.start + block.rows, self._packing.scores(block, output)] = coefficients[
                    places
                ]
                position += size
        return scores / self._parameters.score_scale

    def _polynomials(self, block: Block, units: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """The block's input polynomials, X = round(scale · u) in their coefficients."""
        integers = np.rint(np.ldexp(units, self._parameters.input_scale_bits))
        if block.way is Way.COLUMNS:
            for column in integers.T:
                yield np.pad(column, (0, self._packing.degree - block.rows))
        else:
            width, stride = self._packing.width, self._packing.stride
            for first in range(0, self._packing.features, width):
                piece = integers[:, first : first + width]
                polynomial = np.zeros(self._packing.degree)
                polynomial[: self._packing.capacity * stride].reshape(-1, stride)[: block.rows, : piece.shape[1]] = (
                    piece
                )
                yield polynomial

    def _coefficients(self, key: Secret, data: memoryview, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Decrypt one result polynomial; only the coefficients at `places` mean anything."""
        sent = unpack_words(data, self._parameters.word_bytes, _DROPPED_BYTES)
        prime = self._ring.prime
        if int(sent.max()) >= prime:
            msg = "result: a word is not below the modulus"
            raise ResultError(msg)
        sent = np.minimum(sent + np.uint64(1 << (DROPPED_BITS - 1)), np.uint64(prime - 1))
        degree = self._packing.degree
        words = np.zeros((2, degree), dtype=np.uint64)
        words[0, places.ravel()] = sent[degree:]
        words[1] = sent[:degree]
        return self._ring.decode(self._ring.decrypt(key, self._ring.from_words(words)))

    def _secret(self, secret: bytes) -> Secret:
        return self._secrets.read(secret, lambda words: self._ring.secret(words.ravel()))
