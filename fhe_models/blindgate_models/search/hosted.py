"""What an asker must know of an index that is somebody's corpus: whose vectors, where the texts lie, and what they are.

It stands in the client part, whose digest the publisher signs. So nobody between publisher and asker can have questions embedded by
another model than the passages were, put other texts under the index, or alter one: every record is held against its digest.
All of it is read by every asker: `discloses` says what that is.
"""

import base64
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from blindgate_models.parts import Strict, decoded
from blindgate_models.search.filters import Filters
from blindgate_protocol.values import Digest, Name

MAX_FETCHES: Final = 64
DIGEST_BYTES: Final = 32
_DISCLOSES: Final = "the order of the passages, a salted digest of each, and which model embedded them"


class EmbedderRef(Strict):
    """The model that gave passages their vectors, and gives a question its own.

    Attributes:
        name: for people.
        digest: of the list of its files: vectors of two digests do not compare.
        dimension: how many numbers a vector has.
        limit: the most tokens of a passage.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    digest: Digest
    dimension: Annotated[int, Field(ge=1)]
    limit: Annotated[int, Field(ge=1)]


class HostedCorpus(Strict):
    """What makes an index a corpus.

    Attributes:
        embedder: whose vectors its entries are.
        passages: the name of the table of records (`lookup`) in which the passages lie, in the order of the entries.
        manifest: the digest of that table's manifest.
        fetches: how many records every search fetches, whatever it found and however many are wanted.
        digests: SHA-256 of each record, one behind the other, in base64.
        filters: what askers may filter by; left out where there is nothing.
    """

    embedder: EmbedderRef
    passages: Name
    manifest: Digest
    fetches: Annotated[int, Field(ge=1, le=MAX_FETCHES)]
    digests: str
    filters: Annotated[Filters | None, Field(exclude_if=lambda value: value is None)] = None

    @property
    def discloses(self) -> tuple[str, ...]:
        """What every asker reads of it, beside what the index itself tells: in words that a manifest can show."""
        if self.filters is None:
            return (_DISCLOSES,)
        return _DISCLOSES, f"of every passage, the values of its document's {', '.join(self.filters.fields)}"

    def record_digests(self, entries: int) -> list[bytes]:
        """The digests of as many records as the index has entries, in their order. Raises `PackageError`."""
        data = decoded(self.digests, entries * DIGEST_BYTES, "search part: corpus.digests")
        return [data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES)]


def packed_digests(digests: list[bytes]) -> str:
    """Digests as a client part holds them."""
    return base64.b64encode(b"".join(digests)).decode("ascii")
