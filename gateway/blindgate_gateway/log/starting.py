"""What the log tells of the gateway itself: that it began to write, that it stopped, and for how long it keeps what."""

import json
from typing import Final

from sqlalchemy import select

from blindgate_gateway.database import Database, prepared
from blindgate_gateway.log.objects import log_object
from blindgate_gateway.log.sequencer import Sequencer
from blindgate_gateway.log.telling import GATEWAY, tell
from blindgate_gateway.parts import connect
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import events
from blindgate_protocol.events import Action

_KEPT: Final = ("retention", "records", "grace")
_LAST_KEPT = prepared(
    select(events.c.body)
    .where(events.c.action == Action.RETENTION_CHANGED.value, events.c.tenant.is_(None))
    .order_by(events.c.id.desc())
    .limit(1)
)


def tell_start(settings: Settings) -> None:
    """Say that this gateway writes events from now on, and what changed in how long it keeps things."""
    database = connect(settings)
    try:
        what = _log(database, settings)
        kept = {name: str(getattr(settings, name)) for name in _KEPT}
        row = database.look(_LAST_KEPT, {})
        before = {} if row is None or row.body is None else json.loads(row.body)["details"]
        with database.write() as connection:
            tell(connection, Action.LOG_STARTED, what, by=GATEWAY, before="paused", after="started")
            if {name: before.get(name) for name in _KEPT} != kept:
                was = {f"{name}-before": before[name] for name in _KEPT if name in before}
                tell(connection, Action.RETENTION_CHANGED, what, by=GATEWAY, details=kept | was)
    finally:
        database.close()


def tell_stop(settings: Settings) -> None:
    """Say that this gateway, which ends in order, writes no more events."""
    database = connect(settings)
    try:
        what = _log(database, settings)
        with database.write() as connection:
            tell(connection, Action.LOG_PAUSED, what, by=GATEWAY, before="started", after="paused")
    finally:
        database.close()


def _log(database: Database, settings: Settings) -> str:
    sequencer = Sequencer(database, settings.log_key_file, origin=settings.log_origin)
    return log_object(sequencer.head().key.name)
