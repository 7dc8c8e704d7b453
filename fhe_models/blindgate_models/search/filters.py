"""What askers of a hosted corpus may filter by: values of a few fields of its documents' metadata, which they hold themselves.

A search gives its asker the score of every passage anyway, so that it can look for the best among some of them, and nobody else
learns that it did. What it must know for that, of every passage, stands in the client part: **every asker reads it**. So an owner
names the fields, and these fields' values are there, and no others.

Passages of one description share it: descriptions stand there once, and each passage says which is its own.
"""

import base64
from collections.abc import Sequence
from typing import Annotated, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from blindgate_models.parts import Strict, decoded
from blindgate_protocol.errors import PackageError

MAX_FIELDS: Final = 16
MAX_NAME: Final = 64
MAX_TEXT: Final = 1000
MAX_CHARACTERS: Final = 4 << 20
"""Of all descriptions together: each asker fetches them."""
PLACE_BYTES: Final = 4

_PLACE: Final = np.dtype("<u4")
_LARGEST_WHOLE: Final = 2**53 - 1

FieldName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
FieldValue: TypeAlias = (
    bool
    | Annotated[int, Field(ge=-_LARGEST_WHOLE, le=_LARGEST_WHOLE)]
    | Annotated[float, Field(ge=-_LARGEST_WHOLE, le=_LARGEST_WHOLE, allow_inf_nan=False)]
    | Annotated[str, StringConstraints(max_length=MAX_TEXT)]
)
"""A text, true or false, or a number that JSON's readers agree on."""


class Filters(Strict):
    """What a hosted corpus tells its askers of every passage.

    Attributes:
        fields: the names by which they may filter.
        descriptions: the values of those fields, of one document or several; a field that a document does not have is not there.
        passages: for each entry of the index the position of its description, 4 bytes, the lowest first, in base64.
    """

    fields: Annotated[list[FieldName], Field(min_length=1, max_length=MAX_FIELDS)]
    descriptions: Annotated[list[dict[FieldName, FieldValue]], Field(min_length=1)]
    passages: str

    @model_validator(mode="after")
    def _of_these_fields(self) -> Self:
        known = set(self.fields)
        if len(known) != len(self.fields):
            msg = "fields: one stands there twice"
            raise ValueError(msg)
        for place, one in enumerate(self.descriptions):
            if not known.issuperset(one):
                msg = f"descriptions.{place}: has a field that is none of {', '.join(self.fields)}"
                raise ValueError(msg)
        characters = sum(len(name) + len(str(value)) for one in self.descriptions for name, value in one.items())
        if characters > MAX_CHARACTERS:
            msg = f"descriptions: got {characters} characters, expected at most {MAX_CHARACTERS} together"
            raise ValueError(msg)
        return self

    def places(self, entries: int) -> NDArray[np.intp]:
        """Which description each of the index's entries has, `(entries,)`. Raises `PackageError`."""
        named = "search part: corpus.filters.passages"
        places = np.frombuffer(decoded(self.passages, entries * PLACE_BYTES, named), dtype=_PLACE).astype(np.intp)
        if int(places.max(initial=0)) >= len(self.descriptions):
            msg = f"{named}: got a position of {int(places.max())}, and there are {len(self.descriptions)} descriptions"
            raise PackageError(msg)
        return places


def packed_places(places: Sequence[int]) -> str:
    """Positions of descriptions as a client part holds them."""
    return base64.b64encode(np.asarray(places, dtype=_PLACE).tobytes()).decode("ascii")
