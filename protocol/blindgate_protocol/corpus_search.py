"""What a sealed request to search a corpus says, and its answer.

The corpus rests, sealed, at the gateway. Its owner names it at one moment, by the digest of its head, and gives the key that
opens head and shards: to a node that was judged, inside the seal, and to nobody else. So the node reads exactly what the owner has
checked, or nothing.

Section 13 of docs/protocol.md.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from blindgate_protocol.values import BlobRef, JobId, Name, Value

MOST_FOUND: Final = 1000
"""How many passages one search gives at most."""
MOST_CHARACTERS: Final = 1 << 20
_MOST_NAMES: Final = 100
_MOST_CHOICES: Final = 1000

Ranking = Literal["fused", "blended", "dense", "bm25"]
"""By what passages are ranked: places by meaning and by words together, scores by both together, meaning, words."""

Metadatum = Annotated[str, StringConstraints(max_length=16 << 10)] | int | float | bool
_MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=16 << 10)]
_Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class CorpusQuery(Value):
    """A question to a corpus.

    Attributes:
        corpus: its own id, which its key is bound to.
        name: what it is called at the gateway.
        head: what it is at the moment that is asked of.
        key: the 32 secret bytes that it is sealed with, in hexadecimal.
        k: how many passages.
        where: only documents whose metadata is so: each name has this value, or one of these.
        ranking: by what passages are ranked; by default what the corpus has.
        tokens: no more text than this, in the embedding model's tokens.
    """

    corpus: JobId
    name: Name
    head: BlobRef
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(repr=False)
    query: Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)] = Field(repr=False)
    k: Annotated[int, Field(ge=1, le=MOST_FOUND)]
    where: (
        Annotated[
            dict[_MetadataName, Metadatum | Annotated[tuple[Metadatum, ...], Field(max_length=_MOST_CHOICES)]],
            Field(max_length=_MOST_NAMES),
        ]
        | None
    ) = Field(default=None, repr=False)
    ranking: Ranking | None = None
    tokens: _Count | None = None


class CorpusHit(Value):
    """A passage that was found. See `blindgate_rag.hits.Hit`."""

    text: str
    source: str
    page: _Count | None
    score: float
    metadata: dict[str, str | int | float | bool]
    passage: Annotated[int, Field(ge=1, lt=1 << 63)]
    tokens: _Count


class CorpusHits(Value):
    """What was found, the best first."""

    hits: Annotated[tuple[CorpusHit, ...], Field(max_length=MOST_FOUND)]
