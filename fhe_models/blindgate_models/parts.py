"""How a family reads a part: exact types, no unknown member, and an error that names the field.

A part is data from somebody else. Every value in it is a `Strict` model, so nothing is converted and nothing is passed over, and
`parse` tells which family's part and which member is wrong, never the value. What pydantic cannot know, such as whether the
parameters are secure, the family checks on what `parse` gives back, before it builds anything from it.
"""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from blindgate_models.halves import Part
from blindgate_protocol.errors import PackageError

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """A value in a part: exact types, no unknown member, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def parse(model: type[_Model], part: Part, family: str) -> _Model:
    """Check a part of `family` against its model. Raises `PackageError` naming the family, the field and the rule."""
    try:
        return model.model_validate(part)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        msg = f"{family} part: {where + ': ' if where else ''}{first['msg']}"
        raise PackageError(msg) from None
