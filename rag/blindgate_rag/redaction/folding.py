r"""A text as its digits and letters read, with the way back to where each of them stood.

What a reader takes for a card number may be written with full-width or Arabic digits, no-break spaces, dashes of seven kinds, or
zero-width characters in between; and PDF files give such text without anybody's ill will. So recognisers look at a folded text:

1. every decimal digit is one of 0 to 9, compatible forms of a letter are that letter, spaces, dashes and dots are one kind each,
   and what has no width of its own (format characters, combining marks, control characters) is gone;
2. a line's end of any kind is one `\n` without the blanks around it, and is gone behind a soft hyphen;
3. what a format left over is read: HTML's entities and `<br>`, Markdown's backslashes, `%40` of a URL.

`Folded.span` says which characters of the original a match stands for, those without width included.
"""

import html
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

_GONE: Final = "\u200b"
_SOFT: Final = "\u00ad"
"""A hyphen that shows at a line's end only."""
_ALIKE: Final = {
    character: shown
    for characters, shown in (
        ("\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\n"),
        ("\u2212\u2043\u02d7\u2796\u00af", "-"),  # drawn as dashes, and not of Unicode's category of dashes
        ("\u00b7\u2022\u2027\u2219\u22c5\u30fb", "."),
        ("\u115f\u1160\u2800\u3164\uffa0", _GONE),  # drawn as nothing: Hangul fillers, Braille's empty cell
    )
    for character in characters
} | {character: character for character in f"\t\n\r{_SOFT}"}
_RAISED: Final = re.compile(r"[²³¹⁰⁴-⁹₀-₉①-⑨⓪]{3,}")
"""Raised, lowered and circled digits: one or two are a note's mark, three or more are a number."""

_BLANK: Final = rf"[ \t{_GONE}]*"
_END: Final = r"(?:\r\n|\n|\r)"
_WRITTEN: Final = re.compile(
    rf"(?P<line>(?<![ \t{_GONE}]){_BLANK}{_END}{_BLANK}|<br ?/?>)"
    rf"|(?P<gone>{_GONE}+|{_SOFT}(?:{_BLANK}{_END}{_BLANK})?|<wbr ?/?>|\\(?=[!-/:-@\[-`{{-~]))"
    r"|(?P<at>(?<=[A-Za-z0-9])%40(?=[A-Za-z0-9]))"
    r"|(?P<entity>&(?:amp;){0,2}(?P<name>#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE,
)
"""What stands for another character, or for none. A run of blanks is looked at from its beginning only, so once."""
_STANDS_FOR: Final = {"line": "\n", "gone": "", "at": "@"}


def _folded(character: str) -> str:
    """What one character is folded to: one character, `_GONE` for none."""
    if shown := _ALIKE.get(character):
        return shown
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in {"Cf", "Cc", "Mn", "Me"}:
        return _GONE
    if shown := {"Zs": " ", "Pd": "-"}.get(category):
        return shown
    compatible = unicodedata.normalize("NFKC", character)
    # A note's mark is no digit of the number before it; `_RAISED` knows when it is one.
    return compatible if len(compatible) == 1 and not compatible.isdecimal() else character


class _Table(dict[int, str]):
    """For `str.translate`: filled as characters are met."""

    def __missing__(self, point: int) -> str:
        self[point] = _folded(chr(point))
        return self[point]


_TABLE: Final = _Table()


def _meant(found: re.Match[str]) -> str | None:
    """What a stretch stands for: one character or none; `None` where it is an entity that HTML does not have."""
    if found.lastgroup != "entity":
        return _STANDS_FOR[found.lastgroup or ""]
    read = html.unescape(f"&{found['name']};")
    return _folded(read).strip(_GONE + _SOFT) if len(read) == 1 else None


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text.

    Attributes:
        text: never longer than the original.
        starts: where in the original what each of its characters stands for begins; `None` where each stands where it stood.
        ends: where it ends.
    """

    text: str = field(repr=False)
    starts: list[int] | None = field(default=None, repr=False)
    ends: list[int] | None = field(default=None, repr=False)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]`, which is not empty, stands in the original: from and to, `to` left out."""
        return (start, end) if self.starts is None or self.ends is None else (self.starts[start], self.ends[end - 1])


def fold(text: str) -> Folded:
    """Fold a text. Takes time in proportion to its length."""
    if not text.isascii():
        text = _RAISED.sub(lambda run: "".join(str(unicodedata.digit(digit)) for digit in run[0]), text)
    folded = text.translate(_TABLE)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for found in _WRITTEN.finditer(folded):
        meant, (start, end) = _meant(found), found.span()
        if meant is None or meant == found[0]:
            continue
        parts += [folded[at:start], meant]
        starts += range(at, start)
        ends += range(at + 1, start + 1)
        if meant:
            starts.append(start)
            ends.append(end)
        at = end
    if not at:
        return Folded(folded)
    starts += range(at, len(folded))
    ends += range(at + 1, len(folded) + 1)
    return Folded("".join(parts) + folded[at:], starts, ends)
