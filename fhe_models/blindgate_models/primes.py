"""Primes of a given length in a given class: the moduli that rings are made of."""

from functools import lru_cache
from typing import Final

from blindgate_protocol.errors import PackageError

_SMALL: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(number: int) -> bool:
    """Miller and Rabin with the first twelve primes as bases, which decide below 3.3 · 10^24 (Sorenson and Webster 2015)."""
    if number < 2:  # noqa: PLR2004 (the smallest prime)
        return False
    if any(number % prime == 0 for prime in _SMALL):
        return number in _SMALL
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, base, odd, twos) for base in _SMALL)


def primes_of(bits: int, step: int, count: int) -> list[int]:
    """The `count` largest primes of `bits` bits that are 1 modulo `step`, largest first, or as many as there are."""
    found: list[int] = []
    number = ((1 << bits) - 2) // step * step + 1
    while number >> (bits - 1) and len(found) < count:
        if is_prime(number):
            found.append(number)
        number -= step
    return found


def smallest_prime(least: int, step: int) -> int:
    """The smallest prime from `least` on that is 1 modulo `step`."""
    number = -(-(least - 1) // step) * step + 1
    while not is_prime(number):
        number += step
    return number


@lru_cache(maxsize=64)
def slot_primes(degree: int, data_bits: tuple[int, ...], plain_modulus: int) -> tuple[int, ...]:
    """The largest primes of these lengths that are 1 modulo 2N and modulo t, an odd prime; none twice.

    Raises `PackageError` where there are too few.
    """
    step = 2 * degree * plain_modulus
    primes = {bits: primes_of(bits, step, data_bits.count(bits)) for bits in set(data_bits)}
    for bits, found in primes.items():
        if len(found) < data_bits.count(bits):
            msg = f"parameters.data_bits: too few primes of {bits} bits are 1 modulo {2 * degree} and {plain_modulus}"
            raise PackageError(msg)
    return tuple(primes[bits].pop(0) for bits in data_bits)


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    return power in {1, number - 1} or any((power := power * power % number) == number - 1 for _ in range(twos - 1))
