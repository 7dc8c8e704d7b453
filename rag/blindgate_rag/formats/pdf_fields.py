"""What was filled into a PDF's page, and typed over it: no part of the text that the page draws, and what a reader looks for first.

The values of a form's fields stand below the page's text, a line each: `patient: Ann`. Boxes that are ticked are told by their
names. Text boxes (`FreeText`) are text. What is hidden is left out: nobody sees it. A field that cannot be read is left out, too:
the page's text does not depend on it.
"""

from collections.abc import Iterator
from typing import Final

from pypdf import PageObject
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, TextStringObject

MAX_FIELDS: Final = 2_000
"""Of one page."""

_MAX_DEPTH = 16
_INVISIBLE = 1 << 1 | 1 << 5  # hidden, and not on screen
_PASSWORD = 1 << 13
_OFF = "/Off"


def filled(page: PageObject) -> Iterator[str]:
    """The lines, in the page's order. Raises whatever the parser meets in a damaged page."""
    annotations = _own(page, "/Annots")
    if not isinstance(annotations, ArrayObject):
        return
    for entry in annotations[:MAX_FIELDS]:
        one = entry.get_object()
        if not isinstance(one, DictionaryObject) or _flags(one, "/F") & _INVISIBLE:
            continue
        kind = _own(one, "/Subtype")
        if kind == "/Widget":
            said = _value(one)
            if said:
                yield said
        elif kind == "/FreeText" and isinstance(text := _own(one, "/Contents"), TextStringObject):
            yield str(text)


def _value(widget: DictionaryObject) -> str:
    value, kind = _inherited(widget, "/V"), _inherited(widget, "/FT")
    name = " ".join(str(_inherited(widget, "/TU") or _inherited(widget, "/T") or "").split())
    if kind in {"/Tx", "/Ch"}:
        flags = _inherited(widget, "/Ff")
        if kind == "/Tx" and isinstance(flags, int) and flags & _PASSWORD:
            return ""
        values = [value[place] for place in range(len(value))] if isinstance(value, ArrayObject) else [value]
        return _line(name, ", ".join(str(one) for one in values if isinstance(one, str)))
    state = _own(widget, "/AS")
    ticked = kind == "/Btn" and isinstance(state, NameObject) and state != _OFF
    return _line(name, str(state).removeprefix("/")) if ticked else ""


def _line(name: str, value: str) -> str:
    value = value.strip()
    return f"{name}: {value}" if name and value else value


def _inherited(field: DictionaryObject, key: str) -> object:
    """A field's own entry, or that of the field that it is a part of."""
    for _ in range(_MAX_DEPTH):
        if key in field:
            return field[key]
        parent = _own(field, "/Parent")
        if not isinstance(parent, DictionaryObject):
            return None
        field = parent
    return None


def _own(entry: DictionaryObject, key: str) -> object:
    return entry[key] if key in entry else None  # noqa: SIM401  (`get` does not follow references)


def _flags(entry: DictionaryObject, key: str) -> int:
    flags = _own(entry, key)
    return flags if isinstance(flags, int) else 0
