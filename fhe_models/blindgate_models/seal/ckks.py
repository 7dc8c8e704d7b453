"""CKKS over one prime, by coefficients: integer polynomials, products with known ones, no evaluation key.

Two more of `sealapi`'s corners (`blindgate_models.seal.serial` has the others):

1. **It has no setter for the coefficients of a CKKS plaintext.** Encoding is the inverse of the canonical embedding:
   slot k of SEAL's encoder is the polynomial's value at ζ^(3^k), ζ = exp(πi/N). An FFT gives those values from the
   coefficients, and back.
2. **It tracks a scale.** It stays at 1 here: plaintexts are integer polynomials, and fixed point is the business of the
   family's spec.
"""

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.seal import serial
from blindgate_models.seal.serial import Ciphertext, Level, Plaintext, Secret, Seeded, Words
from blindgate_models.security import require_128_bits


class Ring:
    """Z_q[X]/(X^N + 1) under CKKS, with one prime q and no key switching.

    Attributes:
        degree: N.
        prime: q, the largest of its length that is 1 modulo 2N.
        evaluator: SEAL's evaluator. It raises `ValueError` or `RuntimeError`, the latter also where a result would be
            transparent.
    """

    def __init__(self, degree: int, modulus_bits: int) -> None:
        """Build the ring. Raises `PackageError` below 128-bit security."""
        require_128_bits(degree, [modulus_bits])
        parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(degree)
        parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(degree, [modulus_bits]))
        expand_chain = True
        self._context = sealapi.SEALContext(parameters, expand_chain, sealapi.SEC_LEVEL_TYPE.TC128)
        if not self._context.parameters_set():
            msg = f"SEAL refuses degree {degree} with {modulus_bits} bits: {self._context.parameters_error_name()}"
            raise ValueError(msg)
        self.degree = degree
        self.prime: int = parameters.coeff_modulus()[0].value()
        self.evaluator = sealapi.Evaluator(self._context)
        self._encoder = sealapi.CKKSEncoder(self._context)
        self._level = Level(self._context, self._context.first_parms_id(), [self.prime], degree)
        self._twist = np.exp(1j * np.pi * np.arange(degree) / degree)
        powers = _powers_of_three(degree)
        self._slot = (powers - 1) // 2
        self._conjugate_slot = (2 * degree - powers - 1) // 2

    def new_secret(self) -> Words:
        """Draw a secret key, `(degree,)` words in NTT form, from SEAL's generator, seeded by the operating system."""
        key = sealapi.KeyGenerator(self._context).secret_key()
        return serial.secret_words(key, 1, self.degree).ravel()

    def secret(self, words: Words) -> Secret:
        """Load a secret key from its words. Raises `ValueError` when they are not `degree` words below the prime."""
        return serial.load_secret(self._level, words)

    def encode(self, coefficients: NDArray[np.float64]) -> Plaintext:
        """Encode a polynomial, `(degree,)`, integers as float64: exact below 2^44, beyond to one part in 2^45."""
        values = np.fft.ifft(coefficients * self._twist, norm="forward")[self._slot]
        plaintext = sealapi.Plaintext()
        self._encoder.encode(values.tolist(), 1.0, plaintext)
        return plaintext

    def encode_scalar(self, value: int) -> Plaintext:
        """Encode a constant polynomial, exact up to 2^53."""
        plaintext = sealapi.Plaintext()
        self._encoder.encode(float(value), 1.0, plaintext)
        return plaintext

    def decode(self, plaintext: Plaintext) -> NDArray[np.float64]:
        """Read back the coefficients, `(degree,)`, centred around 0, to one part in about 2^45 of the largest."""
        slots = np.array(self._encoder.decode_complex(plaintext))
        values = np.empty(self.degree, dtype=np.complex128)
        values[self._slot] = slots
        values[self._conjugate_slot] = slots.conj()
        return np.asarray((np.fft.fft(values, norm="forward") * self._twist.conj()).real)

    def encrypt(self, secret: Secret, plaintext: Plaintext) -> Seeded:
        """Encrypt under the secret key with a fresh seed. c0 is `(1, degree)`, in NTT form.

        Noise: at most `security.NOISE_BOUND` a coefficient.
        """
        return serial.seeded(secret.encryptor.encrypt_symmetric(plaintext), 1, self.degree)

    def decrypt(self, secret: Secret, ciphertext: Ciphertext) -> Plaintext:
        """Decrypt a ciphertext in NTT form."""
        plaintext = sealapi.Plaintext()
        secret.decryptor.decrypt(ciphertext, plaintext)
        return plaintext

    def expand(self, seeded: Seeded) -> Ciphertext:
        """Make the ciphertext whose c1 the seed gives. Raises `ValueError` on words that are not below the prime."""
        return serial.expand(self._level, seeded, ntt=True)

    def from_words(self, words: Words) -> Ciphertext:
        """Make a ciphertext from coefficients, `(2, degree)`. Raises `ValueError` on words not below the prime."""
        ciphertext = serial.load_ciphertext(self._level, words, ntt=False)
        self.evaluator.transform_to_ntt_inplace(ciphertext)
        return ciphertext

    def times(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Multiply by a plaintext that is not zero. Raises `RuntimeError` when the product is transparent."""
        product = sealapi.Ciphertext()
        self.evaluator.multiply_plain(ciphertext, plaintext, product)
        return product

    def to_words(self, ciphertext: Ciphertext) -> Words:
        """Take a ciphertext's coefficients, `(2, degree)`. Leaves the ciphertext out of NTT form."""
        self.evaluator.transform_from_ntt_inplace(ciphertext)
        return serial.ciphertext_words(ciphertext, 1, self.degree).reshape(2, self.degree)


def _powers_of_three(degree: int) -> NDArray[np.int64]:
    powers = np.empty(degree // 2, dtype=np.int64)
    power = 1
    for slot in range(degree // 2):
        powers[slot] = power
        power = 3 * power % (2 * degree)
    return powers
