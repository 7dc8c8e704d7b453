"""Who is signed in to the console: a random token in the auditor's cookie, and its hash here.

A session stands for what was shown for it, and for nothing by itself: each time it is used, it is looked at whether

1. it was used within `IDLE`, and made within `WHOLE`;
2. the API key that was shown is an auditor's, was not revoked, and has not expired;
3. or, of a person who signs in elsewhere, the token that was shown has not ended, and what gave it the role still would (`people`).

So a revoked key ends its sessions with it. The database's clock decides, and the table is everybody's: whichever process of which
gateway gets the next request finds the session. When it was used is kept by the minute, so that reading writes little.

That a session begins, and that somebody ends one, is an event, in the transaction of its row; so is that one was not used for
`IDLE`, when its row is deleted. One that lasts until its end (`until`, in the event of its beginning), or whose key is withdrawn,
writes none: that follows. So a row that is gone before its session's `until` was deleted by somebody else where no event says so.
The log calls a session by the beginning of its token's hash, with which nobody can sign in.
"""

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, bindparam, delete, insert, or_, select, update

from blindgate_gateway.database import Database, Row, Transaction, clock, is_busy, prepared
from blindgate_gateway.identity import Grounds, Role, Staff
from blindgate_gateway.log.objects import session_object
from blindgate_gateway.log.pseudonyms import pseudonym_of
from blindgate_gateway.log.telling import GATEWAY, Actor, tell
from blindgate_gateway.tables import api_keys, sessions
from blindgate_protocol.canonical import digest
from blindgate_protocol.events import Action
from blindgate_protocol.values import Millis

if TYPE_CHECKING:
    from blindgate_gateway.identity.people import People

IDLE: Final[Millis] = 30 * 60_000
WHOLE: Final[Millis] = 8 * 3_600_000
MOST: Final = 16
"""How many sessions an API key, or a person, has at once: of more, the oldest ends."""
TOKEN_LENGTH: Final = 43
NAME_LENGTH: Final = 32
"""How much of a token's hash is the name that the log calls its session by."""
_MINUTE: Final = 60_000
_GOES_ON = and_(sessions.c.used > clock() - IDLE, sessions.c.created > clock() - WHOLE)
_OF_TOKEN = prepared(
    select(
        sessions.c.token_hash,
        sessions.c.api_key,
        api_keys.c.staff,
        sessions.c.person,
        sessions.c.grounds,
        sessions.c.expires,
        (sessions.c.used <= clock() - _MINUTE).label("stale"),
    )
    .outerjoin_from(sessions, api_keys, sessions.c.api_key == api_keys.c.id)
    .where(
        sessions.c.token_hash == bindparam("hash"),
        # 1.
        _GOES_ON,
        or_(
            # 2.
            and_(
                api_keys.c.staff.is_not(None),
                api_keys.c.scopes == Role.AUDITOR.value,
                api_keys.c.revoked.is_(None),
                or_(api_keys.c.expires.is_(None), api_keys.c.expires > clock()),
            ),
            # 3.
            and_(sessions.c.person.is_not(None), sessions.c.expires > clock()),
        ),
    )
)
_ADD = prepared(
    insert(sessions).values(created=clock(), used=clock()).returning(sessions.c.created),
    "token_hash",
    "api_key",
    "person",
    "grounds",
    "expires",
)
_USE = prepared(update(sessions).where(sessions.c.token_hash == bindparam("hash")).values(used=clock()))
_WHAT_ENDED = (sessions.c.token_hash, sessions.c.created, sessions.c.expires, clock().label("now"))
_END = prepared(delete(sessions).where(sessions.c.token_hash == bindparam("hash")).returning(*_WHAT_ENDED))
_HOLDER = or_(sessions.c.api_key == bindparam("api_key"), sessions.c.person == bindparam("person"))
_END_OLDEST = prepared(
    delete(sessions)
    .where(
        sessions.c.token_hash.in_(
            select(sessions.c.token_hash)
            .where(_HOLDER)
            .order_by(sessions.c.created.desc(), sessions.c.token_hash)
            .offset(bindparam("kept"))
            .limit(1000)
        )
    )
    # Columns and nothing computed: `expires IS NULL` is false in here under SQLite 3.40, whatever the column holds.
    .returning(sessions.c.token_hash, sessions.c.used, sessions.c.created, sessions.c.expires, clock().label("now"))
)
_SWEEP = prepared(
    delete(sessions)
    .where(
        or_(
            sessions.c.used <= clock() - IDLE,
            sessions.c.created <= clock() - WHOLE,
            sessions.c.expires <= clock(),
        )
    )
    .returning(*_WHAT_ENDED)
)


def begin_session(database: Database, auditor: Staff, *, instead_of: str = "") -> str:
    """Begin a session for what `auditor` signed in with, and end the one of the token `instead_of`, if there is one.

    Gives the token, which is kept nowhere.
    """
    token = secrets.token_urlsafe(32)
    grounds = auditor.grounds
    holder = {
        "api_key": auditor.key if grounds is None else None,
        "person": None if grounds is None else auditor.key,
    }
    ends = {
        "grounds": None if grounds is None else grounds.text,
        "expires": None if grounds is None else grounds.expires,
    }
    with database.write() as connection:
        _end(connection, instead_of, "signed in anew")
        created = connection.execute(_ADD, {"token_hash": _hash(token), **holder, **ends}).scalar()
        by = _actor(connection, auditor)
        said = {"credential": auditor.key if grounds is None else "token", "created": str(created)}
        until = _until(created, None if grounds is None else grounds.expires)
        said["until"] = str(until)
        if grounds is not None:
            said |= {"grounds": shown_grounds(_hash(token), grounds.text), "expires": str(grounds.expires)}
        tell(connection, Action.SESSION_STARTED, _name(_hash(token)), by=by, after="active", details=said)
        for row in connection.execute(_END_OLDEST, {**holder, "kept": MOST}).all():
            if _went_on(row):
                _tell_ended(connection, row.token_hash, by, f"more than {MOST} sessions")
            else:
                _tell_over(connection, row)
    return token


def find_session(database: Database, token: str, people: "People | None") -> Staff | None:
    """Whose session this is (steps 1 to 3 above), or `None`; notes that it was used.

    Raises `GatewayError` (503) when a person's issuer cannot be asked for its keys.
    """
    if len(token) != TOKEN_LENGTH or not token.isascii():
        return None
    row = database.look(_OF_TOKEN, {"hash": _hash(token)})
    if row is None:
        return None
    found = _auditor(row)
    # 3.
    if found.grounds is not None and (people is None or not people.still_holds(found.grounds.text, Role.AUDITOR)):
        return None
    if row.stale:
        _note_use(database, token)
    return found


def _note_use(database: Database, token: str) -> None:
    try:
        with database.write(durable=False) as connection:
            connection.execute(_USE, {"hash": _hash(token)})
    except Exception as error:
        if not is_busy(error):  # a session may end sooner, and nobody is kept out now
            raise


def end_session(database: Database, token: str) -> None:
    """End a session, if there is one."""
    with database.write() as connection:
        _end(connection, token, "signed out")


def shown_grounds(token_hash: object, grounds: object) -> str:
    """What the log and auditors are told of the grounds of a person's session.

    They can be guessed, so they are digested together with the hash of the token, which nobody is shown.
    """
    return digest(f"{token_hash} {grounds}".encode(errors="replace"))


def sweep_sessions(database: Database) -> None:
    """Forget sessions that are over."""
    with database.write(durable=False) as connection:
        for row in connection.execute(_SWEEP).all():
            _tell_over(connection, row)


def _end(connection: Transaction, token: str, reason: str) -> None:
    if len(token) != TOKEN_LENGTH or not token.isascii():
        return
    this = {"hash": _hash(token)}
    row = connection.execute(_OF_TOKEN, this).first()
    ended = connection.execute(_END, this).first()
    if row is not None:
        _tell_ended(connection, row.token_hash, _actor(connection, _auditor(row)), reason)
    elif ended is not None:  # what was over has ended before
        _tell_over(connection, ended)


def _tell_over(connection: Transaction, row: Row) -> None:
    """Tell of a session that ended by itself, and whose row goes before its last moment has come."""
    if _until(row.created, row.expires) > row.now:
        _tell_ended(connection, row.token_hash, GATEWAY, f"withdrawn, or not used for {IDLE // _MINUTE} minutes")


def _tell_ended(connection: Transaction, token_hash: str, by: Actor, reason: str) -> None:
    tell(
        connection,
        Action.SESSION_ENDED,
        _name(token_hash),
        by=by,
        reason=reason,
        before="active",
        after="ended",
    )


def _went_on(row: Row) -> bool:
    """Whether a session of a holder who signs in just now was not over by its times."""
    expired = row.expires is not None and row.expires <= row.now
    return bool(row.used > row.now - IDLE and row.created > row.now - WHOLE and not expired)


def _until(created: Millis, expires: Millis | None) -> Millis:
    """When a session is over at the latest."""
    return created + WHOLE if expires is None else min(created + WHOLE, expires)


def _auditor(row: Row) -> Staff:
    """Whose a session's row is."""
    roles = frozenset({Role.AUDITOR})
    if row.person is None:
        return Staff(row.staff, roles, row.api_key)
    return Staff(row.person, roles, row.person, Grounds(row.grounds, row.expires))


def _actor(connection: Transaction, auditor: Staff) -> Actor:
    return Actor(pseudonym_of(connection, "staff", auditor.name), Role.AUDITOR.value)


def _name(token_hash: str) -> str:
    return session_object(token_hash[:NAME_LENGTH])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
