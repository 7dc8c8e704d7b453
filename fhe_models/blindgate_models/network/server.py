"""The node's half of a network: products with weights that were encoded once, rotations, squares.

It takes bytes from strangers, in this order: header, digest of the parameters and exact length (`Packing.open_blob`), then every
word against its prime (`Ring`), and composes SEAL's own format around them itself. A ciphertext and a key are seeds and c0,
never a c1 of the sender's choice; degree, level, scale and form are the ring's. Integers modulo primes throughout: the same
key and input give the same bytes.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bitpacking import pack, unpack_rows
from blindgate_models.halves import Part
from blindgate_models.network.activation import evaluate, plan
from blindgate_models.network.noise import Affine, budget
from blindgate_models.network.packing import (
    DROPPED_BITS,
    EVALUATION_KEY,
    INPUT,
    RESULT,
    Diagonals,
    Packing,
)
from blindgate_models.network.spec import ServerPart, server_part
from blindgate_models.seal.serial import Ciphertext, Plaintext, Seeded
from blindgate_models.seal.slots import RELINEARISATION, Ring, Switching
from blindgate_models.security import SEED_BYTES
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, PackageError

Floats = NDArray[np.float64]


class _Weights(NamedTuple):
    """One layer, encoded.

    Attributes:
        products: plaintexts: a ciphertext of the input or of the result each, or by rotation; `None` where all are 0.
        bias: in the clear, slot by slot: `(slots,)`, of the last layer `(results, slots)`.
        plan: the diagonals; `None` for a first layer unit by unit, and for the last.
    """

    products: list[Plaintext | None]
    bias: Floats
    plan: Diagonals | None


class _Ciphertexts:
    """The arithmetic of ciphertexts (`network.activation.Arithmetic`), under one set of keys."""

    def __init__(self, ring: Ring, keys: Switching) -> None:
        self._ring, self._keys = ring, keys

    def primes(self, number: Ciphertext) -> int:
        primes: int = number.coeff_modulus_size()
        return primes

    def product(self, left: Ciphertext, right: Ciphertext, largest: float) -> Ciphertext:  # noqa: ARG002
        primes = min(self.primes(left), self.primes(right))
        product = self._ring.product(self.lowered(left, primes), self.lowered(right, primes), self._keys)
        self._ring.drop(product, 1)
        return product

    def doubled_less_one(self, number: Ciphertext) -> Ciphertext:
        self._ring.add(number, number)
        self._ring.shift_by_number(number, -1.0)
        return number

    def sum_of(
        self,
        terms: list[tuple[Ciphertext, float]],
        primes: int,
        scale: float,
        largest: float,  # noqa: ARG002
    ) -> Ciphertext | None:
        total: Ciphertext | None = None
        for number, factor in terms:
            low = self.lowered(number, primes + 1)
            product = self._ring.times_number(low, factor, self.factor_scale(low, scale))
            if product is None:
                continue
            product.scale = scale * self._ring.primes[primes]  # to the last bit, which SEAL asks of what it adds
            if total is None:
                total = product
            else:
                self._ring.add(total, product)
        if total is not None:
            self._ring.drop(total, 1)
            total.scale = scale
        return total

    def lowered(self, number: Ciphertext, primes: int) -> Ciphertext:
        return number if self.primes(number) == primes else self._ring.lowered(number, primes)

    def added(self, left: Ciphertext, right: Ciphertext, largest: float) -> Ciphertext:  # noqa: ARG002
        right.scale = left.scale
        self._ring.add(left, right)
        return left

    def factor_scale(self, number: Ciphertext, scale: float) -> float:
        factor: float = scale * self._ring.primes[self.primes(number) - 1] / number.scale
        return factor


class NetworkServer:
    """See `blindgate_models.halves.ServerHalf`."""

    def __init__(self, part: ServerPart) -> None:
        """Take a parsed part. Raises `PackageError` when a value could wrap around, or a layer has no weights but zeros."""
        parameters = part.parameters
        self.packing = Packing(parameters, part.shape)
        layers = [Affine.of(layer) for layer in part.layers]
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite value has no headroom
            self._activation = plan(np.array(part.activation)) if part.activation else None
            headroom = budget(self.packing, layers, self._activation).headroom
        if headroom == math.inf and self._activation is not None:
            msg = "activation: expected numbers that count at their scale, of a layer whose units stay within [-1, 1]"
            raise PackageError(msg)
        if not headroom < 1:
            msg = f"parameters: the scales let a value reach {headroom:.3g} of what the modulus holds, expected below 1"
            raise PackageError(msg)
        self._parameters = parameters
        self._ring = Ring(parameters.degree, parameters.data_bits, parameters.special_bits)
        self._layers = list(self._encoded(layers))
        *hidden, last = (layer.products for layer in self._layers)
        for place, missing in enumerate([*(not any(products) for products in hidden), not all(last)]):
            if missing:
                msg = f"layers.{place}.weights: got zeros only, expected what depends on the input, at this scale"
                raise PackageError(msg)

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the server part. Raises `PackageError`."""
        return cls(server_part(part))

    def prepare(self) -> None:
        """Nothing: all that a job needs is there once the part is read and the key is loaded."""

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob says that it holds. Raises `CiphertextError`."""
        try:
            rows, _ = self.packing.open_blob(INPUT, ciphertexts)
        except ValueError as error:
            msg = f"input: {error}"
            raise CiphertextError(msg) from None
        return rows

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute the scores of one input blob.

        Raises:
            CiphertextError: not an input blob of these parameters.
            EvaluationKeyError: not an evaluation key of these parameters.
        """
        return self.direct(evaluation_key)(ciphertexts)

    def direct(self, evaluation_key: bytes | None) -> Callable[[bytes], bytes]:
        """Load an evaluation key once, for as many inputs as come. Raises `EvaluationKeyError`."""
        keys = self.load_key(evaluation_key)

        def compute(ciphertexts: bytes) -> bytes:
            try:
                rows, body = self.packing.open_blob(INPUT, ciphertexts)
                parts = [self.packing.header(RESULT, rows)]
                for block in self.inputs(body):
                    parts += [self._sent(result) for result in self.scores(block, keys)]
            except (ValueError, RuntimeError) as error:
                msg = f"input: {error}"
                raise CiphertextError(msg) from None
            return b"".join(parts)

        return compute

    def load_key(self, evaluation_key: bytes | None) -> Switching:
        """Check an evaluation key and hand it to SEAL. Raises `EvaluationKeyError`."""
        if evaluation_key is None:
            msg = f"evaluation key: got none, expected {self.packing.evaluation_key_bytes} bytes"
            raise EvaluationKeyError(msg)
        try:
            _, body = self.packing.open_blob(EVALUATION_KEY, evaluation_key)
            seeded = self._seeded(body, self.packing.switching_ciphertext_bytes, self.packing.key_bits)
            names = (RELINEARISATION, *self.packing.steps)
            return self._ring.switching({name: [next(seeded) for _ in self._parameters.data_bits] for name in names})
        except (ValueError, RuntimeError) as error:
            msg = f"evaluation key: {error}"
            raise EvaluationKeyError(msg) from None

    def inputs(self, body: memoryview) -> Iterator[list[Ciphertext]]:
        """Load an input blob's ciphertexts, block by block. Raises `ValueError` on words not below their primes."""
        seeded = self._seeded(body, self.packing.input_ciphertext_bytes, self._parameters.data_bits)
        scale = 2.0**self._parameters.input_scale_bits
        for first in seeded:
            others = [next(seeded) for _ in range(self.packing.inputs - 1)]
            yield [self._ring.expand(each, scale) for each in (first, *others)]

    def scores(self, block: list[Ciphertext], keys: Switching) -> Iterator[Ciphertext]:
        """The products behind the scores of one block of rows, over the first prime.

        Raises `RuntimeError` when a sum loses its c1, which no honest input does.
        """
        total: Ciphertext | None = None
        for layer, (before, after) in zip(self._layers[:-1], self._parameters.drops, strict=True):
            if layer.plan is None:
                total = self._unit_by_unit(layer, block, keys)
            else:
                total = self._by_diagonals(layer, layer.plan, block[0] if total is None else total, keys)
            self._ring.drop(total, before)
            self._ring.shift(total, layer.bias)
            total = self._activated(total, after, keys)
        last = self._layers[-1]
        for product, bias in zip(last.products, last.bias, strict=True):
            result = self._ring.times(total, product)
            self._ring.drop(result, self._parameters.last_drop)
            self._ring.shift(result, bias)
            yield result

    def _activated(self, number: Ciphertext, drops: int, keys: Switching) -> Ciphertext:
        if self._activation is None or self._parameters.activation is None:
            self._ring.square(number, keys)
            self._ring.drop(number, drops)
            return number
        return evaluate(
            _Ciphertexts(self._ring, keys), number, self._activation, 2.0**self._parameters.activation.scale_bits
        )

    def _unit_by_unit(self, layer: _Weights, block: list[Ciphertext], keys: Switching) -> Ciphertext:
        total = self._sum(zip(block, layer.products, strict=True))
        return self._folded(total, self.packing.first_folds, keys)

    def _by_diagonals(self, layer: _Weights, plan: Diagonals, given: Ciphertext, keys: Switching) -> Ciphertext:
        """Baby steps, then giant steps from the last group of products to the first, then folds."""
        rotated = [given]
        for _ in range(plan.baby - 1):
            rotated.append(self._ring.rotated(rotated[-1], self.packing.rows, keys))
        total: Ciphertext | None = None
        for group in reversed(range(plan.giant)):
            if total is not None:
                total = self._ring.rotated(total, plan.baby * self.packing.rows, keys)
            products = layer.products[group * plan.baby : (group + 1) * plan.baby]
            inner = self._sum(zip(rotated, products, strict=True))
            if total is None:
                total = inner
            elif inner is not None:
                self._ring.add(total, inner)
        return self._folded(total, plan.folds, keys)

    def _folded(self, total: Ciphertext, steps: tuple[int, ...], keys: Switching) -> Ciphertext:
        for step in steps:
            self._ring.add(total, self._ring.rotated(total, step, keys))
        return total

    def _sum(self, terms: Iterator[tuple[Ciphertext, Plaintext | None]]) -> Ciphertext | None:
        """Σ of products, without those with zeros only: SEAL multiplies by none."""
        total: Ciphertext | None = None
        for ciphertext, plaintext in terms:
            if plaintext is None:
                continue
            product = self._ring.times(ciphertext, plaintext)
            if total is None:
                total = product
            else:
                self._ring.add(total, product)
        return total

    def _sent(self, result: Ciphertext) -> bytes:
        """A result's words, rounded by the bits that are not sent."""
        prime = np.uint64(self._ring.primes[0])
        half = np.uint64(1 << (DROPPED_BITS - 1))
        words = self._ring.to_words(result)
        rounded = np.minimum(words + half, prime - np.uint64(1)) >> np.uint64(DROPPED_BITS)
        return b"".join(pack(row, self._parameters.data_bits[0] - DROPPED_BITS) for row in rounded)

    def _seeded(self, body: memoryview, size: int, bits: list[int]) -> Iterator[Seeded]:
        for start in range(0, len(body), size):
            seed = bytes(body[start : start + SEED_BYTES])
            words = unpack_rows(body[start + SEED_BYTES : start + size], self._parameters.degree, bits)
            yield Seeded(seed, words)

    def _encoded(self, layers: list[Affine]) -> Iterator[_Weights]:
        """Every layer, at the level at which it is computed."""
        primes = len(self._parameters.data_bits)
        for place, layer in enumerate(layers):
            scale = 2.0 ** self._parameters.weight_scale_bits[place]
            if place == len(layers) - 1:
                products = self.packing.last_products(layer.weights)
                yield _Weights(self._plaintexts(products, primes, scale), self.packing.last_bias(layer.bias), None)
                return
            bias = self.packing.bias(place, layer.bias)
            if place == 0 and self.packing.shape.fan_in:
                products = self.packing.first_products(layer.weights)
                yield _Weights(self._plaintexts(products, primes, scale), bias, None)
            else:
                plan = self.packing.diagonals(place)
                shifted = (
                    np.roll(
                        self.packing.diagonal(place, layer.weights, k), k // plan.baby * plan.baby * self.packing.rows
                    )
                    for k in range(plan.baby * plan.giant)
                )
                yield _Weights(self._plaintexts(shifted, primes, scale), bias, plan)
            primes -= sum(self._parameters.drops[place])

    def _plaintexts(self, products: Floats | Iterator[Floats], primes: int, scale: float) -> list[Plaintext | None]:
        """Encode each, but for those that come to nothing at this scale."""
        encoded = (self._ring.encode(values, primes, scale) for values in products)
        return [None if plaintext.is_zero() else plaintext for plaintext in encoded]
