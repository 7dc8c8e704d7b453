"""Entries of the log as pages show them: read, named, and held against the tree.

A `Check` is made here, on the gateway, from the same parts as anybody's: the event's words and salt, the hashes from its place to
the root, and the checkpoint. It shows that the database at hand agrees with the tree that was signed. It does not show that this
tree is the one that others saw: that is what witnesses and `blindgate audit verify` are for.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, select

from blindgate_gateway.database import Database, prepared
from blindgate_gateway.log.objects import event_object
from blindgate_gateway.log.sequencer import Head
from blindgate_gateway.log.tree import reader
from blindgate_gateway.tables import events, nodes, pseudonyms
from blindgate_protocol.checkpoints import Checkpoint, EntryProof, LogTrust, open_checkpoint
from blindgate_protocol.errors import BlindgateError, LogError
from blindgate_protocol.events import ENTRY_VERSION, Action, Event, entry_of
from blindgate_protocol.logged import Logged
from blindgate_protocol.merkle import inclusion_proof, leaf_hash, verify_inclusion
from blindgate_protocol.notes import parse_note
from blindgate_protocol.tiles import subtrees_of

_COMMITMENT = prepared(select(events.c.commitment).where(events.c.position == bindparam("index")))
_OF_ERASURE = select(events.c.position).where(
    events.c.object == bindparam("object"), events.c.action == Action.EVENT_ERASED.value
)
_ERASURE = prepared(_OF_ERASURE.where(events.c.position.is_not(None)).order_by(events.c.position).limit(1))
_ERASURE_PENDING = prepared(_OF_ERASURE.where(events.c.position.is_(None)).limit(1))
_NAMES = prepared(
    select(pseudonyms.c.pseudonym, pseudonyms.c.name).where(
        pseudonyms.c.pseudonym.in_(bindparam("listed", expanding=True))
    )
)
_NODES = prepared(select(nodes.c.key, nodes.c.name).where(nodes.c.key.in_(bindparam("listed", expanding=True))))
_FIRST: Final = ("time", "action", "actor", "role", "tenant", "object")
"""What somebody who reads a table looks for, before the rest."""
_OBJECTS: Final = {"key", "job"}
"""Kinds of objects that have a page of their own."""


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        event: what it says; `None` where its words were erased, or are none any more.
    """

    index: int
    logged: Logged
    event: Event | None

    @property
    def is_erased(self) -> bool:
        """Whether its words were taken away."""
        return self.logged.event is None

    @property
    def kind(self) -> str:
        """What kind of object it is about."""
        return "" if self.event is None else self.event.object.partition(":")[0]

    @property
    def name(self) -> str:
        """The object's id, where it has a page; otherwise empty."""
        return "" if self.event is None or self.kind not in _OBJECTS else self.event.object.partition(":")[2]

    @property
    def details(self) -> Mapping[str, str]:
        """What belongs to its action."""
        return {} if self.event is None else self.event.details


def entry_from(logged: Logged) -> Entry:
    """Read what was logged. Words that are no event are left as they are: the check names them."""
    try:
        event = None if logged.event is None else Event.from_bytes(logged.event.encode())
    except BlindgateError:
        event = None
    return Entry(logged.index, logged, event)


def names_in(database: Database, entries: Iterable[Entry]) -> Mapping[str, str]:
    """Who is meant by the pseudonyms and keys of nodes in these entries, where that is known."""
    listed = set[str]()
    for entry in entries:
        if entry.event is not None:
            listed |= {entry.event.actor, entry.event.tenant or "", *entry.event.details.values()}
            listed.add(entry.event.object.partition(":")[2])
    asked = {"listed": sorted(one for one in listed if 0 < len(one) <= 64)}  # noqa: PLR2004  (no id is longer)
    with database.read() as connection:
        known = [connection.execute(query, asked).all() for query in (_NAMES, _NODES)]
    return {row[0]: row[1] for rows in known for row in rows}


@dataclass(frozen=True)
class Check:
    """Whether an entry is what stands in the signed tree, step by step.

    Attributes:
        steps: what was looked at, in words, and whether it held; after the first that did not, nothing more.
        proof: the way from the entry to the root, where there is one.
    """

    index: int
    size: int
    steps: tuple[tuple[str, bool], ...]
    leaf: bytes
    proof: EntryProof | None

    @property
    def holds(self) -> bool:
        """Whether every step held."""
        return all(held for _, held in self.steps)

    @property
    def hashes(self) -> tuple[str, ...]:
        """The way to the root, from the leaf up, in hexadecimal."""
        return () if self.proof is None else tuple(one.hex() for one in self.proof.hashes)


class Checker:
    """Holds entries against one head of the log. Reads each tile once."""

    def __init__(self, database: Database, head: Head, checkpoint: str) -> None:
        """`checkpoint` is the head's, perhaps with cosignatures, or a later one's."""
        self._database, self._checkpoint = database, checkpoint
        self.head = Checkpoint.parse(parse_note(checkpoint.encode()).text)
        try:
            open_checkpoint(checkpoint.encode(), LogTrust(head.key))
            self._is_signed = True
        except BlindgateError:
            self._is_signed = False
        self._subtrees = subtrees_of(self.head.size, reader(database))

    def check(self, entry: Entry) -> Check:
        """Check one entry."""
        size, index, logged = self.head.size, entry.index, entry.logged
        steps: list[tuple[str, bool]] = []
        leaf, proof = b"", None
        if logged.event is None or logged.salt is None:
            row = self._database.look(_COMMITMENT, {"index": index})
            leaf = leaf_hash(ENTRY_VERSION + row.commitment) if row is not None else b""
            this = {"object": event_object(index)}
            told = self._database.look(_ERASURE, this) or self._database.look(_ERASURE_PENDING, this)
            where = "No event" if told is None else "An event that waits for its place"
            where = where if told is None or told.position is None else f"Entry {told.position}"
            text = f"The words of this entry were erased; its commitment is kept. {where} tells of it."
            steps.append((text, told is not None))
        else:
            leaf = leaf_hash(entry_of(logged.event.encode(), logged.salt))
            steps.append(("The words are an event in its canonical form.", entry.event is not None))
        try:
            proof = EntryProof(index, tuple(inclusion_proof(index, size, self._subtrees)), self._checkpoint.encode())
            verify_inclusion(index=index, size=size, leaf=leaf, proof=proof.hashes, root=self.head.root)
            included = True
        except (LogError, KeyError, IndexError):
            included = False
        count = 0 if proof is None else len(proof.hashes)
        whole = "words and salt" if logged.event is not None else "commitment"
        steps.append(
            (f"Its {whole}, with {count} hashes on the way up, give the root of the {size:,} entries.", included)
        )
        steps.append(("That root stands in a checkpoint which the log's key signed.", self._is_signed))
        return Check(index, size, tuple(steps), leaf, proof)


def as_row(entry: Entry) -> Mapping[str, Any]:
    """An entry's fields, for a table."""
    if entry.event is None:
        return {"index": entry.index}
    event = entry.event.model_dump(mode="json")
    shown = {"index": entry.index} | {name: event.pop(name) for name in _FIRST} | event
    return shown | {"details": json.dumps(shown["details"], sort_keys=True)}
