"""An odd polynomial of every number of a layer: a sigmoid that the node applies, so that the asker never holds a score.

q(t) = Σ c_i T_i(t), i odd below 2^k and |t| ≤ 1, is rewritten over products of few numbers (Paterson and Stockmeyer 1973, in
Chebyshev's basis as Chen, Chillotti and Song 2019 have it):

- **powers**: G_j = T_(2^j), by G_(j+1) = 2 G_j² - 1, a level each;
- **leaves**: Σ c · {t, t G_1, t G_2, t G_1 G_2}, odd and of degree below 8, with numbers in the clear;
- **joints**: q = A + G_j B for q of degree below 2^(j+1), by T_(m+i) = 2 T_m T_i - T_(m-i) with m = 2^j. As G_j is even, A and B
  are odd again.

Degree 63 takes 15 products and 7 levels. Two ciphertexts are added at one scale only, and primes are no powers of two; so scales
are asked for from the top (Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux 2021): a joint of scale S asks for A at S, and for B at
that scale which makes G_j B, one prime dropped, S again; a leaf's numbers are encoded at whatever scale gives what is asked. So the
result has exactly the scale that the parameters state.

The steps are written once (`evaluate`) and taken twice: with ciphertexts by the node, and with bounds on values and errors, which
say whether any value can wrap around and how wrong the result can be (`network.noise`).
"""

import functools
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Number = TypeVar("Number")

LEAST_DOUBLINGS: Final = 3
"""A leaf has degree below 2^3."""

MOST_DOUBLINGS: Final = 8

_SAMPLES: Final = 4096
_MARGIN: Final = 1.01
"""No |q| between Chebyshev points exceeds the largest at one by more: 1/cos(π·degree / 2·samples) (Ehlich and Zeller 1964)."""


class Leaf(NamedTuple):
    """c_0 t + c_1 t G_1 + c_2 t G_2 + c_3 t G_1 G_2, and the largest it can be."""

    numbers: Floats
    largest: float


class Joint(NamedTuple):
    """A + G_j B, and the largest it can be."""

    power: int
    remainder: "Joint | Leaf"
    quotient: "Joint | Leaf"
    largest: float


class Arithmetic(Protocol[Number]):
    """What is done to a number under encryption: `primes` are those that it has, and a product multiplies scales."""

    def primes(self, number: Number) -> int:
        """How many primes it has left."""

    def product(self, left: Number, right: Number, largest: float) -> Number:
        """Multiply two, the one with more primes brought down to the other's; drop a prime. No |product| exceeds `largest`."""

    def doubled_less_one(self, number: Number) -> Number:
        """2x - 1, in place of x."""

    def sum_of(self, terms: list[tuple[Number, float]], primes: int, scale: float, largest: float) -> Number | None:
        """Σ c x with so many primes and that scale; `None` where every c comes to nothing."""

    def lowered(self, number: Number, primes: int) -> Number:
        """The same with fewer primes."""

    def added(self, left: Number, right: Number, largest: float) -> Number:
        """Add two of the same primes and scale; no |sum| exceeds `largest`."""

    def factor_scale(self, number: Number, scale: float) -> float:
        """The scale of what a number is multiplied by, to have `scale` when the product's last prime is dropped."""


def levels(doublings: int) -> int:
    """How many primes a polynomial of degree below 2^doublings drops: one for each power, and one for the leaves' numbers."""
    return doublings + 1


def plan(odd: Floats) -> Joint | Leaf:
    """How Σ c_i T_i is computed, from c_1, c_3, …: a power of two of them, at least four."""
    coefficients = np.zeros(2 * len(odd))
    coefficients[1::2] = odd
    return _planned(coefficients, len(odd).bit_length())


def evaluate(arithmetic: Arithmetic[Number], number: Number, root: Joint | Leaf, scale: float) -> Number | None:
    """The polynomial of a number of absolute value up to 1, at this scale; `None` where it is nothing but zero."""
    doublings = LEAST_DOUBLINGS if isinstance(root, Leaf) else root.power + 1
    powers = [number]
    for _ in range(doublings - 1):
        powers.append(arithmetic.doubled_less_one(arithmetic.product(powers[-1], powers[-1], 1.0)))
    first = arithmetic.product(powers[0], powers[1], 1.0)
    basis = [
        number,
        first,
        arithmetic.product(powers[0], powers[2], 1.0),
        arithmetic.product(first, powers[2], 1.0),
    ]

    def computed(node: Joint | Leaf, primes: int, scale: float) -> Number | None:
        if isinstance(node, Leaf):
            terms = list(zip(basis, node.numbers.tolist(), strict=True))
            return arithmetic.sum_of(terms, primes, scale, node.largest)
        remainder = computed(node.remainder, primes, scale)
        power = arithmetic.lowered(powers[node.power], primes + 1)
        quotient = computed(node.quotient, primes + 1, arithmetic.factor_scale(power, scale))
        if quotient is None:
            return remainder
        product = arithmetic.product(power, quotient, node.quotient.largest)
        return product if remainder is None else arithmetic.added(remainder, product, node.largest)

    return computed(root, arithmetic.primes(number) - levels(doublings), scale)


def _planned(coefficients: Floats, doublings: int) -> Joint | Leaf:
    largest = float(np.abs(_terms()[:, : len(coefficients)] @ coefficients).max()) * _MARGIN
    remainder, quotient = _divided(coefficients)
    if doublings == LEAST_DOUBLINGS:
        thirds = [part for half in (remainder, quotient) for part in _divided(half)]
        return Leaf(np.array([linear[1] for linear in thirds]), largest)
    return Joint(doublings - 1, _planned(remainder, doublings - 1), _planned(quotient, doublings - 1), largest)


def _divided(coefficients: Floats) -> tuple[Floats, Floats]:
    """A and B of A + T_m B, from 2m coefficients: T_(m+i) = 2 T_m T_i - T_(m-i)."""
    power = len(coefficients) // 2
    remainder, quotient = coefficients[:power].copy(), 2 * coefficients[power:]
    quotient[0] /= 2
    remainder[1:] -= coefficients[power + 1 :][::-1]
    return remainder, quotient


@functools.cache
def _terms() -> Floats:
    """T_0, T_1, … at Chebyshev points."""
    angles = np.pi * (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    return np.asarray(np.cos(np.outer(angles, np.arange(1 << MOST_DOUBLINGS))))
