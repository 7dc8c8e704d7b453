"""API keys: what tenants, publishers and the gateway's own staff call with.

A key is a tenant's, with a set of scopes, or somebody's of the staff, with one role. It may expire: the database's clock decides.
It is replaced without a gap: `rotate_api_key` makes its successor, and lets it work on for an overlap in which whoever uses it
changes over. When a key was last used is kept by the day: enough to see which ones nobody needs, and one write a day.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, case, insert, or_, select, update

from blindgate_gateway.database import Database, Transaction, clock, is_busy, prepared, upsert
from blindgate_gateway.identity.credentials import Credential
from blindgate_gateway.identity.roles import Account, Role, Scope, Staff, StaffRole
from blindgate_gateway.log.objects import credential_object, staff_object, tenant_object
from blindgate_gateway.log.pseudonyms import pseudonym_of
from blindgate_gateway.log.telling import COMMAND_LINE, tell
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.settings import DAY
from blindgate_gateway.tables import api_keys, tenants
from blindgate_protocol.events import Action
from blindgate_protocol.values import Millis

_OF_ID = prepared(
    select(
        api_keys.c.tenant,
        api_keys.c.staff,
        api_keys.c.secret_hash,
        api_keys.c.scopes,
        api_keys.c.expires,
        api_keys.c.used,
        clock().label("now"),
    ).where(api_keys.c.id == bindparam("id"), api_keys.c.revoked.is_(None))
)
_USE = prepared(
    update(api_keys)
    .where(api_keys.c.id == bindparam("of_id"), or_(api_keys.c.used.is_(None), api_keys.c.used < bindparam("today")))
    .values(used=bindparam("today"))
)
_ADD_TENANT = prepared(
    upsert(
        tenants,
        lambda statement: statement.values(created=clock()).on_conflict_do_nothing().returning(tenants.c.created),
    ),
    "name",
)
_GOOD: Final = and_(api_keys.c.revoked.is_(None), or_(api_keys.c.expires.is_(None), api_keys.c.expires > clock()))


def authenticate_key(database: Database, token: str) -> Account | Staff | None:
    """Whose API key `token` is, or `None`. Raises `GatewayError` (401) when it was one, and has expired."""
    credential = Credential.parse(token)
    if credential is None:
        return None
    row = database.look(_OF_ID, {"id": credential.id})
    right = credential.matches(None if row is None else row.secret_hash)
    if row is None or not right or credential.kind != ("bg" if row.staff is None else "bs"):
        return None
    if row.expires is not None and row.expires <= row.now:
        day = datetime.fromtimestamp(row.expires / 1000, UTC).strftime("%Y-%m-%d")
        raise refusal("key-expired", f"the API key {credential.kind}_{credential.id} expired on {day}: ask for another")
    _note_use(database, credential.id, row.used, row.now)
    if row.staff is not None:
        return Staff(row.staff, frozenset({Role(row.scopes)}), credential.id)
    return Account(row.tenant, frozenset(map(Scope, row.scopes.split())), credential.id)


def _note_use(database: Database, key: str, used: Millis | None, now: Millis) -> None:
    today = now - now % DAY
    if used is not None and used >= today:
        return
    try:
        with database.write(durable=False) as connection:
            connection.execute(_USE, {"of_id": key, "today": today})
    except Exception as error:
        if not is_busy(error):  # a full disk keeps nobody from reading
            raise


# What the gateway's operator does about keys, from the command line


def add_tenant(database: Database, name: str, scopes: Iterable[Scope], *, lasts: Millis | None = None) -> Credential:
    """Give `name` a new API key, and make the tenant if it is new. The key is shown once: only its hash is kept.

    `lasts` is for how many milliseconds it is good; `None` for until it is revoked.
    """
    credential = Credential.generate("bg")
    with database.write() as connection:
        text = " ".join(sorted(set(scopes)))
        may = _rights(connection, api_keys.c.tenant == name)
        created = connection.execute(_ADD_TENANT, {"name": name}).scalar()
        if created is not None:
            whose, stated = pseudonym_of(connection, "tenant", name), {"created": str(created)}
            tell(
                connection,
                Action.TENANT_ADDED,
                tenant_object(whose),
                by=COMMAND_LINE,
                tenant=name,
                after="active",
                details=stated,
            )
        _add(connection, credential, lasts, tenant=name, scopes=text)
        if may and not set(text.split()) <= may:
            _tell_role(
                connection, tenant_object(pseudonym_of(connection, "tenant", name)), may, {*text.split()}, tenant=name
            )
    return credential


def add_staff(database: Database, name: str, role: StaffRole, *, lasts: Millis | None = None) -> Credential:
    """Give somebody of the staff an API key. It is shown once."""
    credential = Credential.generate("bs")
    with database.write() as connection:
        may = _rights(connection, api_keys.c.staff == name)
        _add(connection, credential, lasts, staff=name, scopes=role.value)
        if may and role.value not in may:
            _tell_role(connection, staff_object(pseudonym_of(connection, "staff", name)), may, {role.value})
    return credential


def rotate_api_key(
    database: Database, key: str, *, staff: bool, overlap: Millis, lasts: Millis | None = None
) -> Credential:
    """Make a key's successor, with the same owner and scopes; the key itself ends after `overlap` milliseconds at the latest.

    The successor is good for `lasts`, or, without, for as long as the key was from when it was made. Raises `NotFoundError`
    when there is no such key, or it is not good any more.
    """
    this = and_(_of(key, staff=staff), _GOOD)
    end = clock() + overlap
    with database.write() as connection:
        columns = (api_keys.c[name] for name in ("tenant", "staff", "scopes", "expires"))
        ending = update(api_keys).where(this).returning(*columns)
        before = connection.execute(select(api_keys.c.created, api_keys.c.expires).where(this)).first()
        sooner = and_(api_keys.c.expires.is_not(None), api_keys.c.expires < end)
        row = connection.execute(ending.values(expires=case((sooner, api_keys.c.expires), else_=end))).first()
        if before is None or row is None:
            raise not_found(f"API key in use: {key}")
        if lasts is None and before.expires is not None:
            lasts = before.expires - before.created
        credential = Credential.generate("bs" if staff else "bg")
        replaced = {"replaces": _bare(key), "replaced-expires": str(row.expires)}
        _add(connection, credential, lasts, tenant=row.tenant, staff=row.staff, scopes=row.scopes, replaced=replaced)
    return credential


@dataclass(frozen=True)
class ApiKey:
    """What is known of an API key: never its secret.

    Attributes:
        owner: the tenant, or the name of somebody of the staff.
        scopes: of a tenant's key its scopes, of staff the role.
        used: the beginning of the day (UTC) on which it was last used.
    """

    owner: str
    id: str
    scopes: tuple[str, ...]
    created: Millis
    expires: Millis | None
    revoked: Millis | None
    used: Millis | None


def list_api_keys(database: Database, *, staff: bool) -> tuple[ApiKey, ...]:
    """Every API key of tenants, or of staff, by owner and age."""
    owner = api_keys.c.staff if staff else api_keys.c.tenant
    columns = [api_keys.c[name] for name in ("id", "scopes", "created", "expires", "revoked", "used")]
    with database.read() as connection:
        rows = connection.execute(
            select(owner.label("owner"), *columns).where(owner.is_not(None)).order_by(owner, api_keys.c.created)
        ).all()
    return tuple(ApiKey(**(row._asdict() | {"scopes": tuple(row.scopes.split())})) for row in rows)


def revoke_api_key(database: Database, key: str, *, staff: bool) -> None:
    """Make an API key useless from now on. Raises `NotFoundError`."""
    with database.write() as connection:
        revoked = update(api_keys).where(_of(key, staff=staff), api_keys.c.revoked.is_(None)).values(revoked=clock())
        row = connection.execute(revoked.returning(api_keys.c.tenant, api_keys.c.revoked)).first()
        if row is None:
            raise not_found(f"API key in use: {key}")
        tell(
            connection,
            Action.CREDENTIAL_REVOKED,
            credential_object(_bare(key)),
            by=COMMAND_LINE,
            tenant=row.tenant,
            before="active",
            after="revoked",
            details={"revoked": str(row.revoked)},
        )


def _add(  # noqa: PLR0913  (what a key is made of)
    connection: Transaction,
    credential: Credential,
    lasts: Millis | None,
    *,
    tenant: str | None = None,
    staff: str | None = None,
    scopes: str,
    replaced: dict[str, str] | None = None,
) -> None:
    """Add a key's row, and tell of it all that the row says: an auditor holds the one against the other."""
    row = {
        "id": credential.id,
        "secret_hash": credential.hashed(),
        "created": clock(),
        "expires": None if lasts is None else clock() + lasts,
        "tenant": tenant,
        "staff": staff,
        "scopes": scopes,
    }
    times = connection.execute(insert(api_keys).values(**row).returning(api_keys.c.created, api_keys.c.expires)).one()
    details = {"scopes": scopes, "secret": credential.shown(), "created": str(times.created)}
    if times.expires is not None:
        details["expires"] = str(times.expires)
    if staff is not None:
        details["staff"] = pseudonym_of(connection, "staff", staff)
    action = Action.CREDENTIAL_GRANTED if replaced is None else Action.CREDENTIAL_ROTATED
    tell(
        connection,
        action,
        credential_object(credential.id),
        by=COMMAND_LINE,
        tenant=tenant,
        after="active",
        details=details | (replaced or {}),
    )


def _rights(connection: Transaction, whose: ColumnElement[bool]) -> set[str]:
    """What somebody may do by the keys that are good now."""
    rows = connection.execute(select(api_keys.c.scopes).where(whose, _GOOD)).scalars()
    return {right for scopes in rows for right in scopes.split()}


def _tell_role(
    connection: Transaction, what: str, before: set[str], new: set[str], *, tenant: str | None = None
) -> None:
    rights = {"before": " ".join(sorted(before)), "after": " ".join(sorted(before | new))}
    tell(connection, Action.ROLE_CHANGED, what, by=COMMAND_LINE, tenant=tenant, details=rights)


def _bare(key: str) -> str:
    return key.removeprefix("bs_").removeprefix("bg_")


def _of(key: str, *, staff: bool) -> ColumnElement[bool]:
    owner = api_keys.c.staff if staff else api_keys.c.tenant
    return and_(api_keys.c.id == key.removeprefix("bs_" if staff else "bg_"), owner.is_not(None))
