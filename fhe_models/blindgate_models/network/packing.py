"""Which number lies in which slot, which rotations a network needs, and the blobs around its ciphertexts.

A vector of n numbers, filled up with zeros to a power of two p, lies in the slots with a *period*: slot s holds number
(s // R) % p of row s % R, R rows being computed together. So every row's vector is there many times over, a rotation by R·k is a
cyclic one by k of all of them at once, and no mask is ever needed.

- **First layer, unit by unit** (`fan_in` f > 0): the client lays out what each unit reads. With w = p·R slots for the units of
  all rows, slot t·w + i·R + r holds the t-th column that unit i reads, of row r; f columns that take more than the slots take
  several ciphertexts. One product each, and log2(slots / w) rotations that add up all t, give the layer's output with period
  p. A convolution reads few columns a unit, which makes it cheap.
- **Any other hidden layer**: by diagonals (Halevi and Shoup 2014). Product k takes the input rotated by k; unit i % p_out
  gets its weight of column (i + k) % p_in. The fewer of p_in and p_out products do: where p_out is the smaller, the rest is
  added up by log2(p_in / p_out) rotations. Of K products, √K rotations come before (baby steps, one after the other by R)
  and √K after (giant steps, likewise), so two keys do for all of them.
- **Last layer**: slot (o·p + i)·R + r holds the product of score o's weight and number i, for as many scores as there is
  room for; the others take more results. The client adds up.

A blob is a header and then ciphertexts of fixed size; its length follows from the number of rows:

    header      "<4sHHI32s": magic, version 1, zero, rows, digest of the parameters and the shape
    key         for the relinearisation and then for each rotation, by rising step: for each data prime, seed (64) and
                the words of c0, prime by prime, each in the prime's number of bits, in NTT form
    input       per ciphertext: seed (64) and the words of c0, likewise
    result      per ciphertext: the coefficients of c0 and of c1 modulo the first prime, without their lowest DROPPED_BITS
                bits: noise covers them
"""

import functools
import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import rfc8785
from numpy.typing import NDArray

from blindgate_models.bitpacking import packed_bytes
from blindgate_models.halves import Part
from blindgate_models.network.spec import VERSION, Parameters, Shape, power_of_two
from blindgate_models.security import SEED_BYTES

Floats = NDArray[np.float64]

INPUT: Final = b"BGNI"
RESULT: Final = b"BGNR"
EVALUATION_KEY: Final = b"BGNE"
MAX_BLOB_BYTES: Final = 64 << 20
MAX_BLOCKS: Final = 64
DROPPED_BITS: Final = 8
"""The low bits of a result's words that the node does not send."""

_HEADER: Final = struct.Struct("<4sHHI32s")


class Diagonals(NamedTuple):
    """A hidden layer by diagonals.

    Attributes:
        inputs: the input's period.
        outputs: the output's.
        baby: how many products follow each other by one rotation of the input.
        giant: how many such groups there are.
        folds: the steps by which the sum is rotated and added to itself, in this order.
    """

    inputs: int
    outputs: int
    baby: int
    giant: int
    folds: tuple[int, ...]


class Packing:
    """The packing of one shape of network, under one set of parameters."""

    def __init__(self, parameters: Parameters, shape: Shape) -> None:
        """Both must have been checked (`spec`)."""
        self.parameters, self.shape = parameters, shape
        self.slots, self.rows = parameters.slots, shape.rows
        self.periods = [power_of_two(width) for width in shape.widths[:-1]]
        self.outputs = shape.widths[-1]
        self._width = self.periods[1] * self.rows
        self._reads = self.slots // self._width
        self.inputs = -(-shape.fan_in // self._reads) if shape.fan_in else 1
        self.outputs_per_result = max(1, self.slots // (self.periods[-1] * self.rows))
        self.results = -(-self.outputs // self.outputs_per_result)

    @functools.cached_property
    def first_folds(self) -> tuple[int, ...]:
        """The steps by which the first layer, unit by unit, adds up what its units read."""
        return _doublings(self._width, self.slots)

    def diagonals(self, layer: int) -> Diagonals:
        """How hidden layer `layer` is computed, where it is not the first one, unit by unit."""
        inputs, outputs = self.periods[layer], self.periods[layer + 1]
        products = min(inputs, outputs)
        baby = 1 << ((products.bit_length() - 1) // 2)
        folds = _doublings(outputs * self.rows, inputs * self.rows)
        return Diagonals(inputs, outputs, baby, products // baby, folds)

    @functools.cached_property
    def steps(self) -> tuple[int, ...]:
        """The steps of all rotations, rising."""
        steps = set(self.first_folds) if self.shape.fan_in else set()
        for layer in range(1 if self.shape.fan_in else 0, len(self.periods) - 1):
            plan = self.diagonals(layer)
            steps |= {*plan.folds, *[self.rows] * (plan.baby > 1), *[plan.baby * self.rows] * (plan.giant > 1)}
        return tuple(sorted(steps))

    @functools.cached_property
    def key_parameters(self) -> Part:
        """What determines a key set: models with the same ring and rotations share one."""
        parameters = self.parameters
        return {
            "scheme": parameters.scheme,
            "degree": parameters.degree,
            "data_bits": list(parameters.data_bits),
            "special_bits": parameters.special_bits,
            "rotations": list(self.steps),
        }

    def result_scale(self, primes: Sequence[int]) -> float:
        """What a decrypted result is to be divided by, from the data primes themselves."""
        parameters, left = self.parameters, list(primes)
        scale = 2.0**parameters.input_scale_bits
        for place, step in enumerate(parameters.weight_scale_bits):
            scale *= 2.0**step
            if place == len(parameters.drops):
                return scale / math.prod(left[1:])
            before, after = parameters.drops[place]
            scale /= math.prod(left.pop() for _ in range(before))
            scale *= scale
            scale /= math.prod(left.pop() for _ in range(after))
            if parameters.activation is not None:
                scale = 2.0**parameters.activation.scale_bits
        raise AssertionError

    # Where numbers lie.

    def spread(self, units: Floats, columns: Sequence[Sequence[int]]) -> Floats:
        """The input of up to `rows` rows, `(n, features)` numbers: `(inputs, slots)`."""
        padded = np.zeros((self.rows, units.shape[1] + 1))  # the last column is what -1 reads
        padded[: len(units), :-1] = units
        if not self.shape.fan_in:
            vector = np.zeros((self.periods[0], self.rows))
            vector[: units.shape[1]] = padded[:, :-1].T
            return np.tile(vector.ravel(), self.slots // vector.size)[None]
        read = padded[:, np.asarray(columns).ravel()].reshape(self.rows, -1, self.shape.fan_in)
        return self._unit_by_unit(read)

    def first_products(self, weights: Floats) -> Floats:
        """What the input's ciphertexts are multiplied by, unit by unit: `(inputs, slots)` from `(units, fan_in)`."""
        return self._unit_by_unit(np.broadcast_to(weights, (self.rows, *weights.shape)))

    def diagonal(self, layer: int, weights: Floats, product: int) -> Floats:
        """What the input rotated by `product` is multiplied by, `(slots,)`, from `(units, inputs)` weights."""
        plan = self.diagonals(layer)
        padded = np.zeros((plan.outputs, plan.inputs))
        padded[: weights.shape[0], : weights.shape[1]] = weights
        place = np.arange(max(plan.inputs, plan.outputs))
        values = np.repeat(padded[place % plan.outputs, (place + product) % plan.inputs], self.rows)
        return np.tile(values, self.slots // len(values))

    def bias(self, layer: int, bias: Floats) -> Floats:
        """A hidden layer's bias, `(slots,)`."""
        padded = np.zeros(self.periods[layer + 1])
        padded[: len(bias)] = bias
        values = np.repeat(padded, self.rows)
        return np.tile(values, self.slots // len(values))

    def last_products(self, weights: Floats) -> Floats:
        """What the last hidden layer is multiplied by: `(results, slots)` from `(scores, inputs)` weights."""
        period, capacity = self.periods[-1], self.outputs_per_result
        padded = np.zeros((self.results * capacity, period))
        padded[: weights.shape[0], : weights.shape[1]] = weights
        values = np.repeat(padded.reshape(self.results, -1), self.rows, axis=1)
        return np.pad(values, ((0, 0), (0, self.slots - values.shape[1])))

    def last_bias(self, bias: Floats) -> Floats:
        """The scores' bias, added to the first product of each: `(results, slots)`."""
        weights = np.zeros((self.outputs, self.periods[-1]))
        weights[:, 0] = bias
        return self.last_products(weights)

    def gather(self, values: Floats) -> Floats:
        """The scores, `(rows, outputs)`, from decrypted results `(results, slots)`."""
        used = self.outputs_per_result * self.periods[-1] * self.rows
        products = values[:, :used].reshape(-1, self.periods[-1], self.rows)
        return np.asarray(products.sum(axis=1)[: self.outputs].T)

    def _unit_by_unit(self, read: Floats) -> Floats:
        """`(rows, units, fan_in)` numbers as `(inputs, slots)`."""
        laid = np.zeros((self.inputs * self._reads, self.periods[1], self.rows))
        laid[: read.shape[2], : read.shape[1]] = read.transpose(2, 1, 0)
        return laid.reshape(self.inputs, self.slots)

    # Blobs.

    def blocks(self, rows: int) -> int:
        """How many times the network is computed for so many rows."""
        return -(-rows // self.rows)

    @property
    def key_bits(self) -> list[int]:
        """The length of each prime that keys are modulo."""
        return [*self.parameters.data_bits, self.parameters.special_bits]

    @property
    def input_ciphertext_bytes(self) -> int:
        """Of one seeded ciphertext."""
        return self._seeded_bytes(self.parameters.data_bits)

    @property
    def result_ciphertext_bytes(self) -> int:
        """Of one result."""
        return 2 * packed_bytes(self.parameters.degree, self.parameters.data_bits[0] - DROPPED_BITS)

    @property
    def switching_ciphertext_bytes(self) -> int:
        """Of one ciphertext of a switching key."""
        return self._seeded_bytes(self.key_bits)

    @property
    def evaluation_key_bytes(self) -> int:
        """Of all switching keys."""
        keys = 1 + len(self.steps)
        return _HEADER.size + keys * len(self.parameters.data_bits) * self.switching_ciphertext_bytes

    def input_bytes(self, rows: int) -> int:
        """Of the input blob of `rows` rows."""
        return _HEADER.size + self.blocks(rows) * self.inputs * self.input_ciphertext_bytes

    def result_bytes(self, rows: int) -> int:
        """Of the result blob of `rows` rows."""
        return _HEADER.size + self.blocks(rows) * self.results * self.result_ciphertext_bytes

    @functools.cached_property
    def rows_per_blob(self) -> int:
        """The most rows a job: `MAX_BLOCKS` blocks, and both blobs within `MAX_BLOB_BYTES` together."""
        one = self.input_bytes(1) + self.result_bytes(1) - 2 * _HEADER.size
        return self.rows * max(1, min(MAX_BLOCKS, MAX_BLOB_BYTES // one))

    def header(self, magic: bytes, rows: int) -> bytes:
        """A blob's header; that of a key names no rows."""
        return _HEADER.pack(magic, VERSION, 0, rows, self._digest(magic))

    def open_blob(self, magic: bytes, data: bytes) -> tuple[int, memoryview]:
        """The number of rows and the body. Raises `ValueError` naming what is wrong with the header or the length."""
        if len(data) < _HEADER.size:
            msg = f"length: got {len(data)} bytes, expected at least {_HEADER.size}"
            raise ValueError(msg)
        found, version, zero, rows, digest = _HEADER.unpack_from(data)
        if (found, version, zero) != (magic, VERSION, 0):
            msg = f"header: not one of {magic.decode()}, version {VERSION}"
            raise ValueError(msg)
        if digest != self._digest(magic):
            msg = "header: made for other parameters or another shape"
            raise ValueError(msg)
        most = 0 if magic == EVALUATION_KEY else self.rows_per_blob
        if not min(1, most) <= rows <= most:
            msg = f"rows: got {rows}, expected {min(1, most)} to {most}"
            raise ValueError(msg)
        expected = {INPUT: self.input_bytes, RESULT: self.result_bytes}.get(magic, lambda _: self.evaluation_key_bytes)(
            rows
        )
        if len(data) != expected:
            msg = f"length: got {len(data)} bytes, expected {expected}"
            raise ValueError(msg)
        return rows, memoryview(data)[_HEADER.size :]

    def _digest(self, magic: bytes) -> bytes:
        if magic == EVALUATION_KEY:
            return self.key_digest
        named = {"parameters": self.parameters.model_dump(), "shape": self.shape.model_dump()}
        return hashlib.sha256(rfc8785.dumps(named)).digest()

    @functools.cached_property
    def key_digest(self) -> bytes:
        """The digest of `key_parameters`, which keys carry."""
        return hashlib.sha256(rfc8785.dumps(self.key_parameters)).digest()

    def _seeded_bytes(self, bits: Sequence[int]) -> int:
        return SEED_BYTES + sum(packed_bytes(self.parameters.degree, length) for length in bits)


def _doublings(first: int, end: int) -> tuple[int, ...]:
    steps = []
    while first < end:
        steps.append(first)
        first *= 2
    return tuple(steps)
