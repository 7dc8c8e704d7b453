"""Which passages of a hosted corpus a search may find: what its owner offers to filter by, and what an asker makes of `where`.

The owner names fields (`offered`); their values go into the index's client part, which every asker reads. The asker holds them
against `where` on its own machine (`Offered.allowed`), by the rule that a corpus of one's own has, so that a filter changes what is
picked of the scores and nothing that is sent.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from blindgate_models.search.filters import (
    MAX_FIELDS,
    MAX_NAME,
    MAX_TEXT,
    FieldValue,
    Filters,
    packed_places,
)
from blindgate_protocol.errors import InputError
from blindgate_protocol.signing import first_error
from blindgate_rag.hits import Hit
from blindgate_rag.records import Where, check_where, is_so

_VALUE: Final[TypeAdapter[Any]] = TypeAdapter(FieldValue)


class Offered:
    """What an asker may filter by, read from a client part."""

    def __init__(self, fields: Sequence[str], descriptions: Sequence[dict[str, Any]], places: NDArray[np.intp]) -> None:
        """Made by `of`."""
        self.fields = tuple(fields)
        self._descriptions = descriptions
        self._places = places

    @classmethod
    def of(cls, filters: Filters | None, entries: int) -> Self:
        """What a client part of so many entries offers; nothing where it has no such section. Raises `PackageError`."""
        if filters is None:
            return cls((), (), np.zeros(entries, dtype=np.intp))
        return cls(filters.fields, filters.descriptions, filters.places(entries))

    def allowed(self, where: Where, corpus: str) -> NDArray[np.bool_]:
        """Which passages' documents are so, `(entries,)`. Raises `InputError` naming a field that is not offered, and which are."""
        check_where(where)
        for name in where:
            if name not in self.fields:
                offered = f"its owner offers {', '.join(self.fields)}" if self.fields else "its owner offers nothing"
                message = f"where: corpus {corpus!r} cannot be filtered by {name!a:.100}: {offered}"
                raise InputError(message)
        if not where:
            return np.ones(len(self._places), dtype=np.bool_)
        so = np.array([is_so(one, where) for one in self._descriptions], dtype=np.bool_)
        return np.asarray(so[self._places], dtype=np.bool_)


def offered(passages: Sequence[Hit], fields: Sequence[str]) -> Filters | None:
    """What a client part says of these passages, in their order; `None` without a field.

    Raises `InputError` naming the field that no document has, or whose value does not fit, and the document.
    """
    if isinstance(fields, str):
        message = f"filter by {fields!a:.100}: expected a list of fields, and this is one text"
        raise InputError(message)
    if not fields:
        return None
    _require_fields(passages, fields)
    descriptions: list[dict[str, Any]] = []
    known: dict[str, int] = {}
    places: list[int] = []
    for passage in passages:
        said = {name: passage.metadata[name] for name in fields if name in passage.metadata}
        key = json.dumps(said, sort_keys=True)  # true and 1 are two values, as they are in `where`
        if key not in known:
            _require_values(said, passage.source)
            known[key] = len(descriptions)
            descriptions.append(said)
        places.append(known[key])
    try:
        return Filters(fields=list(fields), descriptions=descriptions, passages=packed_places(places))
    except ValidationError as error:
        message = f"filter by {', '.join(fields)}: {first_error(error)}; every asker fetches them: name fewer fields"
        raise InputError(message) from None


def _require_fields(passages: Sequence[Hit], fields: Sequence[str]) -> None:
    if len(fields) > MAX_FIELDS or len(set(fields)) != len(fields):
        message = f"filter by {', '.join(fields)}: expected at most {MAX_FIELDS} fields, each once"
        raise InputError(message)
    known = {name for passage in passages for name in passage.metadata}
    for name in fields:
        if not 1 <= len(name) <= MAX_NAME:
            message = f"filter by {name!a:.100}: a name has 1 to {MAX_NAME} characters here, got {len(name)}"
            raise InputError(message)
        if name not in known:
            message = (
                f"filter by {name!r}: no document's metadata has it; there is {', '.join(sorted(known)) or 'none'}"
            )
            raise InputError(message)


def _require_values(said: dict[str, Any], source: str) -> None:
    for name, value in said.items():
        try:
            _VALUE.validate_python(value, strict=True)
        except ValidationError:
            message = (
                f"filter by {name!r}: what {source} has does not fit: expected true or false, a number within 2^53, or a text of "
                f"at most {MAX_TEXT} characters"
            )
            raise InputError(message) from None
