"""CKKS over several primes, by slots: products of ciphertexts, rotations, and the keys that both need.

A vector of N/2 numbers is a polynomial's values; a product of two is the product of every number with its counterpart, and a
rotation moves them round. `blindgate_models.seal.ckks` is the ring without either.

- **Levels.** A ciphertext has a scale, and some of the data primes. A product multiplies the scales; `drop` divides by the
  last prime, scale and all. The scale is a double that SEAL tracks, so both halves know what a result is to be divided by
  from the primes alone.
- **Keys.** The product of two ciphertexts and a rotation leave a ciphertext under another key, and a *switching key*
  brings it back: for each data prime a ciphertext modulo all primes and a special one. They are made for the rotations
  asked for and no others, and travel with a seed for their second halves. What an attacker sees of them is modulo the
  special prime too, so it counts in the 128-bit table.
- **Strangers.** Words come from outside, checked against their primes one by one; SEAL's own format is composed around
  them (`blindgate_models.seal.serial`), degree, level and scale being this ring's, never the sender's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.seal import serial
from blindgate_models.seal.serial import Ciphertext, Level, Plaintext, Secret, Seeded, Words
from blindgate_models.security import require_128_bits
from blindgate_protocol.errors import PackageError

RELINEARISATION: Final = 0
"""The name of that key among the rotations' steps, which are from 1 on."""

SwitchingKeys = Mapping[int, Sequence[Seeded]]
"""Step of a rotation, or `RELINEARISATION` → the key: one seeded ciphertext a data prime, `(primes, degree)` words each."""


class Switching(NamedTuple):
    """Switching keys, as SEAL uses them."""

    relinearisation: Any
    rotations: Any


class Ring:
    """N/2 slots under CKKS, with data primes that are dropped one after the other and a special one.

    Attributes:
        degree: N.
        slots: N/2.
        primes: the data primes in SEAL's order: the last is dropped first.
        key_primes: those and the special one, which keys are modulo.
    """

    def __init__(self, degree: int, data_bits: Sequence[int], special_bits: int) -> None:
        """Build the ring. Raises `PackageError` below 128-bit security or on primes that SEAL does not find."""
        require_128_bits(degree, [*data_bits, special_bits])
        parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(degree)
        try:
            parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(degree, [*data_bits, special_bits]))
        except (ValueError, RuntimeError) as error:
            msg = f"parameters.data_bits: SEAL finds no such primes at degree {degree}: {error}"
            raise PackageError(msg) from None
        expand_chain = True
        self._context = sealapi.SEALContext(parameters, expand_chain, sealapi.SEC_LEVEL_TYPE.TC128)
        if not self._context.parameters_set():
            name = self._context.parameters_error_name()
            msg = f"parameters: SEAL refuses degree {degree} with {list(data_bits)} and {special_bits} bits: {name}"
            raise PackageError(msg)
        self.degree = degree
        self.slots = degree // 2
        self.key_primes: tuple[int, ...] = tuple(modulus.value() for modulus in parameters.coeff_modulus())
        self.primes = self.key_primes[:-1]
        self._evaluator = sealapi.Evaluator(self._context)
        self._encoder = sealapi.CKKSEncoder(self._context)
        self._keys = Level(self._context, self._context.key_parms_id(), self.key_primes, degree)
        self._levels: dict[int, Level] = {}
        data = self._context.first_context_data()
        for count in range(len(self.primes), 0, -1):
            self._levels[count] = Level(self._context, data.parms_id(), self.primes[:count], degree)
            data = data.next_context_data()

    def new_keys(self, steps: Sequence[int]) -> tuple[Words, SwitchingKeys]:
        """Draw a secret key, `(primes, degree)` words in NTT form, and the keys for rotations by `steps` and products."""
        generator = sealapi.KeyGenerator(self._context)
        primes = len(self.key_primes)
        keys = {
            RELINEARISATION: serial.switching_keys(generator.create_relin_keys(), 1, 1, primes, self.degree)[0],
        }
        if steps:
            serialisable = generator.create_galois_keys([self._element(step) for step in steps])
            places = serial.switching_keys(serialisable, len(steps), self.degree, primes, self.degree)
            keys |= {step: places[self._place(step)] for step in steps}
        return serial.secret_words(generator.secret_key(), primes, self.degree), keys

    def secret(self, words: Words) -> Secret:
        """Load a secret key from its words. Raises `ValueError` when they are no key's of this ring."""
        return serial.load_secret(self._keys, words)

    def switching(self, keys: SwitchingKeys) -> Switching:
        """Load switching keys. Raises `ValueError` on words that are not below their primes."""
        relinearisation, rotations = sealapi.RelinKeys(), sealapi.GaloisKeys()
        serial.load_switching_keys(relinearisation, self._keys, 1, {0: keys[RELINEARISATION]})
        places = {self._place(step): key for step, key in keys.items() if step != RELINEARISATION}
        serial.load_switching_keys(rotations, self._keys, self.degree, places)
        return Switching(relinearisation, rotations)

    def encode(self, values: NDArray[np.float64], primes: int, scale: float) -> Plaintext:
        """Encode `(slots,)` numbers for a ciphertext of so many primes."""
        plaintext = sealapi.Plaintext()
        self._encoder.encode(values.tolist(), self._levels[primes].parms_id, scale, plaintext)
        return plaintext

    def encrypt(self, secret: Secret, values: NDArray[np.float64], scale: float) -> Seeded:
        """Encrypt `(slots,)` numbers under the secret key with a fresh seed. c0 is `(primes, degree)`, in NTT form."""
        primes = len(self.primes)
        return serial.seeded(
            secret.encryptor.encrypt_symmetric(self.encode(values, primes, scale)), primes, self.degree
        )

    def expand(self, seeded: Seeded, scale: float) -> Ciphertext:
        """Make the ciphertext whose c1 the seed gives. Raises `ValueError` on words that are not below their primes."""
        return serial.expand(self._levels[len(self.primes)], seeded, ntt=True, scale=scale)

    def from_words(self, words: Words, scale: float) -> Ciphertext:
        """Make a ciphertext over the first prime from its coefficients, `(2, degree)`. Raises `ValueError` likewise."""
        ciphertext = serial.load_ciphertext(self._levels[1], words, ntt=False, scale=scale)
        self._evaluator.transform_to_ntt_inplace(ciphertext)
        return ciphertext

    def to_words(self, ciphertext: Ciphertext) -> Words:
        """The coefficients of a ciphertext over the first prime, `(2, degree)`. Leaves it out of NTT form."""
        self._evaluator.transform_from_ntt_inplace(ciphertext)
        return serial.ciphertext_words(ciphertext, 1, self.degree).reshape(2, self.degree)

    def decrypt(self, secret: Secret, ciphertext: Ciphertext) -> NDArray[np.float64]:
        """Decrypt and decode: `(slots,)`."""
        plaintext = sealapi.Plaintext()
        secret.decryptor.decrypt(ciphertext, plaintext)
        return np.array(self._encoder.decode_double(plaintext))

    def times(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Multiply by a plaintext that is not zero. Raises `RuntimeError` when the product is transparent."""
        product = sealapi.Ciphertext()
        self._evaluator.multiply_plain(ciphertext, plaintext, product)
        return product

    def add(self, total: Ciphertext, other: Ciphertext) -> None:
        """Add a ciphertext of the same scale and primes, in place."""
        self._evaluator.add_inplace(total, other)

    def shift(self, ciphertext: Ciphertext, values: NDArray[np.float64]) -> None:
        """Add `(slots,)` numbers in the clear, in place."""
        plaintext = self.encode(values, ciphertext.coeff_modulus_size(), ciphertext.scale)
        self._evaluator.add_plain_inplace(ciphertext, plaintext)

    def rotated(self, ciphertext: Ciphertext, step: int, keys: Switching) -> Ciphertext:
        """The ciphertext whose slot s is slot s + `step` of this one."""
        rotated = sealapi.Ciphertext()
        self._evaluator.rotate_vector(ciphertext, step, keys.rotations, rotated)
        return rotated

    def square(self, ciphertext: Ciphertext, keys: Switching) -> None:
        """Square every slot, in place."""
        self._evaluator.square_inplace(ciphertext)
        self._evaluator.relinearize_inplace(ciphertext, keys.relinearisation)

    def product(self, left: Ciphertext, right: Ciphertext, keys: Switching) -> Ciphertext:
        """Multiply slot by slot two ciphertexts of the same primes; their scales multiply too."""
        product = sealapi.Ciphertext()
        self._evaluator.multiply(left, right, product)
        self._evaluator.relinearize_inplace(product, keys.relinearisation)
        return product

    def times_number(self, ciphertext: Ciphertext, number: float, scale: float) -> Ciphertext | None:
        """Multiply every slot by one number, encoded at this scale; `None` where it comes to nothing."""
        plaintext = self._encoded_number(ciphertext, number, scale)
        return None if plaintext.is_zero() else self.times(ciphertext, plaintext)

    def shift_by_number(self, ciphertext: Ciphertext, number: float) -> None:
        """Add one number to every slot, in place."""
        plaintext = self._encoded_number(ciphertext, number, ciphertext.scale)
        self._evaluator.add_plain_inplace(ciphertext, plaintext)

    def lowered(self, ciphertext: Ciphertext, primes: int) -> Ciphertext:
        """The same numbers at the same scale, over the first `primes` primes alone."""
        lowered = sealapi.Ciphertext()
        self._evaluator.mod_switch_to(ciphertext, self._levels[primes].parms_id, lowered)
        return lowered

    def drop(self, ciphertext: Ciphertext, primes: int) -> None:
        """Divide by the last `primes` primes, in place."""
        for _ in range(primes):
            self._evaluator.rescale_to_next_inplace(ciphertext)

    def _encoded_number(self, ciphertext: Ciphertext, number: float, scale: float) -> Plaintext:
        plaintext = sealapi.Plaintext()
        level = self._levels[ciphertext.coeff_modulus_size()]
        self._encoder.encode(number, level.parms_id, scale, plaintext)
        return plaintext

    def _element(self, step: int) -> int:
        """The Galois element of a rotation."""
        return pow(3, step, 2 * self.degree)

    def _place(self, step: int) -> int:
        """Where SEAL keeps that element's key."""
        return (self._element(step) - 1) // 2
