"""What both sides know of a table of records: its parts, how bytes become numbers, and what is fetched.

A table is n records of one size. To fetch one, the asker encrypts the unit vector of its position, and the node computes a secret
product y = W·x (`blindgate_models.product`): private information retrieval without an evaluation key. Every record meets every
query, so nothing that the node reads, computes or sends depends on the position.

- **Digits.** A record's bytes are a string of bits, cut into digits of p bits (`bitpacking`'s order). W has a row for each digit
  and a column for each record, and t is 2^p: a coefficient of the reply carries as many bits as t has, and a query that is no unit
  vector gets one sum of records modulo 2^p, digit by digit, and so never more bits than one record has.
- **Nothing.** The vector of zeros is position -1. It fetches a record of zeros, and is how a fixed number of fetches is filled up:
  to encrypt it takes as long as any position (`product.client`), so that the moment at which a fetch is sent tells neither.
- **Parameters.** The noise is bounded by what a table of this shape can have, Σ W² ≤ n·4^(p-1), not by what stands in it. So the
  parameters, which everybody reads, say nothing of the records, and no table of a shape is refused that another one passes.
- **Cost.** Work is n·⌈8·size/p⌉ numbers a fetch; bytes up go with n/g and bytes down with ⌈8·size/p⌉·g, so that `choose`, which
  balances them, makes both grow with the root of what there is.

**What an asker learns.** The records that it asks for, their number and their size. Whoever modifies the client gets sums of
records in their place, and by a c0 of its own making may read what lies above the flood, some two bits a digit. In `model_public`
replies are not flooded, and may give other records away.

**What a node learns.** The records, which it holds in clear, and how many were fetched.
"""

import base64
from typing import Annotated, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blindgate_models.bitpacking import pack, packed_bytes, unpack
from blindgate_models.halves import Part
from blindgate_models.parts import Padded, Strict, decoded, parse
from blindgate_models.product.spec import MAX_BLOB_BYTES, Need, Parameters, Privacy, Shape, choose
from blindgate_protocol.errors import PackageError

FAMILY: Final = "lookup"
VERSION: Final = 1
PURPOSE: Final = "lookup"
NOTHING: Final = -1
"""The position of a fetch that is of no record."""
MAX_RECORDS: Final = 1 << 17
MAX_RECORD_BYTES: Final = 1 << 14
MAX_BYTES: Final = 46 << 20
"""Of a table in all: as many as base64 carries in a part."""
MAX_ENCODED_BYTES: Final = 1 << 30
"""Of a table as the node keeps it ready to multiply with."""
MAX_ROWS: Final = 64
"""The most fetches of one job."""

DETERMINISM: Final[dict[Privacy, Literal["bit-exact", "varies"]]] = {
    "model_private": "varies",
    "model_public": "bit-exact",
}
_FETCHED: Final = (
    "the number of the records and their one size",
    "each record that it fetches; no more bits than that has",
)
DISCLOSES_TO_CLIENT: Final[dict[Privacy, tuple[str, ...]]] = {
    "model_private": _FETCHED,
    "model_public": (*_FETCHED, "other records, to anyone who examines replies: they are not flooded"),
}
DISCLOSES_TO_NODE: Final = ("all records, in clear", "the number of fetches")

_DIGIT_BITS: Final = (8, 10, 12, 14, 16, 17, 18, 19, 20, 22)
_AT_ONCE: Final = 1024

Records: TypeAlias = NDArray[np.uint8]
"""`(records, size)`."""


class _Common(Strict):
    """What both parts of a table hold.

    Attributes:
        records: n.
        size: bytes of a record.
    """

    family: Literal["lookup"]
    version: Literal[1]
    parameters: Parameters
    records: Annotated[int, Field(ge=1, le=MAX_RECORDS)]
    size: Annotated[int, Field(ge=1, le=MAX_RECORD_BYTES)]

    @property
    def digit_bits(self) -> int:
        """How many bits a digit has: p."""
        return self.parameters.plain_modulus.bit_length() - 1

    @property
    def shape(self) -> Shape:
        """The product that fetches a record."""
        return Shape(self.parameters, self.records, digits_of(self.size, self.digit_bits), PURPOSE)

    @property
    def row_square(self) -> float:
        """No row of W of a table of this shape has a larger Σ W²."""
        return _row_square(self.records, self.digit_bits)

    def require_bounds(self) -> None:
        """Refuse parameters that do not hold, or do not hide, a table of this shape. Raises `PackageError`."""
        self.parameters.require_bounds(self.row_square, self.shape.outputs)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.parameters.plain_modulus != 1 << self.digit_bits:
            msg = f"parameters.plain_modulus: got {self.parameters.plain_modulus}, expected a power of two"
            raise ValueError(msg)
        if self.records * self.size > MAX_BYTES:
            msg = f"records: got {self.records} of {self.size} bytes, expected at most {MAX_BYTES} bytes together"
            raise ValueError(msg)
        encoded = self.shape.encoded_bytes
        if encoded > MAX_ENCODED_BYTES:
            msg = f"parameters: the table takes {encoded} bytes ready to multiply with, expected at most {MAX_ENCODED_BYTES}"
            raise ValueError(msg)
        if rows_per_job(self.shape) < 1:
            msg = f"records: a query and its reply take more than {MAX_BLOB_BYTES} bytes"
            raise ValueError(msg)
        return self


class ClientPart(_Common):
    """What the asker's half is built from."""


class ServerPart(_Common, Padded):
    """What the node's half is built from.

    Attributes:
        table: the records, one behind the other, in base64.
    """

    table: str

    @model_validator(mode="after")
    def _as_long_as_it_says(self) -> Self:
        expected = -(-self.records * self.size // 3) * 4
        if len(self.table) != expected:
            msg = f"table: got {len(self.table)} characters, expected {expected} for {self.records} x {self.size} bytes"
            raise ValueError(msg)
        return self

    def content(self) -> Records:
        """The records. Raises `PackageError`."""
        data = decoded(self.table, self.records * self.size, "lookup part: table")
        return np.frombuffer(data, dtype=np.uint8).reshape(self.records, self.size)


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    return parse(ClientPart, part, FAMILY)


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field."""
    return parse(ServerPart, part, FAMILY)


def packed_table(records: Records) -> str:
    """A table as a server part holds it."""
    return base64.b64encode(np.ascontiguousarray(records).tobytes()).decode("ascii")


def digits_of(size: int, digit_bits: int) -> int:
    """How many digits a record of `size` bytes has."""
    return -(-8 * size // digit_bits)


def matrix(records: Records, digit_bits: int) -> NDArray[np.int32]:
    """W, `(digits, records)`: each digit as the number from -2^(p-1) to 2^(p-1) - 1 that is the same modulo 2^p."""
    count, size = records.shape
    digits = digits_of(size, digit_bits)
    whole = packed_bytes(digits, digit_bits)
    found = np.empty((digits, count), dtype=np.int32)
    for start in range(0, count, _AT_ONCE):
        some = records[start : start + _AT_ONCE]
        padded = np.zeros((len(some), whole), dtype=np.uint8)
        padded[:, :size] = some
        # a record is filled up to whole groups of 64 digits, so that records lie side by side as one run of digits
        run = unpack(padded.tobytes(), len(some) * whole * 8 // digit_bits, digit_bits).reshape(len(some), -1)
        found[:, start : start + len(some)] = run[:, :digits].T
    found[found >= 1 << (digit_bits - 1)] -= 1 << digit_bits
    return found


def record(digits: NDArray[np.int64], size: int, digit_bits: int) -> bytes:
    """The record that has these digits, `(digits,)` numbers from 0 to 2^p - 1: `size` bytes."""
    return pack(digits.astype(np.uint64), digit_bits)[:size]


def rows_per_job(shape: Shape) -> int:
    """The most fetches whose blobs stay within `MAX_BLOB_BYTES` together."""
    return shape.vectors_together(MAX_ROWS)


def choose_parameters(records: int, size: int, privacy: Privacy) -> Parameters:
    """The parameters with which a fetch takes the fewest bytes, up and down. Raises `PackageError` when there are none."""
    found: list[tuple[int, Parameters]] = []
    short = PackageError("lookup: no digits were tried")
    for bits in _DIGIT_BITS:
        digits = digits_of(size, bits)
        try:
            parameters = choose(Need(records, digits, 1 << bits, _row_square(records, bits), privacy))
        except PackageError as error:
            short = error
            continue
        shape = Shape(parameters, records, digits, PURPOSE)
        found.append((shape.input_bytes(1) + shape.result_bytes(1), parameters))
    if not found:
        raise short
    return min(found, key=lambda pair: pair[0])[1]


def _row_square(records: int, digit_bits: int) -> float:
    return records * 4.0 ** (digit_bits - 1)
