"""What an owner signed about a key, as far as the log tells: is it whole?

A client numbers its statements about a key from 1, and each names the digest of the one before. The gateway cannot make such a
statement, so what it leaves out of the log leaves a gap here. Read in the order of the log, for each key:

1. the first statement has number 1, unless the report begins later than the log;
2. each further one has the next number, and names the digest of the one that the log told before;
3. one client signs them all;
4. the state that an event begins with is the one that the event before it left.

Several events may tell of one statement: they have its number and its digest. What is kept is the last link of each key.

What stays open is the end: a gateway that leaves out the latest statements leaves no gap. The client knows how many it signed.
"""

from dataclasses import dataclass, field
from typing import Final

from blindgate_audit.report import Proof, Row
from blindgate_protocol.events import Event

MOST_KEPT: Final = 1000
"""How many gaps are kept; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a whole chain does not have.

    Attributes:
        index: the entry at which it shows.
        key: whose chain it is.
    """

    index: int
    key: str
    text: str


@dataclass(slots=True)
class _Link:
    index: int
    client: str | None = None
    sequence: int | None = None
    digest: str | None = None
    state: str | None = None
    successor: str | None = None


@dataclass
class Chains:
    """The chains of all keys that the rows tell of.

    Attributes:
        whole: whether the rows begin where the log does; else the first statement may have any number.
        gaps: the first of them, in words; `count` is of all.
    """

    whole: bool = True
    gaps: list[Gap] = field(default_factory=list)
    count: int = 0
    _links: dict[str, _Link] = field(default_factory=dict)

    def follow(self, row: Row) -> None:
        """Take up a row. Only what the log proves is followed: an altered body says nothing about the chain."""
        event = row.event
        if row.proof is not Proof.IN_LOG or event is None or not event.object.startswith("key:"):
            return
        link = self._links.get(event.object)
        first = link is None
        if link is None:
            link = self._links[event.object] = _Link(row.index)
        link.successor = event.details.get("successor", link.successor)
        if row.sequence is not None:
            self._follow_statement(row, row.sequence, event, link)
        if event.after is not None:
            self._follow_state(row, event, link, first=first)
        link.index = row.index

    def last_state(self, key: str) -> str | None:
        """The state that the last event of the key (`key:sha256:…`) left; `None` where none was told."""
        link = self._links.get(key)
        return None if link is None else link.state

    def last_statement(self, key: str) -> int | None:
        """The number of the last statement about the key; `None` where none was told."""
        link = self._links.get(key)
        return None if link is None else link.sequence

    def successor(self, key: str) -> str | None:
        """The digest of the key that took this one's place, by its owner's word; `None` where no event names one."""
        link = self._links.get(key)
        return None if link is None else link.successor

    def _follow_statement(self, row: Row, sequence: int, event: Event, link: _Link) -> None:
        client, previous = event.details.get("client"), event.details.get("previous")
        known = link.sequence
        if known is None:
            # 1.
            if self.whole and sequence != 1:
                self._report(row, event.object, f"{_statements(1, sequence - 1)} missing before entry {row.index}")
        elif sequence == known:
            if event.digest != link.digest:
                self._report(row, event.object, f"entry {row.index} tells of another statement {sequence}")
            return
        elif sequence < known:
            self._report(row, event.object, f"entry {row.index} tells of statement {sequence} after statement {known}")
            return
        # 2.
        elif sequence > known + 1:
            gap = _statements(known + 1, sequence - 1)
            self._report(row, event.object, f"{gap} missing between entries {link.index} and {row.index}")
        elif previous != link.digest:
            text = (
                f"statement {sequence}, entry {row.index}, follows on {previous or 'nothing'}; "
                f"the log told of {link.digest} before it"
            )
            self._report(row, event.object, text)
        # 3.
        if link.client is not None and client != link.client:
            self._report(row, event.object, f"statement {sequence}, entry {row.index}, is of another client: {client}")
        link.sequence, link.digest, link.client = sequence, event.digest, client

    def _follow_state(self, row: Row, event: Event, link: _Link, *, first: bool) -> None:
        # 4.
        if event.before != link.state and not (first and not self.whole):
            text = f"at entry {row.index} the key was {event.before or 'new'}; the event before left it {link.state or 'unknown'}"
            self._report(row, event.object, text)
        link.state = event.after

    def _report(self, row: Row, key: str, text: str) -> None:
        self.count += 1
        if len(self.gaps) < MOST_KEPT:
            self.gaps.append(Gap(row.index, key, text))


def _statements(first: int, last: int) -> str:
    return (
        f"statement {first} of the key's owner is"
        if first == last
        else f"statements {first} to {last} of the key's owner are"
    )
