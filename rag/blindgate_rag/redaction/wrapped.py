"""Values that a line's end cuts in two: `amy@exam` and `ple.org`, `219-0` and `9-9999`, as text out of PDF files has them.

Recognisers look at lines as they stand. So each line's end that has a character on both sides is looked at once more: the end of
one line and the beginning of the next, together, without what stands between. What is found there counts if it goes over that place
and nothing of it was found before: `see` and `amy@example.org` on two lines are a word and an address.

So of `first.la` and `st@example.org` the first is left, unless a hyphen stands behind it. No character is looked at more than four
times here.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from blindgate_rag.redaction.matches import Match, Recogniser

_AROUND: Final = 64
_CUT: Final = re.compile(r"(?<=[^\s-])(-?)\n(?=\S)")
_APART: Final = "\n\n"


class _Place(NamedTuple):
    """One line's end, in what is looked at once more: where its part begins there, where the next line does; both in the text."""

    start: int
    middle: int
    text_start: int
    text_middle: int
    hyphen: bool


def _parts(text: str) -> tuple[str, list[_Place]]:
    parts: list[str] = []
    places: list[_Place] = []
    length = 0
    for cut in _CUT.finditer(text):
        start = max(cut.start() - _AROUND, text.rfind("\n", 0, cut.start()) + 1)
        stop = text.find("\n", cut.end(), cut.end() + _AROUND)
        right = text[cut.end() : stop if stop >= 0 else cut.end() + _AROUND]
        # A hyphen at a line's end is one of the value's own, or the line's.
        for hyphen in dict.fromkeys(("", cut[1])):
            left = text[start : cut.start()] + hyphen
            places.append(_Place(length, length + len(left), start, cut.end(), bool(cut[1])))
            parts += [left, right, _APART]
            length += len(left) + len(right) + len(_APART)
    return "".join(parts), places


def wrapped(text: str, recognisers: Sequence[Recogniser], found: Iterable[Match]) -> Iterator[Match]:
    """Find what goes over a line's end.

    Args:
        text: a folded text.
        recognisers: who looks; each takes time in proportion to a text's length.
        found: what they found in its lines.
    """
    joined, places = _parts(text)
    if not places:
        return
    taken = bytearray(len(text))
    for match in found:
        taken[match.start : match.end] = b"\1" * (match.end - match.start)
    for recogniser in recognisers:
        for match in recogniser.find(joined):
            place = places[bisect_right(places, match.start, key=lambda each: each.start) - 1]
            start = match.start - place.start + place.text_start
            end = match.end - place.middle + place.text_middle
            if match.start < place.middle < match.end and (place.hyphen or not any(taken[start:end])):
                yield Match(match.name, start, end, match.value)
