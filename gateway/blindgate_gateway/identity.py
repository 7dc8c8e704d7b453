"""Who calls, and whether they may.

Three kinds of credential, one shape, `<kind>_<id>.<secret>` with 256 random bits of secret:

- `bg` an API key: belongs to a tenant and has one scope, `tenant` (submit jobs) or `publish` (offer models);
- `bn` a node's token: given out at enrolment, a new enrolment replaces it;
- `be` an enrolment token: good for one enrolment, for a limited time.

The gateway keeps SHA-256 of the secret. A slow hash would add nothing: the secret is not a password that somebody could guess.
Comparisons take the same time whatever differs, and an unknown id costs the same as a wrong secret.

What a caller may not do is told apart only as far as it concerns their own credential: none or a wrong one is 401, a right one
of another role is 403, and an object of somebody else is 404 (`problems.not_found`), on every route.
"""

import hashlib
import hmac
import secrets
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from sqlalchemy import bindparam, insert, select, update

from blindgate_gateway.database import Database, Transaction, clock, prepared
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.tables import api_keys, enrolment_tokens, nodes, tenants
from blindgate_protocol.errors import NotAuthorisedError
from blindgate_protocol.values import Millis


class Role(StrEnum):
    """Who a route is for."""

    TENANT = "tenant"
    PUBLISHER = "publisher"
    NODE = "node"


Kind = Literal["bg", "bn", "be"]
Scope = Literal["tenant", "publish"]
_KINDS: dict[str, Kind] = {"bg": "bg", "bn": "bn", "be": "be"}
_ROLE_OF_SCOPE = {"tenant": Role.TENANT, "publish": Role.PUBLISHER}


@dataclass(frozen=True, slots=True)
class Account:
    """A caller with an API key: a tenant, or a publisher, who is one too."""

    tenant: str
    role: Role
    key: str


@dataclass(frozen=True, slots=True)
class Node:
    """A caller with a node's token."""

    key: str
    name: str
    operator: str
    role: Role = Role.NODE


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A credential in full, which exists only when it is made and when it is shown."""

    kind: Kind
    id: str
    secret: str

    @classmethod
    def generate(cls, kind: Kind) -> "Credential":
        """Make a fresh one."""
        return cls(kind, secrets.token_hex(8), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "Credential | None":
        """Read one, or give `None` for what has another shape."""
        head, dot, secret = text.partition(".")
        kind, underscore, name = head.partition("_")
        if not (dot and underscore and name and secret):
            return None
        return cls(_KINDS[kind], name, secret) if kind in _KINDS else None

    def hashed(self) -> str:
        """What is stored of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.kind}_{self.id}.{self.secret}"


_ACCOUNT = prepared(
    select(api_keys.c.tenant, api_keys.c.secret_hash, api_keys.c.scope).where(
        api_keys.c.id == bindparam("id"), api_keys.c.revoked.is_(None)
    )
)
_NODE = prepared(
    select(nodes.c.key, nodes.c.name, nodes.c.operator, nodes.c.secret_hash).where(
        nodes.c.token == bindparam("id"), nodes.c.expires > clock()
    )
)
_NOBODY = "0" * 64


def authenticate(
    database: Database, authorization: str | None, roles: Container[Role], *, operators: Container[str]
) -> Account | Node:
    """Decide who calls and whether `roles` has a place for them.

    A node counts only while its certificate is valid and its operator is among `operators`. Raises `NotAuthorisedError`.
    """
    scheme, _, token = (authorization or "").partition(" ")
    credential = Credential.parse(token.strip()) if scheme.lower() == "bearer" else None
    caller = None if credential is None else _identify(database, credential)
    if caller is None or (isinstance(caller, Node) and caller.operator not in operators):
        message = "an API key or a node's token is needed as a bearer token, and this is not a valid one"
        raise NotAuthorisedError(message, status=401)
    if caller.role not in roles:
        message = f"this credential is a {caller.role.value}'s and does not open this route"
        raise NotAuthorisedError(message, status=403)
    return caller


def _identify(database: Database, credential: Credential) -> Account | Node | None:
    row = database.look(_NODE if credential.kind == "bn" else _ACCOUNT, {"id": credential.id})
    right = hmac.compare_digest(credential.hashed(), _NOBODY if row is None else row.secret_hash)
    if row is None or not right:
        return None
    if credential.kind == "bn":
        return Node(row.key, row.name, row.operator)
    return Account(row.tenant, _ROLE_OF_SCOPE[row.scope], credential.id) if credential.kind == "bg" else None


# What the gateway's operator does about tenants, from the command line


def add_tenant(database: Database, name: str, scope: Scope) -> Credential:
    """Give `name` a new API key, and make the tenant if it is new. The key is shown once: only its hash is kept."""
    credential = Credential.generate("bg")
    with database.write() as connection:
        if connection.execute(select(tenants.c.name).where(tenants.c.name == name)).first() is None:
            connection.execute(insert(tenants).values(name=name, created=clock()))
        connection.execute(
            insert(api_keys).values(
                id=credential.id, tenant=name, secret_hash=credential.hashed(), scope=scope, created=clock()
            )
        )
    return credential


@dataclass(frozen=True)
class ApiKey:
    """What is known of an API key: never its secret."""

    tenant: str
    id: str
    scope: str
    created: Millis
    revoked: Millis | None


def list_api_keys(database: Database) -> tuple[ApiKey, ...]:
    """Every API key, by tenant and age."""
    columns = (api_keys.c.tenant, api_keys.c.id, api_keys.c.scope, api_keys.c.created, api_keys.c.revoked)
    with database.read() as connection:
        rows = connection.execute(select(*columns).order_by(api_keys.c.tenant, api_keys.c.created)).all()
    return tuple(ApiKey(*row) for row in rows)


def revoke_api_key(database: Database, key: str) -> None:
    """Make an API key useless from now on. Raises `NotFoundError`."""
    with database.write() as connection:
        revoked = update(api_keys).where(api_keys.c.id == key, api_keys.c.revoked.is_(None)).values(revoked=clock())
        if connection.execute(revoked).rowcount != 1:
            raise not_found(f"API key in use: {key}")


# Enrolment tokens


def add_enrolment_token(database: Database, *, lasts: Millis) -> Credential:
    """Make a token for one enrolment within `lasts` milliseconds."""
    credential = Credential.generate("be")
    with database.write() as connection:
        connection.execute(
            insert(enrolment_tokens).values(
                id=credential.id, secret_hash=credential.hashed(), created=clock(), expires=clock() + lasts
            )
        )
    return credential


def spend_enrolment_token(connection: Transaction, token: str, *, node: str) -> None:
    """Use `token` up for `node`, as part of a caller's transaction. Raises `NotAuthorisedError`."""
    credential = Credential.parse(token)
    if credential is not None and credential.kind == "be":
        spent = (
            update(enrolment_tokens)
            .where(
                enrolment_tokens.c.id == credential.id,
                enrolment_tokens.c.secret_hash == credential.hashed(),
                enrolment_tokens.c.node.is_(None),
                enrolment_tokens.c.expires > clock(),
            )
            .values(node=node)
        )
        if connection.execute(spent).rowcount == 1:
            return
    message = "the enrolment token is unknown, used, or too old"
    raise NotAuthorisedError(message, status=401)


def require_tenant(account: Account, tenant: str) -> None:
    """A signed document that names another tenant than the caller's is refused. Raises `GatewayError`."""
    if account.tenant != tenant:
        raise refusal("conflict", "the document names another tenant than the API key's")
