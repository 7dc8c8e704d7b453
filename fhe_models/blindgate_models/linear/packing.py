"""Which number lies where: the packing of rows into polynomials, and the blobs around them.

A linear model needs sums and products with known weights only, so rows lie in *coefficients*, N = 4096 to a polynomial,
twice as many as a CKKS ciphertext has slots. There are two ways, for a block of rows:

- **columns**: one polynomial for each of the d columns, row r in coefficient r. Output k is Σ_j W_kj · c_j, row r in
  coefficient r. At most N rows a block.
- **rows**: one polynomial for several rows, row r's column j in coefficient r·stride + j. It is multiplied by Σ_k Σ_j
  W_kj X^(k·d + d-1-j); output k of row r comes out in coefficient r·stride + k·d + d-1, and no other product of a row
  and a weight falls there, wrapping around included. With stride = g·d, g outputs come out of one product,
  g = min(outputs, N // d); the others take more products. This is also how a single row travels. A row of more than N columns is
  cut into pieces of equal width, a polynomial each; d is that width then, and an output is the sum of its products with all pieces.

Which block is packed how follows from the number of rows alone (`Packing.blocks`): full blocks of N and the remainder
each take the way that costs fewer bytes. Nothing in a blob chooses, so there is nothing to check but its length.

A blob is a header and then polynomials of fixed size; its length follows from the number of rows:

    header      "<4sHHI32s": magic, version 1, zero, rows, digest of the parameters and the shape
    input       per polynomial: seed (64), then c0 as N words of `word_bytes`, little-endian, in NTT form
    result      per polynomial: c1 as N words, then c0 where it holds a score and nowhere else, both as
                coefficients; of each word the lowest byte is left out, noise covers it

Other coefficients of a product hold cross sums of weights with this client's own rows. They are not sent.
"""

import enum
import functools
import hashlib
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import rfc8785
from numpy.typing import NDArray

from blindgate_models.linear.spec import DROPPED_BITS, VERSION, Parameters, outputs_per_product, piece_width, pieces
from blindgate_models.security import SEED_BYTES

MAX_BLOB_BYTES: Final = 64 << 20

_HEADER: Final = struct.Struct("<4sHHI32s")
_DROPPED_BYTES: Final = DROPPED_BITS // 8


class Magic(enum.Enum):
    """The first four bytes of a blob."""

    INPUT = b"BGLI"
    RESULT = b"BGLR"


class Way(enum.Enum):
    """How a block is packed."""

    COLUMNS = "columns"
    ROWS = "rows"


class Block(NamedTuple):
    """Consecutive rows that are packed and computed together.

    Attributes:
        way: how.
        start: the first row.
        rows: how many.
        inputs: input polynomials.
        outputs: result polynomials.
    """

    way: Way
    start: int
    rows: int
    inputs: int
    outputs: int


class Packing:
    """The packing of one shape of model.

    Attributes:
        pieces: polynomials that a row is spread over, packed by rows.
        width: features in one of them.
        stride: coefficients from one row to the next, packed by rows.
        group: how many outputs come out of one product, packed by rows.
        capacity: how many rows one polynomial takes, packed by rows.
        rows_per_blob: the most rows of one blob, so that it and its result have at most 64 MiB together.
    """

    def __init__(self, parameters: Parameters, features: int, outputs: int) -> None:
        """Take `features` ≤ `MAX_FEATURES` and `outputs` scores a row."""
        self.degree = parameters.degree
        self.features = features
        self.outputs = outputs
        self.group = outputs_per_product(features, outputs)
        self.pieces, self.width = pieces(features), piece_width(features)
        self.stride = self.group * self.width
        self.capacity = self.degree // self.stride
        self._word_bytes = parameters.word_bytes
        shape = parameters.model_dump() | {"features": features, "outputs": outputs, "version": VERSION}
        self._digest = hashlib.sha256(rfc8785.dumps(shape)).digest()
        room = MAX_BLOB_BYTES - _HEADER.size
        full = sum(self._body_bytes(self._by_columns(0, self.degree)))
        row = sum(self._body_bytes(self._by_rows(0, self.capacity)))
        self.rows_per_blob = self.degree * (room // full) or self.capacity * (room // row)

    def blocks(self, rows: int) -> Iterator[Block]:
        """The blocks of `rows` rows, in order."""
        for start in range(0, rows, self.degree):
            count = min(self.degree, rows - start)
            by_columns = self._by_columns(start, count)
            if sum(self._body_bytes(by_columns)) <= self._bytes_by_rows(count):
                yield by_columns
                continue
            for first in range(0, count, self.capacity):
                yield self._by_rows(start + first, min(self.capacity, count - first))

    def _by_columns(self, start: int, rows: int) -> Block:
        return Block(Way.COLUMNS, start, rows, self.features, self.outputs)

    def _by_rows(self, start: int, rows: int) -> Block:
        return Block(Way.ROWS, start, rows, self.pieces, -(-self.outputs // self.group))

    def _bytes_by_rows(self, rows: int) -> int:
        full, rest = divmod(rows, self.capacity)
        total = full * sum(self._body_bytes(self._by_rows(0, self.capacity)))
        return total + sum(self._body_bytes(self._by_rows(0, rest))) if rest else total

    def scores(self, block: Block, output: int) -> range:
        """Which scores of a row the block's result polynomial `output` holds."""
        if block.way is Way.COLUMNS:
            return range(output, output + 1)
        return range(output * self.group, min((output + 1) * self.group, self.outputs))

    def places(self, block: Block, output: int) -> NDArray[np.intp]:
        """The coefficients that hold scores in result polynomial `output`: `(rows, scores)`."""
        rows = np.arange(block.rows)[:, None]
        if block.way is Way.COLUMNS:
            return rows
        scores = np.arange(len(self.scores(block, output)))
        return rows * self.stride + scores * self.width + self.width - 1

    @property
    def input_polynomial_bytes(self) -> int:
        """Bytes of one polynomial of an input blob."""
        return SEED_BYTES + self.degree * self._word_bytes

    def result_polynomial_bytes(self, block: Block, output: int) -> int:
        """Bytes of one polynomial of a result blob."""
        words = self.degree + block.rows * len(self.scores(block, output))
        return words * (self._word_bytes - _DROPPED_BYTES)

    def _body_bytes(self, block: Block) -> tuple[int, int]:
        words = block.outputs * self.degree + block.rows * self.outputs
        return block.inputs * self.input_polynomial_bytes, words * (self._word_bytes - _DROPPED_BYTES)

    def input_bytes(self, rows: int) -> int:
        """The exact length of the input blob of `rows` rows."""
        return _HEADER.size + sum(self._body_bytes(block)[0] for block in self.blocks(rows))

    def result_bytes(self, rows: int) -> int:
        """The exact length of the result blob of `rows` rows."""
        return _HEADER.size + sum(self._body_bytes(block)[1] for block in self.blocks(rows))

    def most_input_bytes(self, rows: int) -> int:
        """No input blob of 1 to `rows` rows is longer. It may be that of fewer rows, which are packed another way."""
        return max(map(self.input_bytes, self._longest(rows)))

    def most_result_bytes(self, rows: int) -> int:
        """No result blob of 1 to `rows` rows is longer."""
        return max(map(self.result_bytes, self._longest(rows)))

    def _longest(self, rows: int) -> Iterator[int]:
        """Numbers of rows up to `rows`, of which one has the longest blob: `rows` or just before a change of way."""
        yield rows
        last = (rows - 1) // self.degree * self.degree
        for change in self._changes:
            for start in (last, last - self.degree):
                if 0 < start + change <= rows and start >= 0:
                    yield start + change

    @functools.cached_property
    def _changes(self) -> list[int]:
        """Numbers of rows of a block after which one more makes it change its way."""
        by_columns = (sum(self._body_bytes(self._by_columns(0, rows))) for rows in range(1, self.degree + 1))
        by_rows = [self._bytes_by_rows(rows) < columns for rows, columns in enumerate(by_columns, 1)]
        return [rows for rows in range(1, self.degree) if by_rows[rows - 1] != by_rows[rows]]

    def header(self, magic: Magic, rows: int) -> bytes:
        """The header of a blob of `rows` rows."""
        return _HEADER.pack(magic.value, VERSION, 0, rows, self._digest)

    def open_blob(self, magic: Magic, blob: bytes) -> tuple[int, memoryview]:
        """Check a blob's header and its exact length.

        Returns:
            The number of rows, 1 to `rows_per_blob`, and the bytes after the header.

        Raises:
            ValueError: it is not a blob of this shape; the message names the field, got and expected.
        """
        if len(blob) < _HEADER.size:
            msg = f"length: got {len(blob)} bytes, expected at least {_HEADER.size}"
            raise ValueError(msg)
        fields: tuple[bytes, int, int, int, bytes] = _HEADER.unpack_from(blob)
        found, version, zero, rows, digest = fields
        if found != magic.value:
            msg = f"magic: expected {magic.value!r}"
            raise ValueError(msg)
        if (version, zero) != (VERSION, 0):
            msg = f"version: got {version}, expected {VERSION}"
            raise ValueError(msg)
        if digest != self._digest:
            msg = "digest: made for other parameters or another shape"
            raise ValueError(msg)
        if not 1 <= rows <= self.rows_per_blob:
            msg = f"rows: got {rows}, expected 1 to {self.rows_per_blob}"
            raise ValueError(msg)
        expected = self.input_bytes(rows) if magic is Magic.INPUT else self.result_bytes(rows)
        if len(blob) != expected:
            msg = f"length: got {len(blob)} bytes, expected {expected} for {rows} rows"
            raise ValueError(msg)
        return rows, memoryview(blob)[_HEADER.size :]


def pack_words(words: NDArray[np.uint64], word_bytes: int, dropped: int = 0) -> bytes:
    """The bytes `dropped` to `word_bytes` of each word, little-endian."""
    kept: bytes = np.ascontiguousarray(words, dtype="<u8").view(_part_of_word(word_bytes, dropped))["kept"].tobytes()
    return kept


def unpack_words(data: memoryview, word_bytes: int, dropped: int = 0) -> NDArray[np.uint64]:
    """The words whose bytes `dropped` to `word_bytes` are `data`; the bytes that were dropped are 0."""
    kept = np.frombuffer(data, dtype=f"V{word_bytes - dropped}")
    words = np.zeros(len(kept), dtype="<u8")
    words.view(_part_of_word(word_bytes, dropped))["kept"] = kept
    return words.astype(np.uint64, copy=False)


def _part_of_word(word_bytes: int, dropped: int) -> np.dtype[np.void]:
    """A 64-bit word of which some consecutive bytes are kept: numpy copies those of a whole array at once."""
    kept = f"V{word_bytes - dropped}"
    return np.dtype({"names": ["kept"], "formats": [kept], "offsets": [dropped], "itemsize": 8})
