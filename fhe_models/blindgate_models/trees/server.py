"""The node's half of a private forest: draws masks, multiplies them with encrypted bits, and forgets them.

Everything that hides the forest in one reply is a `Draw`. It is made without a query, so a worker that waits for its job has one
ready (`prepare`); it serves one row, and the worker's process ends with its job. A job that is given out again meets another worker
and another draw: no mask is used twice.
"""

from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models import randomness
from blindgate_models.halves import Part
from blindgate_models.product.server import Cover, Multipliers, ProductServer
from blindgate_models.product.spec import MAX_BLOB_BYTES
from blindgate_models.randomness import SYSTEM, Source
from blindgate_models.seal.serial import Plaintext
from blindgate_models.trees.spec import SecretSum, ServerPart, server_part
from blindgate_protocol.errors import EvaluationKeyError

Numbers = NDArray[np.int64]

_NO_BIT: Final = -1


class Draw(NamedTuple):
    """What hides the forest in one reply; its cover can be spent once."""

    multipliers: Multipliers
    constants: list[Plaintext]
    cover: Cover


class _Paths(NamedTuple):
    """The leaves of a sum as arrays over leaves and conditions.

    Attributes:
        bits: `(leaves, depth)`, -1 past the end of a path.
        wanted: `(leaves, depth)`.
        values: `(leaves, outputs)`.
        tree: `(leaves,)`, which tree a leaf is of.
        trees: how many there are.
        bias: `(outputs,)`.
        slots: how many leaves answer, dummy leaves included.
    """

    bits: Numbers
    wanted: Numbers
    values: Numbers
    tree: Numbers
    trees: int
    bias: Numbers
    slots: int

    @classmethod
    def of(cls, given: SecretSum) -> Self:
        """Read a sum into arrays."""
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
        )


class TreesServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart, source: Source = SYSTEM) -> None:
        """Take a parsed part. `source` is where masks come from."""
        self._modulus = part.parameters.plain_modulus
        self._source = source
        self._sums = [_Paths.of(each) for each in part.sums]
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
        if evaluation_key is not None:
            msg = f"evaluation key: got {len(evaluation_key)} bytes, expected none"
            raise EvaluationKeyError(msg)
        zeros, rows = self._product.open_input(ciphertexts, self._most_rows)
        replies = []
        for row in rows:
            draw = self._ready.pop() if self._ready else self.draw()
            replies.append(self._product.reply(zeros, row, draw.multipliers, draw.constants, draw.cover))
        return self._product.result(replies)

    def draw(self) -> Draw:
        """Draw masks, an order and a cover for one reply."""
        where, bits, numbers = [], [], []
        constants = np.empty(self._words, dtype=np.int64)
        start = 0
        for paths in self._sums:
            order = randomness.permutation(paths.slots, self._source)
            outputs = 1 + paths.values.shape[1]
            block = constants[start : start + outputs * paths.slots].reshape(outputs, paths.slots)
            block[0] = 1 + randomness.below(self._modulus - 1, paths.slots, self._source)  # dummy flags are never 0
            block[1:] = randomness.below(self._modulus, (outputs - 1, paths.slots), self._source)
            places = order[: len(paths.bits)]
            shares = self._shares(paths)
            for output in range(outputs):
                masks = self._flag_masks(paths) if output == 0 else self._value_masks(paths)
                inverted = np.where(paths.wanted == 1, masks, 0).sum(axis=1)
                plain = 0 if output == 0 else paths.values[:, output - 1] + shares[paths.tree, output - 1]
                block[output, places] = (inverted + plain) % self._modulus
                row, condition = np.nonzero(paths.bits != _NO_BIT)
                where.append(start + output * paths.slots + places[row])
                bits.append(paths.bits[row, condition])
                numbers.append(np.where(paths.wanted == 1, -masks, masks)[row, condition])
            start += outputs * paths.slots
        multipliers = self._product.sparse_multipliers(
            np.concatenate(where), np.concatenate(bits), np.concatenate(numbers)
        )
        return Draw(multipliers, self._product.constants(constants), self._product.cover())

    def _shares(self, paths: _Paths) -> Numbers:
        """One number for each tree and output, uniform but for their sum, which is the bias."""
        shares = randomness.below(self._modulus, (paths.trees, len(paths.bias)), self._source)
        shares[-1] = (paths.bias - shares[:-1].sum(axis=0)) % self._modulus
        return shares

    def _value_masks(self, paths: _Paths) -> Numbers:
        masks = randomness.below(self._modulus, paths.bits.shape, self._source)
        return np.where(paths.bits == _NO_BIT, 0, masks)

    def _flag_masks(self, paths: _Paths) -> Numbers:
        """Masks of which no subset, within a leaf, adds up to 0 modulo t."""
        masks = np.empty(paths.bits.shape, dtype=np.int64)
        again = np.arange(len(masks))
        while len(again):
            drawn = 1 + randomness.below(self._modulus - 1, (len(again), masks.shape[1]), self._source)
            masks[again] = np.where(paths.bits[again] == _NO_BIT, 0, drawn)
            again = again[self._has_zero_subset(masks[again])]
        return masks

    def _has_zero_subset(self, masks: Numbers) -> NDArray[np.bool_]:
        """Whether some of a row's numbers, which are 0 only past the end of a path, add up to 0 modulo t."""
        sums = np.zeros((len(masks), 1), dtype=np.int64)
        found = np.zeros(len(masks), dtype=bool)
        for column in masks.T:
            with_it = (sums + column[:, None]) % self._modulus
            found |= ((with_it == 0) & (column != 0)[:, None]).any(axis=1)
            sums = np.concatenate([sums, with_it], axis=1)
        return found
