"""What the log tells of the gateway itself: that it began to write, that it stopped, and what its settings changed.

Settings change while no gateway runs that could tell it. So whoever starts compares them with what was told last: for how long
things are kept, and whose signatures count. A publisher or an operator that was among the settings and is not any more is told as
revoked, at that time.
"""

import json
from typing import Final

from sqlalchemy import select

from blindgate_gateway.database import Database, Transaction, prepared
from blindgate_gateway.log.objects import log_object, signer_object
from blindgate_gateway.log.sequencer import Sequencer
from blindgate_gateway.log.telling import COMMAND_LINE, GATEWAY, tell
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
_SIGNERS = prepared(
    select(events.c.action, events.c.object, events.c.body)
    .where(
        events.c.action.in_([Action.SIGNER_ADDED.value, Action.SIGNER_REVOKED.value]),
        events.c.tenant.is_(None),  # clients' keys are their tenants'
    )
    .order_by(events.c.id)
)


def tell_start(settings: Settings) -> None:
    """Say that this gateway writes events from now on, and what changed in how long it keeps things and in whom it believes."""
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
            _tell_signers(connection, settings)
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


def _tell_signers(connection: Transaction, settings: Settings) -> None:
    connection.alone("signers")  # gateways that start together tell it once
    now = {("publisher", key) for key in settings.publishers} | {("operator", key) for key in settings.operators}
    before: set[tuple[str, str]] = set()
    for row in connection.execute(_SIGNERS, {}).all():
        if row.body is None:  # erased: what it said is told again, where it still counts
            continue
        one = (json.loads(row.body)["details"]["kind"], row.object.partition(":")[2])
        (before.add if row.action == Action.SIGNER_ADDED.value else before.discard)(one)
    for kind, key in sorted(before - now):
        what, details = signer_object(key), {"kind": kind}
        tell(
            connection,
            Action.SIGNER_REVOKED,
            what,
            by=COMMAND_LINE,
            details=details,
            before="believed",
            after="revoked",
        )
    for kind, key in sorted(now - before):
        tell(
            connection,
            Action.SIGNER_ADDED,
            signer_object(key),
            by=COMMAND_LINE,
            details={"kind": kind},
            after="believed",
        )


def _log(database: Database, settings: Settings) -> str:
    sequencer = Sequencer(database, settings.log_key_file, origin=settings.log_origin)
    return log_object(sequencer.head().key.name)
