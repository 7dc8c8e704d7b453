"""How a corpus is cut into shards, and what one is before it is sealed.

*Which shard a document is in* follows from what it is known by, its origin: SHA-256 of corpus and origin gives it a place, a row
of bits. There is one shard, `s`, for as long as everything fits into `MOST_BYTES`. What does not fit is cut in two by the next bit,
`s0` and `s1`, and so on. So the shards follow from the documents alone, adding or removing one changes the shard that it is in and
no other, unless that is cut or comes together again, and the name of a shard says nothing of what is in it.

*A shard* is

    length    4 bytes, big-endian: of the JSON
    JSON      documents with their passages, as `_Shard` has them
    vectors   of all passages in their order, `dimension` signed bytes each, -127 to 127

and nothing is read from bytes that something else has not authenticated (`heads`). What they say is checked all the same: another
client of the same owner, of another release perhaps, wrote them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from blindgate_protocol.errors import CorpusError
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Digest, Millis, Value
from blindgate_rag.records import DocumentRecord, MetadataValue, PassageRecord

MOST_BYTES: Final = 384 << 10
"""What is in one shard, unless a single document is larger."""
ROOT: Final = "s"
_BITS: Final = 48
_LENGTH_BYTES: Final = 4
_MOST_ID: Final = (1 << 63) - 1

_Id = Annotated[int, Field(ge=1, le=_MOST_ID)]
_Number = Annotated[int, Field(ge=0, le=_MOST_ID)]


class _Passage(Value):
    id: _Id
    page: _Number | None
    tokens: _Number
    text: str


class _Document(Value):
    id: _Id
    origin: str
    source: str
    digest: Digest
    media: str
    metadata: dict[str, MetadataValue]
    added: Millis
    passages: Annotated[tuple[_Passage, ...], Field(min_length=1)]


class _Shard(Value):
    format: Literal[1]
    dimension: Annotated[int, Field(ge=1, le=1 << 16)]
    documents: Annotated[tuple[_Document, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Filed:
    """A document with all that a corpus has of it.

    Attributes:
        vectors: of its passages, `(passages, dimension)`, in eight bits.
    """

    document: DocumentRecord
    passages: Sequence[PassageRecord]
    vectors: NDArray[np.int8]

    @cached_property
    def json(self) -> bytes:
        """It and its passages, as a shard has them."""
        passages = tuple(_Passage(id=one.id, page=one.page, tokens=one.tokens, text=one.text) for one in self.passages)
        one = self.document
        written = _Document(
            id=one.id,
            origin=one.origin,
            source=one.source,
            digest=one.digest,
            media=one.media,
            metadata=one.metadata,
            added=one.added,
            passages=passages,
        )
        return written.model_dump_json().encode()

    @property
    def size(self) -> int:
        """How many bytes it takes in a shard."""
        return len(self.json) + self.vectors.nbytes

    def says_the_same(self, other: "Filed") -> bool:
        """Whether the other has the same text and metadata, under whatever ids."""
        mine, theirs = self.document, other.document
        return (mine.digest, mine.media, mine.metadata) == (theirs.digest, theirs.media, theirs.metadata) and [
            (one.page, one.text) for one in self.passages
        ] == [(one.page, one.text) for one in other.passages]


def place_of(corpus: str, origin: str) -> str:
    """Where a document belongs: a row of bits, of which a shard's name has the first."""
    hashed = hashlib.sha256(f"{corpus}\0{origin}".encode(errors="surrogatepass")).digest()
    return f"{int.from_bytes(hashed) >> (256 - _BITS):0{_BITS}b}"


def shard_of(names: Mapping[str, object], corpus: str, origin: str) -> str | None:
    """Which of these shards a document is in, if it is in any."""
    name = ROOT + place_of(corpus, origin)
    return next((name[:end] for end in range(len(ROOT), len(name) + 1) if name[:end] in names), None)


def cut(corpus: str, documents: Iterable[Filed], *, most: int = MOST_BYTES) -> dict[str, list[Filed]]:
    """Documents by the name of their shard, in the order of their ids."""
    placed = [(place_of(corpus, one.document.origin), one) for one in documents]
    return dict(_cut(ROOT, sorted(placed, key=lambda pair: pair[1].document.id), most))


def to_bytes(documents: Sequence[Filed]) -> bytes:
    """A shard of these documents, which are of one dimension."""
    dimension = documents[0].vectors.shape[1]
    json = b'{"format":1,"dimension":%d,"documents":[%s]}' % (dimension, b",".join(one.json for one in documents))
    return b"".join((len(json).to_bytes(_LENGTH_BYTES), json, *(one.vectors.tobytes() for one in documents)))


def from_bytes(name: str, data: bytes, *, corpus: str, dimension: int) -> list[Filed]:
    """The documents of a shard of this name. Raises `CorpusError` naming shard and rule."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES])
    try:
        shard = _Shard.model_validate_json(data[_LENGTH_BYTES:end])
    except ValidationError as error:
        message = f"shard {name}: is not what this release reads: {first_error(error)}"
        raise CorpusError(message) from error
    passages = sum(len(one.passages) for one in shard.documents)
    if shard.dimension != dimension or len(data) != end + passages * dimension:
        message = f"shard {name}: {len(data) - end} bytes for {passages} vectors of {shard.dimension} numbers; expected {dimension}"
        raise CorpusError(message)
    vectors = np.frombuffer(data, dtype=np.int8, offset=end).reshape(passages, dimension)
    if (vectors == np.iinfo(np.int8).min).any():
        message = f"shard {name}: a vector has a number below -127"
        raise CorpusError(message)
    return list(_filed(name, shard, vectors, corpus))


def _filed(name: str, shard: _Shard, vectors: NDArray[np.int8], corpus: str) -> Iterator[Filed]:
    begin = 0
    for one in shard.documents:
        if not (ROOT + place_of(corpus, one.origin)).startswith(name):
            message = f"shard {name}: {one.source} belongs into another"
            raise CorpusError(message)
        end = begin + len(one.passages)
        record = DocumentRecord(one.id, one.origin, one.source, one.digest, one.media, one.metadata, one.added)
        passages = [
            PassageRecord(each.id, one.id, position, each.page, each.tokens, each.text)
            for position, each in enumerate(one.passages)
        ]
        yield Filed(record, passages, vectors[begin:end])
        begin = end


def _cut(name: str, placed: Sequence[tuple[str, Filed]], most: int) -> Iterator[tuple[str, list[Filed]]]:
    if not placed:
        return
    bit = len(name) - len(ROOT)
    if len(placed) == 1 or bit == _BITS or sum(one.size for _, one in placed) <= most:
        yield name, [one for _, one in placed]
        return
    for side in "01":
        yield from _cut(name + side, [pair for pair in placed if pair[0][bit] == side], most)
