"""The small values that documents and messages are made of.

Each is a pydantic type with its whole grammar, so a field that was parsed needs no second check. Times are whole
milliseconds since 1970-01-01 UTC, the same in documents, messages and the gateway's tables.
"""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A SHA-256 digest."""

KeyId = Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9_-]{43}$")]
"""A signing key's public half: its raw 32 bytes in unpadded base64url. The id is the key, so nothing has to be looked up."""

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""128 random bits, chosen by the client."""

NAME = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
"""What a name looks like."""

Name = Annotated[str, StringConstraints(pattern=NAME)]
"""A name for people: of a model, tenant, node, operator."""

Millis = Annotated[int, Field(ge=0, lt=2**53)]
"""A point in time, or a length of time, in milliseconds."""

Size = Annotated[int, Field(ge=0, lt=2**53)]
"""A number of bytes."""

SMALL_BYTES = 1 << 16
"""Blobs up to this size may travel inside a message, and need no request of their own."""

SmallBlob = Annotated[
    bytes,
    Field(max_length=SMALL_BYTES),
    WithJsonSchema({"type": "string", "format": "base64url", "maxLength": -(-SMALL_BYTES // 3) * 4}),
]
"""A blob's bytes inside a message, in base64url."""

MAX_TEXT = 2000

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
"""Prose for people."""

WITHOUT_NUL = r"^[^\x00]*$"
"""What PostgreSQL can hold."""

Reason = Annotated[str, StringConstraints(max_length=2000, pattern=WITHOUT_NUL)]
"""Prose that the gateway stores."""


class Value(BaseModel):
    """A value that cannot change, has no unknown field, and converts nothing."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class BlobRef(Value):
    """Bytes that lie elsewhere, by name and length."""

    digest: Digest
    size: Size
