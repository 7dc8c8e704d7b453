"""The node's half of a batch: a circuit over encrypted bits, in replies that tell the scores of the rows and nothing else.

It takes bytes from strangers, in this order: header and exact length, then each polynomial's words against their primes
(`Ring.expand`), and composes SEAL's own format around them. A polynomial is a seed and c0, never a c1 of the client's choice.
There is no evaluation key.

Every polynomial is expanded, one that no product uses as well, and the circuit is the same for every job: so time tells how much
work the circuit is, which is one number a model, and nothing of which bits it uses, or of the rows.

What one reply needs and no other may have is a `Cover`: the ternary polynomials and the noise that draw c_1 … c_k anew, and the
flood. It needs no query, so a worker that waits for its job has one ready (`prepare`); a second use has nothing to use.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.bitpacking import pack, packed_bytes, unpack
from blindgate_models.flooding import flood
from blindgate_models.halves import Part, require_no_key
from blindgate_models.randomness import SYSTEM, Source
from blindgate_models.seal.bgv import Ring
from blindgate_models.seal.serial import Ciphertext, Plaintext, Seeded
from blindgate_models.security import SEED_BYTES
from blindgate_models.trees_batch.circuit import deviation
from blindgate_models.trees_batch.evaluation import Evaluation
from blindgate_models.trees_batch.spec import INPUT, RESULT, ServerPart, Shape, header, open_blob, server_part
from blindgate_protocol.errors import CiphertextError, PackageError

_ONE: Final = 1


class Cover:
    """What hides one output's reply. It is spent by the reply that uses it.

    Attributes:
        ternary: u_0 … u_(k-1), to multiply the encryption of zero by.
        noise: t·F, t·e_1 … t·e_k, as a ciphertext.
    """

    __slots__ = ("_noise", "_ternary")

    def __init__(self, ternary: list[Plaintext], noise: Ciphertext) -> None:
        self._ternary: list[Plaintext] | None = ternary
        self._noise = noise

    def spend(self) -> tuple[list[Plaintext], Ciphertext]:
        """Give both out, once. Raises `RuntimeError` the second time."""
        ternary, self._ternary = self._ternary, None
        if ternary is None:
            msg = "a cover was spent already"
            raise RuntimeError(msg)
        return ternary, self._noise


class Opened:
    """An input blob that was checked and loaded.

    Attributes:
        rows: how many slots are rows.
        zero: the encryption of zero.
        bits: the ciphertexts of the bits that the circuit uses.
    """

    __slots__ = ("bits", "rows", "zero")

    def __init__(self, rows: int, zero: Ciphertext, bits: Mapping[int, Ciphertext]) -> None:
        self.rows = rows
        self.zero = zero
        self.bits = bits


class TreesBatchServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart, source: Source = SYSTEM) -> None:
        """Take a parsed part. `source` is where covers come from.

        Raises `PackageError` when the parameters do not hide the circuit or do not hold its scores.
        """
        parameters, circuit = part.parameters, part.circuit
        if circuit.components != parameters.components:
            msg = f"parameters.components: got {parameters.components}, expected the circuit's {circuit.components}"
            raise PackageError(msg)
        try:
            polynomials = circuit.polynomials()
        except ValueError as error:
            raise PackageError(str(error)) from None
        parameters.require_bounds(
            deviation(polynomials, parameters.degree, parameters.plain_modulus, circuit.groups), len(circuit.outputs)
        )
        self._parameters = parameters
        self._constants = [output.constant for output in circuit.outputs]
        self._source = source
        self._ready: list[Cover] = []
        self._shape = Shape(parameters, part.bits, len(circuit.outputs))
        self._ring = Ring(parameters.degree, parameters.data_bits, parameters.plain_modulus)
        self._evaluation = Evaluation(circuit, self._ring)
        secret = np.zeros((2, len(parameters.data_bits), parameters.degree), dtype=np.uint64)
        secret[1, :, 0] = _ONE
        self._shift = self._ring.from_coefficients(
            secret
        )  # (0, 1): its phase is s, so a product with it moves up one place

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))

    def prepare(self) -> None:
        """Draw the next answer's covers, ahead of time. For a process that serves one job and was forked for it alone."""
        if not self._ready:
            self._ready = self.covers()

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds: the others of its slots get no score. Raises `CiphertextError`."""
        try:
            return open_blob(INPUT, self._shape, ciphertexts)[0]
        except ValueError as error:
            msg = f"input: {error}"
            raise CiphertextError(msg) from None

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute the scores of one input blob.

        Raises:
            CiphertextError: not an input blob of these parameters.
            EvaluationKeyError: there is one, and this family has none.
        """
        require_no_key(evaluation_key)
        opened = self.open_input(ciphertexts)
        covers, self._ready = self._ready or self.covers(), []
        return self.answer(opened, covers)

    def covers(self) -> list[Cover]:
        """Draw what hides one answer: a cover for each output. Needs no query."""
        return [self.cover() for _ in range(self._shape.outputs)]

    def cover(self) -> Cover:
        """Draw what hides one output's reply."""
        degree, primes, last = self._parameters.degree, self._ring.primes, self._parameters.components - 1
        ternary = randomness.ternary(last * degree, self._source).reshape(last, degree)
        fresh = randomness.centred_binomial(last * degree, self._source).reshape(last, 1, degree)
        words = np.empty((1 + last, len(primes), degree), dtype=np.uint64)
        words[0] = flood(self._parameters.flood_bits, degree, primes, self._source)
        words[1:] = fresh % np.array(primes)[:, None]
        factors = self._ring.multipliers(ternary % self._parameters.plain_modulus)
        return Cover(factors, self._ring.from_coefficients(self._ring.times_plain_modulus(words)))

    def open_input(self, blob: bytes) -> Opened:
        """Check an input blob and load it. Raises `CiphertextError`."""
        try:
            rows, body = open_blob(INPUT, self._shape, blob)
            zero, *bits = (
                self._expanded(body, number, keep=number == 0 or number - 1 in self._evaluation.used)
                for number in range(self._shape.polynomials)
            )
        except (ValueError, RuntimeError) as error:
            msg = f"input: {error}"
            raise CiphertextError(msg) from None
        return Opened(rows, zero, dict(enumerate(bits)))

    def answer(self, opened: Opened, covers: Sequence[Cover]) -> bytes:
        """The result blob. Raises `CiphertextError` when a sum loses its random part, which no honest input does."""
        parts = [header(RESULT, self._shape, opened.rows)]
        try:
            totals = self._evaluation.run(opened.bits)
            for constant, total, cover in zip(self._constants, totals, covers, strict=True):
                parts += self._reply(opened, constant, total, cover)
        except (ValueError, RuntimeError):
            msg = "input: a polynomial without its random half"
            raise CiphertextError(msg) from None
        return b"".join(parts)

    def _expanded(self, body: memoryview, number: int, *, keep: bool) -> Ciphertext | None:
        """Polynomial `number` of an input blob."""
        degree, data_bits = self._parameters.degree, self._parameters.data_bits
        seed = bytes(body[number * SEED_BYTES : (number + 1) * SEED_BYTES])
        position = self._shape.polynomials * SEED_BYTES + number * self._shape.polynomial_bytes
        words = np.empty((len(data_bits), degree), dtype=np.uint64)
        for row, bits in zip(words, data_bits, strict=True):
            size = packed_bytes(degree, bits)
            row[:] = unpack(body[position : position + size], degree, bits)
            position += size
        ciphertext = self._ring.expand(Seeded(seed, words))
        return ciphertext if keep else None

    def _reply(self, opened: Opened, constant: int, total: Ciphertext | None, cover: Cover) -> list[bytes]:
        """One output's words: drawn anew, flooded, switched."""
        evaluator = self._ring.evaluator
        ternary, noise = cover.spend()
        reply = self._ring.times_scalar(opened.zero, ternary[-1])
        for factor in reversed(ternary[:-1]):
            reply = self._ring.times(self._shift, reply)
            evaluator.add_inplace(reply, self._ring.times_scalar(opened.zero, factor))
        evaluator.add_inplace(reply, noise)
        if total is not None:
            evaluator.add_inplace(reply, total)
        evaluator.add_plain_inplace(reply, self._ring.encode(self._slots(opened.rows, constant)))
        words = self._ring.to_primes(reply, self._parameters.kept)
        kept = self._parameters.data_bits[: self._parameters.kept]
        return [pack(row, bits) for polynomial in words for row, bits in zip(polynomial, kept, strict=True)]

    def _slots(self, rows: int, constant: int) -> NDArray[np.int64]:
        """The constant where there is a row, and random numbers elsewhere."""
        slots = randomness.below(self._parameters.plain_modulus, self._parameters.degree, self._source)
        slots[:rows] = constant % self._parameters.plain_modulus
        return slots
