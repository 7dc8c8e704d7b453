"""Whether the events behind the entries are the ones that were logged, and whether what is gone was erased.

An entry of the tree says nothing by itself. Whoever may read the events is shown each with its salt, and holds both against the
entry as the walk over the tree (`verification`) comes by it:

1. every entry has its event, at its own index: a row that was deleted is a gap;
2. an event and its salt are what the entry commits to: a row that was edited is found, and so is one that was put in;
3. what was committed to is an event, in its canonical form;
4. an event without body and salt was erased, and a later event says so (`event.erased`, about `event:<index>`; in its details
   `count`, where several in a row were). One that is gone and of which no event says so is missing.

An event of an action that this version has no name for is held to all of this, and counted: nothing is concluded from it.

A gateway that erases personal data breaks nothing here; one that takes out a row, or changes one, does.

Events come in the order of the log, one at a time. Those behind the last entry of the checkpoint belong to the next one.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from blindgate_audit.findings import Findings
from blindgate_protocol.errors import GatewayError, LogError, MalformedError
from blindgate_protocol.events import Action, Event, OtherAction, entry_of
from blindgate_protocol.logged import Logged

_ERASED: Final = re.compile(r"event:(0|[1-9][0-9]{0,15})")
_MOST_UNKNOWN: Final = 20
OTHERS: Final = "others"
"""Stands for the rest, where a log has more unknown actions than are kept by name."""

_COUNT: Final = re.compile(r"[1-9][0-9]{0,15}")


class Bodies:
    """An observer of the walk (`verification.Observer`) that has the events at hand.

    Attributes:
        held: how many events are the ones that were logged.
        erased: how many are gone, as others tell; known at the end.
        last: the index of the last event that came; -1 before the first.
        unknown: how many are of actions that this version has no name for, by action; of the first few actions.
        first_unknown: the index of the first of each.
    """

    def __init__(
        self, events: Iterator[Logged], findings: Findings, *, tell: Sequence[Callable[[int, Event], None]] = ()
    ) -> None:
        """Hold `events`, in the order of the log, against entries. `tell` are given each event that holds, with its index."""
        self._events = events
        self._findings = findings
        self._tell = tell
        self._broken = False
        self._next: Logged | None = next(events, None)
        self._absent = Ranges()
        self._gone = Ranges()
        self._erasures = Ranges()
        self.held = 0
        self.erased = 0
        self.last = -1
        self.unknown: Counter[str] = Counter()
        self.first_unknown: dict[str, int] = {}

    def __call__(self, first: int, entries: Sequence[bytes | None]) -> None:
        """Take in a bundle's entries and the events that belong to them."""
        for index, entry in enumerate(entries, first):
            while self._next is not None and self._next.index < index:
                message = f"an event that says it is entry {self._next.index} comes behind that of entry {index - 1}"
                self._findings.add("gap", message, index=self._next.index)
                self._advance()
            if self._next is not None and self._next.index == index:
                self._hold(self._next, entry)
                self._advance()
            elif not self._broken:
                self._absent.add(index, index + 1)

    def finish(self) -> None:
        """Decide about gaps and about what is gone, once all was taken in."""
        for begin, end in self._absent:
            what = f"entry {begin} has no event" if end - begin == 1 else f"entries {begin} to {end - 1} have no events"
            self._findings.add("gap", f"{what}: taken out, or not shown", index=begin)
        for begin, end in self._gone:
            at = begin
            for left, right in self._erasures.within(begin, end):
                self._missing(at, left)
                self.erased += right - left
                at = right
            self._missing(at, end)
        for begin, end in self._erasures:
            gone = sum(right - left for left, right in self._gone.within(begin, end))
            if gone < end - begin:
                message = (
                    f"of the events {begin} to {end - 1}, which were erased as the log tells, some are still shown"
                )
                self._findings.add("erasure", message, index=begin)

    def rest(self) -> Iterator[Logged]:
        """The events behind the last entry: of no checkpoint yet."""
        while self._next is not None:
            yield self._next
            self._advance()

    def _advance(self) -> None:
        """Go on to the next event. Where they break off in the middle, it is said once, and nothing is expected any more."""
        self.last = at = self.last if self._next is None else self._next.index
        try:
            self._next = next(self._events, None)
        except (GatewayError, MalformedError) as error:
            self._findings.add("gap", f"the events behind entry {at} cannot be read: {error}", index=at + 1)
            self._next, self._broken = None, True

    def _hold(self, logged: Logged, entry: bytes | None) -> None:
        index = logged.index
        if logged.event is None or logged.salt is None:
            if logged.event is not None or logged.salt is not None:
                self._findings.add("commitment", f"entry {index} is shown with half of what opens it", index=index)
            self._gone.add(index, index + 1)
            return
        data = logged.event.encode(errors="replace")
        try:
            # 2.
            if entry is not None and entry_of(data, logged.salt) != entry:
                message = f"the event shown for entry {index} is not the one that was logged there"
                self._findings.add("commitment", message, index=index)
                return
            # 3.
            event = Event.from_bytes(data)
        except LogError as error:
            self._findings.add("commitment", f"entry {index}: {error}", index=index)
            return
        except MalformedError as error:
            self._findings.add("event-form", f"entry {index}: {error}", index=index)
            return
        self.held += 1
        if isinstance(event.action, OtherAction):
            self._unknown(index, event.action.value)
        if event.action is Action.EVENT_ERASED:
            self._erasure(index, event)
        for tell in self._tell:
            tell(index, event)

    def _unknown(self, index: int, action: str) -> None:
        if action not in self.first_unknown and len(self.first_unknown) >= _MOST_UNKNOWN:
            action = OTHERS
        self.first_unknown.setdefault(action, index)
        self.unknown[action] += 1

    def _erasure(self, index: int, event: Event) -> None:
        about, count = _ERASED.fullmatch(event.object), event.details.get("count", "1")
        begin = int(about.group(1)) if about else index
        if not _COUNT.fullmatch(count) or begin + int(count) > index:
            message = f"entry {index} tells of an erasure and does not name events before itself"
            self._findings.add("erasure", message, index=index)
            return
        self._erasures.add(begin, begin + int(count))

    def _missing(self, begin: int, end: int) -> None:
        if begin < end:
            what = f"the event of entry {begin} is" if end - begin == 1 else f"the events of {begin} to {end - 1} are"
            self._findings.add("erasure", f"{what} gone, and no event tells of an erasure", index=begin)


class Ranges:
    """Sets of indexes as ranges (first, behind the last), in order, none touching another."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, begin: int, end: int) -> None:
        """Put the indexes from `begin` up to `end` in."""
        place = self._place(begin)
        last = place
        while last < len(self._ranges) and self._ranges[last][0] <= end:
            begin, end = min(begin, self._ranges[last][0]), max(end, self._ranges[last][1])
            last += 1
        self._ranges[place:last] = [(begin, end)]

    def within(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of `begin` to `end` that are in."""
        for place in range(self._place(begin), len(self._ranges)):
            left, right = self._ranges[place]
            if left >= end:
                return
            if max(left, begin) < min(right, end):
                yield max(left, begin), min(right, end)

    def _place(self, begin: int) -> int:
        """Where the first range stands that ends at `begin` or behind it."""
        return bisect_left(self._ranges, begin, key=lambda one: one[1])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)
