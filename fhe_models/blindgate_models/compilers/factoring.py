"""From trees with integer leaves to a circuit of few products (`blindgate_models.trees_batch.circuit`).

A forest is one polynomial in the bits, and there are many ways to compute it. Two are tried, and the better one is the caller's to
choose:

- **nested**: as the trees stand. R + b·(L - R) is one product a question, and R is computed once although it occurs twice. Trees
  that ask the same bit first are one tree; so are, below it, their left sides and their right sides. What is linear in the bits
  stays open to be merged with like terms further up.
- **multiplied out**: all monomials of all trees, like ones merged, then the bit that most of them hold is factored out, again and
  again (Horner's rule). Fewer and shorter monomials where few columns matter; many more of them where paths are long and differ.

Both use what is known of questions about one column (`Relations`): of two bits of a thermometer the product is the later one, so
that an interval is the difference of two bits and costs no product; of two bits that say *is* the product is 0, and of two groups
of a category's bits it is the group of those that both have. Conditions that follow from the ones above them are left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from blindgate_models.bits import Questions
from blindgate_models.compilers.bit_forests import Leaf
from blindgate_models.trees_batch.circuit import MAX_MONOMIALS, Circuit, Polynomial, Product, Sum


class Question(NamedTuple):
    """A tree that asks `bit`, and goes on with `high` where it is 1 and `low` where it is 0."""

    bit: int
    low: "Tree"
    high: "Tree"


Tree: TypeAlias = Question | int


class Relations:
    """What bits about one column, and groups of them, say of one another. A product may be a group that was none before."""

    def __init__(self, questions: Sequence[Questions], groups: Sequence[Sequence[int]] = ()) -> None:
        """`groups`: each some bits of one category; they have the numbers past the last bit."""
        self._group: dict[int, int] = {}
        self._thermometer: set[int] = set()
        self._members: dict[int, frozenset[int]] = {}
        categories: dict[int, int] = {}
        bit = 0
        for number, asked in enumerate(questions):
            ascending = all(low < high for low, high in pairwise(asked.values))
            if asked.kind.startswith("at_least") and ascending:
                self._thermometer.add(number)
            bits = range(bit, bit + asked.bits)
            if asked.kind == "is":
                categories[asked.column] = number
            if asked.kind == "is" or (asked.kind == "is_missing" and asked.column in categories):
                self._group |= dict.fromkeys(bits, categories[asked.column])
                self._members |= {each: frozenset({each}) for each in bits}
            elif number in self._thermometer:
                self._group |= dict.fromkeys(bits, number)
            bit += asked.bits
        self._bits = self._next = bit
        self._numbers = {members: each for each, members in self._members.items()}
        for group in groups:
            self._number(frozenset(group))

    @property
    def groups(self) -> dict[int, frozenset[int]]:
        """The bits of each group, by its number."""
        return {each: members for each, members in self._members.items() if each >= self._bits}

    def _number(self, members: frozenset[int]) -> int:
        """The number of a group, or of its only bit."""
        if members not in self._numbers:
            self._numbers[members] = self._next
            self._members[self._next] = members
            self._group[self._next] = self._group[min(members)]
            self._next += 1
        return self._numbers[members]

    def related(self, one: int, other: int) -> bool:
        """Whether the product of two different bits is known."""
        return one in self._group and self._group[one] == self._group.get(other)

    def product(self, one: int, other: int) -> int | None:
        """The bit that the product of two related bits is; `None` where it is 0."""
        if self._group[one] in self._thermometer:
            return max(one, other)
        both = self._members[one] & self._members[other]
        return self._number(both) if both else None

    def implied(self, bit: int, known: Mapping[int, bool]) -> bool | None:
        """What `bit` is where the `known` ones are so; `None` where it may be either."""
        if bit in known:
            return known[bit]
        related = {other: value for other, value in known.items() if self.related(bit, other)}
        if bit in self._members:
            return self._one_of(self._members[bit], related)
        return next((value for other, value in related.items() if value == (other > bit)), None)

    def _one_of(self, own: frozenset[int], known: Mapping[int, bool]) -> bool | None:
        """Whether one of a category's bits `own` is 1."""
        zero = frozenset[int]().union(*(self._members[other] for other, value in known.items() if not value))
        ones = [self._members[other] for other, value in known.items() if value]
        may_be = frozenset.intersection(*ones) - zero if ones else None  # one of these is, or else one of any
        if not (own - zero if may_be is None else own & may_be):
            return False
        return True if may_be is not None and may_be <= own else None


def tree_of(leaves: Sequence[Leaf], values: Sequence[int], relations: Relations) -> Tree:
    """The tree that has these leaves, with integers for their values.

    Raises `ValueError` when they are no tree's: exactly one leaf must fit whatever the bits are.
    """
    return _tree(list(zip(leaves, values, strict=True)), 0, {}, relations)


def _tree(leaves: list[tuple[Leaf, int]], depth: int, known: dict[int, bool], relations: Relations) -> Tree:
    if len(leaves) == 1 and len(leaves[0][0].bits) == depth:
        return leaves[0][1]
    bits = {leaf.bits[depth] if len(leaf.bits) > depth else None for leaf, _ in leaves}
    bit = bits.pop() if len(bits) == 1 else None
    if bit is None:
        msg = f"a tree's leaves do not part at depth {depth}"
        raise ValueError(msg)
    sides = {value: [pair for pair in leaves if pair[0].wanted[depth] is value] for value in (False, True)}
    certain = relations.implied(bit, known)
    low, high = (
        _tree(side, depth + 1, {**known, bit: value}, relations) if certain in (value, None) else 0
        for value, side in sides.items()
    )
    if certain is not None:
        return high if certain else low
    return low if low == high else Question(bit, low, high)


class _Builder:
    """Products that were made so far, each once. All weights are taken around 0, modulo t."""

    def __init__(self, plain_modulus: int) -> None:
        self.products: list[Product] = []
        self._modulus = plain_modulus
        self._numbers: dict[tuple[object, ...], int] = {}

    def centred(self, weights: Mapping[int, int]) -> dict[int, int]:
        """The weights that are not 0."""
        half = self._modulus // 2
        small = {bit: (weight + half) % self._modulus - half for bit, weight in weights.items()}
        return {bit: weight for bit, weight in sorted(small.items()) if weight}

    def product(self, bit: int, open_sum: "_Open") -> int | None:
        """The number of bit · sum, made if need be; `None` where the sum is 0."""
        weights = self.centred(open_sum.weights)
        added = sorted(number for number, sign in open_sum.products.items() if sign > 0)
        subtracted = sorted(number for number, sign in open_sum.products.items() if sign < 0)
        if not (weights or added or subtracted):
            return None
        key = (bit, tuple(weights.items()), tuple(added), tuple(subtracted))
        if key not in self._numbers:
            self._numbers[key] = len(self.products)
            self.products.append(Product(bit, Sum(0, weights, added, subtracted)))
        return self._numbers[key]

    def add(self, into: "_Open", number: int, sign: int) -> None:
        """Add or subtract a product. One that is there twice is computed twice: a sum holds none more than once."""
        if into.products.get(number) == sign:
            self.products.append(self.products[number])
            number = len(self.products) - 1
        if into.products.pop(number, 0) != -sign:
            into.products[number] = sign

    def output(self, open_sum: "_Open") -> Sum:
        """The sum of an output."""
        constant = self.centred({0: open_sum.constant}).get(0, 0)
        added = [number for number, sign in open_sum.products.items() if sign > 0]
        subtracted = [number for number, sign in open_sum.products.items() if sign < 0]
        return Sum(constant, self.centred(open_sum.weights), sorted(added), sorted(subtracted))


class _Open:
    """A sum in the making: a constant, weights of bits, and products with their signs."""

    def __init__(self) -> None:
        self.constant = 0
        self.weights: Counter[int] = Counter()
        self.products: dict[int, int] = {}


def nested(outputs: Sequence[tuple[int, Sequence[Tree]]], relations: Relations, plain_modulus: int) -> Circuit:
    """The circuit of the forests, each a constant and trees, as the trees stand."""
    builder = _Builder(plain_modulus)
    sums = []
    for constant, trees in outputs:
        total = _nested(trees, relations, builder)
        total.constant += constant
        sums.append(builder.output(total))
    return _circuit(builder, sums, relations.groups)


def _circuit(builder: _Builder, outputs: Sequence[Sum], groups: Mapping[int, frozenset[int]]) -> Circuit:
    named = Circuit(builder.products, outputs).named
    return Circuit(builder.products, outputs, {each: members for each, members in groups.items() if each in named})


def _nested(trees: Sequence[Tree], relations: Relations, builder: _Builder) -> _Open:
    total = _Open()
    asking: dict[int, list[Question]] = {}
    for tree in trees:
        if isinstance(tree, Question):
            asking.setdefault(tree.bit, []).append(tree)
        else:
            total.constant += tree
    for bit, group in asking.items():
        low = _nested([tree.low for tree in group], relations, builder)
        high = _nested([tree.high for tree in group], relations, builder)
        inner = _Open()
        for side, sign in ((high, 1), (low, -1)):
            _times_bit(bit, side, sign, relations, builder, inner, total)
        number = builder.product(bit, inner)
        if number is not None:
            builder.add(total, number, 1)
        total.constant += low.constant
        total.weights.update(low.weights)
        for each, sign in low.products.items():
            builder.add(total, each, sign)
    return total


def _times_bit(  # noqa: PLR0913, PLR0917  (one step of `_nested`, on its state)
    bit: int, side: _Open, sign: int, relations: Relations, builder: _Builder, inner: _Open, total: _Open
) -> None:
    """Add sign·bit·side: what needs a product to `inner`, the rest to `total`."""
    total.weights[bit] += sign * side.constant
    for other, weight in side.weights.items():
        if not relations.related(bit, other):
            inner.weights[other] += sign * weight
            continue
        later = relations.product(bit, other)
        if later is not None:
            total.weights[later] += sign * weight
    for number, given in side.products.items():
        builder.add(inner, number, sign * given)


def multiplied_out(outputs: Sequence[tuple[int, Sequence[Tree]]], relations: Relations) -> list[Polynomial]:
    """Each forest as a polynomial. Raises `ValueError` when there are more monomials than a node would count."""
    polynomials = []
    for constant, trees in outputs:
        total: Counter[frozenset[int]] = Counter({frozenset(): constant})
        for tree in trees:
            _multiply_out(tree, {frozenset(): 1}, relations, total)
        polynomials.append({monomial: weight for monomial, weight in total.items() if weight})
    return polynomials


def _multiply_out(
    tree: Tree, reached: Mapping[frozenset[int], int], relations: Relations, total: Counter[frozenset[int]]
) -> None:
    """Add `tree` times the polynomial of the bits above it."""
    if not isinstance(tree, Question):
        for monomial, weight in reached.items():
            total[monomial] += weight * tree
        if len(total) > MAX_MONOMIALS:
            msg = f"got over {MAX_MONOMIALS} monomials when multiplied out, expected at most those"
            raise ValueError(msg)
        return
    high: Counter[frozenset[int]] = Counter()
    for monomial, weight in reached.items():
        longer = _times(monomial, tree.bit, relations)
        if longer is not None:
            high[longer] += weight
    low = Counter(reached)
    low.subtract(high)
    for side, given in ((tree.high, high), (tree.low, low)):
        _multiply_out(side, {monomial: weight for monomial, weight in given.items() if weight}, relations, total)


def _times(monomial: frozenset[int], bit: int, relations: Relations) -> frozenset[int] | None:
    """A monomial times a bit; `None` where that is 0."""
    for other in monomial:
        if other == bit:
            return monomial
        if relations.related(bit, other):
            later = relations.product(bit, other)
            return None if later is None else (monomial - {other}) | {later}
    return monomial | {bit}


def factored(
    polynomials: Sequence[Polynomial], plain_modulus: int, groups: Mapping[int, frozenset[int]] | None = None
) -> Circuit:
    """The circuit of polynomials, the bit that most monomials hold factored out first. `groups`: of the relations."""
    builder = _Builder(plain_modulus)
    sums = [builder.output(_factored(polynomial, builder)) for polynomial in polynomials]
    return _circuit(builder, sums, groups or {})


def _factored(polynomial: Polynomial, builder: _Builder) -> _Open:
    rest = dict(polynomial)
    total = _Open()
    total.constant = rest.pop(frozenset(), 0)
    while True:
        holding = Counter(bit for monomial in rest if len(monomial) > 1 for bit in monomial)
        if not holding:
            break
        bit = min(holding, key=lambda each: (-holding[each], each))
        quotient = {monomial - {bit}: rest.pop(monomial) for monomial in list(rest) if bit in monomial}
        inner = _factored(quotient, builder)
        total.weights[bit] += inner.constant
        inner.constant = 0
        number = builder.product(bit, inner)
        if number is not None:
            builder.add(total, number, 1)
    for monomial, weight in rest.items():
        total.weights[next(iter(monomial))] += weight
    return total
