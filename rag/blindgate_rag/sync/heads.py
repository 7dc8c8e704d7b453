"""What a corpus that lies elsewhere is at one moment: a head, which names its shards; sealed, as they are.

    blob of a head = length of the key header, 2 bytes, big-endian; the key header (`corpus_keys`); the head, sealed
    blob of a shard = the shard (`shards`), sealed as the file of its name, of the generation that it was put with

Whoever keeps the blobs can read neither. He can keep them back, and give what was true once. So whoever opens a head holds it to
this, in this order:

1. it opens under the corpus's key, and is of this corpus and of the name that was asked for;
2. its key header is the one that it was put with;
3. its generation is not below the newest that this client saw of the corpus (`RolledBackCorpusError`), is not another of that
   number, and continues it (`ForkedCorpusError`): a head names the digests of the heads before it, the last `ANCESTORS` of them;
4. no two of its shards can hold one document, and what is set says how to read them: by which embedder, of which dimension, in
   which scale, and ranked how.

And each shard: its digest and size are those in the head, and it opens as what the head says. So a shard of another generation,
corpus or place is none, and neither is one that was cut. A client that has seen nothing yet takes whatever is true once.

Both are sealed to the same bytes each time, so whoever was killed while it put them, or was too late, does not put them twice.

Padding makes every blob a multiple of 64 KiB, but for the last digits of its form: small changes do not show in sizes.
"""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol, Self

from pydantic import Field, StringConstraints, model_validator

from blindgate_protocol.canonical import digest
from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.errors import CorpusError, ForkedCorpusError, MalformedError, RolledBackCorpusError
from blindgate_protocol.messages import MOST_SHARDS
from blindgate_protocol.padding import MAX_CHUNK_BYTES, Padding
from blindgate_protocol.values import BlobRef, Digest, Name, Size, Value
from blindgate_rag.corpus_keys import CorpusKey, KeyHeader
from blindgate_rag.searching import RANKINGS

ANCESTORS: Final = 128
MOST_HEAD_BYTES: Final = 8 << 20
_STEP: Final = 64 << 10
PADDING: Final = Padding(rule="buckets", buckets=tuple(range(_STEP, MAX_CHUNK_BYTES + 1, _STEP)))
_FORGET: Final = "`blindgate rag forget` takes what lies there as if for the first time"
_PUT_BACK: Final = "`blindgate rag put-back` puts what this machine has in its place"
_HEAD: Final = "head"
_LENGTH_BYTES: Final = 2

_ShardName = Annotated[str, StringConstraints(pattern=r"^s[01]{0,48}$")]
_Count = Annotated[int, Field(ge=0, lt=1 << 53)]
_Settings = dict[Name, Annotated[str, StringConstraints(max_length=1000)]]
_NEEDED: Final = ("embedder", "dimension", "largest")
_DIMENSION: Final = re.compile(r"[1-9][0-9]{0,4}")


class ShardRef(Value):
    """A shard, in a head.

    Attributes:
        digest: of its blob.
        size: of its blob.
        generation: of the head that it was put with first.
        content: the digest of what is sealed in it: the same content is not put again.
    """

    digest: Digest
    size: Size
    generation: Annotated[int, Field(ge=1)]
    content: Digest

    @property
    def blob(self) -> BlobRef:
        """Its blob."""
        return BlobRef(digest=self.digest, size=self.size)


class Head(CanonicalValue):
    """A corpus at one moment.

    Attributes:
        name: by which its owner asks for it.
        generation: 1 for the first, and one more for each that follows.
        ancestors: the digests of the heads before it, the latest first.
        header: the digest of the key header beside it.
        settings: what is set for the corpus: its embedder, the vectors' scale, the ranking.
        documents: the last id that was given to a document, also of one that is gone.
        passages: the last id that was given to a passage.
    """

    most_bytes = MOST_HEAD_BYTES

    purpose: Literal["blindgate corpus head v1"] = "blindgate corpus head v1"
    corpus: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    name: Name
    generation: Annotated[int, Field(ge=1, lt=1 << 53)]
    ancestors: Annotated[tuple[Digest, ...], Field(max_length=ANCESTORS)]
    header: Digest
    settings: _Settings
    documents: _Count
    passages: _Count
    shards: Annotated[dict[_ShardName, ShardRef], Field(max_length=MOST_SHARDS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.ancestors) != min(self.generation - 1, ANCESTORS):
            message = f"generation {self.generation} names {len(self.ancestors)} heads before it"
            raise ValueError(message)
        # 4.
        if any(after.startswith(before) for before, after in itertools.pairwise(sorted(self.shards))):
            message = "of two shards one is a part of the other"
            raise ValueError(message)
        _check_settings(self.settings, needed=_NEEDED if self.shards else ())
        return self

    @property
    def dimension(self) -> int:
        """How many numbers a vector has; 0 where no document ever came."""
        return int(self.settings.get("dimension", 0))


@dataclass(frozen=True)
class SeenHead:
    """The newest head that a client saw of a corpus."""

    generation: int
    digest: str


class Seen(Protocol):
    """What a client has seen of its corpora, so that nobody can bring back what was before."""

    def newest(self, corpus: str) -> SeenHead | None:
        """The newest head of the corpus with this id."""

    def remember(self, corpus: str, head: SeenHead) -> None:
        """Remember a head, unless a newer one is remembered."""


@dataclass(frozen=True)
class Placed:
    """A head that lies there, and the digest of its blob."""

    head: Head
    digest: str

    @property
    def seen(self) -> SeenHead:
        """What is remembered of it."""
        return SeenHead(self.head.generation, self.digest)


def sealed_head(key: CorpusKey, header: KeyHeader, head: Head) -> bytes:
    """A head as the blob that is put."""
    outer = header.to_bytes()
    return len(outer).to_bytes(_LENGTH_BYTES) + outer + key.padded(PADDING).seal_again(_HEAD, 0, head.to_bytes())


def header_of(blob: bytes) -> KeyHeader:
    """The key header in a head's blob. Raises `CorpusError`. Nothing holds it yet."""
    try:
        return KeyHeader.from_bytes(blob[_LENGTH_BYTES : _end(blob)])
    except MalformedError as error:
        message = f"what lies there is no corpus of this release: {error}"
        raise CorpusError(message) from error


def opened_head(key: CorpusKey, name: str, blob: bytes, *, seen: Iterable[SeenHead | None]) -> Placed:
    """Steps 1 to 4. `seen` is what is known of the newest head so far, from wherever. Raises `CorpusError`."""
    header, what = header_of(blob), f"corpus {name!r}"
    # 1.
    if header.corpus != key.corpus:
        message = (
            f"{what}: another corpus lies there now than the one that this client knows so. Was it made anew? {_FORGET}"
        )
        raise CorpusError(message)
    data = key.padded(PADDING).open(_HEAD, 0, blob[_end(blob) :], where=what)
    try:
        head = Head.from_bytes(data)
    except MalformedError as error:
        message = f"{what}: its head is not what this release reads: {error}"
        raise CorpusError(message) from error
    if head.name != name or head.corpus != key.corpus:
        message = f"{what}: what was given is the corpus {head.name!r}"
        raise CorpusError(message)
    # 2.
    if head.header != header.digest:
        message = f"{what}: its key's header is not the one that the head was put with"
        raise CorpusError(message)
    # 3.
    placed = Placed(head, digest(blob))
    for one in seen:
        if one is not None:
            _require_continued(what, placed, one)
    return placed


def require_recent(name: str, generation: int, at_least: int) -> None:
    """Refuse a head that is older than another machine's, of whom nothing is known here. Raises `RolledBackCorpusError`."""
    if generation < at_least:
        message = (
            f"corpus {name!r}: generation {generation} was given, and at least {at_least} was said to be there: the gateway shows "
            "what was before, or the number is another corpus's"
        )
        raise RolledBackCorpusError(message)


def _require_continued(what: str, placed: Placed, seen: SeenHead) -> None:
    head, ahead = placed.head, placed.head.generation - seen.generation
    if ahead < 0:
        message = (
            f"{what}: generation {head.generation} was given, and this client has seen {seen.generation}: the gateway brought back "
            f"what was before. Was it restored from a backup? {_PUT_BACK}"
        )
        raise RolledBackCorpusError(message)
    if ahead == 0 and placed.digest != seen.digest:
        message = f"{what}: there are two of generation {head.generation}, and this client has seen the other one"
        raise ForkedCorpusError(message)
    if 0 < ahead <= len(head.ancestors) and head.ancestors[ahead - 1] != seen.digest:
        message = (
            f"{what}: generation {head.generation} does not continue the {seen.generation} that this client has seen: the gateway "
            "showed two clients two corpora"
        )
        raise ForkedCorpusError(message)


def sealed_shard(key: CorpusKey, name: str, generation: int, data: bytes) -> tuple[ShardRef, bytes]:
    """A shard as the blob that is put, and what the head says of it."""
    blob = key.padded(PADDING).seal_again(name, generation, data)
    return ShardRef(digest=digest(blob), size=len(blob), generation=generation, content=digest(data)), blob


def opened_shard(key: CorpusKey, name: str, ref: ShardRef, blob: bytes) -> bytes:
    """What is sealed in a shard. Raises `CorpusError`."""
    if len(blob) != ref.size or digest(blob) != ref.digest:
        message = f"shard {name} is not the one that the corpus's head names: {len(blob)} bytes came"
        raise CorpusError(message)
    return key.padded(PADDING).open(name, ref.generation, blob, where="the corpus")


def _check_settings(settings: _Settings, *, needed: Sequence[str]) -> None:
    """What is set is what a corpus can be read by: whoever opens it works with these. Raises `ValueError`."""
    if missing := [name for name in needed if name not in settings]:
        message = f"there are shards, and settings has no {missing[0]}"
        raise ValueError(message)
    if not _DIMENSION.fullmatch(settings.get("dimension", "1")):
        message = "settings.dimension is no number from 1 to 99,999"
        raise ValueError(message)
    if not 0 < float(settings.get("largest", "1")) < math.inf:
        message = "settings.largest is not above 0 and finite"
        raise ValueError(message)
    if settings.get("ranking", RANKINGS[0]) not in RANKINGS:
        message = f"settings.ranking is none of {', '.join(RANKINGS)}"
        raise ValueError(message)


def _end(blob: bytes) -> int:
    return _LENGTH_BYTES + int.from_bytes(blob[:_LENGTH_BYTES])
