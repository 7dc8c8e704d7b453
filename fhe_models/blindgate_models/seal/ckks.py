"""SEAL through `tenseal.sealapi`: one ring, its secrets, and ciphertexts as arrays of words.

`sealapi` is nearly SEAL's own interface, with corners that this module keeps to itself:

1. **It reads and writes files only.** Every save and load here goes through a memfd: anonymous memory, never a disk.
   That is what lets a secret key pass. One memfd a call, so that forks and threads share none.
2. **It saves compressed and cannot be told not to.** zstd finds nothing in ciphertexts but their unused high bits, and
   makes their length vary. Saved bytes are expanded at once, by the decoder that the extension itself was linked with,
   and leave as words.
3. **It would parse what it is given.** It is given nothing from outside: what is loaded was composed here,
   uncompressed, from SEAL's fixed layout around words that were checked to be below the prime. So native code never
   parses a hostile byte.
4. **It has no setter for the coefficients of a CKKS plaintext.** Encoding is the inverse of the canonical embedding:
   slot k of SEAL's encoder is the polynomial's value at ζ^(3^k), ζ = exp(πi/N). An FFT gives those values from the
   coefficients, and back.
5. **It tracks a scale.** It stays at 1 here: plaintexts are integer polynomials, and fixed point is the business of the
   family's spec.

Families that need several primes or evaluation keys have not come yet; a `Ring` has one prime and makes no key but the
secret.
"""

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.security import SEED_BYTES, require_128_bits

Words: TypeAlias = NDArray[np.uint64]
Plaintext: TypeAlias = Any
Ciphertext: TypeAlias = Any

_HEADER: Final = struct.Struct(
    "<HBBBBHQ"
)  # magic, header size, version major and minor, compression, reserved, total size
_MAGIC: Final = 0xA15E
_ARRAY: Final = struct.Struct(f"<{_HEADER.size}sQ")  # a header of its own, the number of words
_PLAINTEXT: Final = struct.Struct("<32sQd")  # parms_id, coefficients, scale
_CIPHERTEXT: Final = struct.Struct(
    "<32sBQQQdQ"
)  # parms_id, NTT form, polynomials, degree, primes, scale, correction factor
_SEED: Final = struct.Struct(f"<{_HEADER.size}sB{SEED_BYTES}s")  # a header of its own, generator, seed
_BLAKE2XB: Final = 1

_zstd: Final = ctypes.CDLL(sealapi._sealapi_cpp.__file__)  # noqa: SLF001 (the extension itself)
_zstd.ZSTD_decompress.restype = ctypes.c_size_t
_zstd.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


class Seeded(NamedTuple):
    """A fresh symmetric ciphertext (c0, c1) in NTT form, with the seed that c1 is drawn from in its place.

    Attributes:
        seed: 64 bytes.
        words: c0, `(degree,)`, each below the prime.
    """

    seed: bytes
    words: Words


class Secret:
    """A secret key, ready to encrypt and to decrypt. It has no way out again."""

    __slots__ = ("decryptor", "encryptor")

    def __init__(self, context: Any, key: Any) -> None:
        self.encryptor = sealapi.Encryptor(context, key)
        self.decryptor = sealapi.Decryptor(context, key)

    def __repr__(self) -> str:
        return "Secret(<hidden>)"


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
        self._parms_id = struct.pack("<4Q", *self._context.first_parms_id())
        self._twist = np.exp(1j * np.pi * np.arange(degree) / degree)
        powers = _powers_of_three(degree)
        self._slot = (powers - 1) // 2
        self._conjugate_slot = (2 * degree - powers - 1) // 2

    def new_secret(self) -> Words:
        """Draw a secret key, `(degree,)` words in NTT form, from SEAL's generator, seeded by the operating system."""
        key = sealapi.KeyGenerator(self._context).secret_key()
        return _words_at(_saved(key.save, self._plaintext_bytes), _PLAINTEXT.size + _ARRAY.size, self.degree)

    def secret(self, words: Words) -> Secret:
        """Load a secret key from its words. Raises `ValueError` when they are not `degree` words below the prime."""
        body = _PLAINTEXT.pack(self._parms_id, self.degree, 1.0) + self._array(words, 1)
        key = sealapi.SecretKey()
        _load(key, self._context, body)
        return Secret(self._context, key)

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
        """Encrypt under the secret key with a fresh seed. Noise: at most `security.NOISE_BOUND` a coefficient."""
        serialisable = secret.encryptor.encrypt_symmetric(plaintext)
        saved = _saved(serialisable.save, self._seeded_bytes)
        start = _CIPHERTEXT.size + _ARRAY.size
        _, generator, seed = _SEED.unpack_from(saved, start + 8 * self.degree)
        if generator != _BLAKE2XB:
            msg = f"SEAL drew c1 from generator {generator}, expected BLAKE2xb"
            raise RuntimeError(msg)
        return Seeded(seed, _words_at(saved, start, self.degree))

    def decrypt(self, secret: Secret, ciphertext: Ciphertext) -> Plaintext:
        """Decrypt a ciphertext in NTT form."""
        plaintext = sealapi.Plaintext()
        secret.decryptor.decrypt(ciphertext, plaintext)
        return plaintext

    def expand(self, seeded: Seeded) -> Ciphertext:
        """Make the ciphertext whose c1 the seed gives. Raises `ValueError` on words that are not below the prime."""
        seed = _SEED.pack(_header(_SEED.size), _BLAKE2XB, seeded.seed)
        return self._ciphertext(self._array(seeded.words, 1) + seed, ntt=True)

    def from_words(self, words: Words) -> Ciphertext:
        """Make a ciphertext from coefficients, `(2, degree)`. Raises `ValueError` on words not below the prime."""
        ciphertext = self._ciphertext(self._array(words, 2), ntt=False)
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
        saved = _saved(ciphertext.save, self._ciphertext_bytes)
        return _words_at(saved, _CIPHERTEXT.size + _ARRAY.size, 2 * self.degree).reshape(2, self.degree)

    @property
    def _plaintext_bytes(self) -> int:
        return _PLAINTEXT.size + _ARRAY.size + 8 * self.degree

    @property
    def _seeded_bytes(self) -> int:
        return _CIPHERTEXT.size + _ARRAY.size + 8 * self.degree + _SEED.size

    @property
    def _ciphertext_bytes(self) -> int:
        return _CIPHERTEXT.size + _ARRAY.size + 16 * self.degree

    def _array(self, words: Words, polynomials: int) -> bytes:
        expected = polynomials * self.degree
        if words.size != expected:
            msg = f"{words.size} words, expected {expected}"
            raise ValueError(msg)
        if int(words.max()) >= self.prime:
            msg = "a word is not below the prime"
            raise ValueError(msg)
        return _ARRAY.pack(_header(_ARRAY.size + 8 * expected), expected) + words.astype("<u8").tobytes()

    def _ciphertext(self, data: bytes, *, ntt: bool) -> Ciphertext:
        body = _CIPHERTEXT.pack(self._parms_id, ntt, 2, self.degree, 1, 1.0, 1) + data
        ciphertext = sealapi.Ciphertext()
        _load(ciphertext, self._context, body)
        return ciphertext


def _powers_of_three(degree: int) -> NDArray[np.int64]:
    powers = np.empty(degree // 2, dtype=np.int64)
    power = 1
    for slot in range(degree // 2):
        powers[slot] = power
        power = 3 * power % (2 * degree)
    return powers


def _header(size: int) -> bytes:
    return _HEADER.pack(_MAGIC, _HEADER.size, *_VERSION, 0, 0, size)


def _words_at(saved: bytes, offset: int, count: int) -> Words:
    return np.frombuffer(saved, dtype="<u8", count=count, offset=offset).astype(np.uint64)


@contextmanager
def _memory_file() -> Iterator[tuple[int, str]]:
    descriptor = os.memfd_create("seal")
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _saved(save: Callable[[str], None], size: int) -> bytes:
    """What `save` writes after its header, expanded: `size` bytes, or `RuntimeError`."""
    with _memory_file() as (descriptor, path):
        save(path)
        compressed = os.pread(descriptor, os.fstat(descriptor).st_size, 0)[_HEADER.size :]
    expanded = ctypes.create_string_buffer(size)
    got = _zstd.ZSTD_decompress(expanded, size, compressed, len(compressed))
    if got != size:
        msg = f"SEAL's layout is not the one expected: cannot expand {len(compressed)} bytes to {size}"
        raise RuntimeError(msg)
    return expanded.raw


def _load(target: Any, context: Any, body: bytes) -> None:
    with _memory_file() as (descriptor, path):
        os.writev(descriptor, [_header(_HEADER.size + len(body)), body])
        target.load(context, path)


def _version() -> tuple[int, int]:
    """The version that this build of SEAL writes into its headers."""
    with _memory_file() as (descriptor, path):
        sealapi.Plaintext("1").save(path)
        _, _, major, minor, _, _, _ = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    return major, minor


_VERSION: Final = _version()
