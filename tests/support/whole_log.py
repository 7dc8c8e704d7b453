"""Reads a gateway's whole log and holds it against itself and against the jobs: what must be so after whatever happened."""

from collections import Counter

from sqlalchemy import select

from blindgate_gateway.database import Transaction
from blindgate_gateway.log.keeper import LogKeeper
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import all_jobs, events, job_documents
from blindgate_protocol.checkpoints import LogTrust, open_checkpoint
from blindgate_protocol.events import Action, Event, entry_of
from blindgate_protocol.jobs import JobState
from blindgate_protocol.merkle import leaf_hash, root_of
from blindgate_protocol.tiles import Tile, bundles_of, tiles_of, unpack_entries, unpack_hashes

_ENDS = {
    Action.JOB_SUCCEEDED: JobState.SUCCEEDED,
    Action.JOB_FAILED: JobState.FAILED,
    Action.JOB_DEAD: JobState.DEAD,
    Action.JOB_CANCELLED: JobState.CANCELLED,
    Action.JOB_EXPIRED: JobState.EXPIRED,
}


def check_whole_log(settings: Settings) -> list[Event]:
    """Everything has a place and stands in the signed tree, on the disk too; each job's end was told once. Gives the events."""
    database = connect(settings)
    try:
        keeper = LogKeeper(database, settings)
        keeper.keep()
        head = keeper.sequencer.head()
        tree = open_checkpoint(head.checkpoint.encode(), LogTrust(head.key)).checkpoint
        with database.read() as connection:
            rows = connection.execute(
                select(events.c.position, events.c.body, events.c.salt).order_by(events.c.position)
            ).all()
            ends = _ends(connection)
    finally:
        database.close()
    assert [row.position for row in rows] == list(range(tree.size)), "no gap, and none without a place"
    leaves = [leaf_hash(entry_of(row.body.encode(), row.salt)) for row in rows]
    assert root_of(leaves) == tree.root
    folder = settings.data / "log"
    entries = [
        entry
        for tile in bundles_of(tree.size)
        for entry in unpack_entries((folder / tile.path).read_bytes(), tile.width)
    ]
    assert [leaf_hash(entry) for entry in entries] == leaves
    for tile in tiles_of(tree.size):
        assert unpack_hashes((folder / tile.path).read_bytes(), tile.width) == _expected(leaves, tile)
    found = [Event.from_bytes(row.body.encode()) for row in rows]
    told = Counter(
        (event.object.removeprefix("job:"), _ENDS[Action(event.action)].value, event.digest)
        for event in found
        if event.action in _ENDS
    )
    assert told == Counter(ends)
    return found


def _ends(connection: Transaction) -> list[tuple[str, str, str | None]]:
    query = select(all_jobs.c.job, all_jobs.c.state, job_documents.c.receipt_digest).join(
        job_documents, job_documents.c.job == all_jobs.c.job
    )
    return [tuple(row) for row in connection.execute(query).all() if JobState(row.state).ended]


def _expected(leaves: list[bytes], tile: Tile) -> list[bytes]:
    width = 256 ** (tile.level or 0)
    first = tile.number * 256
    return [root_of(leaves[at * width : (at + 1) * width]) for at in range(first, first + tile.width)]
