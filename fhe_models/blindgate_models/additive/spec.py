"""What both sides know of an additive model: its public questions, which pairs of columns act together, and its scale.

A score is a sum of functions of one column each, or of two: what explainable boosting machines, binned logistic models and
boosted trees of depth one or two compute. Each function is constant between public edges, so over the answers to public questions
(`blindgate_models.bits`) it is linear, and over products of two answers so is a function of two columns. The client computes bits
and products; the node multiplies one secret matrix with them (`blindgate_models.product`): one ciphertext, one product.

    score_k = 2^-S · (Σ_i W_ki · input_i + B_k)

Inputs are all bits in the order of the questions, then, for each pair in order, the products of every bit of its first column with
every bit of its second.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blindgate_models.bits import MAX_BITS, Questions, answers, count
from blindgate_models.halves import Part
from blindgate_models.parts import Padded, Strict, parse
from blindgate_models.product.spec import MAX_BLOB_BYTES, Parameters, Shape

FAMILY: Final = "additive"
VERSION: Final = 1
MAX_INPUTS: Final = 1 << 20
"""Of a row: 85 columns of an explainable boosting machine as it comes, three pairs a column of 64 bins by 64. 12 MB up."""
MAX_OUTPUTS: Final = 256
MAX_WEIGHTS: Final = 3_900_000
"""What a part holds of weights besides its other values (`package.MAX_PART_VALUES`)."""
MAX_PAIRS: Final = 4096
MAX_ENCODED_BYTES: Final = 256 << 20
"""Of the tables ready to multiply with. Of large ones the compiler makes 16 to 48 bytes a weight."""


class Pair(Strict):
    """Two columns that act together: each bit of one is multiplied with each bit of the other.

    Attributes:
        first: questions about one column.
        second: questions about another.
    """

    first: Annotated[list[Questions], Field(min_length=1, max_length=4)]
    second: Annotated[list[Questions], Field(min_length=1, max_length=4)]

    @property
    def products(self) -> int:
        """How many products of bits there are."""
        return count(self.first) * count(self.second)


class ClientPart(Strict):
    """What the data owner's half is built from.

    Attributes:
        columns: how many columns a row has.
        questions: what is asked of them, public.
        pairs: what is asked of two columns together.
        outputs: how many scores a row has.
        scale_bits: S.
        error_bound: how far a score can be from the plaintext model's: the rounding of its tables.
    """

    family: Literal["additive"]
    version: Literal[1]
    parameters: Parameters
    columns: Annotated[int, Field(ge=1, le=MAX_BITS)]
    questions: Annotated[list[Questions], Field(max_length=2 * MAX_BITS)]
    pairs: Annotated[list[Pair], Field(max_length=MAX_PAIRS)]
    outputs: Annotated[int, Field(ge=1, le=MAX_OUTPUTS)]
    scale_bits: Annotated[int, Field(ge=-1000, le=1000)]
    error_bound: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        everything = [*self.questions, *(asked for pair in self.pairs for asked in (*pair.first, *pair.second))]
        if max((asked.column for asked in everything), default=0) >= self.columns:
            msg = f"questions: about a column past the {self.columns} that there are"
            raise ValueError(msg)
        if not 1 <= self.inputs <= MAX_INPUTS:
            msg = f"questions: got {self.inputs} bits and products of bits, expected 1 to {MAX_INPUTS}"
            raise ValueError(msg)
        _require_small(self.shape)
        return self

    @property
    def inputs(self) -> int:
        """How many bits and products of bits a row has."""
        return count(self.questions) + sum(pair.products for pair in self.pairs)

    @property
    def shape(self) -> Shape:
        """The product that a reply is."""
        return Shape(self.parameters, self.inputs, self.outputs, FAMILY)


def inputs_of(questions: Sequence[Questions], pairs: Sequence[Pair], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """All bits and products of bits of `rows`, `(n, columns)`: `(n, inputs)`."""
    parts = [answers(questions, rows)] if questions else []
    for pair in pairs:
        both = answers(pair.first, rows)[:, :, None] & answers(pair.second, rows)[:, None, :]
        parts.append(both.reshape(len(rows), -1))
    return np.concatenate(parts, axis=1)


class ServerPart(Padded):
    """What the node's half is built from.

    Attributes:
        weights: W, a list of integers for each output.
        constants: B, an integer for each output.
    """

    family: Literal["additive"]
    version: Literal[1]
    parameters: Parameters
    weights: Annotated[
        list[
            Annotated[
                list[Annotated[int, Field(gt=-(1 << 40), lt=1 << 40)]], Field(min_length=1, max_length=MAX_INPUTS)
            ]
        ],
        Field(min_length=1, max_length=MAX_OUTPUTS),
    ]
    constants: Annotated[
        list[Annotated[int, Field(gt=-(1 << 40), lt=1 << 40)]], Field(min_length=1, max_length=MAX_OUTPUTS)
    ]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        inputs = len(self.weights[0])
        if any(len(row) != inputs for row in self.weights) or len(self.constants) != len(self.weights):
            msg = f"weights: expected {inputs} numbers for each output, and a constant"
            raise ValueError(msg)
        _require_small(self.shape)
        return self

    @property
    def shape(self) -> Shape:
        """The product that a reply is."""
        return Shape(self.parameters, len(self.weights[0]), len(self.weights), FAMILY)


def _require_small(shape: Shape) -> None:
    """Refuse what a part could ask of either side's memory with few bytes: by its size alone, before anything is made.

    A group of one number makes a polynomial of every bit, so inputs and outputs alone bound nothing. Raises `ValueError`.
    """
    if shape.inputs * shape.outputs > MAX_WEIGHTS:
        msg = (
            f"weights: got {shape.inputs} for each of {shape.outputs} outputs, expected at most {MAX_WEIGHTS} together"
        )
        raise ValueError(msg)
    encoded = shape.encoded_bytes
    if encoded > MAX_ENCODED_BYTES:
        msg = (
            f"parameters: the tables take {encoded} bytes ready to multiply with, expected at most {MAX_ENCODED_BYTES}"
        )
        raise ValueError(msg)
    if max(shape.input_bytes(1), shape.result_bytes(1)) > MAX_BLOB_BYTES:
        msg = f"parameters: a row or its reply takes more than {MAX_BLOB_BYTES} bytes"
        raise ValueError(msg)


def row_square(weights: NDArray[np.int64]) -> float:
    """The largest Σ W² of a row."""
    return float((weights.astype(np.float64) ** 2).sum(axis=1).max())


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    return parse(ClientPart, part, FAMILY)


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field, or the bound that the parameters do not keep."""
    parsed = parse(ServerPart, part, FAMILY)
    parsed.parameters.require_bounds(row_square(np.array(parsed.weights, dtype=np.int64)), len(parsed.weights))
    return parsed
