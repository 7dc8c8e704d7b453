"""Does a key's history, as somebody tells it, agree with what its owner signed?

The owner keeps every statement that it signs (`chain_bytes` is the form of the file). Nobody else can make one, and the owner
cannot be told that it never made one. So the owner finds what no proof of a log finds: that something was left out.

`compare` holds the owner's chain of one key against what is told of it, and reports, each with the key and the sequence number:

1. `missing`: the owner signed it, and nobody tells of it;
2. `pending`: likewise, but it is the owner's last, and was not acknowledged yet or is too new to be logged;
3. `erased`: likewise, and an event at its place has no body any more, so it can be neither confirmed nor denied;
4. `unknown`: it is told, and the owner did not sign it here: somebody else has the owner's signing key, or it has another home;
5. `other`: it is told with another digest, state, signer, or successor than the owner's;
6. `gap`: what is told does not follow on what was told before, or numbers are skipped, repeated or out of order;
7. `early`: the gateway destroyed the key before the time that its owner had signed, by more than clocks differ.

What is told comes as events of the log (`told_by_events`) or as signed statements (`told_by_statements`). That an event stands in
the log is another question: `logged` and `merkle`.

Section 9 of docs/protocol.md.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from blindgate_protocol.errors import BlindgateError, KeyHistoryError, MalformedError, NotFoundError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.keys import KeyState, KeyStatement, check_statement
from blindgate_protocol.logged import Logged
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import Digest, Millis

MAX_CHAIN_BYTES: Final = 8 << 20
"""Some six thousand statements about one key."""
CHAIN_SUFFIX: Final = ".jsonl"
UNSENT_SUFFIX: Final = ".unsent"
"""A file of this name beside a chain holds the digest of its last statement, until the gateway has acknowledged that one."""
SETTLE: Final[Millis] = 60_000
"""How long after a statement was signed the log may not have it yet."""

_KEY_OBJECT: Final = "key:"
_STATES: Final = frozenset(
    {
        Action.KEY_REGISTERED,
        Action.KEY_ACTIVATED,
        Action.KEY_SUSPENDED,
        Action.KEY_RESUMED,
        Action.KEY_SUPERSEDED,
        Action.KEY_DEACTIVATED,
        Action.KEY_COMPROMISED,
        Action.KEY_DESTRUCTION_SCHEDULED,
        Action.KEY_DESTROYED,
    }
)
"""The events that tell of a statement. What else happens to a key (it was sent to a node) is nothing that its owner signed."""


class Disagreement(StrEnum):
    """What is wrong with a statement, by the numbers above."""

    MISSING = "missing"
    PENDING = "pending"
    ERASED = "erased"
    UNKNOWN = "unknown"
    OTHER = "other"
    GAP = "gap"
    EARLY = "early"

    @property
    def is_fault(self) -> bool:
        """Whether it speaks against whoever tells the history."""
        return self not in {Disagreement.PENDING, Disagreement.ERASED}


@dataclass(frozen=True)
class KeyFinding:
    """One disagreement.

    Attributes:
        key: the key's digest.
        sequence: which statement.
        says: what is wrong, in a sentence.
        index: where the log has the event; `None` where it has none, or the history did not come from a log.
    """

    key: str
    sequence: int
    disagreement: Disagreement
    says: str
    index: int | None = None

    def row(self) -> dict[str, str | int | bool | None]:
        """The finding as monitors print it, for people and for scripts."""
        return {
            "key": self.key,
            "statement": self.sequence,
            "finding": self.disagreement.value,
            "fault": self.disagreement.is_fault,
            "event": self.index,
            "says": self.says,
        }


@dataclass(frozen=True)
class Told:
    """One statement, as it is told.

    Attributes:
        sequence: 0 where the event was erased, and nobody knows any more.
        time: when it was logged; `None` where that is not told.
        digest: the statement's.
        client: who is said to have signed it.
    """

    sequence: int
    digest: Digest | None
    previous: Digest | None
    state: str | None
    client: str | None
    time: Millis | None = None
    index: int | None = None
    successor: Digest | None = None

    @property
    def is_erased(self) -> bool:
        """Whether nothing is known of it but its place."""
        return self.sequence == 0


def compare_logged(
    key: Digest,
    own: Sequence[Signed[KeyStatement]],
    events: Iterable[Logged],
    *,
    now: Millis,
    unsent: Digest | None = None,
) -> list[KeyFinding]:
    """`compare` with what a gateway's log has about `key`, page by page as it is asked for.

    A gateway that knows no such key tells nothing, and a list of events that is no history is a finding, too. Raises what `events`
    raises besides.
    """
    try:
        return compare(key, own, told_by_events(key, events), now=now, unsent=unsent)
    except NotFoundError:
        return compare(key, own, (), now=now, unsent=unsent)
    except (KeyHistoryError, MalformedError) as error:
        return [KeyFinding(key, 0, Disagreement.OTHER, str(error))]


def compare(
    key: Digest,
    own: Sequence[Signed[KeyStatement]],
    told: Iterable[Told],
    *,
    now: Millis,
    unsent: Digest | None = None,
) -> list[KeyFinding]:
    """What disagrees between the owner's chain about `key` and what is told, in the order of the statements.

    `own` is what `read_chain` gave; empty for a key of which the owner has signed nothing here. `unsent` is the digest of its last
    statement where that was not acknowledged.
    """
    told = list(told)
    found: list[KeyFinding] = []
    before: Told | None = None
    erased = 0
    for each in told:
        if each.is_erased:
            erased += 1
            continue
        if before is not None and _is_carried_out(before, each):
            found += _carried_out(key, own, each)
            continue
        found += _follows(key, own, before, each, erased)
        found += _agrees(key, own, each)
        before, erased = each, 0
    found += _absent(key, own, told, now=now, unsent=unsent)
    return sorted(found, key=lambda finding: finding.sequence)


def told_by_events(key: Digest, events: Iterable[Logged]) -> Iterator[Told]:
    """What events of the log tell of a key, in the order of the log. Events of another kind are passed over.

    Raises `KeyHistoryError` for an event that is none, is of another key, or stands out of order.
    """
    last = -1
    for logged in events:
        if logged.index <= last:
            message = f"key {key}: event {logged.index} is listed behind event {last}"
            raise KeyHistoryError(message)
        last = logged.index
        if logged.event is None:
            yield Told(0, None, None, None, None, index=logged.index)
            continue
        try:
            event = Event.from_bytes(logged.event.encode())
        except (MalformedError, UnicodeEncodeError) as error:
            message = f"key {key}: event {logged.index} is malformed: {error}"
            raise KeyHistoryError(message) from error
        if event.object != _KEY_OBJECT + key:
            message = f"key {key}: event {logged.index} is about {event.object}"
            raise KeyHistoryError(message)
        if event.action in _STATES and event.outcome == "success":
            yield _told(key, logged.index, event)


def told_by_statements(statements: Iterable[Signed[KeyStatement]]) -> Iterator[Told]:
    """What signed statements about a key tell."""
    for signed in statements:
        document = signed.document
        told = document.sequence, signed.digest, document.previous, document.state.value, signed.signer
        yield Told(*told, successor=document.successor)


def chain_bytes(chain: Sequence[Signed[KeyStatement]]) -> bytes:
    """The file that holds the owner's statements about one key: an envelope a line, in its canonical form, the first one first."""
    return b"".join(signed.envelope.to_bytes() + b"\n" for signed in chain)


def chain_name(key: Digest) -> str:
    """What that file is called: the key's 64 digits."""
    return key.removeprefix("sha256:") + CHAIN_SUFFIX


def chain_key(name: str) -> Digest | None:
    """The key that a file of this name is about; `None` for another kind of file."""
    return "sha256:" + name[:64] if re.fullmatch(rf"[0-9a-f]{{64}}{re.escape(CHAIN_SUFFIX)}", name) else None


def read_chain(key: Digest, data: bytes) -> tuple[Signed[KeyStatement], ...]:
    """Read such a file: every signature is verified, each statement follows on the one before, and all are about `key`.

    Raises `KeyHistoryError`, which names the line.
    """
    if len(data) > MAX_CHAIN_BYTES:
        message = f"the statements about key {key} have {len(data)} bytes: at most {MAX_CHAIN_BYTES}"
        raise KeyHistoryError(message)
    if data and not data.endswith(b"\n"):
        message = f"the statements about key {key}: the last line is cut off"
        raise KeyHistoryError(message)
    chain: list[Signed[KeyStatement]] = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            signed = open_signed(line, KeyStatement)
            if signed.document.key.digest != key:
                message = f"it is about key {signed.document.key.digest}"
                raise MalformedError(message)
            check_statement(signed, chain[-1] if chain else None, chain[-2] if len(chain) > 1 else None)
            chain.append(signed)
        except BlindgateError as error:
            message = f"the statements about key {key}, line {number}: {error}"
            raise KeyHistoryError(message) from error
    return tuple(chain)


def _is_carried_out(before: Told, each: Told) -> bool:
    """Whether this tells that a scheduled destruction was carried out: on the ground of the statement that scheduled it."""
    states = before.state, each.state
    return states == (KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED) and (before.sequence, before.digest) == (
        each.sequence,
        each.digest,
    )


def _carried_out(key: Digest, own: Sequence[Signed[KeyStatement]], each: Told) -> Iterator[KeyFinding]:
    at = own[each.sequence - 1].document.destroy_at if each.sequence <= len(own) else None
    if at is not None and each.time is not None and each.time < at - CLOCK_SKEW:
        says = f"the key was destroyed {(at - each.time) // 1000} seconds before the time that its owner had signed"
        yield KeyFinding(key, each.sequence, Disagreement.EARLY, says, each.index)


def _follows(
    key: Digest, own: Sequence[Signed[KeyStatement]], before: Told | None, each: Told, erased: int
) -> Iterator[KeyFinding]:
    last = 0 if before is None else before.sequence
    says = None
    if each.sequence <= last:
        says = f"statement {each.sequence} is told behind statement {last}"
    elif each.sequence == last + 1:
        if each.previous != (None if before is None else before.digest):
            says = f"statement {each.sequence} does not follow on the one that is told before it"
    elif each.sequence - 1 > max(last + erased, len(own)):  # what the owner has signed is missing, and is reported so
        says = f"statement {each.sequence} is told behind statement {last}: what lies between is not told"
    if says is not None:
        yield KeyFinding(key, each.sequence, Disagreement.GAP, says, each.index)


def _agrees(key: Digest, own: Sequence[Signed[KeyStatement]], each: Told) -> Iterator[KeyFinding]:
    if each.sequence > len(own):
        signed_so_far = f"{len(own)} statements about this key" if own else "nothing about this key"
        says = (
            f"a statement that the key is {each.state}, signed by {each.client}; here was signed {signed_so_far}: "
            "another home has this client's signing key, or somebody else has"
        )
        yield KeyFinding(key, each.sequence, Disagreement.UNKNOWN, says, each.index)
        return
    signed = own[each.sequence - 1]
    document = signed.document
    for what, is_told, is_own in (
        ("digest", each.digest, signed.digest),
        ("state", each.state, document.state.value),
        ("signer", each.client, signed.signer),
        ("previous", each.previous, document.previous),
        ("successor", each.successor, document.successor),
    ):
        if is_told != is_own:
            says = f"the owner signed {what} {is_own or 'none'}, told is {is_told or 'none'}"
            yield KeyFinding(key, each.sequence, Disagreement.OTHER, says, each.index)
            return


def _absent(
    key: Digest, own: Sequence[Signed[KeyStatement]], told: Sequence[Told], *, now: Millis, unsent: Digest | None
) -> Iterator[KeyFinding]:
    """What the owner signed and nobody tells of. Each erased event stands for one of them, where it lies at the right place."""
    seen = {each.sequence for each in told if not each.is_erased}
    spare = [place for place, each in enumerate(told) if each.is_erased]
    for signed in own:
        number = signed.document.sequence
        if number in seen:
            continue
        begin = max((place for place, each in enumerate(told) if 0 < each.sequence < number), default=-1)
        end = min((place for place, each in enumerate(told) if each.sequence > number), default=len(told))
        place = next((place for place in spare if begin < place < end), None)
        state = signed.document.state.value
        if place is not None:
            spare.remove(place)
            says = f"the owner signed that the key is {state}; an event at its place was erased"
            yield KeyFinding(key, number, Disagreement.ERASED, says, told[place].index)
        elif signed is own[-1] and end == len(told) and _is_pending(signed, now=now, unsent=unsent):
            says = f"the owner signed that the key is {state}; that was not acknowledged, or not a minute ago"
            yield KeyFinding(key, number, Disagreement.PENDING, says)
        else:
            says = f"the owner signed that the key is {state} ({signed.digest}), and it is not told"
            yield KeyFinding(key, number, Disagreement.MISSING, says)


def _is_pending(signed: Signed[KeyStatement], *, now: Millis, unsent: Digest | None) -> bool:
    return signed.digest == unsent or 0 <= now - signed.document.issued < SETTLE


def _told(key: Digest, index: int, event: Event) -> Told:
    number = event.details.get("sequence", "")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        message = f"key {key}: event {index} names no statement's sequence number"
        raise KeyHistoryError(message)
    return Told(
        int(number),
        event.digest,
        event.details.get("previous") or None,
        event.after,
        event.details.get("client"),
        event.time,
        index,
        event.details.get("successor"),
    )
