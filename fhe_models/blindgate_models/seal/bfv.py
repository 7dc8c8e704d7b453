"""BFV over a few primes, by coefficients: exact integers modulo t, products with known polynomials, no evaluation key.

A `Ring` here makes secret keys and symmetric ciphertexts and nothing else. SEAL insists on one more, *special* prime for
key switching as soon as there are two; nothing is ever encrypted modulo that prime, since public, relinearisation and
Galois keys are the only things that would be and there is no way here to make one. So what an attacker can see is modulo
the data primes, and it is those that are checked against the 128-bit table.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.seal import serial
from blindgate_models.seal.serial import Ciphertext, Level, Plaintext, Secret, Seeded, Words
from blindgate_models.security import MODULUS_BITS_AT_128, require_128_bits

SPECIAL_BITS: Final = 17
"""The fewest bits in which SEAL finds a prime that is 1 modulo 2N, for every N here."""


class Ring:
    """Z_t[X]/(X^N + 1) under BFV.

    Attributes:
        degree: N.
        primes: the data primes, whose product is Q, in SEAL's order: a switch drops the last.
        secret_primes: those and the special one, which the rows of a secret key are modulo.
        plain_modulus: t.
        evaluator: SEAL's evaluator. It raises `ValueError` or `RuntimeError`, the latter also where a result would be
            transparent.
    """

    def __init__(self, degree: int, data_bits: Sequence[int], plain_modulus: int) -> None:
        """Build the ring. Raises `PackageError` below 128-bit security, `ValueError` on what SEAL refuses."""
        require_128_bits(degree, data_bits)
        special = [SPECIAL_BITS] if len(data_bits) > 1 else []
        stock = sum(data_bits) + sum(special) <= MODULUS_BITS_AT_128[degree]
        level = (
            sealapi.SEC_LEVEL_TYPE.TC128 if stock else sealapi.SEC_LEVEL_TYPE.NONE
        )  # the check above is the stricter
        moduli = sealapi.CoeffModulus.Create(degree, [*data_bits, *special])
        contexts = []
        for scheme in (sealapi.SCHEME_TYPE.BFV, sealapi.SCHEME_TYPE.CKKS):
            parameters = sealapi.EncryptionParameters(scheme)
            parameters.set_poly_modulus_degree(degree)
            parameters.set_coeff_modulus(moduli)
            if scheme == sealapi.SCHEME_TYPE.BFV:
                parameters.set_plain_modulus(plain_modulus)
            expand_chain = True
            contexts.append(sealapi.SEALContext(parameters, expand_chain, level))
            if not contexts[-1].parameters_set():
                name = contexts[-1].parameters_error_name()
                msg = f"SEAL refuses degree {degree} with {list(data_bits)} bits: {name}"
                raise ValueError(msg)
        self._context, encrypting = contexts
        self.secret_primes: tuple[int, ...] = tuple(modulus.value() for modulus in moduli)
        self.degree = degree
        self.primes = self.secret_primes[: len(data_bits)]
        self.plain_modulus = plain_modulus
        self.evaluator = sealapi.Evaluator(self._context)
        self._keys = Level(self._context, self._context.key_parms_id(), self.secret_primes, degree)
        self._data = Level(self._context, self._context.first_parms_id(), self.primes, degree)
        self._moduli = np.array(self.primes, dtype=np.uint64)[:, None]
        self._nothing = np.zeros((len(self.primes), degree), dtype=np.uint64)
        self._encrypting_keys = Level(encrypting, encrypting.key_parms_id(), self.secret_primes, degree)
        self._encrypting = Level(encrypting, encrypting.first_parms_id(), self.primes, degree)
        self._last = Level(self._context, self._context.last_parms_id(), self.primes[:1], degree)

    def new_secret(self) -> Words:
        """Draw a secret key, `(primes and the special one, degree)` words, from SEAL's generator."""
        key = sealapi.KeyGenerator(self._context).secret_key()
        return serial.secret_words(key, len(self.secret_primes), self.degree)

    def secret(self, words: Words) -> Secret:
        """Load a secret key from its words. Raises `ValueError` when they are no key's of this ring."""
        secret = serial.load_secret(self._keys, words)
        secret.encryptor = serial.load_secret(self._encrypting_keys, words).encryptor
        return secret

    def plaintexts(self, polynomials: NDArray[np.int64]) -> Iterator[Plaintext]:
        """Polynomials, `(how many, degree)` or fewer coefficients in each, from 0 to t - 1. Raises `ValueError`."""
        if polynomials.size and (polynomials.min() < 0 or polynomials.max() >= self.plain_modulus):
            msg = "a coefficient is not below the plain modulus"
            raise ValueError(msg)
        with serial.plaintext_loader(self._context, polynomials.shape[1]) as load:
            yield from map(load, polynomials)

    def multipliers(self, polynomials: NDArray[np.int64]) -> list[Plaintext]:
        """The same, ready for `times`. SEAL takes c for c - t where c is over t/2, so noise grows by the centred numbers."""
        made = []
        for plaintext in self.plaintexts(polynomials):
            self.evaluator.transform_to_ntt_inplace(plaintext, self._data.parms_id)
            made.append(plaintext)
        return made

    def encrypt(self, secret: Secret, coefficients: NDArray[np.int64], *, like_any: bool = False) -> Seeded:
        """Encrypt under the secret key with a fresh seed, in NTT form.

        Zero takes half as long as anything else, unless it is to be `like_any`. Of all others none takes longer than another: SEAL
        compresses what it saves, which is quicker for some polynomials, so that what it transforms here has a mask added.

        A symmetric ciphertext is (M + e - a·s, a) in BFV as in CKKS: M is the message scaled by Q/t in the one, and what it is
        given in the other. SEAL seeds a in NTT form under CKKS only, and whoever computes on a ciphertext needs it so. Hence
        SEAL's CKKS encrypts here, over the same primes and under the same key, what BFV would have scaled. Noise: at most
        `security.NOISE_BOUND` a coefficient, and ½.
        """
        scaled, is_zero = self._nothing, not coefficients.any()
        if not is_zero or like_any:
            number = self.scaled(np.ones(1, dtype=np.int64) if is_zero else coefficients)
            mask, transformed = self._mask
            message = self._sum(np.pad(number, ((0, 0), (0, self.degree - number.shape[1]))), mask)
            found = self._sum(self._to_ntt(message), self._moduli - transformed)
            scaled = scaled if is_zero else found
        plaintext = serial.load_ntt_plaintext(self._encrypting, scaled)
        return serial.seeded(secret.encryptor.encrypt_symmetric(plaintext), len(self.primes), self.degree)

    @cached_property
    def _mask(self) -> tuple[Words, Words]:
        """Numbers that nothing compresses, `(primes, degree)`, and what the transform makes of them. They need not be secret."""
        drawn = np.random.default_rng().integers(0, self._moduli, (len(self.primes), self.degree), dtype=np.uint64)
        return drawn, self._to_ntt(drawn)

    def _sum(self, one: Words, other: Words) -> Words:
        """Of words below 2^63, modulo the primes."""
        return np.asarray((one + other) % self._moduli, dtype=np.uint64)

    def _to_ntt(self, words: Words) -> Words:
        message = serial.load_ciphertext(self._data, np.stack([self._nothing, words]), ntt=False)
        self.evaluator.transform_to_ntt_inplace(message)
        transformed: Words = serial.ciphertext_words(message, len(self.primes), self.degree)[1]
        return transformed

    def expand(self, seeded: Seeded) -> Ciphertext:
        """Make the ciphertext whose c1 the seed gives, ready for `times`. Raises `ValueError` on words past a prime."""
        return serial.expand(self._data, seeded, ntt=True)

    def expand_words(self, seeded: Seeded, words: Words) -> None:
        """Write that ciphertext's words, `(2, primes, degree)`. Raises `ValueError` on words past a prime.

        SEAL draws c1 for a c0 of zeros: it compresses what it saves, and zeros cost it little.
        """
        serial.require_below(seeded.words, self.primes, self.degree)
        drawn = serial.expand(self._data, seeded._replace(words=self._nothing), ntt=True)
        words[0], words[1] = seeded.words, serial.ciphertext_words(drawn, len(self.primes), self.degree)[1]

    def times(self, ciphertext: Ciphertext, multiplier: Plaintext, into: Ciphertext | None = None) -> Ciphertext:
        """Multiply by a polynomial that is not zero, into a ciphertext that is no longer wanted, or a new one.

        Raises `RuntimeError` when the product is transparent.
        """
        product = sealapi.Ciphertext() if into is None else into
        self.evaluator.multiply_plain(ciphertext, multiplier, product)
        return product

    def from_words(self, words: Words) -> Ciphertext:
        """A ciphertext over all data primes from its coefficients, `(2, primes, degree)`."""
        return serial.load_ciphertext(self._data, words, ntt=False)

    def to_last_prime(self, ciphertext: Ciphertext) -> Words:
        """Switch a sum of products to the first data prime alone: its coefficients, `(2, degree)`."""
        while ciphertext.coeff_modulus_size() > 1:
            self.evaluator.mod_switch_to_next_inplace(ciphertext)
        return serial.ciphertext_words(ciphertext, 1, self.degree).reshape(2, self.degree)

    def scaled(self, polynomials: NDArray[np.int64]) -> Words:
        """Q·m/t, rounded as SEAL does it, modulo each prime: `(..., primes, degree)` of `(..., degree)` coefficients.

        Raises `ValueError` on a coefficient that is not from 0 to t - 1.
        """
        modulus, product = self.plain_modulus, math.prod(self.primes)
        distinct, places = np.unique(polynomials, return_inverse=True)
        if distinct[0] < 0 or distinct[-1] >= modulus:
            msg = "a coefficient is not below the plain modulus"
            raise ValueError(msg)
        numbers = [(product * coefficient + (modulus + 1) // 2) // modulus for coefficient in distinct.tolist()]
        rows = [np.array([number % prime for number in numbers], dtype=np.uint64) for prime in self.primes]
        return np.stack([row[places].reshape(polynomials.shape) for row in rows], axis=-2)

    def in_clear(self, plaintext: Plaintext) -> Words:
        """What anybody decrypts to `plaintext`, modulo the first data prime: `(2, degree)` words. c1 is zero, and hides nothing.

        c0 is what scaling and switching make of it.
        """
        modulus, product = self.plain_modulus, math.prod(self.primes)
        words = np.zeros((2, self.degree), dtype=np.uint64)
        for place, coefficient in enumerate(serial.plaintext_words(plaintext, self.degree).tolist()):
            number = (product * coefficient + (modulus + 1) // 2) // modulus
            for last in reversed(self.primes[1:]):
                number = (number + last // 2) // last
            words[0, place] = number % self.primes[0]
        return words

    def decrypt(self, secret: Secret, words: Words) -> NDArray[np.int64]:
        """Decrypt what `to_last_prime` gave: `(degree,)` numbers modulo t. Raises `ValueError` on words past the prime."""
        ciphertext = serial.load_ciphertext(self._last, words, ntt=False)
        plaintext = sealapi.Plaintext()
        secret.decryptor.decrypt(ciphertext, plaintext)
        return serial.plaintext_words(plaintext, self.degree).astype(np.int64)
