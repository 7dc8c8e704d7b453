"""Whom the gateways of one database believe: publishers and operators, which are settings, and each gateway has its own.

What the log tells has to be true of all of them together, and told once:

1. A key is told as added when the first gateway believes it, and as revoked when none does any more. So gateways whose settings
   differ for good tell nothing of each other, and a change that is rolled over several processes is told once: what is new by the
   first that starts with it, what is gone by the last that starts without it. Until then its word counts somewhere, and does so.
2. A gateway is known by its data folder (`gateway.id`). When it starts again, what it believes takes the place of what it
   believed. One that stopped counts on: as a rule it is on its way back.
3. A gateway that has not shown itself for `LOST_AFTER` is forgotten by one that did all that time, and what it alone believed is
   told as revoked. Who was away itself, or has only begun, forgets nobody: the others may have been cut off with it.
4. A gateway that will not come back, since its folder ends with it (the setting `leaves`), is forgotten when it stops in order, and
   what it alone believed is told as revoked then. Not when no other one is there: the last one leaves its word.

What a gateway wrote of itself is told (`gateway.entered`: digests of its columns), and that it was forgotten (`gateway.forgotten`):
so an auditor sees which rows of `gateways` nobody wrote, or somebody deleted.

That settings differ is said where people look: in a line when a gateway starts, and by `blindgate gateway check`.
"""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, exists, select, update

from blindgate_gateway.database import Database, Row, Transaction, clock, prepared, upsert
from blindgate_gateway.log.objects import gateway_object, signer_object
from blindgate_gateway.log.telling import COMMAND_LINE, GATEWAY, Actor, tell
from blindgate_gateway.logs import log
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import events, gateways
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action
from blindgate_protocol.values import Millis

Signer = tuple[str, str]
"""Publisher or operator, and the key id."""

SHOWN_EVERY: Final = 20.0
"""After how many seconds a gateway shows itself again."""
LOST_AFTER: Final[Millis] = 600_000
_GAP: Final[Millis] = 120_000
"""Who was not seen for longer was away."""
_ID_BYTES: Final = 16

_ENTER = prepared(
    upsert(
        gateways,
        lambda statement: statement.values(since=clock(), seen=clock()).on_conflict_do_update(
            index_elements=["id"],
            set_={name: statement.excluded[name] for name in ("since", "seen", "publishers", "operators", "kept")},
        ),
    ),
    "id",
    "publishers",
    "operators",
    "kept",
)
_ALL = prepared(select(gateways).order_by(gateways.c.id))
_SHOW = prepared(
    update(gateways)
    .where(gateways.c.id == bindparam("gateway"))
    .values(since=case((gateways.c.seen < clock() - _GAP, clock()), else_=gateways.c.since), seen=clock())
    .returning(gateways.c.id)
)
_ME = gateways.alias("me")
_IS_LOST = (
    gateways.c.seen < clock() - LOST_AFTER,
    exists().where(_ME.c.id == bindparam("gateway"), _ME.c.since < clock() - LOST_AFTER),
)
_LOST = prepared(select(gateways.c.id).where(*_IS_LOST).limit(1))
_FORGET = prepared(delete(gateways).where(*_IS_LOST).returning(gateways.c.id))
_OTHERS = prepared(
    select(gateways.c.id).where(gateways.c.id != bindparam("gateway"), gateways.c.seen >= clock() - _GAP).limit(1)
)
_LEAVE = prepared(delete(gateways).where(gateways.c.id == bindparam("gateway")))
_TOLD = prepared(
    select(events.c.action, events.c.object, events.c.body)
    .where(
        events.c.action.in_([Action.SIGNER_ADDED.value, Action.SIGNER_REVOKED.value]),
        events.c.tenant.is_(None),  # clients' keys are their tenants'
    )
    .order_by(events.c.id)
)


def enter(connection: Transaction, settings: Settings) -> Row:
    """Say whom this gateway believes, and tell what that changes (1. and 2.). Gives its row of before, or `None`."""
    connection.alone("signers")  # who starts at the same time reads this one's row, or has written its own
    me = gateway_id(settings.data)
    before = connection.execute(_ALL, {}).all()
    row = {
        "publishers": " ".join(settings.publishers),
        "operators": " ".join(settings.operators),
        "kept": json.dumps(kept_for(settings)),
    }
    connection.execute(_ENTER, {"id": me, **row})
    said = {name: digest(text.encode()) for name, text in row.items()}
    tell(connection, Action.GATEWAY_ENTERED, gateway_object(me), by=GATEWAY, after="entered", details=said)
    rows = connection.execute(_ALL, {}).all()
    _tell(connection, rows, by=COMMAND_LINE, reason=None)
    told = differences(rows)
    if told:
        log.warning("signers.differ", gateway=me, differences=told)
    return next((one for one in before if one.id == me), None)


def show(database: Database, settings: Settings) -> None:
    """Show that this gateway is there, and forget those that are not (3.)."""
    me = {"gateway": gateway_id(settings.data)}
    with database.write(durable=False) as connection:
        is_known = connection.execute(_SHOW, me).first() is not None
    if not is_known:  # it was away for so long that another one forgot it
        with database.write() as connection:
            enter(connection, settings)
    if database.look(_LOST, me) is None:
        return
    with database.write() as connection:
        connection.alone("signers")
        lost = [row.id for row in connection.execute(_FORGET, me).all()]
        if not lost:  # another one was faster
            return
        rows = connection.execute(_ALL, {}).all()
        for one in lost:
            _tell_forgotten(connection, one, f"it has not shown itself for {LOST_AFTER // 60_000} minutes")
        reason = f"no gateway that believed it has shown itself for {LOST_AFTER // 60_000} minutes"
        _tell(connection, rows, by=GATEWAY, reason=reason)
    log.warning("gateways.lost", gateways=lost)


def leave(connection: Transaction, settings: Settings) -> None:
    """Forget this gateway, which has stopped and will not come back, if another one is there (4.)."""
    connection.alone("signers")
    me = {"gateway": gateway_id(settings.data)}
    if connection.execute(_OTHERS, me).first() is None:
        return
    connection.execute(_LEAVE, me)
    _tell_forgotten(connection, me["gateway"], "it has stopped and will not come back")
    rows = connection.execute(_ALL, {}).all()
    _tell(connection, rows, by=GATEWAY, reason="the last gateway that believed it has stopped and will not come back")


def differences(rows: list[Row]) -> list[str]:
    """In words, what some of these gateways believe and others do not."""
    everybody = {row.id: _believed_by(row) for row in rows}
    union = set[Signer]().union(*everybody.values())
    return [
        f"{kind} {key} is not believed by {' '.join(sorted(out))}"
        for kind, key in sorted(union)
        if (out := [one for one, believed in everybody.items() if (kind, key) not in believed])
    ]


def known_gateways(connection: Transaction) -> list[Row]:
    """The gateways that work on this database, or did until a few minutes ago."""
    return connection.execute(_ALL, {}).all()


def kept_for(settings: Settings) -> dict[str, str]:
    """For how long a gateway keeps things, as the log tells it."""
    return {name: str(getattr(settings, name)) for name in ("retention", "records", "grace")}


def gateway_id(data: Path) -> str:
    """The id of the gateway in this data folder; made when it has none. Raises `BlindgateError` for a file that is none."""
    file = data / "gateway.id"
    if not file.exists():  # the folder is one gateway's: nobody else makes it meanwhile
        new = file.with_name("gateway.id.new")
        new.write_text(f"{secrets.token_hex(_ID_BYTES)}\n", encoding="ascii")
        new.replace(file)  # whole or not at all, on a disk that is full
    found = file.read_text(encoding="ascii", errors="replace").strip()
    if len(found) != 2 * _ID_BYTES or not set(found) <= set("0123456789abcdef"):
        message = f"{file}: expected {2 * _ID_BYTES} hexadecimal digits; remove it, and the gateway gets another id"
        raise BlindgateError(message)
    return found


def _tell_forgotten(connection: Transaction, gateway: str, reason: str) -> None:
    what = gateway_object(gateway)
    tell(connection, Action.GATEWAY_FORGOTTEN, what, by=GATEWAY, reason=reason, before="entered", after="forgotten")


def _tell(connection: Transaction, rows: list[Row], *, by: Actor, reason: str | None) -> None:
    now = set[Signer]().union(*map(_believed_by, rows))
    before: set[Signer] = set()
    for row in connection.execute(_TOLD, {}).all():
        if row.body is None:  # erased: what it said is told again, where it still counts
            continue
        one = (json.loads(row.body)["details"]["kind"], row.object.partition(":")[2])
        (before.add if row.action == Action.SIGNER_ADDED.value else before.discard)(one)
    changes: list[tuple[Action, set[Signer], dict[str, Any]]] = [
        (Action.SIGNER_REVOKED, before - now, {"before": "believed", "after": "revoked", "reason": reason}),
        (Action.SIGNER_ADDED, now - before, {"after": "believed"}),
    ]
    for action, signers, said in changes:
        for kind, key in sorted(signers):
            tell(connection, action, signer_object(key), by=by, details={"kind": kind}, **said)


def _believed_by(row: Row) -> set[Signer]:
    return set(_signers("publisher", row.publishers)) | set(_signers("operator", row.operators))


def _signers(kind: str, keys: str) -> Iterator[Signer]:
    return ((kind, key) for key in keys.split())
