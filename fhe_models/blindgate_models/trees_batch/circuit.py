"""A forest as sums and products of encrypted bits, and what they cost, as plain values.

A score is a polynomial in the bits of a row: a tree that asks bit b is R + b·(L - R), L where b is 1 and R where it is 0. A
`Circuit` is that polynomial, in an order in which it can be computed: *products*, each of one bit and a sum of what came before,
and a last sum for each output. A sum has a constant, bits with weights, and products that are added or subtracted. Constants are
the outputs' own; inside a product there is none, since b·(c + …) is c·b + b·(…).

What stands for a bit may be a *group*: the sum of bits of one category, of which at most one is 1. Groups that share bits are
*kin*, and so are their bits. No product multiplies kin, so that no bit is multiplied by itself.

Two things follow from a circuit alone, and both sides need them:

- **components**: the polynomials of a reply. A bit has two, and a product one more than what the bit is multiplied by.
- **deviation**: how large the noise is. With no key switching and no rounding on the way, the phase of the reply
  (`blindgate_models.seal.bgv`) *is* the circuit's polynomial, in the phases of the bits, in the ring. Those are independent, with
  coefficients of variance v = t²·(σ² + ¼) around 0: σ² of the noise, ¼ for a message from -t/2 to t/2. A coefficient of a product
  of k of them has variance N^(k-1)·v^k on average, and different products of different bits are uncorrelated, so the variance is
  the sum of w²·N^(k-1)·v^k over the polynomial's monomials. It does not depend on how the polynomial was factored. In one reply the
  mean square of a product is an average over N/2 frequencies of a product of k exponential variables, which varies by √((2^k -
  1)·2/N) of itself; eight times that is allowed for. With groups the monomials are those of their bits, which are too many to write
  down: two products of groups have as many monomials in common as their groups, kin by kin, have bits in common, multiplied.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from blindgate_models.security import NOISE_BOUND

Monomial: TypeAlias = frozenset[int]
Polynomial: TypeAlias = dict[Monomial, int]
Groups: TypeAlias = Mapping[int, frozenset[int]]

MAX_MONOMIALS: Final = 1 << 19
MAX_COMPONENTS: Final = 12

_NO_GROUPS: Final[Groups] = {}
_AT_ONCE: Final = 2048
_ALLOWED: Final = 8.0  # standard deviations of the mean square
PHASE_VARIANCE: Final = NOISE_BOUND / 2 + 1 / 4
"""Of a coefficient of a fresh phase, in units of t²: centred binomial noise, and the message at its largest."""


class Sum(NamedTuple):
    """constant + Σ weight·bit + Σ added - Σ subtracted; the last two are numbers of products."""

    constant: int
    weights: Mapping[int, int]
    added: Sequence[int]
    subtracted: Sequence[int]


class Product(NamedTuple):
    """bit · of, where `of` has no constant, and is made of products with smaller numbers."""

    bit: int
    of: Sum


class Circuit(NamedTuple):
    """Products in the order of their numbers, and a sum for each output; the bits of each group, by its number."""

    products: Sequence[Product]
    outputs: Sequence[Sum]
    groups: Groups = _NO_GROUPS

    @property
    def components(self) -> int:
        """The polynomials of a reply, at least two."""
        sizes: list[int] = []
        for product in self.products:
            sizes.append(_size(product.of, sizes) + 1)
        return max(2, *(_size(output, sizes) for output in self.outputs))

    @property
    def used(self) -> frozenset[int]:
        """The bits that something depends on."""
        return frozenset(bit for each in self.named for bit in self.groups.get(each, (each,)))

    @property
    def named(self) -> frozenset[int]:
        """The bits and groups that occur in sums and products."""
        sums = [*(product.of for product in self.products), *self.outputs]
        return frozenset(bit for each in sums for bit in each.weights) | {product.bit for product in self.products}

    @property
    def dyadic_products(self) -> int:
        """How often N words are multiplied by N words, for each prime: what computing costs, nearly.

        To add a bit to a group is to add N words twice, which takes about as long as to multiply them once.
        """
        sizes: list[int] = []
        cost = sum(len(self.groups[each]) - 1 for each in self.named if each in self.groups)
        for product in self.products:
            size = _size(product.of, sizes)
            sizes.append(size + 1)
            cost += 2 * size + 2 * len(product.of.weights)
        return cost + sum(2 * len(output.weights) for output in self.outputs)

    def polynomials(self) -> list[Polynomial]:
        """Each output, multiplied out. Raises `ValueError` when kin are multiplied, or there are too many monomials."""
        families = kin(self.groups)
        of_family: dict[int, set[int]] = {}
        for each, family in families.items():
            of_family.setdefault(family, set()).add(each)
        expanded: dict[int, Polynomial] = {}
        sums = [*(product.of for product in self.products), *self.outputs]
        last = {number: place for place, each in enumerate(sums) for number in (*each.added, *each.subtracted)}
        total = 0

        def counted(place: int) -> Polynomial:
            nonlocal total
            of = sums[place]
            polynomial = _expanded(of, expanded)
            for number in (*of.added, *of.subtracted):
                if last[number] == place:
                    del expanded[number]
            total += len(polynomial)
            if total > MAX_MONOMIALS:
                msg = f"products: got over {MAX_MONOMIALS} monomials when multiplied out, expected at most those"
                raise ValueError(msg)
            return polynomial

        for number, product in enumerate(self.products):
            inner = counted(number)
            related = of_family.get(families.get(product.bit, -1), {product.bit})
            if any(not related.isdisjoint(monomial) for monomial in inner):
                msg = f"products.{number}.bit: multiplies bit {product.bit} by itself, or by its kin"
                raise ValueError(msg)
            expanded[number] = {monomial | {product.bit}: weight for monomial, weight in inner.items()}
        return [counted(place) for place in range(len(self.products), len(sums))]


def kin(groups: Groups) -> dict[int, int]:
    """A number for each group and each bit of one, which is the same for kin: groups that share a bit, and all of their bits."""
    family: dict[int, int] = {}
    together: dict[int, list[int]] = {}
    for group, bits in groups.items():
        families = {family[bit] for bit in bits if bit in family}
        joined = [
            group,
            *(bit for bit in bits if bit not in family),
            *(each for old in families for each in together.pop(old)),
        ]
        together[group] = joined
        family |= dict.fromkeys(joined, group)
    return family


def deviation(polynomials: Sequence[Polynomial], degree: int, plain_modulus: int, groups: Groups = _NO_GROUPS) -> float:
    """The root mean square of an output's noise in multiples of t, a coefficient, at most. Source: above.

    `groups`: of a circuit whose products multiply no kin.
    """
    families = kin(groups)
    variance = PHASE_VARIANCE * float(plain_modulus) ** 2
    largest = 0.0
    for polynomial in polynomials:
        squares = [0.0] * MAX_COMPONENTS
        alike: dict[Monomial, list[tuple[Monomial, int]]] = {}
        for monomial, weight in polynomial.items():
            if families.keys().isdisjoint(monomial):
                squares[len(monomial)] += float(weight) ** 2
            else:
                alike.setdefault(frozenset(families.get(each, each) for each in monomial), []).append(
                    (monomial, weight)
                )
        for each in alike.values():
            squares[len(each[0][0])] += _square(each, families, groups)
        terms = [
            square * float(degree) ** (k - 1) * variance**k * (1 + _ALLOWED * math.sqrt((2**k - 1) * 2 / degree))
            for k, square in enumerate(squares)
            if k
        ]
        largest = max(largest, sum(terms))
    return math.sqrt(largest) / plain_modulus


def _square(polynomial: Sequence[tuple[Monomial, int]], families: Mapping[int, int], groups: Groups) -> float:
    """Σ w² over the monomials of the bits of a sum of products of the same families; of a long one, at most."""
    root = 0.0
    for start in range(0, len(polynomial), _AT_ONCE):
        some = polynomial[start : start + _AT_ONCE]
        common = np.ones((len(some), len(some)))
        for family in {families[each] for each in some[0][0] if each in families}:
            members = [
                groups.get(each, {each}) for monomial, _ in some for each in monomial if families.get(each) == family
            ]
            places = {bit: place for place, bit in enumerate(frozenset().union(*members))}
            has = np.zeros((len(some), len(places)))
            for row, bits in enumerate(members):
                has[row, [places[bit] for bit in bits]] = 1
            common *= has @ has.T
        weights = np.array([float(weight) for _, weight in some])
        root += math.sqrt(max(0.0, float(weights @ common @ weights)))
    return root**2


def _size(of: Sum, sizes: Sequence[int]) -> int:
    return max([2 if of.weights else 1, *(sizes[number] for number in (*of.added, *of.subtracted))])


def _expanded(of: Sum, products: Mapping[int, Polynomial]) -> Polynomial:
    total: Polynomial = {frozenset({bit}): weight for bit, weight in of.weights.items()}
    total[frozenset()] = of.constant
    for sign, numbers in ((1, of.added), (-1, of.subtracted)):
        for number in numbers:
            for monomial, weight in products[number].items():
                total[monomial] = total.get(monomial, 0) + sign * weight
    return {monomial: weight for monomial, weight in total.items() if weight}
