"""Values that travel as their canonical bytes and are named by the digest of those.

Nobody signs them by themselves: something else binds the digest, such as a platform's evidence or a seal. So a value has exactly
one text, and a reader refuses every other: bytes too many, before they are parsed; JSON that is not canonical; a field that is
missing, though it has a default here; base64 that could be written otherwise.

Sections 1 and 13 of docs/protocol.md.
"""

from typing import ClassVar, Self

from pydantic import ValidationError

from blindgate_protocol.canonical import canonical, digest, parse_canonical
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Value


class CanonicalValue(Value):
    """A value with exactly one text. `most_bytes` bounds it."""

    most_bytes: ClassVar[int]

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return canonical(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """The digest of the canonical bytes: the value's name."""
        return digest(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the one text of a value. Raises `MalformedError`, which names the field."""
        what = cls.__name__
        if len(data) > cls.most_bytes:
            message = f"{what} of {len(data)} bytes: at most {cls.most_bytes}"
            raise MalformedError(message)
        parse_canonical(data)
        try:
            value = cls.model_validate_json(data)
        except ValidationError as error:
            message = f"{what}: {first_error(error)}"
            raise MalformedError(message) from error
        if value.to_bytes() != data:
            message = f"{what}: a field is missing, or written in another way than the one"
            raise MalformedError(message)
        return value
