"""BGV with a number modulo t in each of N slots: products of ciphertexts with one another, and no evaluation key.

`sealapi` has no name for BGV, so its parameters are loaded from SEAL's own layout, where they say scheme 3. Four things are this
module's business:

1. **Primes are chosen here**: each is 1 modulo 2N, as SEAL asks, and 1 modulo t. A switch divides by a prime and so multiplies the
   message by its inverse modulo t, which SEAL tracks as a *correction factor*; this way it stays 1, and `serial` may write 1.
2. **A product keeps its polynomials.** A ciphertext of polynomials c_0 … c_k has the *phase* c_0 + c_1 s + … + c_k s^k = m + t·e
   modulo Q. The phase of a product is the product of the phases, and it has one polynomial more for each factor. There is no
   relinearisation and so no relinearisation key: nothing for a client to make, send and rotate, nothing for a node to parse, keep
   and expand, and no special prime that would count against the 128-bit table. Decrypting takes a power of s for each polynomial.
3. **Messages are centred**: SEAL adds a message as numbers from -t/2 to t/2, not from 0 to t - 1, whose mean would add up over N
   terms in every product. The bounds of whoever multiplies rest on that, and a test holds SEAL to it.
4. SEAL wants one more, *special* prime for key switching where there are two or more. Nothing is encrypted modulo it (see
   `blindgate_models.seal.bfv`), so the data primes are what is checked.
5. SEAL takes every BGV ciphertext to be in NTT form. Noise is drawn as coefficients, so it is transformed in a BFV context over the
   same primes, whose transform is the same.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.primes import is_prime, slot_primes
from blindgate_models.seal import serial
from blindgate_models.seal.serial import Ciphertext, Level, Plaintext, Secret, Seeded, Words
from blindgate_models.security import MODULUS_BITS_AT_128, require_128_bits
from blindgate_protocol.errors import PackageError

_BFV: Final = 1
_BGV: Final = 3
_DIGIT: Final = 7


class Ring:
    """Z_t[X]/(X^N + 1) under BGV, t prime and 1 modulo 2N, so that it is N slots of numbers modulo t.

    Attributes:
        degree: N.
        primes: the data primes, whose product is Q, in SEAL's order: a switch drops the last.
        secret_primes: those and the special one, which the rows of a secret key are modulo.
        plain_modulus: t.
        evaluator: SEAL's evaluator. It raises `ValueError` or `RuntimeError`, the latter also where a result would be
            transparent.
    """

    def __init__(self, degree: int, data_bits: Sequence[int], plain_modulus: int) -> None:
        """Build the ring. Raises `PackageError` below 128-bit security, or where t makes no slots."""
        require_128_bits(degree, data_bits)
        if plain_modulus % (2 * degree) != 1 or not is_prime(plain_modulus):
            msg = f"parameters.plain_modulus: got {plain_modulus}, expected a prime that is 1 modulo {2 * degree}"
            raise PackageError(msg)
        self.primes = slot_primes(degree, tuple(data_bits), plain_modulus)
        self.secret_primes = (
            self.primes if len(data_bits) == 1 else (*self.primes, _special(degree, self.primes, plain_modulus))
        )
        self.degree = degree
        self.plain_modulus = plain_modulus
        self._context = self._made(_BGV)
        self.evaluator = sealapi.Evaluator(self._context)
        self._encoder = sealapi.BatchEncoder(self._context)
        self._keys = Level(self._context, self._context.key_parms_id(), self.secret_primes, degree)
        self._levels = _chain(self._context, self.primes, degree)
        transforming = self._made(_BFV)
        self._transformer = sealapi.Evaluator(transforming)
        self._untransformed = _chain(transforming, self.primes, degree)[len(self.primes)]

    def new_secret(self) -> Words:
        """Draw a secret key, `(primes and the special one, degree)` words, from SEAL's generator."""
        key = sealapi.KeyGenerator(self._context).secret_key()
        return serial.secret_words(key, len(self.secret_primes), self.degree)

    def secret(self, words: Words) -> Secret:
        """Load a secret key from its words. Raises `ValueError` when they are no key's of this ring."""
        return serial.load_secret(self._keys, words)

    def encode(self, slots: NDArray[np.int64]) -> Plaintext:
        """The plaintext with `slots`, `(degree,)` or fewer numbers from 0 to t - 1, and 0 in the others."""
        plaintext = sealapi.Plaintext()
        self._encoder.encode(slots.tolist(), plaintext)
        return plaintext

    def scalar(self, number: int) -> Plaintext:
        """A number to multiply by, taken as the one from -t/2 to t/2 that it is modulo t; not 0 modulo t."""
        return self.multipliers(np.array([[number % self.plain_modulus]], dtype=np.int64))[0]

    def multipliers(self, polynomials: NDArray[np.int64]) -> list[Plaintext]:
        """Polynomials to multiply by, `(how many, degree)` or fewer coefficients from 0 to t - 1, taken as ones around 0."""
        made = []
        with serial.plaintext_loader(self._context, polynomials.shape[1]) as load:
            for plaintext in map(load, polynomials):
                self.evaluator.transform_to_ntt_inplace(plaintext, self._top.parms_id)
                made.append(plaintext)
        return made

    def encrypt(self, secret: Secret, slots: NDArray[np.int64] | None) -> Seeded:
        """Encrypt under the secret key with a fresh seed; `None`, zero. In NTT form.

        The phase is at most t·(`security.NOISE_BOUND` + ½) a coefficient.
        """
        encryptor = secret.encryptor
        sealed = (
            encryptor.encrypt_zero_symmetric() if slots is None else encryptor.encrypt_symmetric(self.encode(slots))
        )
        return serial.seeded(sealed, len(self.primes), self.degree)

    def expand(self, seeded: Seeded) -> Ciphertext:
        """Make the ciphertext whose c1 the seed gives. Raises `ValueError` on words past a prime."""
        return serial.expand(self._top, seeded, ntt=True)

    def times_scalar(self, ciphertext: Ciphertext, multiplier: Plaintext) -> Ciphertext:
        """Multiply by a plaintext that is not zero. Raises `RuntimeError` when the product is transparent."""
        product = sealapi.Ciphertext()
        self.evaluator.multiply_plain(ciphertext, multiplier, product)
        return product

    def times(self, one: Ciphertext, other: Ciphertext) -> Ciphertext:
        """Multiply: j and k polynomials give j + k - 1. Raises `RuntimeError` when the product is transparent."""
        product = sealapi.Ciphertext()
        self.evaluator.multiply(one, other, product)
        return product

    def from_coefficients(self, words: Words) -> Ciphertext:
        """A ciphertext over all primes from its coefficients, `(polynomials, primes, degree)`, in NTT form."""
        ciphertext = serial.load_ciphertext(self._untransformed, words, ntt=False)
        self._transformer.transform_to_ntt_inplace(ciphertext)
        transformed = serial.ciphertext_words(ciphertext, len(self.primes), self.degree)
        return serial.load_ciphertext(self._top, transformed, ntt=True)

    def times_plain_modulus(self, words: Words) -> Words:
        """Multiply by t words `(…, primes, degree)` modulo the primes, which have at most 56 bits: by t's digits of seven bits."""
        primes = np.array(self.primes, dtype=np.uint64)[:, None]
        product = np.zeros_like(words)
        for shift in range((self.plain_modulus.bit_length() - 1) // _DIGIT * _DIGIT, -1, -_DIGIT):
            digit = np.uint64(self.plain_modulus >> shift & ((1 << _DIGIT) - 1))
            product = ((product << np.uint64(_DIGIT)) + words * digit) % primes
        return product

    def to_primes(self, ciphertext: Ciphertext, kept: int) -> Words:
        """Switch to the first `kept` primes: its words in NTT form, `(polynomials, kept, degree)`."""
        while ciphertext.coeff_modulus_size() > kept:
            self.evaluator.mod_switch_to_next_inplace(ciphertext)
        return serial.ciphertext_words(ciphertext, kept, self.degree)

    def decrypt(self, secret: Secret, words: Words) -> NDArray[np.int64]:
        """The slots of what `to_primes` gave, `(degree,)` numbers modulo t. Raises `ValueError` on words past a prime."""
        ciphertext = serial.load_ciphertext(self._levels[words.shape[1]], words, ntt=True)
        plaintext = sealapi.Plaintext()
        secret.decryptor.decrypt(ciphertext, plaintext)
        return np.array(self._encoder.decode_uint64(plaintext), dtype=np.int64)

    @property
    def _top(self) -> Level:
        return self._levels[len(self.primes)]

    def _made(self, scheme: int) -> Any:
        """SEAL's context. Raises `PackageError` on what SEAL refuses."""
        parameters = serial.load_parameters(scheme, self.degree, self.secret_primes, self.plain_modulus)
        bits = [prime.bit_length() for prime in self.secret_primes]
        stock = sum(bits) <= MODULUS_BITS_AT_128[self.degree]
        level = sealapi.SEC_LEVEL_TYPE.TC128 if stock else sealapi.SEC_LEVEL_TYPE.NONE  # `__init__` has checked
        expand_chain = True
        context = sealapi.SEALContext(parameters, expand_chain, level)
        if not context.parameters_set():
            msg = f"parameters: SEAL refuses degree {self.degree} with primes of {bits} bits: {context.parameters_error_name()}"
            raise PackageError(msg)
        return context


def _chain(context: Any, primes: Sequence[int], degree: int) -> dict[int, Level]:
    """How many primes → the level of ciphertexts over so many."""
    levels = {}
    data = context.first_context_data()
    for count in range(len(primes), 0, -1):
        levels[count] = Level(context, data.parms_id(), primes[:count], degree)
        data = data.next_context_data()
    return levels


def _special(degree: int, primes: Sequence[int], plain_modulus: int) -> int:
    """The smallest prime that SEAL takes beside the others."""
    return next(
        number
        for number in range(2 * degree + 1, 1 << 40, 2 * degree)
        if number != plain_modulus and number not in primes and is_prime(number)
    )
