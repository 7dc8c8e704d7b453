"""The node's half of a private forest: draws masks, multiplies them with encrypted bits, and forgets them.

Everything that hides the forest in one reply is a `Draw`. It is made without a query, so a worker that waits for its job has one
ready (`prepare`); it serves one row, and the worker's process ends with its job. A job that is given out again meets another worker
and another draw: no mask is used twice.

A draw's work follows from the forest alone: how many bits its conditions have, those of groups counted one by one. The first row of
a job finds a draw that is ready; for further rows the time of a reply tells that number, which is one a model, and nothing of a
row.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.halves import Part, require_no_key
from blindgate_models.product.server import Cover, Multipliers, ProductServer
from blindgate_models.product.spec import MAX_BLOB_BYTES
from blindgate_models.randomness import SYSTEM, Source
from blindgate_models.trees.spec import SecretSum, ServerPart, server_part

Numbers = NDArray[np.int64]

_Entries: TypeAlias = tuple[Numbers, Numbers, Numbers]

_NO_BIT: Final = -1
_SUMS_AT_ONCE: Final = 1 << 20


class Draw(NamedTuple):
    """What hides the forest in one reply; its cover can be spent once."""

    multipliers: Multipliers
    cover: Cover


class _Paths(NamedTuple):
    """The leaves of a sum as arrays over leaves and conditions.

    Attributes:
        bits: `(leaves, depth)`, numbers of bits or groups, -1 past the end of a path.
        wanted: `(leaves, depth)`.
        values: `(leaves, outputs)`.
        tree: `(leaves,)`, which tree a leaf is of.
        trees: how many there are.
        bias: `(outputs,)`.
        slots: how many leaves answer, dummy leaves included.
        asked: `(3, entries)`: leaf, condition and bit, for each bit of each condition.
    """

    bits: Numbers
    wanted: Numbers
    values: Numbers
    tree: Numbers
    trees: int
    bias: Numbers
    slots: int
    asked: Numbers

    @classmethod
    def of(cls, given: SecretSum, conditions: Sequence[Sequence[int]]) -> Self:
        """Read a sum into arrays. `conditions`: the bits that each number stands for."""
        leaves = [(number, leaf) for number, tree in enumerate(given.trees) for leaf in tree]
        bits = np.full((len(leaves), max(1, given.depth)), _NO_BIT, dtype=np.int64)
        wanted = np.zeros_like(bits)
        for row, (_, leaf) in enumerate(leaves):
            bits[row, : len(leaf.bits)] = leaf.bits
            wanted[row, : len(leaf.bits)] = leaf.wanted
        return cls(
            bits,
            wanted,
            np.array([leaf.value for _, leaf in leaves], dtype=np.int64),
            np.array([number for number, _ in leaves], dtype=np.int64),
            len(given.trees),
            np.array(given.bias, dtype=np.int64),
            given.leaves,
            _bit_by_bit(bits, conditions),
        )

    def inverted(self, masks: Numbers) -> Numbers:
        """What the conditions that want a 1 add to the constant: 1 - b fails where b is 0."""
        return np.asarray(np.where(self.wanted == 1, masks, 0).sum(axis=1))

    def entries(self, rows: Numbers, masks: Numbers) -> _Entries:
        """The rows, bits and numbers of a matrix whose row `rows[leaf]` has the leaf's masks."""
        leaf, condition, bit = self.asked
        signed = np.where(self.wanted == 1, -masks, masks)
        return rows[leaf], bit, signed[leaf, condition]


class TreesServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart, source: Source = SYSTEM) -> None:
        """Take a parsed part. `source` is where masks come from."""
        self._modulus = part.parameters.plain_modulus
        self._moduli = part.flag_moduli
        self._lifts = [self._modulus // prime * pow(self._modulus // prime, -1, prime) for prime in part.flag_moduli]
        self._source = source
        conditions = [*([bit] for bit in range(part.bits)), *part.groups]
        self._sums = [_Paths.of(each, conditions) for each in part.sums]
        self._product = ProductServer.of(part.shape, source)
        self._words = part.shape.outputs
        self._most_rows = max(1, MAX_BLOB_BYTES // part.shape.reply_bytes)
        self._ready: list[Draw] = []

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))

    def prepare(self) -> None:
        """Draw what the next row needs, ahead of time. For a process that serves one job and was forked for it alone."""
        if not self._ready:
            self._ready.append(self.draw())

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds. Raises `CiphertextError`."""
        return self._product.rows(ciphertexts, self._most_rows)

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Answer the rows of one input blob, each under masks of its own.

        Raises:
            CiphertextError: not an input blob of these parameters.
            EvaluationKeyError: there is one, and this family has none.
        """
        require_no_key(evaluation_key)
        zeros, rows = self._product.open_input(ciphertexts, self._most_rows)
        replies = []
        for row in rows:
            draw = self._ready.pop() if self._ready else self.draw()
            replies.append(self._product.reply(zeros, row, draw.multipliers, draw.cover))
        return self._product.result(replies)

    def draw(self) -> Draw:
        """Draw masks, an order and a cover for one reply."""
        entries: list[_Entries] = []
        constants = np.zeros(self._words, dtype=np.int64)
        start = 0
        for paths in self._sums:
            order = randomness.permutation(paths.slots, self._source)
            places = order[: len(paths.bits)]
            flags = -(-paths.slots // len(self._moduli))
            entries.append(self._draw_flags(paths, places, start, constants))
            start += flags
            shares = self._shares(paths)
            for output in range(paths.values.shape[1]):
                block = constants[start : start + paths.slots]
                block[:] = randomness.below(self._modulus, paths.slots, self._source)
                masks = np.where(
                    paths.bits == _NO_BIT, 0, randomness.below(self._modulus, paths.bits.shape, self._source)
                )
                block[places] = paths.values[:, output] + shares[paths.tree, output] + paths.inverted(masks)
                entries.append(paths.entries(start + places, masks))
                start += paths.slots
        where, bits, numbers = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        multipliers = self._product.sparse_multipliers(where, bits, numbers)
        return Draw(multipliers, self._product.cover(self._product.constants(constants)))

    def _draw_flags(self, paths: _Paths, places: Numbers, start: int, constants: Numbers) -> _Entries:
        """Masks of flags: the leaf at place i has its flag in number i // k, modulo prime i % k."""
        count = len(self._moduli)
        which = places % count
        masks = np.zeros(paths.bits.shape, dtype=np.int64)
        for number, (prime, lift) in enumerate(zip(self._moduli, self._lifts, strict=True)):
            slots = np.arange(number, paths.slots, count)
            # Dummy leaves keep these flags, which are never 0; a leaf's own takes their place.
            remainders = np.zeros(-(-paths.slots // count) * count, dtype=np.int64)
            remainders[slots] = 1 + randomness.below(prime - 1, len(slots), self._source)
            own = which == number
            masks[own] = self._flag_masks(paths.bits[own], prime)
            remainders[places[own]] = paths.inverted(masks)[own] % prime
            flags = remainders[number::count]
            constants[start : start + len(flags)] += flags * lift % self._modulus
            masks[own] = masks[own] * lift % self._modulus
        return paths.entries(start + places // count, masks)

    def _shares(self, paths: _Paths) -> Numbers:
        """One number for each tree and output, uniform but for their sum, which is the bias."""
        shares = randomness.below(self._modulus, (paths.trees, len(paths.bias)), self._source)
        shares[-1] = (paths.bias - shares[:-1].sum(axis=0)) % self._modulus
        return shares

    def _flag_masks(self, bits: Numbers, prime: int) -> Numbers:
        """Masks of which no subset, within a leaf, adds up to 0 modulo `prime`."""
        masks = np.empty(bits.shape, dtype=np.int64)
        again = np.arange(len(masks))
        while len(again):
            drawn = 1 + randomness.below(prime - 1, (len(again), masks.shape[1]), self._source)
            masks[again] = np.where(bits[again] == _NO_BIT, 0, drawn)
            again = again[_has_zero_subset(masks[again], prime)]
        return masks


def _bit_by_bit(numbers: Numbers, conditions: Sequence[Sequence[int]]) -> Numbers:
    """Leaf, condition and bit, `(3, entries)`, for each bit of each condition of paths `(leaves, depth)`."""
    leaf, condition = np.nonzero(numbers != _NO_BIT)
    asked = numbers[leaf, condition]
    lengths = np.array([len(bits) for bits in conditions])
    members = np.concatenate([np.asarray(bits, dtype=np.int64) for bits in conditions])
    times = lengths[asked]
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    first = (np.cumsum(lengths) - lengths)[asked]
    return np.stack([np.repeat(leaf, times), np.repeat(condition, times), members[np.repeat(first, times) + within]])


def _has_zero_subset(masks: Numbers, prime: int) -> NDArray[np.bool_]:
    """Whether some of a row's numbers, which are 0 only past the end of a path, add up to 0 modulo `prime`."""
    found = np.zeros(len(masks), dtype=bool)
    at_once = max(1, _SUMS_AT_ONCE >> masks.shape[1])  # a row has a sum for each subset
    for start in range(0, len(masks), at_once):
        some = slice(start, start + at_once)
        sums = np.zeros((len(masks[some]), 1), dtype=np.int64)
        for column in masks[some].T:
            with_it = (sums + column[:, None]) % prime
            found[some] |= ((with_it == 0) & (column != 0)[:, None]).any(axis=1)
            sums = np.concatenate([sums, with_it], axis=1)
    return found
