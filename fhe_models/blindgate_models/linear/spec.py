"""What both sides know of a linear model under CKKS: its parts, its fixed point, and how wrong it can be.

A score is w·x + b, for each output, over the features of a row (`blindgate_models.features`): its numbers, and zeros and ones for
its categories. The client maps every feature through its declared, public range [lo, hi] to
u = (x - mid) / half ∈ [-1, 1]; the server holds weights and an intercept already folded to u. Then everything is integers:

1. the client encrypts X = round(2^input_scale_bits · u);
2. the server computes Σ_j W_j X_j + B with W = round(2^weight_scale_bits · w) and B = round(2^(both) · b), modulo q;
3. the client decrypts and divides by 2^(both).

Nothing is multiplied twice, so no level is used up, no key switching is needed and there is no evaluation key: one
prime q does. Two conditions make step 3 right, and are checked where the weights are known:

- **range**: Σ|W_j| 2^input_scale_bits + |B| + noise < q/2, or the sum would wrap around (`Circuit.headroom`);
- **error**: every source of it has a hard limit, and their sum is the part's `error_bound` (`Circuit.error_bound`).

Secrets are ternary, q has at most 56 bits at degree 4096 where the standard allows 109 (`blindgate_models.security`).

**Who learns the model.** The node sees the weights. The asker can compute them from one reply, which is the request's
own polynomials times the weights: this family is for models that both may know, and says so in `DISCLOSES_TO_CLIENT`. Against the
node, the rows are protected by the encryption alone. Decrypted scores carry the noise of the encryption in their low
digits: whoever publishes scores rounds them first, to what the manifest says, so that they tell nothing about the
secret key (Li and Micciancio 2021, "IND-CPA-D").
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blindgate_models.features import Feature
from blindgate_models.halves import Part
from blindgate_models.parts import Strict, parse
from blindgate_models.security import NOISE_BOUND, require_128_bits

FAMILY: Final = "linear"
VERSION: Final = 1
DEGREE: Final = 4096
MAX_FEATURES: Final = 16384
MAX_OUTPUTS: Final = 256
MAX_WEIGHTS: Final = 1 << 18

DETERMINISM: Final = "bit-exact"
"""The server computes in modular integers: the same input blob gives the same result bytes, in any process."""

DISCLOSES_TO_CLIENT: Final = ("the weights and the intercept, to anyone who examines a reply", "the raw scores")
DISCLOSES_TO_NODE: Final = ("the weights and the intercept", "the number of rows")

DROPPED_BITS: Final = 8
"""The low bits of a result's words that the server does not send: noise covers them."""

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Parameters(Strict):
    """The ring and the fixed point. Both parts of a model hold the same."""

    scheme: Literal["ckks"]
    degree: Literal[4096]
    modulus_bits: Literal[40, 48, 56]
    input_scale_bits: Annotated[int, Field(ge=1, le=52)]
    weight_scale_bits: Annotated[int, Field(ge=-500, le=500)]

    def check(self) -> None:
        """Refuse a ring below 128-bit security. Raises `PackageError`."""
        require_128_bits(self.degree, [self.modulus_bits])

    @property
    def word_bytes(self) -> int:
        """Bytes of one number modulo q."""
        return self.modulus_bits // 8

    @property
    def score_scale(self) -> float:
        """What a decrypted integer is divided by."""
        return math.ldexp(1.0, self.input_scale_bits + self.weight_scale_bits)

    @property
    def key_parameters(self) -> Part:
        """What determines a key: models that differ in scales only share one."""
        return {"scheme": self.scheme, "degree": self.degree, "modulus_bits": self.modulus_bits}


class ClientPart(Strict):
    """What the data owner's half is built from.

    Attributes:
        outputs: how many scores a row has: 1 for a binary classifier, else one a class or a target.
        columns: how many columns a row has.
        features: what the model reads of them.
        ranges: `[lo, hi]` for each feature, in order; values outside are refused.
        error_bound: for each output, how far a decrypted score can be from the plaintext model's.
    """

    family: Literal["linear"]
    version: Literal[1]
    parameters: Parameters
    outputs: Annotated[int, Field(ge=1, le=MAX_OUTPUTS)]
    columns: Annotated[int, Field(ge=1, le=MAX_FEATURES)]
    features: Annotated[list[Feature], Field(min_length=1, max_length=MAX_FEATURES)]
    ranges: Annotated[
        list[Annotated[list[_Finite], Field(min_length=2, max_length=2)]], Field(min_length=1, max_length=MAX_FEATURES)
    ]
    error_bound: Annotated[list[Annotated[_Finite, Field(ge=0)]], Field(min_length=1, max_length=MAX_OUTPUTS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for column, (low, high) in enumerate(self.ranges):
            if not (low <= high and math.isfinite(high - low)):
                msg = f"ranges.{column}: expected lo <= hi, with a finite difference"
                raise ValueError(msg)
        if len(self.features) != len(self.ranges) or max(feature.column for feature in self.features) >= self.columns:
            msg = f"features: got {len(self.features)}, expected one a range, of {self.columns} columns"
            raise ValueError(msg)
        if len(self.error_bound) != self.outputs:
            msg = f"error_bound: got {len(self.error_bound)} bounds, expected {self.outputs}"
            raise ValueError(msg)
        return self


class ServerPart(Strict):
    """What the node's half is built from.

    Attributes:
        weights: one list an output, one number a column, folded to u.
        intercept: one number an output, folded likewise.
    """

    family: Literal["linear"]
    version: Literal[1]
    parameters: Parameters
    weights: Annotated[
        list[Annotated[list[_Finite], Field(min_length=1, max_length=MAX_FEATURES)]],
        Field(min_length=1, max_length=MAX_OUTPUTS),
    ]
    intercept: Annotated[list[_Finite], Field(min_length=1, max_length=MAX_OUTPUTS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        features = len(self.weights[0])
        for output, row in enumerate(self.weights):
            if len(row) != features:
                msg = f"weights.{output}: got {len(row)} numbers, expected {features}"
                raise ValueError(msg)
        if len(self.weights) * features > MAX_WEIGHTS:
            msg = f"weights: got {len(self.weights) * features} numbers, expected at most {MAX_WEIGHTS}"
            raise ValueError(msg)
        if len(self.intercept) != len(self.weights):
            msg = f"intercept: got {len(self.intercept)} numbers, expected {len(self.weights)}"
            raise ValueError(msg)
        return self


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    return parse(ClientPart, part, FAMILY)


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field."""
    return parse(ServerPart, part, FAMILY)


def pieces(features: int) -> int:
    """How many polynomials a row is spread over, where rows are packed by rows."""
    return -(-features // DEGREE)


def piece_width(features: int) -> int:
    """How many of a row's features lie in one polynomial, the last one's padding counted: `pieces` times this is enough."""
    return -(-features // pieces(features))


def outputs_per_product(features: int, outputs: int) -> int:
    """How many outputs of a row come out of one product, where rows are packed by rows."""
    return min(outputs, DEGREE // piece_width(features))


class Circuit(NamedTuple):
    """The integers that the server computes with, and what follows from them.

    Attributes:
        parameters: the ring and the scales.
        weights: W, `(outputs, features)`, integers as float64.
        intercept: B, `(outputs,)`, integers as float64.
        rounding: Σ_j |W_j - 2^weight_scale_bits · w_j|, `(outputs,)`.
    """

    parameters: Parameters
    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]
    rounding: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        parameters: Parameters,
        weights: Sequence[Sequence[float]] | NDArray[np.float64],
        intercept: Sequence[float] | NDArray[np.float64],
    ) -> Self:
        """Round folded weights and intercept to the fixed point. Powers of two: the same on every machine."""
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite weight has no headroom
            scaled = np.ldexp(np.asarray(weights, dtype=np.float64), parameters.weight_scale_bits)
            integers = np.rint(scaled)
            constants = np.rint(np.asarray(intercept, dtype=np.float64) * parameters.score_scale)
            return cls(parameters, integers, constants, np.abs(integers - scaled).sum(axis=1))

    @property
    def headroom(self) -> float:
        """The largest |Σ W X + B|, noise and truncation included, as a share of q/2: the sum is right below 1.

        q is counted as 2^modulus_bits less one part in 2^16: primes are taken from just below the power of two.
        """
        with np.errstate(over="ignore"):  # as above
            scores = np.abs(self.weights).sum(axis=1) * 2.0**self.parameters.input_scale_bits + np.abs(self.intercept)
            largest = scores + self._noise + self._truncation
        half_modulus = 2.0 ** (self.parameters.modulus_bits - 1) * (1 - 2.0**-16)
        return float(largest.max() / half_modulus)

    @property
    def error_bound(self) -> NDArray[np.float64]:
        """How far a decrypted score can be from w·u + b, `(outputs,)`, in units of the score.

        Hard limits, added up:

        - noise: Σ|W_j| / 2 from the rounding of X, and Σ|W| times the noise of a fresh coefficient, over all the
          weights of a product, since noise is also where no number lies;
        - Σ|W_j - 2^s w_j| 2^input_scale_bits: the rounding of W, as |u| ≤ 1;
        - ½ for B, and what the truncation of the result costs;
        - one part in 2^44 of the modulus for the decoder's floating point.
        """
        integers = (
            self._noise
            + self.rounding * 2.0**self.parameters.input_scale_bits
            + 0.5
            + self._truncation
            + 2.0 ** (self.parameters.modulus_bits - 44)
        )
        return np.asarray(integers / self.parameters.score_scale)

    @property
    def _noise(self) -> NDArray[np.float64]:
        """What encryption and the rounding of X add to each output, at most."""
        own = np.abs(self.weights).sum(axis=1)
        group = outputs_per_product(self.weights.shape[1], len(own))
        starts = np.arange(0, len(own), group)
        together = np.repeat(np.add.reduceat(own, starts), group)[: len(own)]
        return np.asarray(own / 2 + together * NOISE_BOUND)

    @property
    def _truncation(self) -> float:
        """Half of the dropped range for c0, and for each coefficient of c1, which meets a ternary one of the secret."""
        return float((1 + self.parameters.degree) << (DROPPED_BITS - 1))
