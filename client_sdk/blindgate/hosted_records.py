"""A passage as a record of a hosted corpus: what its owner writes, and its asker reads back.

A record is a salt, a length, the passage as JSON and deflated, and zeros up to the one size that all records of a corpus have. Its
SHA-256 stands in the index's client part. So

1. no record is longer than another, and none tells its passage's length;
2. no digest confirms a guess of a passage: 128 of a record's bits are random;
3. who fetched a record knows whether it is the one that the owner wrote (`opened`), before a byte of it is parsed.

What is inflated is bounded: the owner is a publisher whom the policy trusts, and not with this process's memory.
"""

import hashlib
import secrets
import zlib
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, ValidationError

from blindgate_models.lookup.spec import MAX_BYTES, MAX_RECORD_BYTES, MAX_RECORDS
from blindgate_protocol.errors import InputError
from blindgate_protocol.values import Value
from blindgate_rag.hits import Hit

_SALT_BYTES: Final = 16
_LENGTH_BYTES: Final = 4
_BEFORE: Final = _SALT_BYTES + _LENGTH_BYTES
_STEP: Final = 32
"""Sizes are multiples of it, so that the longest passage is not told to the byte."""
_MOST_INFLATED: Final = 1 << 20
_RAW: Final = -zlib.MAX_WBITS


class _Passage(Value):
    """What a record says."""

    text: str
    source: str
    page: int | None
    metadata: dict[str, str | bool | int | float]
    passage: Annotated[int, Field(ge=0)]
    tokens: Annotated[int, Field(ge=0)]


def written(passages: Sequence[Hit]) -> list[bytes]:
    """Records of one size, in the order of the passages; their scores are left out.

    Raises `InputError` naming a passage that is too long, or saying that there are too many.
    """
    bodies = [_deflated(one) for one in passages]
    longest = max(range(len(bodies)), key=lambda place: len(bodies[place]))
    size = -(-(_BEFORE + len(bodies[longest])) // _STEP) * _STEP
    named = f"passage {passages[longest].passage} of {passages[longest].source}"
    if size > MAX_RECORD_BYTES:
        message = (
            f"{named}: takes {size} bytes with its document's metadata, compressed; expected at most {MAX_RECORD_BYTES}"
        )
        raise InputError(message)
    if len(bodies) > MAX_RECORDS or len(bodies) * size > MAX_BYTES:
        message = (
            f"{len(bodies)} passages, each filled up to the {size} bytes of the longest, which is {named}: expected at most "
            f"{MAX_RECORDS}, and {MAX_BYTES} bytes together"
        )
        raise InputError(message)
    return [_record(body, size) for body in bodies]


def record_digest(record: bytes) -> bytes:
    """The digest by which a client part names a record."""
    return hashlib.sha256(record).digest()


def opened(record: bytes, digest: bytes, score: float) -> Hit | None:
    """The passage that a record says, with the score that it was found with; `None` for a record that is not the owner's."""
    if record_digest(record) != digest:
        return None
    length = int.from_bytes(record[_SALT_BYTES:_BEFORE])
    inflating = zlib.decompressobj(_RAW)
    try:
        data = inflating.decompress(record[_BEFORE : _BEFORE + length], _MOST_INFLATED)
        found = _Passage.model_validate_json(data) if inflating.eof else None
    except (zlib.error, ValidationError):
        found = None
    if found is None:
        return None
    return Hit(
        text=found.text,
        source=found.source,
        page=found.page,
        score=score,
        metadata=found.metadata,
        passage=found.passage,
        tokens=found.tokens,
    )


def _deflated(hit: Hit) -> bytes:
    passage = _Passage(
        text=hit.text,
        source=hit.source,
        page=hit.page,
        metadata=dict(hit.metadata),
        passage=hit.passage,
        tokens=hit.tokens,
    )
    data = passage.model_dump_json().encode()
    if len(data) >= _MOST_INFLATED:
        message = (
            f"passage {hit.passage} of {hit.source}: takes {len(data)} bytes with its document's metadata, uncompressed; "
            f"expected less than {_MOST_INFLATED}"
        )
        raise InputError(message)
    deflating = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=_RAW)
    return deflating.compress(data) + deflating.flush()


def _record(body: bytes, size: int) -> bytes:
    return (secrets.token_bytes(_SALT_BYTES) + len(body).to_bytes(_LENGTH_BYTES) + body).ljust(size, b"\0")
