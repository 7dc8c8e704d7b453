"""SEAL's bytes: what its objects look like outside, so that words go in and out and hostile bytes never do.

`sealapi` is nearly SEAL's own interface, with corners that this module keeps to itself:

1. **It reads and writes files only.** Every save and load here goes through a memfd: anonymous memory, never a disk.
   That is what lets a secret key pass. One memfd a call, so that forks and threads share none.
2. **It saves compressed and cannot be told not to.** zstd finds nothing in ciphertexts but their unused high bits, and
   makes their length vary. Saved bytes are expanded at once, by the decoder that the extension itself was linked with,
   and leave as words.
3. **It would parse what it is given.** It is given nothing from outside: what is loaded was composed here,
   uncompressed, from SEAL's fixed layout around words that were checked to be below their primes. So native code never
   parses a hostile byte.

A polynomial modulo several primes is an array of words `(primes, degree)`; a ciphertext is `(polynomials, primes, degree)`, of two
polynomials until it is multiplied by another.
"""

import ctypes
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.security import SEED_BYTES

Words: TypeAlias = NDArray[np.uint64]
Plaintext: TypeAlias = Any
Ciphertext: TypeAlias = Any

_HEADER: Final = struct.Struct(
    "<HBBBBHQ"
)  # magic, header size, version major and minor, compression, reserved, total size
_MAGIC: Final = 0xA15E
_ARRAY: Final = struct.Struct(f"<{_HEADER.size}sQ")  # a header of its own, the number of words
_PLAINTEXT: Final = struct.Struct("<4QQd")  # parms_id, coefficients, scale
_CIPHERTEXT: Final = struct.Struct(
    "<4QBQQQdQ"
)  # parms_id, NTT form, polynomials, degree, primes, scale, correction factor
_PARAMETERS: Final = struct.Struct("<BQQ")  # scheme, degree, primes; then each prime and the plain modulus
_MODULUS_BYTES: Final = 24  # a header of its own, the value
_SEED: Final = struct.Struct(f"<{_HEADER.size}sB{SEED_BYTES}s")  # a header of its own, generator, seed
_SWITCHING: Final = struct.Struct(
    "<4QQ"
)  # parms_id, how many keys there is room for; before each its ciphertexts' number
_COUNT: Final = struct.Struct("<Q")
_BLAKE2XB: Final = 1
_NO_PARMS_ID: Final = (0, 0, 0, 0)

_zstd: Final = ctypes.CDLL(sealapi._sealapi_cpp.__file__)  # noqa: SLF001 (the extension itself)
_zstd.ZSTD_decompress.restype = ctypes.c_size_t
_zstd.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


class Level(NamedTuple):
    """What ciphertexts of one level have in common.

    Attributes:
        context: SEAL's.
        parms_id: SEAL's name for the level.
        primes: what words are modulo, row by row.
        degree: words in a row.
    """

    context: Any
    parms_id: Sequence[int]
    primes: Sequence[int]
    degree: int


class Seeded(NamedTuple):
    """A fresh symmetric ciphertext (c0, c1) with the seed that c1 is drawn from in its place.

    Attributes:
        seed: 64 bytes.
        words: c0, `(primes, degree)`, each below its prime.
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


def secret_words(key: Any, primes: int, degree: int) -> Words:
    """The words of a secret key, `(primes, degree)`, in NTT form."""
    count = primes * degree
    saved = _saved(key.save, _PLAINTEXT.size + _ARRAY.size + 8 * count)
    return _words_at(saved, _PLAINTEXT.size + _ARRAY.size, count).reshape(primes, degree)


def load_secret(level: Level, words: Words) -> Secret:
    """A secret key from its words, at the level of keys.

    Raises `ValueError` when they are not `(primes, degree)` words below the primes.
    """
    key = sealapi.SecretKey()
    _load(
        key,
        level.context,
        _PLAINTEXT.pack(*level.parms_id, words.size, 1.0) + _array(words, level.primes, level.degree),
    )
    return Secret(level.context, key)


def load_parameters(scheme: int, degree: int, primes: Sequence[int], plain_modulus: int) -> Any:
    """Parameters of a scheme for which `sealapi` has no name, by SEAL's number for it."""
    moduli = b"".join(_header(_MODULUS_BYTES) + value.to_bytes(8, "little") for value in [*primes, plain_modulus])
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    body = _PARAMETERS.pack(scheme, degree, len(primes)) + moduli
    with memory_file() as (descriptor, path):
        os.writev(descriptor, [_header(_HEADER.size + len(body)), body])
        parameters.load(path)
    return parameters


def load_ntt_plaintext(level: Level, words: Words) -> Plaintext:
    """A plaintext in NTT form from its words, `(primes, degree)`. Raises `ValueError` on words that are not below the primes."""
    plaintext = sealapi.Plaintext()
    array = _array(words, level.primes, level.degree)
    _load(plaintext, level.context, _PLAINTEXT.pack(*level.parms_id, words.size, 1.0) + array)
    return plaintext


@contextmanager
def plaintext_loader(context: Any, count: int) -> Iterator[Callable[[NDArray[np.int64]], Plaintext]]:
    """What makes plaintexts of `count` coefficients each, which were checked to be from 0 to t - 1.

    They go through one memfd, which is written over: a new one for each takes three times as long.
    """
    array = _ARRAY.pack(_header(_ARRAY.size + 8 * count), count)
    start = _PLAINTEXT.pack(*_NO_PARMS_ID, count, 1.0) + array
    start = _header(_HEADER.size + len(start) + 8 * count) + start
    with memory_file() as (descriptor, path):
        os.write(descriptor, start)

        def load(coefficients: NDArray[np.int64]) -> Plaintext:
            plaintext = sealapi.Plaintext()
            os.pwrite(descriptor, coefficients.astype("<u8", order="C", copy=False).data, len(start))
            plaintext.load(context, path)
            return plaintext

        yield load


def plaintext_words(plaintext: Plaintext, degree: int) -> Words:
    """The coefficients of a plaintext that is not in NTT form, `(degree,)`."""
    count = plaintext.coeff_count()
    saved = _saved(plaintext.save, _PLAINTEXT.size + _ARRAY.size + 8 * count)
    return np.pad(_words_at(saved, _PLAINTEXT.size + _ARRAY.size, count), (0, degree - count))


def seeded(serialisable: Any, primes: int, degree: int) -> Seeded:
    """Take apart what a symmetric encryption gives."""
    count = primes * degree
    saved = _saved(serialisable.save, _CIPHERTEXT.size + _ARRAY.size + 8 * count + _SEED.size)
    start = _CIPHERTEXT.size + _ARRAY.size
    _, generator, seed = _SEED.unpack_from(saved.data, start + 8 * count)
    return Seeded(_drawn_from(generator, seed), _words_at(saved, start, count).reshape(primes, degree))


def expand(level: Level, given: Seeded, *, ntt: bool, scale: float = 1.0) -> Ciphertext:
    """Make the ciphertext whose c1 the seed gives. Raises `ValueError` on words that are not below their primes."""
    return _ciphertext(level, _seeded_body(level, given, ntt=ntt, scale=scale))


def load_ciphertext(level: Level, words: Words, *, ntt: bool, scale: float = 1.0) -> Ciphertext:
    """Make a ciphertext from `(polynomials, primes, degree)` words. Raises `ValueError` on words not below their primes."""
    polynomials = len(words)
    array = _array(words, [*level.primes] * polynomials, level.degree)
    return _ciphertext(level, _about(level, ntt=ntt, scale=scale, polynomials=polynomials) + array)


def switching_keys(serialisable: Any, count: int, places: int, primes: int, degree: int) -> dict[int, list[Seeded]]:
    """Take apart what `create_galois_keys` or `create_relin_keys` gives: place → a ciphertext for each data prime.

    Args:
        serialisable: the keys, still with their seeds.
        count: how many keys there are.
        places: how many keys the object has room for: 1 for relinearisation, `degree` for Galois keys.
        primes: those of the level of keys, the special one included.
        degree: the ring's.
    """
    member = _HEADER.size + _CIPHERTEXT.size + _ARRAY.size + 8 * primes * degree + _SEED.size
    saved = _saved(serialisable.save, _SWITCHING.size + _COUNT.size * places + count * (primes - 1) * member)
    found: dict[int, list[Seeded]] = {}
    position = _SWITCHING.size
    for place in range(places):
        (digits,) = _COUNT.unpack_from(saved.data, position)
        position += _COUNT.size
        for _ in range(digits):
            start = position + _HEADER.size + _CIPHERTEXT.size + _ARRAY.size
            position += member
            _, generator, seed = _SEED.unpack_from(saved.data, position - _SEED.size)
            words = _words_at(saved, start, primes * degree).reshape(primes, degree)
            found.setdefault(place, []).append(Seeded(_drawn_from(generator, seed), words))
    return found


def load_switching_keys(target: Any, level: Level, places: int, keys: Mapping[int, Sequence[Seeded]]) -> None:
    """Fill `target`, SEAL's relinearisation or Galois keys, with what `switching_keys` took apart, at the level of keys.

    Raises `ValueError` on words that are not below their primes.
    """
    parts = [_SWITCHING.pack(*level.parms_id, places)]
    for place in range(places):
        digits = keys.get(place, ())
        parts.append(_COUNT.pack(len(digits)))
        for digit in digits:
            body = _seeded_body(level, digit, ntt=True, scale=1.0)
            parts += [_header(_HEADER.size + len(body)), body]
    _load(target, level.context, b"".join(parts))


def ciphertext_words(ciphertext: Ciphertext, primes: int, degree: int) -> Words:
    """The words of a ciphertext, `(polynomials, primes, degree)`, in the form that it is in."""
    polynomials = ciphertext.size()
    count = polynomials * primes * degree
    saved = _saved(ciphertext.save, _CIPHERTEXT.size + _ARRAY.size + 8 * count)
    return _words_at(saved, _CIPHERTEXT.size + _ARRAY.size, count).reshape(polynomials, primes, degree)


def _ciphertext(level: Level, body: bytes) -> Ciphertext:
    ciphertext = sealapi.Ciphertext()
    _load(ciphertext, level.context, body)
    return ciphertext


def _about(level: Level, *, ntt: bool, scale: float, polynomials: int = 2) -> bytes:
    return _CIPHERTEXT.pack(*level.parms_id, ntt, polynomials, level.degree, len(level.primes), scale, 1)


def _seeded_body(level: Level, given: Seeded, *, ntt: bool, scale: float) -> bytes:
    array = _array(given.words, level.primes, level.degree)
    seed = _SEED.pack(_header(_SEED.size), _BLAKE2XB, given.seed)
    return _about(level, ntt=ntt, scale=scale) + array + seed


def _drawn_from(generator: int, seed: bytes) -> bytes:
    if generator != _BLAKE2XB:
        msg = f"SEAL drew c1 from generator {generator}, expected BLAKE2xb"
        raise RuntimeError(msg)
    return seed


def require_below(words: Words, primes: Sequence[int], degree: int) -> None:
    """Refuse words unless each row of `degree` lies below its prime. Raises `ValueError`."""
    if words.size != len(primes) * degree:
        msg = f"{words.size} words, expected {len(primes) * degree}"
        raise ValueError(msg)
    largest = words.reshape(len(primes), degree).max(axis=1)
    if (largest >= np.array(primes, dtype=np.uint64)).any():
        msg = "a word is not below the prime"
        raise ValueError(msg)


def _array(words: Words, primes: Sequence[int], degree: int) -> bytes:
    """Words in SEAL's form, once each row of `degree` was seen to lie below its prime."""
    require_below(words, primes, degree)
    return _ARRAY.pack(_header(_ARRAY.size + 8 * words.size), words.size) + words.astype("<u8").tobytes()


def _header(size: int) -> bytes:
    return _HEADER.pack(_MAGIC, _HEADER.size, *_VERSION, 0, 0, size)


def _words_at(saved: NDArray[np.uint8], offset: int, count: int) -> Words:
    return np.frombuffer(saved, dtype="<u8", count=count, offset=offset).astype(np.uint64, copy=False)


@contextmanager
def memory_file() -> Iterator[tuple[int, str]]:
    """A file without a name: its descriptor, and a path under which this process finds it."""
    descriptor = os.memfd_create("seal")
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _saved(save: Callable[[str], None], size: int) -> NDArray[np.uint8]:
    """What `save` writes after its header, expanded: `size` bytes, or `RuntimeError`."""
    with memory_file() as (descriptor, path):
        save(path)
        compressed = os.pread(descriptor, os.fstat(descriptor).st_size - _HEADER.size, _HEADER.size)
    expanded = np.empty(size, dtype=np.uint8)
    got = _zstd.ZSTD_decompress(expanded.ctypes.data, size, compressed, len(compressed))
    if got != size:
        msg = f"SEAL's layout is not the one expected: cannot expand {len(compressed)} bytes to {size}"
        raise RuntimeError(msg)
    return expanded


def _load(target: Any, context: Any, body: bytes) -> None:
    with memory_file() as (descriptor, path):
        os.writev(descriptor, [_header(_HEADER.size + len(body)), body])
        target.load(context, path)


def _version() -> tuple[int, int]:
    """The version that this build of SEAL writes into its headers."""
    with memory_file() as (descriptor, path):
        sealapi.Plaintext("1").save(path)
        _, _, major, minor, _, _, _ = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    return major, minor


_VERSION: Final = _version()
