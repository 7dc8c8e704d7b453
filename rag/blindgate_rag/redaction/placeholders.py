r"""Placeholders: how one is written, how a model may write it back, and how values take their places again.

One is written `[CARD_1]`. Models change what they quote; so these are it as well: `[Card 1]`, `[ card-1 ]`, `[card #1]`,
`\[CARD\_1\]` of Markdown, other kinds of square brackets, and without brackets `card_1` and `Card\_1`. Without brackets and
without the underscore it is a word and a number of the model's own, `card 1`, and stays.

A pattern of all of this is made for the classes that there are. No match is longer than `LONGEST`, which is what lets an answer be
restored while it comes in: `Restorer` holds back what may be the beginning of a placeholder of one of these classes, and no more.

Two are left as they are: one inside of an address that was not sent so (`addresses`), and one that an answer's end has cut behind
its bracket: `[CARD_1` may have been meant for `[CARD_12]`.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from blindgate_rag.redaction.addresses import Addresses

LONGEST: Final = 96
MAX_NUMBER: Final = 999_999

_OPEN: Final = r"[\[［【]"  # noqa: RUF001 - what models write for brackets
_CLOSE: Final = r"[\]］】]"  # noqa: RUF001
_INSIDE: Final = r"[\s\w#\\\-]"
_BEGUN: Final = re.compile(
    rf"(?:\\?{_OPEN}{_INSIDE}{{0,{LONGEST}}}|(?<![A-Za-z0-9_])[A-Za-z][A-Za-z0-9_\\]{{0,{LONGEST}}}|\\)\Z"
)
"""The end of a text that may go on as a placeholder of some class."""
_BRACKET: Final = re.compile(_OPEN)
_MARKS: Final = re.compile(r"[^a-z0-9]+")
_NUMBERED: Final = re.compile(r"_?[0-9]*_?")


def written(name: str, number: int) -> str:
    """A placeholder, as it is sent."""
    return f"[{name.upper()}_{number}]"


def pattern_of(names: Iterable[str]) -> re.Pattern[str]:
    """Whatever may be a placeholder of these classes: in one of the groups 1, 3, 5 the class, in the next one the number."""
    # The longest first, so that `ip` does not hide `ip_range`.
    several = sorted(names, key=len, reverse=True)
    loose = "|".join(re.escape(name).replace("_", r"(?:\\?_|[ -])") for name in several)
    strict = "|".join(re.escape(name).replace("_", r"\\?_") for name in several)
    number = r"0{0,3}([1-9][0-9]{0,5})"
    inside = rf"\s{{0,3}}({loose})\s{{0,2}}(?:\\?_|-|\#)?\s{{0,2}}\#?{number}\s{{0,3}}"
    return re.compile(
        rf"\\{_OPEN}{inside}\\{_CLOSE}|{_OPEN}{inside}{_CLOSE}|(?<![A-Za-z0-9_])({strict})\\?_{number}(?![A-Za-z0-9_])",
        re.IGNORECASE | re.ASCII,
    )


def meant(found: re.Match[str]) -> tuple[str, int]:
    """Which placeholder a match is: its class and its number."""
    groups = [group for group in found.groups() if group is not None]
    return re.sub(r"\\?_|[ -]", "_", groups[0]).lower(), int(groups[1])


@dataclass
class Restorer:
    """Puts values back into an answer that comes in pieces; what it gives out in all is what the whole would become.

    Attributes:
        pattern: from `pattern_of`.
        value: of a placeholder's class and number; `None` where there is no such one, and it stays as it is.
        names: the classes that the pattern is of.
        sent: addresses that stood in what was sent, each up to the end of a placeholder in it.
        withheld: placeholders that stand inside of another address, and got no value.
    """

    pattern: re.Pattern[str]
    value: Callable[[str, int], str | None] = field(repr=False)
    names: frozenset[str] = field(repr=False)
    sent: Collection[str] = field(default=frozenset(), repr=False)
    withheld: list[str] = field(default_factory=list, init=False)
    _addresses: Addresses = field(default_factory=Addresses, init=False, repr=False)
    _held: str = field(default="", init=False, repr=False)
    _known: int = field(
        default=0, init=False, repr=False
    )  # characters of `_held` that are given out already, for what looks back

    def feed(self, piece: str) -> str:
        """Take the next piece; give what is certain by now, perhaps nothing."""
        self._held += piece
        at = max(self._known, len(self._held) - LONGEST - 2)
        while (begun := _BEGUN.search(self._held, at)) and not self._may_go_on(begun[0]):
            at = begun.start() + 1
        return self._until(begun.start() if begun else len(self._held))

    def close(self) -> str:
        """The rest, when no piece comes any more."""
        return self._until(len(self._held), last=True)

    def _may_go_on(self, begun: str) -> bool:
        """Whether it begins like one of the classes: `ca`, `[ Card`, `card_1`."""
        said = _MARKS.sub("_", begun.lower()).lstrip("_")
        return any(
            name.startswith(said) or (said.startswith(name) and _NUMBERED.fullmatch(said, len(name)))
            for name in self.names
        )

    def _until(self, end: int, *, last: bool = False) -> str:
        given, at = [], self._known
        for found in self.pattern.finditer(self._held, at):
            if found.end() > end:
                break
            between = self._held[at : found.start()]
            self._addresses.feed(between)
            name, number = meant(found)
            value = None if last and self._cut(found) else self.value(name, number)
            shown = found[0]
            if value is not None:
                shown = written(name, number)
                if self._leads_elsewhere(shown):
                    self.withheld.append(shown)
                    value = None
            self._addresses.feed(shown)
            given += [between, found[0] if value is None else value]
            at = found.end()
        self._addresses.feed(self._held[at:end])
        given.append(self._held[at:end])
        keep = max(end - 1, 0)
        self._held, self._known = self._held[keep:], end - keep
        return "".join(given)

    def _cut(self, found: re.Match[str]) -> bool:
        """Whether a bracket was open when the answer ended with this."""
        return found.end() == len(self._held) and bool(_BRACKET.match(self._held, found.start() - 1))

    def _leads_elsewhere(self, placeholder: str) -> bool:
        address = self._addresses.open
        return address is not None and not (self._addresses.known and address + placeholder in self.sent)
