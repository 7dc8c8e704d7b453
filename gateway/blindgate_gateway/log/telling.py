"""How the rooms tell the log what happened: in the transaction in which it happens.

    with parts.database.write() as connection:
        …change…
        tell(connection, Action.KEY_SUSPENDED, key_object(digest), by=tenant_actor(connection, name), …)

So there is no change without its event and no event without its change, whatever dies in between. The event gets its place in
the tree later (`sequencer`).
"""

import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from flask import has_request_context, request
from sqlalchemy import insert

from blindgate_gateway.database import Transaction, prepared
from blindgate_gateway.log.pseudonyms import pseudonym_of
from blindgate_gateway.tables import events
from blindgate_protocol.events import SALT_BYTES, Action, entry_of, event_bytes

REQUEST_ID: Final = "blindgate.request"
"""Where a request's environment has its name."""
_ADD = prepared(insert(events), "time", "action", "object", "tenant", "commitment", "body", "salt")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, and as what (see `blindgate_protocol.events`)."""

    id: str
    role: str


GATEWAY: Final = Actor("gateway", "gateway")
COMMAND_LINE: Final = Actor("command-line", "administrator")
UNKNOWN: Final = Actor("unknown", "unknown")


def tenant_actor(connection: Transaction, tenant: str, role: str = "tenant") -> Actor:
    """A tenant, by its pseudonym."""
    return Actor(pseudonym_of(connection, "tenant", tenant), role)


def node_actor(key: str) -> Actor:
    """A node, by its key."""
    return Actor(key, "node")


def tell(  # noqa: PLR0913  (what an event is made of)
    connection: Transaction,
    action: Action,
    what: str,
    *,
    by: Actor,
    tenant: str | None = None,
    digest: str | None = None,
    outcome: str = "success",
    reason: str | None = None,
    before: str | None = None,
    after: str | None = None,
    details: dict[str, str] | None = None,
) -> None:
    """Write an event about the object `what`, which belongs to the tenant of this name."""
    whose = None if tenant is None else pseudonym_of(connection, "tenant", tenant)
    members: dict[str, Any] = {
        "time": time.time_ns() // 1_000_000,
        "action": action,
        "actor": by.id,
        "role": by.role,
        "tenant": whose,
        "object": what,
        "digest": digest,
        "outcome": outcome,
        "reason": None if reason is None else reason[:2000],
        "request": request.environ.get(REQUEST_ID) if has_request_context() else None,
        "before": before,
        "after": after,
        "details": details or {},
        "software": software(),
        "version": 1,
    }
    body, salt = event_bytes(members), secrets.token_bytes(SALT_BYTES)
    row = {
        "time": members["time"],
        "action": action.value,
        "object": what,
        "tenant": whose,
        "commitment": entry_of(body, salt)[1:],
        "body": body.decode(),
        "salt": salt,
    }
    connection.execute(_ADD, row)


@lru_cache(maxsize=1)
def software() -> str:
    """This gateway's name and version, as events have it."""
    try:
        return f"blindgate-gateway {version('blindgate')}"
    except PackageNotFoundError:
        return "blindgate-gateway unknown"
