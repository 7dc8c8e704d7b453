"""Secret products by themselves, without a model: both halves of one shape, and what an asker can measure of a reply's noise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bitpacking import packed_bytes, unpack
from blindgate_models.product.client import ProductClient
from blindgate_models.product.server import ProductServer
from blindgate_models.product.spec import HEADER_BYTES, Need, Privacy, Shape, choose, prime_below
from blindgate_models.seal import serial
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Seeded, Words
from blindgate_models.secret_keys import HEADER_BYTES as SECRET_HEADER_BYTES
from blindgate_models.security import SEED_BYTES

Numbers = NDArray[np.int64]


class Product(NamedTuple):
    """y = W·x + k modulo t, from both sides."""

    shape: Shape
    client: ProductClient
    server: ProductServer
    secret: bytes
    matrix: Numbers
    constants: Numbers

    @property
    def modulus(self) -> int:
        """The modulus t."""
        return self.shape.parameters.plain_modulus

    def expected(self, vectors: Numbers) -> Numbers:
        """What a reply has to decrypt to."""
        exact = vectors.astype(object) @ self.matrix.T.astype(object) + self.constants.astype(object)
        return np.asarray(exact % self.modulus).astype(np.int64)

    def answer(self, blob: bytes, most: int = 1000) -> bytes:
        """The node's result for an input blob."""
        zeros, vectors = self.server.open_input(blob, most)
        multipliers, constants = self.server.multipliers(self.matrix), self.server.constants(self.constants)
        return self.server.result(
            [
                self.server.reply(
                    zeros, vector, multipliers, self.server.cover(constants) if self.shape.zeros else constants
                )
                for vector in vectors
            ]
        )

    def ask(self, vectors: Numbers) -> Numbers:
        """Encrypt, compute, decrypt."""
        return self.client.decrypt(self.secret, self.answer(self.client.encrypt(self.secret, vectors)), len(vectors))


def product(
    inputs: int, outputs: int, *, plain_bits: int = 16, privacy: Privacy = "model_private", seed: int = 0
) -> Product:
    """A random product with parameters of the chooser's."""
    modulus = prime_below(plain_bits)
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-(modulus // 2), modulus // 2 + 1, (outputs, inputs))
    parameters = choose(Need(inputs, outputs, modulus, inputs * modulus**2 / 12, privacy))
    shape = Shape(parameters, inputs, outputs, "test")
    client = ProductClient.of(shape)
    constants = rng.integers(0, modulus, outputs)
    return Product(shape, client, ProductServer.of(shape), client.make_keys().secret, matrix, constants)


class Asker:
    """What whoever holds the secret key can compute about noise: of its own ciphertexts, and of what comes back."""

    def __init__(self, shape: Shape, secret: bytes) -> None:
        parameters = shape.parameters
        self.shape = shape
        self.ring = Ring(parameters.degree, parameters.data_bits, parameters.plain_modulus)
        rows, start = [], SECRET_HEADER_BYTES
        for prime in self.ring.primes:
            size = packed_bytes(parameters.degree, prime.bit_length())
            rows.append(unpack(secret[start : start + size], parameters.degree, prime.bit_length()))
            start += size
        words = np.stack([np.stack(rows)] * 2)
        key = serial.load_ciphertext(self.ring._data, words, ntt=True)
        self.ring.evaluator.transform_from_ntt_inplace(key)
        first = self._words(key)[1, 0].astype(np.int64)
        self.key: Numbers = np.where(first > 1, first - self.ring.primes[0], first)  # ternary
        self._times_key = self.ring.multipliers(self.key[None] % parameters.plain_modulus)[0]

    def own_noise(self, blob: bytes, polynomial: int, message: Numbers) -> NDArray[np.float64]:
        """The noise of one polynomial of an input blob that encrypts `message`, `(degree,)`."""
        parameters, count = self.shape.parameters, self.shape.polynomials(int.from_bytes(blob[8:12], "little"))
        seeds, position = blob[HEADER_BYTES:], HEADER_BYTES + count * SEED_BYTES
        rows = []
        for bits in parameters.data_bits:
            size = packed_bytes(count * parameters.degree, bits)
            rows.append(unpack(blob[position : position + size], count * parameters.degree, bits).reshape(count, -1))
            position += size
        seed = seeds[polynomial * SEED_BYTES : (polynomial + 1) * SEED_BYTES]
        ciphertext = self.ring.expand(Seeded(seed, np.stack([row[polynomial] for row in rows])))
        self.ring.evaluator.transform_from_ntt_inplace(ciphertext)
        return self.noise(self._words(ciphertext), message)

    def noise(self, words: Words, message: Numbers) -> NDArray[np.float64]:
        """c0 + c1·s - Q·m/t of `(2, primes, degree)` words, centred: `(degree,)`."""
        ciphertext = self.ring.from_words(words)
        self.ring.evaluator.transform_to_ntt_inplace(ciphertext)
        product = self.ring.times(ciphertext, self._times_key)
        self.ring.evaluator.transform_from_ntt_inplace(product)
        product_words = self._words(product)[1]
        sums = [
            (c0.astype(object) + times) % prime
            for c0, times, prime in zip(words[0], product_words, self.ring.primes, strict=True)
        ]
        whole = _joined(sums, self.ring.primes)
        total = int(np.prod(np.array(self.ring.primes, dtype=object)))
        scaled = (message.astype(object) * total * 2 + self.ring.plain_modulus) // (2 * self.ring.plain_modulus)
        difference = (whole - scaled) % total
        return np.where(difference > total // 2, difference - total, difference).astype(np.float64)

    def _words(self, ciphertext: Any) -> Words:
        return serial.ciphertext_words(ciphertext, len(self.ring.primes), self.ring.degree)


def _joined(residues: Sequence[Any], primes: Sequence[int]) -> Any:
    """Integers from their residues, by the Chinese remainder theorem."""
    total = int(np.prod(np.array(primes, dtype=object)))
    whole: Any = 0
    for residue, prime in zip(residues, primes, strict=True):
        rest = total // prime
        whole = whole + residue * rest * pow(rest, -1, prime)
    return whole % total
