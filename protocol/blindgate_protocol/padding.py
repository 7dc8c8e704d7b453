"""How much longer than its data a chunk is made inside the seal, so that its length tells less.

What a listener sees of a sealed chunk is its length, and the lengths of an answer's chunks tell its words' (token by token, they
tell topics). A rule maps each length to a size:

| rule | size for `n` bytes of data |
|---|---|
| `none` | `n` |
| `powers` | the least power of two that is at least `n` and 64 |
| `buckets` | the least bucket that is at least `n`; a chunk holds no more than the largest |

Inside the seal stands the data's length, the data, and zeros up to the size. Whoever opens it knows the rule and holds the chunk
to it: a size that the rule would not have given, or a byte that is not zero, is refused. Otherwise padding would be a channel for
whoever seals, and a rule that nobody checks is a wish.

What it does not hide: how many chunks there are, and when they come.

Section 13 of docs/protocol.md.
"""

import itertools
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from blindgate_protocol.errors import PaddingError
from blindgate_protocol.values import Value

MAX_CHUNK_BYTES: Final = 1 << 20
"""The most data in one chunk, padding included."""

MOST_BUCKETS: Final = 32
LENGTH_BYTES: Final = 4
_LEAST_POWER: Final = 64


class Padding(Value):
    """A rule.

    Attributes:
        buckets: sizes that grow, each 1 to 1,048,576 bytes; given exactly where the rule is `buckets`.
    """

    rule: Literal["none", "powers", "buckets"] = "none"
    buckets: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_CHUNK_BYTES)], ...], Field(max_length=MOST_BUCKETS)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.rule == "buckets") != bool(self.buckets):
            message = "buckets are given with the rule buckets, and with no other"
            raise ValueError(message)
        if any(before >= after for before, after in itertools.pairwise(self.buckets)):
            message = "each bucket is larger than the one before"
            raise ValueError(message)
        return self

    @property
    def capacity(self) -> int:
        """The most data in one chunk, in bytes."""
        return self.buckets[-1] if self.buckets else MAX_CHUNK_BYTES

    def size_of(self, length: int) -> int:
        """The size of a chunk with `length` bytes of data, at most `capacity`."""
        if self.rule == "buckets":
            return next(bucket for bucket in self.buckets if bucket >= length)
        if self.rule == "powers":
            return max(_LEAST_POWER, 1 << (length - 1).bit_length()) if length else _LEAST_POWER
        return length

    def pad(self, data: bytes | memoryview) -> bytes:
        """The data behind its length, with zeros up to the rule's size; `data` has at most `capacity` bytes."""
        return b"".join((len(data).to_bytes(LENGTH_BYTES, "big"), data, bytes(self.size_of(len(data)) - len(data))))

    def unpad(self, padded: bytes) -> bytes:
        """The data of a chunk that was opened. Raises `PaddingError` unless it is padded by this rule, to the byte."""
        length, size = int.from_bytes(padded[:LENGTH_BYTES], "big"), len(padded) - LENGTH_BYTES
        if not 0 <= length <= min(size, self.capacity):
            message = f"a chunk of {size} bytes says that it holds {length}"
            raise PaddingError(message)
        wanted = self.size_of(length)
        if size != wanted:
            message = f"a chunk with {length} bytes of data has {size}, where the rule {self.rule!r} makes it {wanted}"
            raise PaddingError(message)
        end = LENGTH_BYTES + length
        if padded.count(0, end) != size - length:
            message = "a chunk's padding is not all zeros"
            raise PaddingError(message)
        return padded[LENGTH_BYTES:end]
