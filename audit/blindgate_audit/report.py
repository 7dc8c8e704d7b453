"""What a report shows of an event: one row, and whether the log proves it.

The gateway hands out bodies; the log proves them. For each event, in this order:

1. the place: indexes only grow, and lie under the checkpoint that the report is about. What came later is not shown;
2. the proof: the body, under its salt, gives the leaf that stands at this index in the tree (`tree`);
3. the question: the event is about what was asked for.

    in log          the body is the one that was logged
    body altered    the log holds another body at this place
    erased          the body is gone, and an event of the log says so
    missing         the body is gone, and no event of the log says so

A row whose body was altered shows what the gateway now says, as the gateway's word. A gateway that chooses the events may leave
one out, and no row shows that: it is for the owner's chain of statements (`chains`), and for the check of the whole log. A source
that has every event leaves nothing out, and is held to it: an index that is not there is named.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from blindgate_audit.bodies import Ranges
from blindgate_audit.tree import ProvenTree
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.events import SALT_BYTES, Action, Event, OtherAction, leaf_of
from blindgate_protocol.logged import Logged

_ERASED: Final = re.compile(r"event:(0|[1-9][0-9]{0,15})")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,15}")
_DIGITS: Final = 15
"""The most digits of a sequence number that is shown as one."""


class Proof(StrEnum):
    """What the log says to a row."""

    IN_LOG = "in log"
    ALTERED = "body altered"
    ERASED = "erased"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One event as it is shown.

    Attributes:
        event: what happened; `None` where the body is gone, or is none that this version can read.
        note: what else must be said about the row.
    """

    index: int
    proof: Proof
    event: Event | None = None
    note: str | None = None

    def detail(self, name: str) -> str | None:
        """A detail of the event, where it has it."""
        return None if self.event is None else self.event.details.get(name)

    @property
    def sequence(self) -> int | None:
        """The number of the client's statement that the event is about."""
        text = self.detail("sequence") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


@dataclass(frozen=True)
class Question:
    """What a report is about; `None` leaves open.

    Attributes:
        name: a tenant by the name that only the gateway can translate.
        tenant: a tenant's pseudonym.
        since: the first moment, in milliseconds since 1970.
        until: the first moment after it.
    """

    object: str | None = None
    name: str | None = None
    tenant: str | None = None
    action: Action | None = None
    since: int | None = None
    until: int | None = None

    def asks_for(self, event: Event) -> bool:
        """Whether the event belongs to the answer."""
        return (
            (self.object is None or event.object == self.object)
            and (self.tenant is None or event.tenant == self.tenant)
            and (self.action is None or event.action is self.action)
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
        )


@dataclass
class Tally:
    """What a report found, once its rows have been read.

    Attributes:
        first: the index of the first row, and `last` of the last.
        erased: how many bodies were erased; without one nobody can tell whose the event was, so in a folder they are only counted.
        later: the index of the first event that came after the checkpoint; `None` when there was none.
        faults: how many rows are `ALTERED` or `MISSING`.
        first_fault: the first of these.
        absent: the first index that a source which has every event does not have.
        unknown: how many rows are of actions that this version has no name for.
    """

    rows: int = 0
    first: int | None = None
    last: int | None = None
    erased: int = 0
    later: int | None = None
    faults: int = 0
    first_fault: Row | None = None
    absent: int | None = None
    unknown: int = 0

    def count(self, row: Row) -> None:
        """Take a row that is shown into account."""
        self.rows += 1
        self.first = row.index if self.first is None else self.first
        self.last = row.index
        self.unknown += row.event is not None and isinstance(row.event.action, OtherAction)
        if row.proof in {Proof.ALTERED, Proof.MISSING}:
            self.faults += 1
            self.first_fault = self.first_fault or row


class Answers(Protocol):
    """Where events are read from.

    Attributes:
        whole: whether it gives every event of the log, whatever was asked.
    """

    whole: bool

    def events(self, question: Question) -> Iterator[Logged]:
        """The events that answer the question, in the order of the log; nothing about them is believed."""
        ...


def prove(
    answers: Answers, tree: ProvenTree, question: Question, *, tally: Tally | None = None, announcing: bool = False
) -> Iterator[Row]:
    """Give a row for each event that was asked for, with what the log says to it (steps 1 to 3 above). Keeps no row.

    `announcing` is for reading the announcements of erasures, which are not asked for what was erased. Raises `LogError` for an
    answer that is out of order, or to another question.
    """
    tally = Tally() if tally is None else tally
    expected = 0
    erasures = Ranges() if announcing else None
    for logged in answers.events(question):
        # 1.
        if logged.index < expected:
            message = f"entry {logged.index} comes behind entry {expected - 1}: events come in the order of the log"
            raise LogError(message, index=logged.index)
        if answers.whole and logged.index > expected and tally.absent is None:
            tally.absent = expected
        expected = logged.index + 1
        if logged.index >= tree.checkpoint.size:
            tally.later = logged.index
            break
        # 2.
        if logged.event is None or logged.salt is None:
            erasures = erased(answers, tree) if erasures is None else erasures
            announced = any(erasures.within(logged.index, logged.index + 1))
            row = Row(logged.index, Proof.ERASED if announced else Proof.MISSING)
            tally.erased += row.proof is Proof.ERASED
        else:
            row = _proven(logged.index, logged.event.encode(errors="replace"), logged.salt, tree)
        # 3.
        if _belongs(row, question, chosen=not answers.whole):
            tally.count(row)
            yield row
    if answers.whole and tally.later is None and expected < tree.checkpoint.size and tally.absent is None:
        tally.absent = expected


def erased(answers: Answers, tree: ProvenTree) -> Ranges:
    """Which indexes the log says were erased, from its `event.erased` events. One that the log does not prove announces nothing."""
    found = Ranges()
    for row in prove(answers, tree, Question(action=Action.EVENT_ERASED), announcing=True):
        if row.proof is not Proof.IN_LOG or row.event is None:
            continue
        about, count = _ERASED.fullmatch(row.event.object), row.event.details.get("count", "1")
        if about and _COUNT.fullmatch(count) and int(about.group(1)) + int(count) <= row.index:
            found.add(int(about.group(1)), int(about.group(1)) + int(count))
    return found


def _proven(index: int, body: bytes, salt: bytes, tree: ProvenTree) -> Row:
    matches = len(salt) == SALT_BYTES and leaf_of(body, salt) == tree.leaf(index)
    proof = Proof.IN_LOG if matches else Proof.ALTERED
    try:
        event = Event.from_bytes(body)
        unknown = "an action that this version has no name for" if isinstance(event.action, OtherAction) else None
        return Row(index, proof, event, note=unknown)
    except MalformedError as error:
        return Row(index, proof, note=f"this version cannot read it: {error}")


def _belongs(row: Row, question: Question, *, chosen: bool) -> bool:
    """Whether a row is shown. `chosen`: the source says that it is part of the answer.

    Where nobody chose, what cannot be trusted or read is shown whatever it says of itself, and what was erased is nobody's.
    """
    if row.event is None or row.proof is Proof.ALTERED:
        return chosen or row.proof is not Proof.ERASED
    if question.asks_for(row.event):
        return True
    if chosen:
        message = f"entry {row.index} was not asked for: {row.event.action} of {row.event.object}"
        raise LogError(message, index=row.index)
    return False
