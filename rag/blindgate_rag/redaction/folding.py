"""A text as its digits and letters read, with the way back to where each of them stood.

What a reader takes for a card number may be written with full-width or Arabic digits, no-break spaces, dashes of seven kinds, or
zero-width characters in between; and PDF files give such text without anybody's ill will. So recognisers look at a folded text:
every decimal digit is one of 0 to 9, compatible forms of a letter are that letter, spaces and dashes are one kind each, and what
has no width of its own (format characters, combining marks, control characters) is gone. `Folded.span` says which characters of
the original a match stands for, those without width included.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

_GONE: Final = "\u200b"
_LAYOUT: Final = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that are drawn as nothing: Hangul fillers, Braille's empty cell."""
_DASHES: Final = frozenset("\u2212\u2043\u02d7\u2796\u00af")
"""Drawn as dashes, and not of Unicode's category of dashes."""
_RAISED: Final = re.compile(r"[²³¹⁰⁴-⁹₀-₉①-⑨⓪]{3,}")
"""Raised, lowered and circled digits: one or two are a note's mark, three or more are a number."""


def _folded(character: str) -> str:
    """What one character is folded to: one character, or `_GONE`."""
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Zs":
        return " "
    if category == "Pd" or character in _DASHES:
        return "-"
    if character in _LAYOUT:
        return character
    if category in {"Cf", "Cc", "Mn", "Me"} or character in _BLANK_LETTERS:
        return _GONE
    compatible = unicodedata.normalize("NFKC", character)
    # A note's mark is no digit of the number before it; `_RAISED` knows when it is one.
    return compatible if len(compatible) == 1 and not compatible.isdecimal() else character


class _Table(dict[int, str]):
    """For `str.translate`: filled as characters are met."""

    def __missing__(self, point: int) -> str:
        self[point] = _folded(chr(point))
        return self[point]


_TABLE: Final = _Table()


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text.

    Attributes:
        text: never longer than the original.
        places: where in the original each of its characters stands; `None` where each stands where it stood.
    """

    text: str = field(repr=False)
    places: list[int] | None = field(repr=False)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]`, which is not empty, stands in the original: from and to, `to` left out."""
        return (start, end) if self.places is None else (self.places[start], self.places[end - 1] + 1)


def fold(text: str) -> Folded:
    """Fold a text. Takes time in proportion to its length."""
    if not text.isascii():
        text = _RAISED.sub(lambda run: "".join(str(unicodedata.digit(digit)) for digit in run[0]), text)
    folded = text.translate(_TABLE)
    if _GONE not in folded:
        return Folded(folded, None)
    places = [place for place, character in enumerate(folded) if character != _GONE]
    return Folded(folded.replace(_GONE, ""), places)
