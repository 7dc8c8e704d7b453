"""What the log tells of the gateway itself: that it began to write, that it stopped, and what its settings changed.

Settings change while no gateway runs that could tell it. So whoever starts compares them with its own of before and with what was
told last: for how long things are kept, and whose signatures count (`believed`). A gateway tells only of what it changed itself:
two with different settings do not contradict each other at every start.
"""

import json

from sqlalchemy import select

from blindgate_gateway.database import Database, prepared
from blindgate_gateway.log.believed import enter, kept_for, leave
from blindgate_gateway.log.counted import tell_budgets, untold_budgets
from blindgate_gateway.log.objects import log_object
from blindgate_gateway.log.sequencer import Sequencer
from blindgate_gateway.log.telling import GATEWAY, tell
from blindgate_gateway.log.unlogged import count_unlogged
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import events
from blindgate_protocol.events import Action

_LAST_KEPT = prepared(
    select(events.c.body)
    .where(events.c.action == Action.RETENTION_CHANGED.value, events.c.tenant.is_(None))
    .order_by(events.c.id.desc())
    .limit(1)
)


def tell_start(settings: Settings) -> None:
    """Say that this gateway writes events from now on, and what changed in how long it keeps things and in whom it believes."""
    database = connect(settings)
    try:
        what = _log(database, settings)
        now = kept_for(settings)
        with database.write() as connection:
            details, budgets = count_unlogged(connection), untold_budgets(connection)
            if budgets is not None:
                details |= {"budgets": str(len(budgets))}
            tell(connection, Action.LOG_STARTED, what, by=GATEWAY, before="paused", after="started", details=details)
            tell_budgets(connection, budgets or [])
            before = enter(connection, settings)
            row = connection.execute(_LAST_KEPT, {}).first()
            told = {} if row is None or row.body is None else json.loads(row.body)["details"]
            is_changed = before is None or json.loads(before.kept) != now
            if is_changed and {name: told.get(name) for name in now} != now:
                was = {f"{name}-before": told[name] for name in now if name in told}
                tell(connection, Action.RETENTION_CHANGED, what, by=GATEWAY, details=now | was)
    finally:
        database.close()


def tell_stop(settings: Settings) -> None:
    """Say that this gateway, which ends in order, writes no more events; and what it alone believed, if it will not come back."""
    database = connect(settings)
    try:
        what = _log(database, settings)
        with database.write() as connection:
            if settings.leaves:
                leave(connection, settings)
            tell(connection, Action.LOG_PAUSED, what, by=GATEWAY, before="started", after="paused")
    finally:
        database.close()


def _log(database: Database, settings: Settings) -> str:
    sequencer = Sequencer(database, settings.log_key_file, origin=settings.log_origin)
    return log_object(sequencer.head().key.name)
