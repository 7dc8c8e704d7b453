"""The node's half of a linear model: weights times ciphertexts, in the packing that the number of rows asks for.

It takes bytes from strangers, in this order: header and exact length (`Packing.open_blob`), then each polynomial's
words against the modulus (`Ring.expand`), and composes SEAL's own format around them itself. An input polynomial is a
seed and c0, never a c1 of the client's choice; degree, level, scale and form are the ring's. Integers modulo q
throughout: the same blob gives the same bytes.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.halves import Part, require_no_key
from blindgate_models.linear.packing import Block, Magic, Packing, Way, pack_words, unpack_words
from blindgate_models.linear.spec import DROPPED_BITS, Circuit, ServerPart, server_part
from blindgate_models.seal.ckks import Ring
from blindgate_models.seal.serial import Ciphertext, Plaintext, Seeded
from blindgate_models.security import SEED_BYTES
from blindgate_protocol.errors import CiphertextError, PackageError

_DROPPED_BYTES: Final = DROPPED_BITS // 8


class LinearServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart) -> None:
        """Take a parsed part. Raises `PackageError` when its scales could make a sum wrap around."""
        circuit = Circuit.of(part.parameters, part.weights, part.intercept)
        if not circuit.headroom < 1:
            msg = f"parameters: the scales let a score reach {circuit.headroom:.3g} of what the modulus holds, expected below 1"
            raise PackageError(msg)
        self._parameters = part.parameters
        self._weights = circuit.weights
        self._ring = Ring(part.parameters.degree, part.parameters.modulus_bits)
        self._intercept = np.array(
            [int(constant) % self._ring.prime for constant in circuit.intercept], dtype=np.uint64
        )
        self.packing = Packing(part.parameters, len(part.weights[0]), len(part.weights))
        self._row_weights = [[self._encoded(piece) for piece in group] for group in self._groups()]

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))

    def prepare(self) -> None:
        """Nothing: all that a job needs is there once the part is read."""

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds. Raises `CiphertextError`."""
        try:
            return self.packing.open_blob(Magic.INPUT, ciphertexts)[0]
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
        try:
            rows, body = self.packing.open_blob(Magic.INPUT, ciphertexts)
            parts = [self.packing.header(Magic.RESULT, rows)]
            polynomials = self.polynomials(body)
            for block in self.packing.blocks(rows):
                parts += self.combine(block, polynomials)
        except (ValueError, RuntimeError) as error:
            msg = f"input: {error}"
            raise CiphertextError(msg) from None
        return b"".join(parts)

    def polynomials(self, body: memoryview) -> Iterator[Ciphertext]:
        """Load an input blob's polynomials, one at a time. Raises `ValueError` on words not below the modulus."""
        size = self.packing.input_polynomial_bytes
        for start in range(0, len(body), size):
            seed = bytes(body[start : start + SEED_BYTES])
            words = unpack_words(body[start + SEED_BYTES : start + size], self._parameters.word_bytes)
            yield self._ring.expand(Seeded(seed, words))

    def combine(self, block: Block, polynomials: Iterable[Ciphertext]) -> Iterator[bytes]:
        """The result polynomials of one block, from the next `block.inputs` of `polynomials`.

        Raises `RuntimeError` when a sum loses its c1, which no honest input does.
        """
        take = iter(polynomials)
        if block.way is Way.COLUMNS:
            sums = self._weighted_sums(take)
        else:
            row = [next(take) for _ in range(block.inputs)]
            sums = [self._added(map(self._product, row, weights)) for weights in self._row_weights]
        for output, total in enumerate(sums):
            yield self._sent(block, output, total)

    def _weighted_sums(self, columns: Iterator[Ciphertext]) -> list[Ciphertext | None]:
        """Σ_j W_kj c_j for each output k; `None` where all weights are 0, since SEAL multiplies by no zero."""
        sums: list[Ciphertext | None] = [None] * self.packing.outputs
        for weights in self._weights.T:
            column = next(columns)
            for output in np.flatnonzero(weights):
                product = self._product(column, self._ring.encode_scalar(int(weights[output])))
                sums[output] = self._added([sums[output], product])
        return sums

    def _added(self, products: Iterable[Ciphertext | None]) -> Ciphertext | None:
        """Their sum, made in the first of them; `None` where there is none."""
        total = None
        for product in products:
            if total is None:
                total = product
            elif product is not None:
                self._ring.evaluator.add_inplace(total, product)
        return total

    def _product(self, ciphertext: Ciphertext, weights: Plaintext | None) -> Ciphertext | None:
        return None if weights is None else self._ring.times(ciphertext, weights)

    def _sent(self, block: Block, output: int, total: Ciphertext | None) -> bytes:
        """Add the intercept where the scores are, and keep what the client needs of the words."""
        places = self.packing.places(block, output)
        c0, c1 = np.zeros((2, self.packing.degree), dtype=np.uint64) if total is None else self._ring.to_words(total)
        prime = np.uint64(self._ring.prime)
        scores = c0[places] + self._intercept[self.packing.scores(block, output)]
        scores = np.where(scores < prime, scores, scores - prime)
        return b"".join(pack_words(words, self._parameters.word_bytes, _DROPPED_BYTES) for words in (c1, scores))

    def _groups(self) -> Iterator[list[NDArray[np.float64]]]:
        """Σ_k Σ_j W_kj X^(k·d + d-1-j), for each group of outputs that comes out of one product, a polynomial for each piece."""
        packing = self.packing
        padded = np.pad(self._weights, ((0, 0), (0, packing.pieces * packing.width - packing.features)))
        for first in range(0, packing.outputs, packing.group):
            group = padded[first : first + packing.group].reshape(-1, packing.pieces, packing.width)[:, :, ::-1]
            polynomials = group.transpose(1, 0, 2).reshape(packing.pieces, -1)
            yield list(np.pad(polynomials, ((0, 0), (0, packing.degree - polynomials.shape[1]))))

    def _encoded(self, coefficients: NDArray[np.float64]) -> Plaintext | None:
        return self._ring.encode(coefficients) if coefficients.any() else None
