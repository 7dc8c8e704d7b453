"""What a process of the gateway does about the log: keep it moving, write it out, ask the witnesses, give proofs."""

import itertools
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from sqlalchemy import bindparam, delete, select

from blindgate_gateway.database import Database, prepared, upsert
from blindgate_gateway.log.files import LogFiles
from blindgate_gateway.log.sequencer import Head, Sequencer
from blindgate_gateway.log.tree import Prover
from blindgate_gateway.log.witnesses import Witness
from blindgate_gateway.logs import log
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import cosignatures, events
from blindgate_protocol.checkpoints import EntryProof
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.notes import parse_note

_COSIGNED = prepared(
    select(cosignatures.c.size, cosignatures.c.witness)
    .where(cosignatures.c.size > bindparam("index"))
    .order_by(cosignatures.c.size.desc())
)
_LINES = prepared(
    select(cosignatures.c.checkpoint, cosignatures.c.line)
    .where(cosignatures.c.size == bindparam("size"))
    .order_by(cosignatures.c.witness)
)
_POSITION = prepared(select(events.c.position).where(events.c.id == bindparam("event")))
_COSIGN = prepared(
    upsert(cosignatures, lambda statement: statement.on_conflict_do_nothing()), "size", "witness", "checkpoint", "line"
)
_FORGET = prepared(delete(cosignatures).where(cosignatures.c.size < bindparam("size")))
_SIZES = prepared(
    select(cosignatures.c.size).distinct().order_by(cosignatures.c.size.desc()).limit(1).offset(bindparam("kept"))
)
_HAS = prepared(
    select(cosignatures.c.size).where(
        cosignatures.c.size == bindparam("size"), cosignatures.c.witness == bindparam("witness")
    )
)
WITNESS_SECONDS: Final = 10.0
KEPT: Final = 16
"""How many checkpoints with cosignatures are kept."""


class LogKeeper:
    """The log, for one process. Opens nothing before its first use."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """`database` is the gateway's own, not a tenant's view of it."""
        self.database = database
        self.files = LogFiles(settings.data / "log", database)
        self.sequencer = Sequencer(
            database, settings.log_key_file, origin=settings.log_origin, written=self.files.written
        )
        self._prover = Prover(database)
        self._pause = settings.checkpoint / 1000
        self._witnesses = settings.witness_keys
        self._wanted = [threading.Event() for _ in range(1 + len(self._witnesses))]

    def checkpoint(self) -> str:
        """The latest checkpoint, with the cosignatures that it has."""
        head = self.sequencer.head()
        return self._cosigned(head.size) or head.checkpoint

    def prove(self, event: int, *, cosigned_by: int) -> EntryProof | None:
        """The proof that an event (by its row) is in the log, in a checkpoint with so many cosignatures. `None`: not yet."""
        head = self.sequencer.advance()
        row = self.database.look(_POSITION, {"event": event})
        if row is None or row.position is None:
            self._hurry()
            return None
        if not cosigned_by:
            if row.position >= head.size:  # placed by another process meanwhile
                head = self.sequencer.head()
            return self._prover.inclusion(row.position, head.size, self._cosigned(head.size) or head.checkpoint)
        size = self._size_with(cosigned_by, behind=row.position)
        checkpoint = None if size is None else self._cosigned(size)
        if size is None or checkpoint is None:
            self._hurry()
            return None
        return self._prover.inclusion(row.position, size, checkpoint)

    def keep(self) -> None:
        """Do what is due: places, a checkpoint, files."""
        self.sequencer.advance()
        self.files.write(self.sequencer.head)

    def show_to(self, witness: Witness) -> None:
        """Get a witness's cosignature of the log as it is, unless it is there. Raises `LogError`."""
        head = self.sequencer.head()
        names = [str(key) for key in witness.keys]
        if not head.size or all(
            self.database.look(_HAS, {"size": head.size, "witness": name}) is not None for name in names
        ):
            return
        lines = witness.ask(parse_note(head.checkpoint.encode()), self._prover.consistency, seconds=WITNESS_SECONDS)
        self._note_cosignatures(head, dict(zip(names, map(str, lines), strict=True)))

    def start(self) -> None:
        """Keep the log, from threads of this process, until it ends."""
        witnesses = [Witness(url, *keys) for url, keys in self._witnesses.items()]
        duties = [self.keep, *(partial(self.show_to, witness) for witness in witnesses)]
        for duty, wanted in zip(duties, self._wanted, strict=True):
            threading.Thread(target=self._repeat, args=(duty, wanted), name="log", daemon=True).start()

    def _hurry(self) -> None:
        for wanted in self._wanted:
            wanted.set()

    def _repeat(self, duty: Callable[[], None], wanted: threading.Event) -> None:
        told = ""
        while True:
            if wanted.wait(self._pause):
                wanted.clear()
            try:
                duty()
                told = ""
            except BlindgateError as error:  # nothing that the next second mends: said once
                if told != str(error):
                    told = str(error)
                    log.error("log.stopped", error=told)
            except Exception:  # noqa: BLE001
                log.exception("log.failed")  # a busy database, a full disk: the next round finds the same work

    def _cosigned(self, size: int) -> str | None:
        with self.database.read() as connection:
            rows = connection.execute(_LINES, {"size": size}).all()
        return None if not rows else rows[0].checkpoint + "".join(row.line for row in rows)

    def _size_with(self, least: int, *, behind: int) -> int | None:
        """The largest tree with an entry at this index that so many witnesses cosigned; two keys of one name are one witness."""
        with self.database.read() as connection:
            rows = connection.execute(_COSIGNED, {"index": behind}).all()
        for size, lines in itertools.groupby(rows, lambda row: row.size):
            if len({line.witness.partition("+")[0] for line in lines}) >= least:
                return int(size)
        return None

    def _note_cosignatures(self, head: Head, lines: Mapping[str, str]) -> None:
        """Keep a witness's lines for this checkpoint, by its keys."""
        with self.database.write() as connection:
            for key, line in lines.items():
                row = {"size": head.size, "witness": key, "checkpoint": head.checkpoint, "line": line}
                connection.execute(_COSIGN, row)
            oldest = connection.execute(_SIZES, {"kept": KEPT}).scalar()
            if oldest is not None:
                connection.execute(_FORGET, {"size": oldest})
