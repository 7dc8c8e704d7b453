"""Identifiers of digits alone: a table, and the walk over a text that looks for all of its rows at once.

A text's digits come in runs: groups of digits with at most a few spaces, a dash, a dot, a slash or a line's end between. From every
group of a run, the windows that end with a group and are as long as some row wants are tried; so an identifier is found behind an
amount or a date as well. No window is longer than a card's number, so the time is in proportion to the text's length.

A checksum alone is passed by one number in ten or eleven, and tables are full of numbers. A row says what else makes a window
believable: that its digits are grouped as this identifier's are (`shapes`, with `marks` between), that they are not grouped
at all (`plain`), or that one of its own words stands near (`words`), which makes any grouping believable.

A new identifier is a new row; its check goes to `checksums`.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from blindgate_rag.redaction import checksums
from blindgate_rag.redaction.matches import Match
from blindgate_rag.redaction.words import JOINED, any_of

_RUN: Final = re.compile(r"[0-9]+(?:(?:[ \t]{0,2}[-./_][ \t]{0,2}|[ \t]{1,3}|-?\n)[0-9]+)*")
_GROUP: Final = re.compile(r"[0-9]+")
_BOOK: Final = re.compile(r"ISBN(?:-1[03])?[: ]{0,2}\Z", re.IGNORECASE)
_EXPONENT: Final = re.compile(r"e[+-]?[0-9]", re.IGNORECASE)
_BEFORE_BOOK: Final = 9
_BEFORE: Final = 40
_AFTER: Final = 16
"""In how many characters before, or after, a word is near."""


@dataclass(frozen=True, slots=True)
class Number:
    """A row: an identifier of digits alone.

    Attributes:
        lengths: how many digits.
        check: whether such digits are one.
        shapes: the sizes of its groups, as it is written.
        marks: what stands between groups of these shapes: one mark, the same everywhere, or all of them in their order. A line's
            end may stand for one.
        plain: whether digits that are not grouped are believed without a word; of a card also digits beside letters.
        words: a regular expression: what is written beside it.
    """

    name: str
    lengths: frozenset[int]
    check: Callable[[str], bool]
    shapes: frozenset[tuple[int, ...]]
    marks: tuple[str, ...] = (" ", "-")
    plain: bool = False
    words: str = ""


def _card_shapes() -> frozenset[tuple[int, ...]]:
    """Groups of one size from 3 to 8, the last one perhaps shorter; and American Express', Diners Club's and UATP's own."""
    shapes = {(4, 6, 5), (4, 6, 4), (4, 5, 6), (6, 13), (4, 12), (6, 10)}
    for length in range(13, 20):
        for size in range(3, 9):
            full, rest = divmod(length, size)
            shapes.add((size,) * full + ((rest,) if rest else ()))
    return frozenset(shapes)


CARD: Final = Number(
    "card", frozenset(range(13, 20)), checksums.card, _card_shapes(), (" ", "-", ".", "/", "_"), plain=True
)

NUMBERS: Final = (
    CARD,
    Number(
        "ssn",
        frozenset({9}),
        checksums.ssn,
        frozenset({(3, 2, 4)}),
        ("-", "."),
        words=rf"ssn|ss ?#|social{JOINED}security",
    ),
    Number("itin", frozenset({9}), checksums.itin, frozenset({(3, 2, 4)}), ("-",), words=r"itin|taxpayer"),
    Number(
        "nhs", frozenset({10}), checksums.nhs, frozenset({(3, 3, 4)}), (" ", "-", "."), plain=True, words=r"nhs|chi|h&c"
    ),
    Number("npi", frozenset({10}), checksums.npi, frozenset(), words=rf"npi|national{JOINED}provider"),
    Number(
        "tax_id", frozenset({11}), checksums.tax_id, frozenset({(2, 3, 3, 3)}), plain=True, words=r"steuer|tin|idnr"
    ),
    Number("ahv", frozenset({13}), checksums.ahv, frozenset({(3, 4, 4, 2)}), (" ", "-", "."), plain=True),
    Number("bsn", frozenset({9}), checksums.bsn, frozenset({(4, 2, 3)}), (".",), words=r"bsn|burgerservice|sofi"),
    Number("pesel", frozenset({11}), checksums.pesel, frozenset(), plain=True, words="pesel"),
    Number(
        "cpf", frozenset({11}), checksums.cpf, frozenset({(3, 3, 3, 2)}), ("..-", ".", "-"), words="cpf", plain=True
    ),
    Number("sin", frozenset({9}), checksums.sin, frozenset(), words=rf"sin|nas|social{JOINED}insurance"),
    Number("aadhaar", frozenset({12}), checksums.aadhaar, frozenset({(4, 4, 4)}), words=r"aadhaar|aadhar|uid(?:ai)?"),
)
_SHORTEST: Final = 9
_LONGEST: Final = 19
_WIDEST: Final = 100  # characters of the widest window: 19 digits, and what may stand between them


class _Group(NamedTuple):
    start: int
    end: int
    digits: str
    mark: str  # between the group before and this one
    lines: int  # how many lines have ended in the run before it


def _groups(text: str, start: int, end: int) -> list[_Group]:
    groups: list[_Group] = []
    lines = 0
    for found in _GROUP.finditer(text, start, end):
        between = text[groups[-1].end : found.start()] if groups else ""
        lines += "\n" in between
        groups.append(_Group(found.start(), found.end(), found[0], _mark(between), lines))
    return groups


def _mark(between: str) -> str:
    """The kind of what stands between two groups: `-`, `.`, a space, a line's end, or a tab, which sets columns apart."""
    return "\n" if "\n" in between else between.strip() or ("\t" if "\t" in between else between and " ")


def _years(groups: list[_Group]) -> bool:
    """Whether every group may be a year: such a row of figures is the head of a table."""
    return all(len(group.digits) == 4 and group.digits[:2] in {"19", "20"} for group in groups)  # noqa: PLR2004


class Numbers:
    """Finds the table's rows of some classes."""

    protects = frozenset[str]()

    def __init__(self, names: frozenset[str]) -> None:
        self._rows = tuple(row for row in NUMBERS if row.name in names)
        self.names = frozenset(row.name for row in self._rows)
        self._words = {row.name: re.compile(any_of(row.words), re.IGNORECASE) for row in self._rows if row.words}
        # Whatever a row's shape begins with: a window of another beginning needs no more looking at.
        self._beginnings = {
            shape[:size] for row in self._rows for shape in row.shapes for size in range(1, len(shape) + 1)
        }

    def find(self, text: str) -> Iterator[Match]:
        """Find all. Takes time in proportion to the text's length."""
        near = {name: [found.start() for found in words.finditer(text)] for name, words in self._words.items()}
        words = sorted(place for places in near.values() for place in places)
        for run in _RUN.finditer(text):
            groups = _groups(text, *run.span())
            total = sum(len(group.digits) for group in groups)
            if total < _SHORTEST:
                continue
            for first, group in enumerate(groups):
                if _fraction(text, group.start) or _BOOK.search(text, max(group.start - _BEFORE_BOOK, 0), group.start):
                    continue
                # As long as this run may be: with one of the rows' words near, or as a card's number in a grouping of its own.
                every = _near(words, group.start, group.start + _WIDEST) or (first == 0 and total <= _LONGEST)
                yield from self._from(text, groups, first, near, every=every)

    def _from(
        self, text: str, groups: list[_Group], first: int, near: dict[str, list[int]], *, every: bool
    ) -> Iterator[Match]:
        """The windows that begin with a group; those of shapes that no row has only if `every` one is wanted."""
        digits, marks, shape = "", "", tuple[int, ...]()
        start = groups[first].start
        for last in range(first, len(groups)):
            group = groups[last]
            digits += group.digits
            shape += (len(group.digits),)
            marks += group.mark if last > first else ""
            # Figures one below another are a column; an identifier is broken by one line's end at most.
            if len(digits) > _LONGEST or group.lines - groups[first].lines > 1:
                return
            if last > first and not every and shape not in self._beginnings:
                return
            if len(digits) < _SHORTEST or _years(groups[first : last + 1]) or _EXPONENT.match(text, group.end):
                continue
            around = text[max(start - 1, 0) : start], text[group.end : group.end + 1]
            whole = len(shape) == len(groups)
            for row in self._rows:
                if len(digits) not in row.lengths:
                    continue
                word = row.words and _near(near[row.name], start, group.end)
                if (word or _believed(row, around, shape, marks, whole=whole)) and row.check(digits):
                    yield Match(row.name, start, group.end, digits)


def _fraction(text: str, start: int) -> bool:
    """Whether what begins here is what follows a decimal point."""
    return text[start - 1 : start] == "." and text[max(start - 2, 0) : start - 1].isdecimal()


def _near(places: list[int], start: int, end: int) -> bool:
    at = bisect_left(places, start - _BEFORE)
    return at < len(places) and places[at] < end + _AFTER


def _believed(row: Number, around: tuple[str, str], shape: tuple[int, ...], marks: str, *, whole: bool) -> bool:
    """Whether digits that stand so are taken for a row's without one of its words near."""
    before, after = around
    if row is CARD and whole and set(marks) - {"\n"} in ({" "}, {"-"}, set()):
        # The digits of the run are as many as a card's, however they are grouped: each by itself as well, but not most of them.
        return set(shape) == {1} or 2 * shape.count(1) < len(shape)
    if row is not CARD and (before.isalpha() or after.isalpha() or before == "_" or after == "_"):
        return False
    if len(shape) == 1:
        return row.plain and before not in {"$", "€", "£", "¥"}
    return shape in row.shapes and any(_marked(marks, each) for each in row.marks)


def _marked(marks: str, wanted: str) -> bool:
    wanted = wanted if len(wanted) == len(marks) else wanted[:1] * len(marks)
    return all(mark in {each, "\n"} for mark, each in zip(marks, wanted, strict=True))
