r"""Citations in an answer that comes in pieces: which passages it names, and the text without those that name none.

One is asked for as `[2]` or `[1, 3]`, and models write it as they are used to; so these are it as well: `[1-3]`, `[1 and 2]`,
`[Passage 2]`, `[#2]`, `[^1]`, `\[1\]` of Markdown, with a place in the passage `[1, p. 4]`, and in wide brackets `【1】`,
`【1†L3-L5】`. Each is given as `[2]` or `[1, 3]`. Of its numbers those stay that a passage has; where none does it goes, and the
blank before it.

Numbers in brackets are not always citations. These stay as they are: a year (`[2019]`), from one number to another of which one is
no passage's (`[18-65]`), and whatever stands in a block of code (`v[0]`) or is a member's value in JSON (`"doses": [500, 250]`). In
the last two, numbers that all are passages' count as cited.

*Figures.* `[12, 45]` is a reference of some paper's, or the interval that a dose depends on, and nothing tells which. A bracket
that names nothing costs a reader a moment; a figure that is gone is a wrong answer. So where not all of several plain numbers are
passages', and no word or sign says that they are meant so, they stay as they were written, and none is cited, if

1. no passage has any of them; or
2. they are a low and a high one, from 0 on (`[0, 1]`), or behind a word of intervals or an estimate (`95% CI [2, 45]`, `median 12
   [4, 31]`); or
3. they are one number in groups of three digits (`[1,200]`).

Where all are passages', they are cited, and no figure is lost, since the text has them. A lone number is taken for a citation: that
is how they are written, and hardly anything else is. Of an earlier answer, whose passages are not at hand, rule 1 says nothing.

No citation is longer than `LONGEST`, so what may become one is held back for no longer than that, and all else is given at once:
what is given out in all is the same, wherever the pieces end.
"""

import re
from typing import Final

_INSIDE: Final = 120
LONGEST: Final = _INSIDE + 5
"""A blank, brackets that may have backslashes before them, and what stands between them."""

_BRACKETS: Final = r"\[\]\uff3b\uff3d\u3010\u3011"
_OPEN: Final = r"\\?[\[\uff3b\u3010]"
_CLOSE: Final = r"\\?[\]\uff3d\u3011]"
_DASH: Final = r"\u2010-\u2014-"
_WORDS: Final = ("passage", "passages", "source", "sources", "document", "documents", "doc", "docs", "ref", "refs")
_PLACES: Final = ("page", "pages", "p", "pp", "line", "lines")
_NUMBER: Final = r"\d{1,4}"
_ITEM: Final = rf"(?:(?:{'|'.join(_WORDS)})[ :#]{{0,2}}|[#^])?{_NUMBER}(?:\s{{0,2}}(?:[{_DASH}]|to)\s{{0,2}}{_NUMBER})?"
_AND: Final = r"\s{0,3}(?:[,;&/|]|and)\s{0,3}"
_PLACE: Final = (
    rf"\u2020[^\s{_BRACKETS}]*|[,:;]?\s{{0,2}}(?:{'|'.join(_PLACES)})\.?\s{{0,2}}{_NUMBER}(?:\s?[{_DASH}]\s?{_NUMBER})?"
)
_CITED: Final = (
    rf"[ ]?{_OPEN}(?=[^{_BRACKETS}]{{1,{_INSIDE}}}[{_BRACKETS}])"
    rf"\s{{0,2}}(?P<items>{_ITEM}(?:{_AND}{_ITEM}){{0,32}})(?:{_PLACE})?\s{{0,2}}{_CLOSE}"
)
_READ: Final = re.compile(rf"(?P<fence>`{{3,}})|{_CITED}", re.IGNORECASE)
_BEGUN: Final = re.compile(rf"(?:[ ]?{_OPEN}(?P<inside>[^{_BRACKETS}]{{0,{_INSIDE}}})|[ ]?\\|[ ]|(?<!`)`{{1,2}})\Z")
"""The end of a text that may go on as a citation, if what is inside is `_LIKELY`, or as the mark of a block of code."""
_LIKELY: Final = re.compile(
    rf"(?:[\d\s,;:&/|#^.\\{_DASH}]|\u2020[^\s]*+|(?<![a-z])(?:and|to|{'|'.join((*_WORDS, *_PLACES))})(?![a-z]))*+(?P<word>[a-z]*)",
    re.IGNORECASE,
)
_NUMBERS: Final = re.compile(rf"({_NUMBER})(?:\s{{0,2}}(?:[{_DASH}]|to)\s{{0,2}}({_NUMBER}))?", re.IGNORECASE)
_MEMBER: Final = re.compile(r'":\s{0,3}\Z')
_SEVERAL: Final = re.compile(
    rf"[ ]?\\?[\[\uff3b]\s{{0,2}}{_NUMBER}(?:{_AND}{_NUMBER})+\s{{0,2}}\\?[\]\uff3d]", re.IGNORECASE
)
_GROUPED: Final = re.compile(r"\d{1,3}(?:,\d{3})+")
_INTERVAL: Final = re.compile(
    r"(?:(?<![a-z])(?:c\.?i\.?|cri|iqr|intervals?|ranges?|ranging|between|within|bounds|limits)[\s:=*_(,]{0,4}"
    r"(?:(?:is|was|of|from|in)\s?)?|\d\s?%?)\Z",
    re.IGNORECASE,
)
_BEFORE: Final = 32
"""How much of what stands before is looked at."""
_YEAR: Final = 1000


class Citing:
    """Reads an answer's pieces, one after the other."""

    def __init__(self, count: int, *, gone: str = "") -> None:
        """`count`: how many passages there are, from 1 on. `gone`: what stands where one goes, before a letter or digit."""
        self._count = count
        self._gone = gone
        self._held = ""
        self._before = ""
        self._in_code = False
        self._cited: dict[int, None] = {}
        self._unresolved: dict[int, None] = {}

    @property
    def cited(self) -> tuple[int, ...]:
        """The passages that were named so far, in the order in which they were."""
        return tuple(self._cited)

    @property
    def unresolved(self) -> tuple[int, ...]:
        """The numbers that no passage has; they are not in the text."""
        return tuple(self._unresolved)

    def feed(self, piece: str) -> str:
        """Take the next piece; give what is certain by now, perhaps nothing."""
        text = self._held + piece
        at = max(0, len(text) - LONGEST)
        while (begun := _BEGUN.search(text, at)) and not _may_go_on(begun["inside"]):
            at = begun.start() + 1
        end = begun.start() if begun else len(text)
        self._held = text[end:]
        # Of a block's mark that was read already, the rest.
        mark = len(text) - len(text.lstrip("`")) if self._before.endswith("```") else 0
        given = text[: min(mark, end)] + _READ.sub(self._read, text[mark:end])
        self._before = (self._before + text[:end])[-_BEFORE:]
        return given

    def close(self) -> str:
        """The rest, when no piece comes any more."""
        rest, self._held = self._held, ""
        return rest

    def _read(self, found: re.Match[str]) -> str:
        if found["fence"]:
            self._in_code = not self._in_code
            return found[0]
        numbers, certain = self._numbers(found["items"])
        good = [one for one in numbers if 1 <= one <= self._count]
        if self._in_code or self._is_member(found):
            if certain and good == numbers:
                self._cited.update(dict.fromkeys(good))
            return found[0]
        if not certain or (good != numbers and self._is_figure(found, numbers, known=bool(good))):
            return found[0]
        self._cited.update(dict.fromkeys(good))
        self._unresolved.update(dict.fromkeys(one for one in numbers if one not in good))
        lead = " " if found[0].startswith(" ") else ""
        if good:
            return f"{lead}[{', '.join(map(str, good))}]"
        return self._gone if found.string[found.end() : found.end() + 1].isalnum() else ""

    def _numbers(self, items: str) -> tuple[list[int], bool]:
        """The numbers that are named, those between two as well; and whether they are passages', of this request or of none."""
        numbers: list[int] = []
        for low, high in _NUMBERS.findall(items):
            first, last = int(low), int(high or low)
            if high and not 1 <= first <= last <= self._count:
                return [], False
            numbers += range(first, last + 1)
        return numbers, any(one < _YEAR or one <= self._count for one in numbers)

    def _is_figure(self, found: re.Match[str], numbers: list[int], *, known: bool) -> bool:
        """Whether what may be a citation may as well be a figure. `known`: whether a passage has one of its numbers."""
        if not _SEVERAL.fullmatch(found[0]):
            return False
        if _GROUPED.fullmatch(found["items"]):
            return True
        low, *_, high = numbers
        if len(numbers) == 2 and low < high and (low == 0 or _INTERVAL.search(self._in_front_of(found))):  # noqa: PLR2004
            return True
        return self._count > 0 and not known

    def _is_member(self, found: re.Match[str]) -> bool:
        return bool(_MEMBER.search(self._in_front_of(found)))

    def _in_front_of(self, found: re.Match[str]) -> str:
        before = found.string[max(found.start() - _BEFORE, 0) : found.start()]
        return (self._before + before)[-_BEFORE:]


def _may_go_on(inside: str | None) -> bool:
    """Whether what stands behind an open bracket may become a citation."""
    if inside is None:  # no bracket yet
        return True
    likely = _LIKELY.match(inside)
    if likely is None or likely.end() < len(inside):
        return False
    word = likely["word"].lower()
    return any(each.startswith(word) for each in (*_WORDS, *_PLACES, "and", "to"))


def without_citations(text: str) -> str:
    """An answer whose passages are not at hand any more. What stood on both sides of one stays two words, or two numbers."""
    citing = Citing(0, gone=" ")
    return citing.feed(text) + citing.close()
