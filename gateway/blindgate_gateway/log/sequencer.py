"""One after the other: events get their places in the tree, and the tree a checkpoint.

`advance` is one durable transaction that nobody else is in at the same time, in whichever process of whichever gateway:

1. read the head: how many entries there are, and the roots of their complete subtrees, which must be those of the tree that was
   signed: whoever edits that row brings about a log that stops, and none that is signed and wrong;
2. give the events without a place the next ones, in the order in which they were written down;
3. append their leaves, and keep the root of each complete subtree that tiles are made of, with the times in it (`windows`);
4. sign the checkpoint of the tree that comes out, and make it the head.

Who dies in it has done nothing; the next one finds the same events. A checkpoint is on the disk before anybody sees it, so a power
failure cannot take back what was signed. Before a process signs for the first time, the database must continue the tree that the
log's files have: one that was put back from an older copy is not signed, since whoever saw the larger tree would be shown another.

The log belongs to its keys. A gateway that has others, or none, writes events and leaves their places to those that have them.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, func, insert, select, update

from blindgate_gateway.database import Database, Row, Transaction, clock, prepared
from blindgate_gateway.log.signing_key import LogKeys
from blindgate_gateway.log.tree import reader
from blindgate_gateway.log.windows import KEEP_TILE
from blindgate_gateway.tables import events, log_head, log_tiles
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import ForkedLogError, LogError
from blindgate_protocol.events import ENTRY_VERSION
from blindgate_protocol.merkle import HASH_BYTES, Frontier, leaf_hash, range_root
from blindgate_protocol.notes import VerifierKey, parse_note
from blindgate_protocol.tiles import HEIGHT, WIDTH, subtrees_of

MOST_AT_ONCE: Final = 4096
_HEAD = prepared(select(log_head).where(log_head.c.id == 1))
_BEGIN = prepared(insert(log_head).values(signed=clock()), "id", "key", "second", "size", "hashes", "checkpoint")
_MOVE = prepared(
    update(log_head)
    .where(log_head.c.id == 1, log_head.c.size == bindparam("from_size"))
    .values(size=bindparam("to_size"), hashes=bindparam("subtrees"), checkpoint=bindparam("note"), signed=clock())
)
_waiting = (
    select(events.c.id, (func.row_number().over(order_by=events.c.id) - 1).label("place"))
    .where(events.c.position.is_(None))
    .order_by(events.c.id)
    .limit(bindparam("most"))
    .subquery("waiting")
)
_PLACE = prepared(
    update(events)
    .where(events.c.id == _waiting.c.id)
    .values(position=_waiting.c.place + bindparam("from_size"))
    .returning(events.c.position, events.c.commitment)
)
_IS_PENDING = prepared(select(events.c.id).where(events.c.position.is_(None)).limit(1))
_PENDING = prepared(select(func.count().label("count")).select_from(events).where(events.c.position.is_(None)))
_KEEP = prepared(insert(log_tiles), "level", "number", "hash")


@dataclass(frozen=True)
class Head:
    """The log as its last checkpoint has it."""

    key: VerifierKey
    second: VerifierKey | None
    size: int
    checkpoint: str

    @classmethod
    def of(cls, row: Row) -> "Head":
        """From its row."""
        second = None if row.second is None else VerifierKey.parse(row.second)
        return cls(VerifierKey.parse(row.key), second, row.size, row.checkpoint)


class Sequencer:
    """Gives events their places, for one process of a gateway."""

    def __init__(
        self,
        database: Database,
        key_file: Path,
        *,
        origin: str | None = None,
        written: Callable[[], Checkpoint | None] = lambda: None,
    ) -> None:
        """Sign with the key in `key_file`, which is made when the log begins. `origin` is the log's name, if it begins here.

        `written` gives the tree that was written out, as far as anybody knows here.
        """
        self._database, self._key_file, self._origin = database, key_file, origin
        self._lock = threading.Lock()
        self._keys: LogKeys | None = None
        self._signed = 0
        self._written: Callable[[], Checkpoint | None] | None = written
        self.between: Callable[[], None] = lambda: None
        """Called before the transaction ends, for tests that die there."""

    def head(self) -> Head:
        """The log's head. The log begins with whoever asks first; without its key there is none. Raises `BlindgateError`."""
        row = self._database.look(_HEAD, {})
        if row is None:
            row = self._begin()
        return Head.of(row)

    def pending(self) -> int:
        """How many events wait for a place."""
        return int(self._database.look(_PENDING, {}).count)

    def signs(self) -> bool:
        """Whether this gateway has the log's key."""
        return self._own(self.head()) is not None

    def advance(self) -> Head:
        """Give every event a place that was written before this was called. Gives the head then.

        Raises `ForkedLogError` when the database has gone back to an older tree than this process signed.
        """
        with self._lock:
            while True:
                head = self.head()
                if head.size < self._signed:
                    message = f"the log had {self._signed} entries, the database says {head.size}: it is an older copy"
                    raise ForkedLogError(message)
                keys = self._own(head)
                if keys is None or self._database.look(_IS_PENDING, {}) is None:
                    return head
                if self._written is not None:
                    check_continues(self._database, self._written(), head)
                    self._written = None
                with self._database.write() as connection:
                    placed = self._step(connection, keys)
                    self.between()
                if placed < MOST_AT_ONCE:
                    head = self.head()
                    self._signed = max(self._signed, head.size)
                    return head

    def _step(self, connection: Transaction, keys: LogKeys) -> int:
        connection.alone("log")
        # 1.
        row = connection.execute(_HEAD).one()
        frontier = _frontier(row)
        # 2.
        placed = connection.execute(_PLACE, {"from_size": row.size, "most": MOST_AT_ONCE}).all()
        if not placed:
            return 0
        # 3.
        for event in sorted(placed, key=lambda event: event.position):
            for level, number, top in frontier.append(leaf_hash(ENTRY_VERSION + event.commitment)):
                if level == HEIGHT:
                    full = {"first": number * WIDTH, "end": (number + 1) * WIDTH}
                    connection.execute(KEEP_TILE, {"number": number, "hash": top, **full})
                elif level % HEIGHT == 0:
                    connection.execute(_KEEP, {"level": level // HEIGHT, "number": number, "hash": top})
        # 4.
        tree = Checkpoint(keys.first.verifier.name, frontier.size, frontier.root())
        note = keys.sign(tree, seconds=int(time.time()))
        moved = {
            "from_size": row.size,
            "to_size": frontier.size,
            "subtrees": b"".join(frontier.hashes),
            "note": str(note),
        }
        connection.execute(_MOVE, moved)
        return len(placed)

    def _begin(self) -> Row:
        with self._database.write() as connection:
            connection.alone("log")
            row = connection.execute(_HEAD).first()
            if row is not None:
                return row
            origin = self._origin or f"blindgate-{secrets.token_hex(8)}"
            keys = LogKeys.make(self._key_file, origin)
            note = keys.sign(Checkpoint(origin, 0, Frontier().root()), seconds=int(time.time()))
            first: dict[str, Any] = {
                "id": 1,
                "key": str(keys.first.verifier),
                "second": None if keys.second is None else str(keys.second.verifier),
                "size": 0,
                "hashes": b"",
                "checkpoint": str(note),
            }
            connection.execute(_BEGIN, first)
            return connection.execute(_HEAD).one()

    def _own(self, head: Head) -> LogKeys | None:
        if self._keys is None:
            self._keys = LogKeys.load(self._key_file, head.key, head.second)
        return self._keys


def _frontier(row: Row) -> Frontier:
    """The tree that the head's row has, which must be the one that was signed. Raises `ForkedLogError`.

    A head without entries is no tree that is wrong, but one that begins anew: the log's files, and whoever saw the other one,
    refuse what comes of it.
    """
    if row.size == 0:
        return Frontier()
    stored: bytes = row.hashes
    hashes = [stored[at : at + HASH_BYTES] for at in range(0, len(stored), HASH_BYTES)]
    signed = Checkpoint.parse(parse_note(row.checkpoint.encode()).text)
    what = f"the row `log_head` was changed: it has {row.size} entries, and signed was a tree of {signed.size}"
    try:
        frontier = Frontier(row.size, hashes)
        is_signed = (row.size, frontier.root()) == (signed.size, signed.root)
    except LogError as error:
        raise ForkedLogError(what) from error
    if not is_signed:
        raise ForkedLogError(what + " with another root" * (row.size == signed.size))
    return frontier


def check_continues(database: Database, written: Checkpoint | None, head: Head) -> None:
    """Decide whether the database's log begins with the tree that was `written` out before. Raises `ForkedLogError`."""
    if written is None or written.size == 0:
        return
    if written.size == head.size and written.root == Checkpoint.parse(parse_note(head.checkpoint.encode()).text).root:
        return
    if written.size < head.size:
        tree = subtrees_of(written.size, reader(database))
        if range_root(0, written.size, tree) == written.root:
            return
    message = (
        f"the log's files have {written.size} entries and the database has {head.size}, or another tree: the database was put back "
        "from an older copy (docs/operations.md says what to do)"
    )
    raise ForkedLogError(message)
