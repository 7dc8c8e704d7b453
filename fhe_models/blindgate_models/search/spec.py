"""What both sides know of an index: its parts, how vectors become whole numbers, and what is exact.

An index is n entries of d numbers from -128 to 127, and a query d numbers from -127 to 127. The node computes all n inner
products under encryption, as one secret product y = D·q (`blindgate_models.product`); the client decrypts them, exact, and picks
the nearest itself. Nothing that depends on the query decides what the node reads, computes or sends.

- **Eight bits.** `quantised_entries` has one scale for the whole index, so that entries stay comparable; `quantised_queries` one
  for each query, which changes no ranking.
- **Range.** |⟨q, D_m⟩| ≤ 127 · Σ_a |D_m[a]|, so t is chosen above twice the largest such sum of this index, and a node refuses an
  index and a t that do not fit.
- **Noise.** Both bounds of the product, the margin of decryption and the bits of privacy, are computed from this index's heaviest
  entry, at compile time and again when a node loads it.

**What an asker learns.** All n exact scores of a query: a linear measurement of every entry. d queries read the index. The
encryption also hides from the node whether a query keeps to eight bits: whoever modifies the client asks for e_a + 2^8 e_b + …, and
reads as many numbers of each entry at once as fit below the flood, some two bits more than t has: two or three. A budget of
queries is the only protection from that. In `model_public` replies are not flooded and may give the index away sooner.

**What a node learns.** The index, which it holds in clear, and how many queries there were.
"""

import base64
from typing import Annotated, Final, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blindgate_models.halves import Part
from blindgate_models.parts import Padded, Strict, decoded, parse
from blindgate_models.product.spec import MAX_BLOB_BYTES, Parameters, Privacy, Shape
from blindgate_models.search.filters import PLACE_BYTES
from blindgate_models.search.hosted import DIGEST_BYTES, HostedCorpus
from blindgate_protocol.errors import PackageError

FAMILY: Final = "search"
VERSION: Final = 1
PURPOSE: Final = "search"
MAX_WIDTH: Final = 4096
MAX_ENTRIES: Final = 1 << 20
MAX_NUMBERS: Final = 46 << 20
"""Of an index in all: as many as base64 carries in a part."""
MAX_ENCODED_BYTES: Final = 1 << 30
"""Of an index as the node keeps it ready to multiply with."""
LARGEST: Final = 127
"""The largest number of a query, and of an entry that was quantised here."""
MAX_ROWS: Final = 4096
"""The most queries of one job, whatever their size."""

DETERMINISM: Final[dict[Privacy, Literal["bit-exact", "varies"]]] = {
    "model_private": "varies",
    "model_public": "bit-exact",
}
_SCORES: Final = (
    "the ids and the number of the entries, the largest of their numbers, and about how large all of one entry's are together",
    (
        "the exact inner product of a query with every entry: as many queries as columns read the whole index, about a third of "
        "that from a modified client"
    ),
)
DISCLOSES_TO_CLIENT: Final[dict[Privacy, tuple[str, ...]]] = {
    "model_private": _SCORES,
    "model_public": (*_SCORES, "entries, to anyone who examines replies: they are not flooded"),
}
DISCLOSES_TO_NODE: Final = ("all entries, in clear", "the number of queries")

_LEAST: Final = 1e-300
_MODULUS_BITS: Final = 4
_ROWS_AT_ONCE: Final = 4096

Bytes: TypeAlias = NDArray[np.int8]
Id: TypeAlias = int | str


class _Common(Strict):
    """What both parts of an index hold.

    Attributes:
        width: d, numbers of an entry.
        entries: n.
    """

    family: Literal["search"]
    version: Literal[1]
    parameters: Parameters
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    entries: Annotated[int, Field(ge=1, le=MAX_ENTRIES)]

    @property
    def shape(self) -> Shape:
        """The product that answers a query."""
        return Shape(self.parameters, self.width, self.entries, PURPOSE)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.width * self.entries > MAX_NUMBERS:
            msg = (
                f"entries: got {self.entries} of {self.width} numbers, expected at most {MAX_NUMBERS} numbers together"
            )
            raise ValueError(msg)
        encoded = self.shape.encoded_bytes
        if encoded > MAX_ENCODED_BYTES:
            msg = f"parameters: the index takes {encoded} bytes ready to multiply with, expected at most {MAX_ENCODED_BYTES}"
            raise ValueError(msg)
        if rows_per_job(self.shape) < 1:
            msg = f"entries: a query and its reply take more than {MAX_BLOB_BYTES} bytes"
            raise ValueError(msg)
        return self


class ClientPart(_Common):
    """What the asker's half is built from.

    Attributes:
        scale: what the index's own numbers were multiplied by before they were rounded.
        ids: what the entries are called, in their order; their positions, from 0, where there are none.
        corpus: what makes the index a corpus; left out where it is none.
    """

    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    ids: list[Annotated[str, Field(max_length=1000)]] | list[int] | None
    corpus: Annotated[HostedCorpus | None, Field(exclude_if=lambda value: value is None)] = None

    @model_validator(mode="after")
    def _of_this_index(self) -> Self:
        if self.corpus is None:
            return self
        if self.ids is not None:
            msg = "ids: got some, expected none: a corpus's records lie at the positions of its entries"
            raise ValueError(msg)
        if self.corpus.embedder.dimension != self.width:
            msg = f"corpus.embedder.dimension: got {self.corpus.embedder.dimension}, expected {self.width}, the index's width"
            raise ValueError(msg)
        if len(self.corpus.digests) != -(-self.entries * DIGEST_BYTES // 3) * 4:
            msg = f"corpus.digests: got {len(self.corpus.digests)} characters, expected those of {self.entries} digests"
            raise ValueError(msg)
        filters = self.corpus.filters
        if filters is not None and len(filters.passages) != -(-self.entries * PLACE_BYTES // 3) * 4:
            msg = f"corpus.filters.passages: got {len(filters.passages)} characters, expected those of {self.entries} positions"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.ids is not None and len(self.ids) != self.entries:
            msg = f"ids: got {len(self.ids)}, expected {self.entries}, one an entry"
            raise ValueError(msg)
        return self


class ServerPart(_Common, Padded):
    """What the node's half is built from.

    Attributes:
        matrix: the entries, row by row, a signed byte a number, in base64.
    """

    matrix: str

    @model_validator(mode="after")
    def _as_long_as_it_says(self) -> Self:
        expected = -(-self.entries * self.width // 3) * 4
        if len(self.matrix) != expected:
            msg = f"matrix: got {len(self.matrix)} characters, expected {expected} for {self.entries} x {self.width} numbers"
            raise ValueError(msg)
        return self

    def index(self) -> Bytes:
        """The entries, `(entries, width)`. Raises `PackageError`."""
        data = decoded(self.matrix, self.entries * self.width, "search part: matrix")
        return np.frombuffer(data, dtype=np.int8).reshape(self.entries, self.width)


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    return parse(ClientPart, part, FAMILY)


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field."""
    return parse(ServerPart, part, FAMILY)


def packed_index(index: Bytes) -> str:
    """An index as a server part holds it."""
    return base64.b64encode(np.ascontiguousarray(index).tobytes()).decode("ascii")


def rows_per_job(shape: Shape) -> int:
    """The most queries whose blobs stay within `MAX_BLOB_BYTES` together."""
    return shape.vectors_together(MAX_ROWS)


class Weights(NamedTuple):
    """What of an index its parameters and their bounds depend on.

    Attributes:
        largest_score: no exact score is larger.
        row_square: no entry has a larger Σ D²: more than the mean that the bounds ask for, and so on the safe side.
    """

    largest_score: int
    row_square: float

    @classmethod
    def of(cls, index: Bytes) -> Self:
        """Of an index, `(entries, width)`."""
        sums, squares = [], []
        for start in range(0, len(index), _ROWS_AT_ONCE):
            wide = index[start : start + _ROWS_AT_ONCE].astype(np.int64)
            sums.append(int(np.abs(wide).sum(axis=1).max()))
            squares.append(int((wide * wide).sum(axis=1).max()))
        return cls(LARGEST * max(sums), float(max(squares)))

    @property
    def plain_modulus(self) -> int:
        """A t in which scores of both signs are told apart: the least of four significant bits, since t is public."""
        least = 2 * self.largest_score + 2
        step = 1 << max(0, least.bit_length() - _MODULUS_BITS)
        return -(-least // step) * step


def require_fitting(parameters: Parameters, index: Bytes) -> None:
    """Refuse an index that these parameters do not hold or, if they are to, do not hide. Raises `PackageError`."""
    weights = Weights.of(index)
    if parameters.plain_modulus <= 2 * weights.largest_score:
        msg = (
            f"parameters.plain_modulus: got {parameters.plain_modulus}, expected over {2 * weights.largest_score}, twice the "
            "largest score"
        )
        raise PackageError(msg)
    parameters.require_bounds(weights.row_square, len(index))


def quantised_entries(embeddings: NDArray[np.float64]) -> tuple[Bytes, float]:
    """Entries as signed bytes, `(n, d)`, and their one scale: the largest number becomes 127."""
    largest = float(np.abs(embeddings).max())
    scale = LARGEST / largest if largest >= _LEAST else 1.0
    return np.rint(embeddings * scale).astype(np.int8), scale


def quantised_queries(queries: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Queries as whole numbers from -127 to 127, `(n, d)`, and the scale of each, `(n,)`.

    A query's largest number becomes 127. One of nothing but whole numbers from -127 to 127 is taken as it is.
    """
    largest = np.abs(queries).max(axis=1)
    scales = np.where(largest >= _LEAST, LARGEST / np.maximum(largest, _LEAST), 1.0)
    whole = (largest <= LARGEST) & (queries == np.rint(queries)).all(axis=1)
    scales = np.where(whole, 1.0, scales)
    return np.rint(queries * scales[:, None]).astype(np.int64), scales


def score_ranges(
    entries: NDArray[np.float64], scale: float, queries: NDArray[np.int64], within: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the largest exact score of each query, `(n, d)`, with each entry, `(m, d)`: `(n, m)` twice.

    Of entries of which `scale` times the numbers were rounded to eight bits, where each number was within `within` of the one that
    is given. A number's eight bits are then between those of both its ends, each of which may be taken by itself.
    """
    least, most = (np.clip(np.rint((entries + step) * scale), -LARGEST - 1, LARGEST) for step in (-within, within))
    up, down = np.maximum(queries, 0).astype(np.float64), np.minimum(queries, 0).astype(np.float64)
    return up @ least.T + down @ most.T, up @ most.T + down @ least.T
