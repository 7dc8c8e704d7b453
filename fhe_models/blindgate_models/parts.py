"""How a family reads a part: exact types, no unknown member, secure parameters, and an error that names the field.

A part is data from somebody else. Every value in it is a `Strict` model, so nothing is converted and nothing is passed over.
`parse` tells which family's part and which member is wrong, never the value. It ends with the parameters' own `check`, which no
family can forget: it holds them against 128-bit security before anything is built from them.
"""

import base64
import binascii
from typing import Annotated, Any, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blindgate_models.halves import Part
from blindgate_protocol.errors import PackageError


class Strict(BaseModel):
    """A value in a part: exact types, no unknown member, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Padded(Strict):
    """A node's part of a model that may be private. Manifests, which are public, name its digest and its size.

    Attributes:
        padding: random, so that no digest confirms a guess, and so long that parts of one shape have one size
            (`compilers.padding`). Nothing reads it.
    """

    padding: Annotated[str, Field(max_length=64 << 20)] = ""


class _Checked(Protocol):
    def check(self) -> None:
        """Refuse parameters that make no sense or are not secure. Raises `PackageError`."""


class _WithParameters(Protocol):
    @property
    def parameters(self) -> _Checked: ...

    @classmethod
    def model_validate(cls, obj: Any, /) -> Self:
        """Pydantic's. Raises `ValidationError`."""


_Model = TypeVar("_Model", bound=_WithParameters)


def parse(model: type[_Model], part: Part, family: str) -> _Model:
    """Check a part of `family` against its model, and its parameters. Raises `PackageError` naming family, field and rule."""
    try:
        parsed = model.model_validate(part)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        msg = f"{family} part: {where + ': ' if where else ''}{first['msg']}"
        raise PackageError(msg) from None
    parsed.parameters.check()
    return parsed


def decoded(text: str, size: int, field: str) -> bytes:
    """The `size` bytes that a `field`, named with its family, holds in base64. Raises `PackageError` naming it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        msg = f"{field}: not base64"
        raise PackageError(msg) from None
    if len(data) != size:
        msg = f"{field}: got {len(data)} bytes, expected {size}"
        raise PackageError(msg)
    return data
