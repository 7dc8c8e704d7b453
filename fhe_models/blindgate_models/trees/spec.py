"""What both sides know of a private forest: its public questions, and how many leaves answer.

The client answers public questions about a row with bits and encrypts those (`blindgate_models.bits`). For every leaf of the
secret forest the node computes, under encryption, linear functions of the bits (`blindgate_models.product`):

    flag    Σ_i r_i · mis_i
    value   v · 2^S + share + Σ_i r'_i · mis_i      one for each output

mis_i is 1 where condition i of the leaf's path does not hold: the bit or its complement. Where a condition asks whether a category
is one of a *group* of its values, the bit is the sum of theirs: one condition, one r, which stands at each of them. The client
sends all of a category's bits, whichever groups are asked for. A row fits exactly one leaf a tree. There the flag is 0 and the
value its own plus a share; everywhere else both are masked by random numbers. Shares of all trees add up to the bias, so the sum of
the values at zero flags is the score, and one value by itself is noise.

**Several flags in one number.** A flag only has to be 0 or not, and needs few bits for that. So t is a product of a few primes p,
and a number modulo t carries a flag modulo each of them (Chinese remainders): a forest of depth 4 sends 1.25 numbers a leaf, not 2.

What is drawn afresh for each reply, and used for no other (`server.Draw`):

1. shares, uniform but for their sum;
2. r, from 1 to p - 1, drawn again until no subset of a leaf's r adds up to 0 modulo p: no false zero, whatever does not hold. A
   flag that is not 0 is uniform on 1 to p - 1, since multiplying a leaf's r by any of these gives a set that is as likely;
3. r', uniform on 0 to t - 1, independent for each leaf, condition and output, and like r the same for all bits of a group;
4. dummy leaves up to trees · 2^depth, whose conditions contradict each other and whose values are uniform: the number of leaves
   shows neither in lengths nor in the time that drawing takes;
5. the order of the leaves;
6. the cover of the reply (`product.server.Cover`).

A *sum* is an ensemble of trees that add to the same outputs. Boosted trees for several classes are one sum a class; forests whose
leaves hold a share for each class are one sum with several outputs.

Parameters are public, so they must not follow from the groups that there are: noise and flood are reckoned with `members`, which is
as many bits as any group of the widest category may need (see `compilers.questions`), and not what the forest's own groups have.

The client adds up whatever stands at zero flags. It asks nothing again and tells nobody what it found: a node that plants an output
whose flag depends on one bit learns nothing unless it is told.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from blindgate_models.bits import MAX_BITS, MAX_GROUPS, Groups, Questions, check_groups, count
from blindgate_models.halves import Part
from blindgate_models.parts import Padded, Strict, parse
from blindgate_models.primes import is_prime
from blindgate_models.product.spec import Parameters, Shape
from blindgate_protocol.errors import PackageError

FAMILY: Final = "trees"
VERSION: Final = 1
MAX_DEPTH: Final = 10
MAX_LEAVES: Final = 1 << 16
MAX_OUTPUTS: Final = 256
MAX_ASKED: Final = 1 << 22
"""Bits that the conditions of all leaves ask, each bit of a group counted: what a draw takes memory for."""

DETERMINISM: Final = "varies"
"""Every reply is masked anew."""

FlagModuli: TypeAlias = Annotated[list[Annotated[int, Field(ge=2, lt=1 << 40)]], Field(min_length=1, max_length=8)]


class PublicSum(Strict):
    """What the client knows of one sum.

    Attributes:
        leaves: trees · 2^depth, dummy leaves included.
        outputs: which scores its values add to.
    """

    leaves: Annotated[int, Field(ge=1, le=MAX_LEAVES)]
    outputs: Annotated[list[Annotated[int, Field(ge=0, lt=MAX_OUTPUTS)]], Field(min_length=1, max_length=MAX_OUTPUTS)]


class ClientPart(Strict):
    """What the data owner's half is built from.

    Attributes:
        columns: how many columns a row has.
        questions: what is asked of them, public.
        flag_moduli: the primes whose product is the plain modulus: a number carries a flag modulo each.
        sums: the ensembles.
        scale_bits: S.
        error_bound: how far a score can be from the plaintext forest's: the rounding of its leaves.
    """

    family: Literal["trees"]
    version: Literal[1]
    parameters: Parameters
    columns: Annotated[int, Field(ge=1, le=MAX_BITS)]
    questions: Annotated[list[Questions], Field(min_length=1, max_length=2 * MAX_BITS)]
    flag_moduli: FlagModuli
    sums: Annotated[list[PublicSum], Field(min_length=1, max_length=MAX_OUTPUTS)]
    scale_bits: Annotated[int, Field(ge=-1000, le=1000)]
    error_bound: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 1 <= count(self.questions) <= MAX_BITS:
            msg = f"questions: got {count(self.questions)} bits, expected 1 to {MAX_BITS}"
            raise ValueError(msg)
        if max(asked.column for asked in self.questions) >= self.columns:
            msg = f"questions: about a column past the {self.columns} that there are"
            raise ValueError(msg)
        check_flag_moduli(self.flag_moduli, self.parameters)
        if any(len(set(each.outputs)) < len(each.outputs) for each in self.sums):
            msg = "sums: an output occurs twice in one"
            raise ValueError(msg)
        wanted = sorted({output for each in self.sums for output in each.outputs})
        if wanted != list(range(len(wanted))):
            msg = "sums: expected every output from 0 on"
            raise ValueError(msg)
        return self

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return 1 + max(output for each in self.sums for output in each.outputs)

    @property
    def shape(self) -> Shape:
        """The product that a reply is."""
        words = sum(words_of(each.leaves, len(each.outputs), len(self.flag_moduli)) for each in self.sums)
        return Shape(self.parameters, count(self.questions), words, FAMILY)


class SecretLeaf(Strict):
    """One leaf: the conditions on its path, and its values times 2^S.

    Attributes:
        bits: numbers of bits, or past the last bit of groups, root first.
        wanted: 0 or 1 for each.
        value: an integer for each output of the sum.
    """

    bits: Annotated[list[Annotated[int, Field(ge=0, lt=MAX_BITS + MAX_GROUPS)]], Field(max_length=MAX_DEPTH)]
    wanted: Annotated[list[Annotated[int, Field(ge=0, le=1)]], Field(max_length=MAX_DEPTH)]
    value: Annotated[
        list[Annotated[int, Field(gt=-(1 << 40), lt=1 << 40)]], Field(min_length=1, max_length=MAX_OUTPUTS)
    ]


class SecretSum(Strict):
    """One sum.

    Attributes:
        depth: of its deepest tree, or more.
        bias: an integer for each output, times 2^S.
        trees: their leaves.
    """

    depth: Annotated[int, Field(ge=0, le=MAX_DEPTH)]
    bias: Annotated[list[Annotated[int, Field(gt=-(1 << 40), lt=1 << 40)]], Field(min_length=1, max_length=MAX_OUTPUTS)]
    trees: Annotated[list[Annotated[list[SecretLeaf], Field(min_length=1)]], Field(min_length=1, max_length=MAX_LEAVES)]

    @property
    def leaves(self) -> int:
        """How many leaves answer, dummy leaves included."""
        return len(self.trees) << self.depth

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.leaves > MAX_LEAVES:
            msg = f"trees: {self.leaves} leaves, expected at most {MAX_LEAVES}"
            raise ValueError(msg)
        for tree in self.trees:
            if len(tree) > 1 << self.depth:
                msg = f"trees: one of {len(tree)} leaves, expected at most {1 << self.depth}"
                raise ValueError(msg)
            for leaf in tree:
                if len(leaf.bits) != len(leaf.wanted) or len(leaf.bits) > self.depth:
                    msg = f"trees: a path of {len(leaf.bits)} bits and {len(leaf.wanted)} answers, expected up to {self.depth}"
                    raise ValueError(msg)
                if len(leaf.value) != len(self.bias):
                    msg = f"trees: a leaf of {len(leaf.value)} values, expected {len(self.bias)}"
                    raise ValueError(msg)
        return self


class ServerPart(Padded):
    """What the node's half is built from.

    Attributes:
        bits: how many bits a row has.
        flag_moduli: as in the client part.
        members: how many bits a group may have, whatever the forest asks: the bounds are reckoned with it.
        groups: bits whose sum is a condition; conditions past the last bit are these.
        sums: the ensembles, in the client part's order.
    """

    family: Literal["trees"]
    version: Literal[1]
    parameters: Parameters
    bits: Annotated[int, Field(ge=1, le=MAX_BITS)]
    flag_moduli: FlagModuli
    members: Annotated[int, Field(ge=1, le=MAX_BITS)] = 1
    groups: Groups = Field(default_factory=list)
    sums: Annotated[list[SecretSum], Field(min_length=1, max_length=MAX_OUTPUTS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_groups(self.groups, self.bits, self.members)
        conditions = self.bits + len(self.groups)
        asked = Counter(bit for each in self.sums for tree in each.trees for leaf in tree for bit in leaf.bits)
        if max(asked, default=0) >= conditions:
            msg = f"sums: bit {max(asked)}, expected one below {self.bits}, or a group's below {conditions}"
            raise ValueError(msg)
        total = sum(
            times * (1 if bit < self.bits else len(self.groups[bit - self.bits])) for bit, times in asked.items()
        )
        if total > MAX_ASKED:
            msg = f"sums: leaves that ask {total} bits in all, expected at most {MAX_ASKED}"
            raise ValueError(msg)
        check_flag_moduli(self.flag_moduli, self.parameters)
        least = least_flag_modulus(max(each.depth for each in self.sums))
        if min(self.flag_moduli) < least:
            msg = f"flag_moduli: {min(self.flag_moduli)} is below {least}: masks for such paths would be drawn for ever"
            raise ValueError(msg)
        return self

    @property
    def shape(self) -> Shape:
        """The product that a reply is."""
        words = sum(words_of(each.leaves, len(each.bias), len(self.flag_moduli)) for each in self.sums)
        return Shape(self.parameters, self.bits, words, FAMILY)


def words_of(leaves: int, outputs: int, flags: int) -> int:
    """How many numbers answer for a sum: `flags` flags to one, and a value for each leaf and output."""
    return -(-leaves // flags) + leaves * outputs


def check_flag_moduli(moduli: Sequence[int], parameters: Parameters) -> None:
    """Raises `ValueError` when the moduli are not different primes whose product is the plain modulus."""
    if (
        math.prod(moduli) != parameters.plain_modulus
        or len(set(moduli)) != len(moduli)
        or not all(map(is_prime, moduli))
    ):
        msg = "flag_moduli: expected different primes whose product is parameters.plain_modulus"
        raise ValueError(msg)


def least_flag_modulus(depth: int) -> int:
    """A leaf's masks are drawn again where one of 2^depth - 1 sums of them is 0: below that, hardly any would ever do."""
    return (1 << depth) - 1


def row_square(depth: int, flags: int, plain_modulus: int, members: int = 1) -> float:
    """The mean of Σ W² over rows, at most: a row of flags has a uniform number, centred, for each bit of each condition of each."""
    return max(1, depth) * members * flags * plain_modulus**2 / 12


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    parsed = parse(ClientPart, part, FAMILY)
    _require_private(parsed.parameters)
    return parsed


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field, or the bound that the parameters do not keep."""
    parsed = parse(ServerPart, part, FAMILY)
    _require_private(parsed.parameters)
    depth = max(each.depth for each in parsed.sums)
    shape = parsed.shape
    square = row_square(depth, len(parsed.flag_moduli), parsed.parameters.plain_modulus, parsed.members)
    parsed.parameters.require_bounds(square, shape.outputs)
    return parsed


def _require_private(parameters: Parameters) -> None:
    if parameters.privacy != "model_private":
        msg = f"{FAMILY} part: parameters.privacy: got {parameters.privacy!r}, expected 'model_private'"
        raise PackageError(msg)
