"""What is taken out of the log's keeping, and never out of the log: the words of events, and who was meant.

An event that is erased keeps its place and its commitment, so the tree stands as before and every proof holds. That it was
erased is an event, too: an auditor can tell it from one that was taken away.
"""

from collections.abc import Iterable

from sqlalchemy import bindparam, update

from blindgate_gateway.database import Database, prepared
from blindgate_gateway.log.objects import event_object, tenant_object
from blindgate_gateway.log.pseudonyms import Kind, erase_pseudonym, known_pseudonym
from blindgate_gateway.log.telling import COMMAND_LINE, tell
from blindgate_gateway.problems import not_found
from blindgate_gateway.tables import events
from blindgate_protocol.events import Action

_ERASE = prepared(
    update(events)
    .where(events.c.position == bindparam("index"), events.c.body.is_not(None))
    .values(body=None, salt=None)
)


def erase_events(database: Database, indices: Iterable[int], *, reason: str) -> int:
    """Erase the words of these entries. Gives how many there were. Raises `NotFoundError` where one has none, or is none."""
    wanted = sorted(set(indices))
    with database.write() as connection:
        for index in wanted:
            if connection.execute(_ERASE, {"index": index}).rowcount != 1:
                raise not_found(f"event with words at index {index} of the log")
            tell(
                connection,
                Action.EVENT_ERASED,
                event_object(index),
                by=COMMAND_LINE,
                reason=reason,
                details={"count": "1"},
            )
    return len(wanted)


def erase_name(database: Database, kind: Kind, name: str, *, reason: str) -> str:
    """Forget who a pseudonym stands for; gives the pseudonym. Raises `NotFoundError`."""
    pseudonym = known_pseudonym(database, kind, name)
    if pseudonym is None:
        raise not_found(f"{kind} in the log: {name}")
    with database.write() as connection:
        erase_pseudonym(connection, kind, name)
        what = tenant_object(pseudonym)
        tell(connection, Action.PSEUDONYM_ERASED, what, by=COMMAND_LINE, reason=reason)
    return pseudonym
