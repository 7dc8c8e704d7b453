"""What both sides know of a network under CKKS: its parts, their parameters, and the order of the steps.

A network here is affine layers with a square between every two: y = W x + b, then x = y², and at last the scores W x + b. Any
activation of degree 2 is one: a·y² + c·y + d = a·(y + c/2a)² + …, whose shifts and factors the compiler folds into the layers
on both sides. The client maps every column through its declared, public range [lo, hi] to u = (x - mid) / half ∈ [-1, 1], the
first layer takes u.

1. The client encrypts u with scale 2^input_scale_bits, laid out as the first layer needs it (`network.packing`).
2. For each hidden layer l, the node multiplies by weights of scale 2^weight_scale_bits[l], rotates and adds, drops
   drops[l][0] primes, adds the bias, squares, and drops drops[l][1] primes.
3. It multiplies by the last weights, drops all primes but one, and adds the bias, split into its products.
4. The client decrypts the products of each score, and adds them up.

Step 4 saves the node the rotations of the last layer. What it shows the client besides are the products behind a score: more
of a model that this family takes to be public to those who ask it anyway.

Two things make that right, and both are computed from the weights and the ranges (`network.noise`): no value reaches half of
the modulus that it is held in, or it would wrap around; and the scores are within `error_bound`.

**Who learns the model.** The node sees the weights. Whoever examines a reply can compute them, from its noise or from the
products. Against the node, the rows are protected by the encryption alone. Decrypted numbers carry the noise of the
encryption in their low digits: whoever publishes scores rounds them first, as the manifest says (Li and Micciancio 2021).
"""

import math
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from blindgate_models.features import Feature
from blindgate_models.halves import Part
from blindgate_models.network.activation import LEAST_DOUBLINGS, MOST_DOUBLINGS, levels
from blindgate_models.parts import Strict, parse
from blindgate_models.security import require_128_bits

FAMILY: Final = "network"
VERSION: Final = 1
DEGREES: Final = (8192, 16384, 32768)
MAX_FEATURES: Final = 4096
MAX_WIDTH: Final = 2048
MAX_LAYERS: Final = 8
MAX_WEIGHTS: Final = 1 << 20
MAX_INPUTS: Final = 8
MAX_RESULTS: Final = 16
MAX_PRIMES: Final = 16
MAX_DROP: Final = 4
MAX_DROPS: Final = 1 + MOST_DOUBLINGS
MAX_PRIME_BITS: Final = 60
LEAST_PRIME_BITS: Final = 22
LEAST_SCALE_BITS: Final = 8
MOST_SCALE_BITS: Final = 60

DETERMINISM: Final = "bit-exact"
"""The node computes in modular integers, and encodes weights in one order: the same key and input give the same bytes."""

DISCLOSES_TO_CLIENT: Final = (
    "the weights and biases, to anyone who examines a reply",
    "the raw scores, and the products of the last layer that they are the sums of",
)
DISCLOSES_TO_NODE: Final = ("the weights and biases", "the number of rows")

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Bits = Annotated[int, Field(ge=LEAST_PRIME_BITS, le=MAX_PRIME_BITS)]
_Scale = Annotated[int, Field(ge=LEAST_SCALE_BITS, le=MOST_SCALE_BITS)]
_Drop = Annotated[int, Field(ge=0, le=MAX_DROPS)]


class Activation(Strict):
    """What the hidden layer does instead of squaring: an odd polynomial (`network.activation`).

    Attributes:
        doublings: its degree is below 2^doublings.
        scale_bits: the scale of its result.
    """

    doublings: Annotated[int, Field(ge=LEAST_DOUBLINGS, le=MOST_DOUBLINGS)]
    scale_bits: _Scale


class Parameters(Strict):
    """The ring and the scales. Both parts of a model hold the same.

    Attributes:
        data_bits: the length of each data prime; the last is dropped first.
        special_bits: that of the prime of the keys.
        weight_scale_bits: one a layer.
        drops: for each hidden layer, the primes that are dropped before its square, and after it; or by its activation.
        activation: of the only hidden layer, where that is no square.
    """

    scheme: Literal["ckks"]
    degree: Literal[8192, 16384, 32768]
    data_bits: Annotated[list[_Bits], Field(min_length=1, max_length=MAX_PRIMES)]
    special_bits: _Bits
    input_scale_bits: _Scale
    weight_scale_bits: Annotated[list[_Scale], Field(min_length=2, max_length=MAX_LAYERS)]
    drops: Annotated[
        list[Annotated[list[_Drop], Field(min_length=2, max_length=2)]],
        Field(min_length=1, max_length=MAX_LAYERS - 1),
    ]
    activation: Activation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.drops) != len(self.weight_scale_bits) - 1:
            msg = f"drops: got {len(self.drops)} pairs, expected {len(self.weight_scale_bits) - 1}, one a hidden layer"
            raise ValueError(msg)
        if sum(map(sum, self.drops)) >= len(self.data_bits):
            msg = f"drops: got {sum(map(sum, self.drops))} primes, expected fewer than the {len(self.data_bits)} of data_bits"
            raise ValueError(msg)
        if self.activation is None:
            if max(map(max, self.drops)) > MAX_DROP:
                msg = f"drops: got {max(map(max, self.drops))}, expected at most {MAX_DROP} around a square"
                raise ValueError(msg)
        elif len(self.drops) != 1 or self.drops[0][1] != levels(self.activation.doublings):
            msg = f"drops: expected one hidden layer, whose activation drops {levels(self.activation.doublings)}"
            raise ValueError(msg)
        return self

    def check(self) -> None:
        """Refuse a ring below 128-bit security. Raises `PackageError`."""
        require_128_bits(self.degree, [*self.data_bits, self.special_bits])

    @property
    def layers(self) -> int:
        """How many layers have weights."""
        return len(self.weight_scale_bits)

    @property
    def slots(self) -> int:
        """How many numbers a ciphertext holds."""
        return self.degree // 2

    @property
    def last_drop(self) -> int:
        """How many primes are dropped at the end."""
        return len(self.data_bits) - 1 - sum(map(sum, self.drops))


class Shape(Strict):
    """How large the layers are, and how rows share ciphertexts.

    Attributes:
        widths: of the input, of each hidden layer, and the number of scores.
        fan_in: how many columns a unit of the first layer reads, where the client lays them out unit by unit; 0 where it
            sends the columns as they are, and the node rotates them.
        rows: how many rows are computed together.
    """

    widths: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_FEATURES)]], Field(min_length=3, max_length=MAX_LAYERS + 1)
    ]
    fan_in: Annotated[int, Field(ge=0, le=MAX_FEATURES)]
    rows: Annotated[int, Field(ge=1, le=1 << 14)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if max(self.widths[1:]) > MAX_WIDTH:
            msg = f"widths: got {max(self.widths[1:])}, expected at most {MAX_WIDTH} units a layer"
            raise ValueError(msg)
        if self.rows & (self.rows - 1):
            msg = f"rows: got {self.rows}, expected a power of two"
            raise ValueError(msg)
        return self


class Layer(Strict):
    """One affine layer.

    Attributes:
        weights: a list a unit. In the first layer, where the shape has a `fan_in`: so many, in the order of the client's
            `columns`.
        bias: one number a unit.
    """

    weights: Annotated[list[Annotated[list[_Finite], Field(min_length=1)]], Field(min_length=1)]
    bias: Annotated[list[_Finite], Field(min_length=1)]


class _Both(Strict):
    family: Literal["network"]
    version: Literal[1]
    parameters: Parameters
    shape: Shape

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.shape.widths) != self.parameters.layers + 1:
            msg = f"shape.widths: got {len(self.shape.widths)} widths, expected {self.parameters.layers + 1}"
            raise ValueError(msg)
        slots, rows, fan_in = self.parameters.slots, self.shape.rows, self.shape.fan_in
        periods = [power_of_two(width) for width in self.shape.widths]
        if max(periods[0 if fan_in == 0 else 1 : -1]) * rows > slots:
            msg = f"shape: {rows} rows of {max(periods)} numbers do not fit into {slots} slots"
            raise ValueError(msg)
        for name, got, most in (
            ("input", fan_in * periods[1] * rows, MAX_INPUTS * slots),
            ("result", self.shape.widths[-1] * periods[-2] * rows, MAX_RESULTS * slots),
        ):
            if got > most:
                msg = f"shape: the {name} takes {got} slots, expected at most {most}"
                raise ValueError(msg)
        return self


class ClientPart(_Both):
    """What the data owner's half is built from.

    Attributes:
        columns: how many columns a row has.
        features: what the network reads of them.
        reads: for each unit of the first layer the `fan_in` features that it reads, -1 for none; empty without `fan_in`.
        ranges: `[lo, hi]` for each feature, in order; values outside are refused.
        error_bound: for each score, how far it can be from the plaintext model's.
    """

    columns: Annotated[int, Field(ge=1, le=MAX_FEATURES)]
    features: Annotated[list[Feature], Field(min_length=1, max_length=MAX_FEATURES)]
    reads: list[list[Annotated[int, Field(ge=-1, lt=MAX_FEATURES)]]]
    ranges: Annotated[
        list[Annotated[list[_Finite], Field(min_length=2, max_length=2)]], Field(min_length=1, max_length=MAX_FEATURES)
    ]
    error_bound: Annotated[list[Annotated[_Finite, Field(ge=0)]], Field(min_length=1, max_length=MAX_WIDTH)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        features, outputs = self.shape.widths[0], self.shape.widths[-1]
        if len(self.ranges) != features:
            msg = f"ranges: got {len(self.ranges)}, expected {features}"
            raise ValueError(msg)
        if len(self.features) != features or max(feature.column for feature in self.features) >= self.columns:
            msg = f"features: got {len(self.features)}, expected {features}, of {self.columns} columns"
            raise ValueError(msg)
        for column, (low, high) in enumerate(self.ranges):
            if not (low <= high and math.isfinite(high - low)):
                msg = f"ranges.{column}: expected lo <= hi, with a finite difference"
                raise ValueError(msg)
        if len(self.error_bound) != outputs:
            msg = f"error_bound: got {len(self.error_bound)} bounds, expected {outputs}"
            raise ValueError(msg)
        units = self.shape.widths[1] if self.shape.fan_in else 0
        if len(self.reads) != units or any(len(unit) != self.shape.fan_in for unit in self.reads):
            msg = f"reads: expected {self.shape.fan_in} for each of {units} units"
            raise ValueError(msg)
        if any(max(unit) >= features for unit in self.reads):
            msg = f"reads: expected features below {features}"
            raise ValueError(msg)
        return self


class ServerPart(_Both):
    """What the node's half is built from.

    Attributes:
        layers: in order.
        activation: c_1, c_3, …, of the activation's T_1, T_3, …, where the parameters name one; else empty.
    """

    layers: list[Layer]
    activation: Annotated[list[_Finite], Field(max_length=1 << (MOST_DOUBLINGS - 1))] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        widths, activation = self.shape.widths, self.parameters.activation
        expected = 0 if activation is None else 1 << (activation.doublings - 1)
        if len(self.activation) != expected:
            msg = f"activation: got {len(self.activation)} numbers, expected {expected}"
            raise ValueError(msg)
        if len(self.layers) != len(widths) - 1:
            msg = f"layers: got {len(self.layers)}, expected {len(widths) - 1}"
            raise ValueError(msg)
        inputs = [self.shape.fan_in or widths[0], *widths[1:-1]]
        for place, (layer, reads, units) in enumerate(zip(self.layers, inputs, widths[1:], strict=True)):
            if len(layer.weights) != units or len(layer.bias) != units:
                msg = f"layers.{place}: got {len(layer.weights)} lists of weights and {len(layer.bias)} biases, expected {units}"
                raise ValueError(msg)
            if any(len(unit) != reads for unit in layer.weights):
                msg = f"layers.{place}.weights: expected {reads} for each unit"
                raise ValueError(msg)
            if reads * units > MAX_WEIGHTS:
                msg = f"layers.{place}.weights: got {reads * units} numbers, expected at most {MAX_WEIGHTS}"
                raise ValueError(msg)
        return self


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    return parse(ClientPart, part, FAMILY)


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field."""
    return parse(ServerPart, part, FAMILY)


def power_of_two(number: int) -> int:
    """The least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
