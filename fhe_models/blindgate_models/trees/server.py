"""The node's half of a private forest: draws masks, multiplies them with encrypted bits, and forgets them.

Everything that hides the forest in one reply is a `Draw`. It is made without a query, so a worker that waits for its job has one
ready (`prepare`); it serves one row, and the worker's process ends with its job. A job that is given out again meets another worker
and another draw: no mask is used twice.

The rows of a job after its first are drawn for while the client waits. So drawing, too, takes as long for any forest of one shape:
a dummy leaf has a path like any other, of conditions that contradict each other; a path that is short repeats its own; and every
condition has as many bits as a group may have, those past its own times 0.
"""

from typing import Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.halves import Part, require_no_key
from blindgate_models.product.arithmetic import Multipliers
from blindgate_models.product.server import Cover, ProductServer
from blindgate_models.product.spec import MAX_BLOB_BYTES
from blindgate_models.randomness import SYSTEM, Source
from blindgate_models.trees.spec import SecretSum, ServerPart, server_part

Numbers = NDArray[np.int64]

_Entries: TypeAlias = tuple[Numbers, Numbers, Numbers]

_SUMS_AT_ONCE: Final = 1 << 20


class Draw(NamedTuple):
    """What hides the forest in one reply; its cover can be spent once."""

    multipliers: Multipliers
    cover: Cover


class _Members(NamedTuple):
    """The bits of every condition, which is a bit or a group of them, as many of each as a group may have.

    Attributes:
        bits: `(conditions, members)`, filled up with a bit of the condition's own.
        own: likewise, 0 where it was filled up.
    """

    bits: Numbers
    own: Numbers

    @classmethod
    def of(cls, part: ServerPart) -> Self:
        """Those of a part: bits by their numbers, then groups."""
        conditions = [*([bit] for bit in range(part.bits)), *part.groups]
        bits = np.array([np.resize(members, part.members) for members in conditions], dtype=np.int64)
        own = np.arange(part.members) < np.array([len(members) for members in conditions])[:, None]
        return cls(bits, own.astype(np.int64))


class _Paths(NamedTuple):
    """The leaves of a sum, then dummy leaves, as arrays over leaves and conditions.

    Attributes:
        conditions: `(slots, depth)`, numbers of bits or groups.
        wanted: `(slots, depth)`.
        asked: `(slots, 1)`, 0 for a leaf without conditions: a tree that is one leaf, or a dummy where paths are too short for two.
        values: `(slots, outputs)`.
        tree: `(slots,)`, which tree a leaf is of.
        real: `(slots,)`, false for dummy leaves.
        trees: how many there are.
        bias: `(outputs,)`.
        bits: `(slots, depth, members)`, those of each condition.
        own: likewise, 0 for what only fills a condition up.
    """

    conditions: Numbers
    wanted: Numbers
    asked: Numbers
    values: Numbers
    tree: Numbers
    real: NDArray[np.bool_]
    trees: int
    bias: Numbers
    bits: Numbers
    own: Numbers

    @property
    def slots(self) -> int:
        """How many leaves answer, dummy leaves included."""
        return len(self.conditions)

    @classmethod
    def of(cls, given: SecretSum, bits: int, members: _Members, source: Source) -> Self:
        """Read a sum into arrays. `source`: where the bits that dummy leaves ask come from."""
        slots, depth = given.leaves, max(1, given.depth)
        asks = randomness.below(bits, (slots, depth), source)
        asks[:, 1:2] = asks[:, :1]  # the same bit is to be 0 and 1
        wanted = np.tile(np.arange(depth) % 2, (slots, 1))
        asked = np.full((slots, 1), int(depth > 1))
        values, tree = np.zeros((slots, len(given.bias)), dtype=np.int64), np.zeros(slots, dtype=np.int64)
        leaves = [(number, leaf) for number, each in enumerate(given.trees) for leaf in each]
        for row, (number, leaf) in enumerate(leaves):
            values[row], tree[row], asked[row] = leaf.value, number, bool(leaf.bits)
            if leaf.bits:
                asks[row], wanted[row] = np.resize(leaf.bits, depth), np.resize(leaf.wanted, depth)
        real = np.arange(slots) < len(leaves)
        bias = np.array(given.bias, dtype=np.int64)
        return cls(
            asks, wanted, asked, values, tree, real, len(given.trees), bias, members.bits[asks], members.own[asks]
        )

    def inverted(self, masks: Numbers) -> Numbers:
        """What the conditions that want a 1 add to the constant: 1 - b fails where b is 0."""
        return np.asarray((self.wanted * masks).sum(axis=1))

    def entries(self, rows: Numbers, masks: Numbers) -> _Entries:
        """The rows, bits and numbers of a matrix whose row `rows[leaf]` has the leaf's masks."""
        signed = (1 - 2 * self.wanted) * masks
        numbers = signed[:, :, None] * self.own
        return np.repeat(rows, self.bits[0].size), self.bits.ravel(), numbers.ravel()


class TreesServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart, source: Source = SYSTEM) -> None:
        """Take a parsed part. `source` is where masks come from."""
        self._modulus = part.parameters.plain_modulus
        self._moduli = part.flag_moduli
        self._lifts = [self._modulus // prime * pow(self._modulus // prime, -1, prime) for prime in part.flag_moduli]
        self._source = source
        members = _Members.of(part)
        self._sums = [_Paths.of(each, part.bits, members, source) for each in part.sums]
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
            places = randomness.permutation(paths.slots, self._source)
            flags = -(-paths.slots // len(self._moduli))
            entries.append(self._draw_flags(paths, places, start, constants))
            start += flags
            shares = self._shares(paths)
            for output in range(paths.values.shape[1]):
                masks = randomness.below(self._modulus, paths.conditions.shape, self._source) * paths.asked
                own = paths.values[:, output] + shares[paths.tree, output] + paths.inverted(masks)
                dummy = randomness.below(self._modulus, paths.slots, self._source)
                constants[start + places] = np.where(paths.real, own, dummy)
                entries.append(paths.entries(start + places, masks))
                start += paths.slots
        where, bits, numbers = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        multipliers = self._product.sparse_multipliers(where, bits, numbers)
        return Draw(multipliers, self._product.cover(self._product.constants(constants)))

    def _draw_flags(self, paths: _Paths, places: Numbers, start: int, constants: Numbers) -> _Entries:
        """Masks of flags: the leaf at place i has its flag in number i // k, modulo prime i % k."""
        count = len(self._moduli)
        which = places % count
        masks = np.zeros(paths.conditions.shape, dtype=np.int64)
        for number, (prime, lift) in enumerate(zip(self._moduli, self._lifts, strict=True)):
            own = np.flatnonzero(which == number)
            masks[own] = self._flag_masks((len(own), masks.shape[1]), prime)
            masks *= paths.asked
            never = 1 + randomness.below(prime - 1, len(own), self._source)
            flags = np.where(paths.asked[own, 0] | paths.real[own], paths.inverted(masks)[own] % prime, never)
            constants[start + places[own] // count] += flags * lift % self._modulus
            masks[own] = masks[own] * lift % self._modulus
        return paths.entries(start + places // count, masks)

    def _shares(self, paths: _Paths) -> Numbers:
        """One number for each tree and output, uniform but for their sum, which is the bias."""
        shares = randomness.below(self._modulus, (paths.trees, len(paths.bias)), self._source)
        shares[-1] = (paths.bias - shares[:-1].sum(axis=0)) % self._modulus
        return shares

    def _flag_masks(self, shape: tuple[int, int], prime: int) -> Numbers:
        """Masks, `(leaves, depth)`, of which no subset, within a leaf, adds up to 0 modulo `prime`."""
        masks = np.empty(shape, dtype=np.int64)
        again = np.arange(len(masks))
        while len(again):
            masks[again] = 1 + randomness.below(prime - 1, (len(again), shape[1]), self._source)
            again = again[_has_zero_subset(masks[again], prime)]
        return masks


def _has_zero_subset(masks: Numbers, prime: int) -> NDArray[np.bool_]:
    """Whether some of a row's numbers add up to 0 modulo `prime`."""
    found = np.zeros(len(masks), dtype=bool)
    at_once = max(1, _SUMS_AT_ONCE >> masks.shape[1])  # a row has a sum for each subset
    for start in range(0, len(masks), at_once):
        some = slice(start, start + at_once)
        sums = np.zeros((len(masks[some]), 1), dtype=np.int64)
        for column in masks[some].T:
            with_it = (sums + column[:, None]) % prime
            found[some] |= (with_it == 0).any(axis=1)
            sums = np.concatenate([sums, with_it], axis=1)
    return found
