"""The node's half of a secret product: a matrix times ciphertexts, in replies that tell nothing else.

It takes bytes from strangers, in this order: header and exact length, then each polynomial's words against their primes
(`Ring.expand`), and composes SEAL's own format around them. A polynomial is a seed and c0, never a c1 of the asker's choice.

What one reply needs and no other may have is a `Cover`: the ternary polynomials that c1 is drawn anew with, its noise, the
flood. It can be made ahead of time, belongs to no query until then, and `reply` takes it apart: a second use has nothing to use.

What is computed of W is `product.arithmetic`'s to do. Sums begin with the encryption of zero times its ternary polynomial, which is
random. A blob in which a seed comes twice is refused before anything of W is touched: two columns of W could cancel each other over
it, and SEAL would say so.

Additive models and search have one W for all rows, which is encoded when the half is built: `MatrixHalf`. A cover serves one row.
A worker that waits for its job has one ready (`prepare`), and the worker's process ends with its job. None is drawn when the half
is built, since what two workers had from there would be used twice.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.bitpacking import pack, packed_bytes, unpack
from blindgate_models.flooding import flood
from blindgate_models.halves import require_no_key
from blindgate_models.product.arithmetic import Constants, Multipliers, Noise, Polynomials, arithmetic_over
from blindgate_models.product.spec import INPUT, RESULT, Shape, header, open_blob
from blindgate_models.randomness import SYSTEM, Source
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Seeded
from blindgate_models.security import SEED_BYTES
from blindgate_protocol.errors import CiphertextError


class Cover:
    """What hides one reply. It is spent by the reply that uses it.

    Attributes:
        ternary: a multiplier for each block, for the encryption of zero.
        noise: for each block the flood at the outputs, e1, and the reply's constants.
    """

    __slots__ = ("_noise", "_ternary")

    def __init__(self, ternary: Multipliers, noise: Noise) -> None:
        self._ternary: Multipliers | None = ternary
        self._noise = noise

    def spend(self) -> tuple[Multipliers, Noise]:
        """Give both out, once. Raises `RuntimeError` the second time."""
        ternary, self._ternary = self._ternary, None
        if ternary is None:
            msg = "a cover was spent already"
            raise RuntimeError(msg)
        return ternary, self._noise


class ProductServer:
    """One shape of product, from the node's side."""

    def __init__(self, shape: Shape, source: Source = SYSTEM) -> None:
        """Take a shape whose parameters were checked. `source` is where masks and noise come from."""
        self._shape = shape
        self._parameters = shape.parameters
        self._source = source
        self._ring = Ring(self._parameters.degree, self._parameters.data_bits, self._parameters.plain_modulus)
        self._arithmetic = arithmetic_over(self._ring, shape.blocks)
        used = self._parameters.block * self._parameters.group
        self._places = slice(self._parameters.group - 1, used, self._parameters.group)

    @property
    def private(self) -> bool:
        """Whether replies hide W: each needs a cover."""
        return self._parameters.privacy == "model_private"

    @classmethod
    def of(cls, shape: Shape, source: Source = SYSTEM) -> Self:
        """Build after checking the shape's parameters. Raises `PackageError`."""
        shape.parameters.check()
        return cls(shape, source)

    def multipliers(self, matrix: NDArray[np.integer[Any]]) -> Multipliers:
        """Encode W, `(outputs, inputs)` integers, |number| < t. Takes memory for one block at a time besides the result."""
        return self._arithmetic.multipliers(self._polynomials(matrix), self._shape.blocks, self._shape.groups)

    def sparse_multipliers(
        self, outputs: NDArray[np.intp], inputs: NDArray[np.intp], numbers: NDArray[np.int64]
    ) -> Multipliers:
        """Encode the W that has `numbers`, |number| < t, at (`outputs`, `inputs`) and 0 elsewhere; numbers at one place add up.

        For a W that is drawn while an asker waits: the work is the same for any numbers.
        """
        degree, group, block = self._parameters.degree, self._parameters.group, self._parameters.block
        groups, blocks = self._shape.groups, self._shape.blocks
        block_of, output = np.divmod(outputs, block)
        group_of, place = np.divmod(inputs, group)
        where = (block_of * groups + group_of) * degree + output * group + (group - 1 - place)
        polynomials = np.zeros(blocks * groups * degree, dtype=np.int64)
        np.add.at(polynomials, where, numbers)
        polynomials[where] %= self._parameters.plain_modulus
        return self._arithmetic.multipliers(polynomials.reshape(blocks, groups, degree), blocks, groups)

    def constants(self, numbers: NDArray[np.int64]) -> Constants:
        """Encode k, `(outputs,)` numbers modulo t."""
        degree, blocks = self._parameters.degree, self._shape.blocks
        padded = np.zeros((blocks, degree), dtype=np.int64)
        full = np.zeros(blocks * self._parameters.block, dtype=np.int64)
        full[: self._shape.outputs] = numbers % self._parameters.plain_modulus
        padded[:, self._places] = full.reshape(blocks, -1)
        return self._arithmetic.constants(padded)

    def cover(self, constants: Constants) -> Cover:
        """Draw what hides one reply, with `constants` in it. Takes milliseconds, and needs no query."""
        degree, blocks, block = self._parameters.degree, self._shape.blocks, self._parameters.block
        primes = self._ring.primes
        ternary = randomness.ternary(blocks * degree, self._source).reshape(blocks, 1, degree)
        fresh = randomness.centred_binomial(blocks * degree, self._source).reshape(blocks, degree)
        drowned = flood(self._parameters.flood_bits, blocks * block, primes, self._source)
        words = np.zeros((blocks, 2, len(primes), degree), dtype=np.uint64)
        for row, prime in enumerate(primes):
            words[:, 0, row, self._places] = drowned[row].reshape(blocks, block)
            words[:, 1, row] = fresh + ((fresh >> 63) & prime)
        return Cover(self._arithmetic.multipliers(ternary, blocks, 1), self._arithmetic.noise(words, constants))

    def rows(self, blob: bytes, most: int) -> int:
        """How many vectors an input blob holds. Raises `CiphertextError`."""
        try:
            return open_blob(INPUT, self._shape, blob, most)[0]
        except ValueError as error:
            msg = f"input: {error}"
            raise CiphertextError(msg) from None

    def open_input(self, blob: bytes, most: int) -> tuple[Polynomials, list[Polynomials]]:
        """Check an input blob and load it: the encryption of zero, if any, and each vector's polynomials.

        Raises `CiphertextError`.
        """
        try:
            vectors, body = open_blob(INPUT, self._shape, blob, most)
            count = self._shape.polynomials(vectors)
            seeds = {bytes(body[start : start + SEED_BYTES]) for start in range(0, count * SEED_BYTES, SEED_BYTES)}
            if len(seeds) < count:
                msg = "seeds: one comes twice"
                raise ValueError(msg)  # noqa: TRY301  (it is a refusal like those of what is called here)
            loaded = self._arithmetic.expand(self._seeded(body, vectors), count)
        except (ValueError, RuntimeError) as error:
            msg = f"input: {error}"
            raise CiphertextError(msg) from None
        zeros, groups = self._shape.zeros, self._shape.groups
        rest = loaded[zeros:]
        return loaded[:zeros], [rest[vector * groups : (vector + 1) * groups] for vector in range(vectors)]

    def reply(
        self,
        zeros: Polynomials,
        vector: Polynomials,
        multipliers: Multipliers,
        added: Cover | Constants,
    ) -> bytes:
        """One vector's reply. `added`: a cover, which has the constants in it; or constants alone, where W need not be hidden."""
        if not isinstance(added, Cover):
            return self._sent(self._arithmetic.reply([(multipliers, vector)], added))
        ternary, noise = added.spend()
        return self._sent(self._arithmetic.reply([(ternary, zeros), (multipliers, vector)], noise))

    def result(self, replies: Sequence[bytes]) -> bytes:
        """The result blob that holds `replies`."""
        return b"".join([header(RESULT, self._shape, len(replies)), *replies])

    def _seeded(self, body: memoryview, vectors: int) -> Iterator[Seeded]:
        count, degree = self._shape.polynomials(vectors), self._parameters.degree
        seeds, position = body[: count * SEED_BYTES], count * SEED_BYTES
        rows = []
        for bits in self._parameters.data_bits:
            size = packed_bytes(count * degree, bits)
            rows.append(unpack(body[position : position + size], count * degree, bits).reshape(count, degree))
            position += size
        for index, words in enumerate(np.stack(rows, axis=1)):
            yield Seeded(bytes(seeds[index * SEED_BYTES : (index + 1) * SEED_BYTES]), words)

    def _polynomials(self, matrix: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.int64]]:
        """The coefficients of each block's multipliers, `(groups, degree)`."""
        groups, group, block = self._shape.groups, self._parameters.group, self._parameters.block
        for start in range(0, self._shape.outputs, block):
            rows = matrix[start : start + block]
            numbers = np.zeros((block, groups * group), dtype=matrix.dtype)
            numbers[: len(rows), : self._shape.inputs] = rows
            polynomials = np.zeros((groups, self._parameters.degree), dtype=np.int64)
            # (output, group, place) → polynomials, with the places of a group reversed
            placed = polynomials[:, : block * group].reshape(groups, block, group)
            placed[:] = numbers.reshape(block, groups, group)[:, :, ::-1].transpose(1, 0, 2)
            yield polynomials

    def _sent(self, sums: NDArray[np.uint64]) -> bytes:
        """What leaves of `(blocks, 2, degree)` words: c1, and c0 at the outputs, both without their low bits."""
        parameters = self._parameters
        bits = parameters.data_bits[0]
        c1 = sums[:, 1] >> np.uint64(parameters.dropped_c1)
        c0 = sums[:, 0, self._places] >> np.uint64(parameters.dropped_c0)
        return pack(c1, bits - parameters.dropped_c1) + pack(c0, bits - parameters.dropped_c0)


class MatrixHalf:
    """What the server halves share that are one matrix and its constants: see `blindgate_models.halves.ServerHalf`."""

    def __init__(
        self, product: ProductServer, matrix: NDArray[np.integer[Any]], constants: NDArray[np.int64], most_rows: int
    ) -> None:
        """Encode W, `(outputs, inputs)`, and k, `(outputs,)`. `most_rows`: an input blob of more is refused."""
        self._product = product
        self._multipliers = product.multipliers(matrix)
        self._constants = product.constants(constants)
        self._most_rows = most_rows
        self._ready: list[Cover] = []

    def prepare(self) -> None:
        """Draw what hides the next reply. For a process that serves one job and was forked for it alone."""
        if self._product.private and not self._ready:
            self._ready.append(self._product.cover(self._constants))

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds. Raises `CiphertextError`."""
        return self._product.rows(ciphertexts, self._most_rows)

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute the scores of one input blob.

        Raises:
            CiphertextError: not an input blob of these parameters.
            EvaluationKeyError: there is one, and this family has none.
        """
        require_no_key(evaluation_key)
        zeros, rows = self._product.open_input(ciphertexts, self._most_rows)
        return self._product.result([self._product.reply(zeros, row, self._multipliers, self._added()) for row in rows])

    def _added(self) -> Cover | Constants:
        if not self._product.private:
            return self._constants
        return self._ready.pop() if self._ready else self._product.cover(self._constants)
