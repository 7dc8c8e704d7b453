"""What a witness remembers: SQLite in one file. Of each log its key and the largest tree that was cosigned; and what was refused.

Losing this is losing what the witness is for: one that forgot would cosign a second tree. So

- what is written is on the disk before anything follows from it (WAL, `synchronous=FULL`);
- `advance` compares and writes in one statement, within a transaction that holds the write lock from its beginning: of two that
  were judged against the same tree one comes second, and finds that the tree is another by now;
- time does not go back: the time of a cosignature is at least that of the one before, whatever the clock says;
- a log that is removed is not forgotten: added again, with whatever key, it goes on where it was;
- a file that is not there is never made by anything but `create`.

Forks are kept for good, and each once; of the unproven each until the very tree is cosigned after all, for then it was no fork. Of
either there are at most `MOST_KEPT` a log: a stranger adds no fork, since only the log can sign one.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blindgate_protocol.checkpoints import Checkpoint, proof_lines
from blindgate_protocol.errors import BlindgateError, LogError
from blindgate_protocol.merkle import EMPTY_ROOT
from blindgate_protocol.notes import VerifierKey
from blindgate_witness.submissions import Rule, Seen, Submission

MOST_KEPT: Final = 1000
BUSY_SECONDS: Final = 10.0
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE logs (
    origin TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    witnessed INTEGER NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note TEXT NOT NULL,
    seconds INTEGER NOT NULL
) STRICT;
CREATE TABLE forks (
    origin TEXT NOT NULL REFERENCES logs (origin),
    rule TEXT NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    seconds INTEGER NOT NULL,
    note TEXT NOT NULL,
    old INTEGER NOT NULL,
    proof TEXT NOT NULL,
    seen TEXT NOT NULL,
    PRIMARY KEY (origin, rule, size, root)
) STRICT;
"""
_LOGS: Final = "SELECT origin, key, witnessed, size, root, note, seconds FROM logs"
_ADVANCE: Final = """
UPDATE logs SET size = :size, root = :root, note = :note, seconds = max(seconds, :now)
WHERE origin = :origin AND key = :key AND witnessed AND size = :old_size AND root = :old_root RETURNING seconds
"""
_KEEP: Final = """
INSERT INTO forks (origin, rule, size, root, seconds, note, old, proof, seen)
SELECT :origin, :rule, :size, :root, :now, :note, :old, :proof, :seen
WHERE (SELECT count(*) FROM forks WHERE origin = :origin AND rule = :rule) < :most
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class KnownLog:
    """A log that this witness was told of, and what it saw of it.

    Attributes:
        witnessed: whether its checkpoints are cosigned; a log that was removed is only remembered.
    """

    key: VerifierKey
    witnessed: bool
    seen: Seen


@dataclass(frozen=True)
class Kept:
    """A checkpoint that the log signed and this witness refused.

    Attributes:
        seconds: when it came first, since 1970.
        note: the checkpoint, with the log's signature.
        old: the size that it was said to continue.
        proof: the lines of the proof that came with it.
        seen: the checkpoint that had been cosigned last, with the log's signature.
    """

    origin: str
    rule: Rule
    size: int
    root: bytes
    seconds: int
    note: str
    old: int
    proof: str
    seen: str


class Records:
    """The file of one witness. Holds no connection between calls, so that processes and threads may share it."""

    def __init__(self, file: Path) -> None:
        """Open what `create` made. Raises `BlindgateError` when it is not there, or not one of these."""
        self.file = file
        if not file.is_file():
            message = (
                f"there is no record at {file}. A witness that lost what it saw must not go on under its key: "
                "make a new one with `blindgate witness init`, and give out the new key"
            )
            raise BlindgateError(message)
        try:
            with closing(self._open()) as driver:
                (version,) = driver.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            message = f"the record {file} cannot be read: {error}"
            raise BlindgateError(message) from error
        if version != _VERSION:
            message = f"the record {file} has version {version}, expected {_VERSION}"
            raise BlindgateError(message)

    @classmethod
    def create(cls, file: Path) -> "Records":
        """Make an empty record. Raises `FileExistsError`."""
        file.touch(mode=0o600, exist_ok=False)
        with closing(sqlite3.connect(file, isolation_level=None)) as driver:
            driver.execute("PRAGMA journal_mode=WAL")
            driver.execute("PRAGMA synchronous=FULL")
            driver.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        return cls(file)

    def logs(self) -> list[KnownLog]:
        """Every log, those that were removed too, by origin."""
        with closing(self._open()) as driver:
            return [_known(row) for row in driver.execute(f"{_LOGS} ORDER BY origin")]

    def log(self, origin: str) -> KnownLog | None:
        """The log with this origin, if it is known."""
        with closing(self._open()) as driver:
            row = driver.execute(f"{_LOGS} WHERE origin = ?", (origin,)).fetchone()
        return None if row is None else _known(row)

    def add(self, key: VerifierKey) -> KnownLog:
        """Witness this log from now on. Raises `LogError` where its origin is witnessed under another key."""
        with self._writing() as driver:
            row = driver.execute(f"{_LOGS} WHERE origin = ?", (key.name,)).fetchone()
            if row is not None and _known(row).witnessed and _known(row).key != key:
                message = f"{key.name} is witnessed under another key: remove it first. What was seen of it stays"
                raise LogError(message)
            driver.execute(
                "INSERT INTO logs (origin, key, witnessed, size, root, note, seconds) VALUES (?, ?, 1, 0, ?, '', 0) "
                "ON CONFLICT (origin) DO UPDATE SET key = excluded.key, witnessed = 1",
                (key.name, str(key), EMPTY_ROOT),
            )
            return _known(driver.execute(f"{_LOGS} WHERE origin = ?", (key.name,)).fetchone())

    def remove(self, origin: str) -> None:
        """Cosign no more of this log; what was seen of it stays. Raises `LogError` where it is not witnessed."""
        with self._writing() as driver:
            changed = driver.execute("UPDATE logs SET witnessed = 0 WHERE origin = ? AND witnessed", (origin,))
            if changed.rowcount != 1:
                message = f"no log {origin!r} is witnessed here"
                raise LogError(message)

    def advance(self, log: KnownLog, checkpoint: Checkpoint, note: str, *, now: int) -> int | None:
        """Write down that `checkpoint` is cosigned in place of what `log` says was seen.

        Gives the time of the cosignature, in seconds since 1970: `now`, or that of the last one if it is later. `None` when
        something else was seen meanwhile, or the log was removed.
        """
        values = {
            "origin": log.key.name,
            "key": str(log.key),
            "size": checkpoint.size,
            "root": checkpoint.root,
            "note": note,
            "now": now,
            "old_size": log.seen.size,
            "old_root": log.seen.root,
        }
        with self._writing() as driver:
            row = driver.execute(_ADVANCE, values).fetchone()
            if row is None:
                return None
            driver.execute(
                "DELETE FROM forks WHERE origin = ? AND rule = ? AND size = ? AND root = ?",
                (checkpoint.origin, Rule.UNPROVEN, checkpoint.size, checkpoint.root),
            )
        return int(row[0])

    def keep(self, log: KnownLog, submission: Submission, note: str, *, rule: Rule, now: int) -> None:
        """Keep what was refused, if it is not kept already."""
        values = {
            "origin": log.key.name,
            "rule": rule,
            "size": submission.checkpoint.size,
            "root": submission.checkpoint.root,
            "now": now,
            "note": note,
            "old": submission.old,
            "proof": proof_lines(submission.proof),
            "seen": log.seen.note,
            "most": MOST_KEPT,
        }
        with self._writing() as driver:
            driver.execute(_KEEP, values)

    def kept(self) -> list[Kept]:
        """What was refused and kept, the oldest first."""
        query = "SELECT origin, rule, size, root, seconds, note, old, proof, seen FROM forks ORDER BY seconds, rowid"
        with closing(self._open()) as driver:
            return [Kept(row[0], Rule(row[1]), *row[2:]) for row in driver.execute(query)]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One change: on the disk when the block has ended, undone when it raises."""
        with closing(self._open()) as driver:
            driver.execute("BEGIN IMMEDIATE")
            yield driver
            driver.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        # mode=rw: a file that went away while the witness runs is not made anew, empty.
        driver = sqlite3.connect(
            f"{self.file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        try:
            driver.execute("PRAGMA synchronous=FULL")
            driver.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            driver.close()
            raise
        return driver


def _known(row: tuple[Any, ...]) -> KnownLog:
    _, key, witnessed, *seen = row
    return KnownLog(VerifierKey.parse(key), bool(witnessed), Seen(*seen))
