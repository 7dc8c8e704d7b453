"""A log that went back is over: what its key signed of the larger tree cannot be unsaid. Another one begins, with all that is left.

After a database was put back from an older copy, whoever saw the larger tree refuses the smaller one under the same name, and is
right. So the log gets another name and another key, over the same entries, and says in its first event which log it follows, and
from where. Clients and witnesses have to be told the new key by somebody they believe; nothing here can do that for them.
"""

import secrets
import time
from pathlib import Path

from sqlalchemy import select, update

from blindgate_gateway.database import Database, clock
from blindgate_gateway.log.objects import log_object
from blindgate_gateway.log.sequencer import Head, Sequencer
from blindgate_gateway.log.signing_key import LogKeys, set_aside
from blindgate_gateway.log.telling import COMMAND_LINE, tell
from blindgate_gateway.tables import cosignatures, log_head
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.events import Action
from blindgate_protocol.merkle import HASH_BYTES, Frontier


def restart_log(database: Database, key_file: Path, folder: Path, *, reason: str) -> Head:
    """Begin another log over the entries that the database has; gives its head.

    The old key and the old log's files in `folder` are kept beside the new ones, under the old log's name and the time.
    """
    before = Sequencer(database, key_file).head()
    kept = f"{before.key.name.replace('/', '_')}.{int(time.time())}"
    set_aside(key_file, kept)
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.{kept}"))
    origin = f"blindgate-{secrets.token_hex(8)}"
    keys = LogKeys.make(key_file, origin)
    with database.write() as connection:
        connection.alone("log")
        row = connection.execute(select(log_head.c.size, log_head.c.hashes)).one()
        stored: bytes = row.hashes
        tree = Frontier(row.size, [stored[at : at + HASH_BYTES] for at in range(0, len(stored), HASH_BYTES)])
        note = keys.sign(Checkpoint(origin, row.size, tree.root()), seconds=int(time.time()))
        moved = {
            "key": str(keys.first.verifier),
            "second": None if keys.second is None else str(keys.second.verifier),
            "checkpoint": str(note),
            "signed": clock(),
        }
        connection.execute(update(log_head).values(**moved))
        connection.execute(cosignatures.delete())
        tell(
            connection,
            Action.LOG_STARTED,
            log_object(origin),
            by=COMMAND_LINE,
            reason=reason,
            details={"follows": before.key.name, "entries": str(row.size)},
        )
    return Sequencer(database, key_file).head()
