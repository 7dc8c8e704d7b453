"""Who is signed in to the console: a random token in the auditor's cookie, and its hash here.

A session stands for an API key of an auditor, and for nothing by itself: each time it is shown, one statement decides

1. that it was used within `IDLE`, and made within `WHOLE`;
2. that its API key is an auditor's, was not revoked, and has not expired.

So a revoked key ends its sessions with it. The database's clock decides, and the table is everybody's: whichever process of which
gateway gets the next request finds the session. When it was used is kept by the minute, so that reading writes little.
"""

import hashlib
import secrets
from typing import Final

from sqlalchemy import bindparam, delete, insert, or_, select, update

from blindgate_gateway.database import Database, clock, is_busy, prepared
from blindgate_gateway.identity import Role, Staff
from blindgate_gateway.tables import api_keys, sessions
from blindgate_protocol.values import Millis

IDLE: Final[Millis] = 30 * 60_000
WHOLE: Final[Millis] = 8 * 3_600_000
MOST: Final = 16
"""How many sessions an API key has at once: of more, the oldest ends."""
TOKEN_LENGTH: Final = 43
_MINUTE: Final = 60_000
_GOES_ON = (sessions.c.used > clock() - IDLE, sessions.c.created > clock() - WHOLE)
_OF_TOKEN = prepared(
    select(api_keys.c.id, api_keys.c.staff, (sessions.c.used <= clock() - _MINUTE).label("stale"))
    .join(sessions, sessions.c.api_key == api_keys.c.id)
    .where(
        sessions.c.token_hash == bindparam("hash"),
        # 1.
        *_GOES_ON,
        # 2.
        api_keys.c.staff.is_not(None),
        api_keys.c.scopes == Role.AUDITOR.value,
        api_keys.c.revoked.is_(None),
        or_(api_keys.c.expires.is_(None), api_keys.c.expires > clock()),
    )
)
_ADD = prepared(insert(sessions).values(created=clock(), used=clock()), "token_hash", "api_key")
_USE = prepared(update(sessions).where(sessions.c.token_hash == bindparam("hash")).values(used=clock()))
_END = prepared(delete(sessions).where(sessions.c.token_hash == bindparam("hash")))
_END_OLDEST = prepared(
    delete(sessions).where(
        sessions.c.token_hash.in_(
            select(sessions.c.token_hash)
            .where(sessions.c.api_key == bindparam("key"))
            .order_by(sessions.c.created.desc(), sessions.c.token_hash)
            .offset(bindparam("kept"))
            .limit(1000)
        )
    )
)
_SWEEP = prepared(delete(sessions).where(or_(sessions.c.used <= clock() - IDLE, sessions.c.created <= clock() - WHOLE)))


def begin_session(database: Database, auditor: Staff) -> str:
    """Begin a session of the API key that `auditor` signed in with. Gives the token, which is kept nowhere."""
    token = secrets.token_urlsafe(32)
    with database.write() as connection:
        connection.execute(_ADD, {"token_hash": _hash(token), "api_key": auditor.key})
        connection.execute(_END_OLDEST, {"key": auditor.key, "kept": MOST})
    return token


def find_session(database: Database, token: str) -> Staff | None:
    """Whose session this is (steps 1 and 2 above), or `None`; notes that it was used."""
    if len(token) != TOKEN_LENGTH or not token.isascii():
        return None
    row = database.look(_OF_TOKEN, {"hash": _hash(token)})
    if row is None:
        return None
    if row.stale:
        _note_use(database, token)
    return Staff(row.staff, frozenset({Role.AUDITOR}), row.id)


def _note_use(database: Database, token: str) -> None:
    try:
        with database.write(durable=False) as connection:
            connection.execute(_USE, {"hash": _hash(token)})
    except Exception as error:
        if not is_busy(error):  # a session may end sooner, and nobody is kept out now
            raise


def end_session(database: Database, token: str) -> None:
    """End a session, if there is one."""
    if token.isascii():
        with database.write() as connection:
            connection.execute(_END, {"hash": _hash(token)})


def sweep_sessions(database: Database) -> None:
    """Forget sessions that are over."""
    with database.write(durable=False) as connection:
        connection.execute(_SWEEP)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
