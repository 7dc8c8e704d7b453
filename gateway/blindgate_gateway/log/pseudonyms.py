"""Who is meant by a name in the log: a random text, for as long as the translation is kept.

The log is kept for ever; names are not. Erasing a translation leaves every event as it is, and nobody can tell any more who it was.
Whoever comes back under the same name gets another pseudonym.

A process remembers what it looked up for `MEMORY_SECONDS`: so long an erased name may go on under its old pseudonym.
"""

import secrets
import time
from typing import Final, Literal

from sqlalchemy import bindparam, delete, select

from blindgate_gateway.database import Database, Transaction, clock, prepared, upsert
from blindgate_gateway.tables import pseudonyms

Kind = Literal["tenant", "staff", "person"]
MEMORY_SECONDS: Final = 60.0
_THIS = (pseudonyms.c.kind == bindparam("kind")) & (pseudonyms.c.name == bindparam("name"))
_OF = prepared(select(pseudonyms.c.pseudonym).where(_THIS))
_ADD = prepared(
    upsert(pseudonyms, lambda statement: statement.values(created=clock()).on_conflict_do_nothing()),
    "kind",
    "name",
    "pseudonym",
)
_NAMED = prepared(
    select(pseudonyms.c.kind, pseudonyms.c.name, pseudonyms.c.pseudonym).where(
        pseudonyms.c.pseudonym == bindparam("pseudonym")
    )
)
_ERASE = prepared(delete(pseudonyms).where(_THIS))


def pseudonym_of(connection: Transaction, kind: Kind, name: str) -> str:
    """The pseudonym of a name, made where there is none, in the caller's transaction."""
    known: dict[tuple[str, str], tuple[str, float]] = connection.memory.setdefault("pseudonyms", {})
    pseudonym, until = known.get((kind, name), ("", 0.0))
    if time.monotonic() < until:
        return pseudonym
    this = {"kind": kind, "name": name}
    found: str | None = connection.execute(_OF, this).scalar()
    if found is not None:
        known[kind, name] = (found, time.monotonic() + MEMORY_SECONDS)
        return found
    # Not remembered: the caller's transaction may be undone.
    connection.execute(_ADD, {**this, "pseudonym": f"{kind}-{secrets.token_hex(16)}"})
    return str(connection.execute(_OF, this).scalar())


def known_pseudonym(database: Database, kind: Kind, name: str) -> str | None:
    """The pseudonym of a name, if it has one."""
    row = database.look(_OF, {"kind": kind, "name": name})
    return None if row is None else str(row.pseudonym)


def name_of(database: Database, pseudonym: str) -> str | None:
    """Who is meant, where that is still known."""
    row = database.look(_NAMED, {"pseudonym": pseudonym})
    return None if row is None else str(row.name)


def erase_pseudonym(connection: Transaction, kind: Kind, name: str) -> bool:
    """Forget who a pseudonym stands for. False where nobody knew."""
    connection.memory.get("pseudonyms", {}).pop((kind, name), None)
    return connection.execute(_ERASE, {"kind": kind, "name": name}).rowcount == 1
