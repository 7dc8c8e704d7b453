"""Keys and their lives: what their owners signed, and what happened to them, as one line of time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flask import Response
from sqlalchemy import bindparam, select, tuple_

from blindgate_gateway.console.entries import Check, Entry, entry_from, names_in
from blindgate_gateway.console.events import checker_now
from blindgate_gateway.console.filters import index_of, text_of
from blindgate_gateway.console.pages import auditor, console, parts, render
from blindgate_gateway.database import Database, prepared
from blindgate_gateway.log.objects import key_object
from blindgate_gateway.log.pseudonyms import known_pseudonym
from blindgate_gateway.log.reading import page_of
from blindgate_gateway.log.rooms import note_reading
from blindgate_gateway.problems import not_found
from blindgate_gateway.tables import keys
from blindgate_protocol.keys import KeyState

PAGE: Final = 50
LIFE: Final = 200
"""How many events of a key's life a page shows, each of them checked."""
DIGEST: Final = r"sha256:[0-9a-f]{64}"
_SEARCH: Final = r"(?:key:)?(?:sha256:)?[0-9a-f]{1,64}"
_PLACE: Final = r"[a-z0-9._-]{1,64}/sha256:[0-9a-f]{64}"
_KEYS = select(keys.c.tenant, keys.c.digest, keys.c.state, keys.c.sequence).order_by(keys.c.tenant, keys.c.digest)
_OWNERS = prepared(
    select(keys.c.tenant, keys.c.state, keys.c.sequence)
    .where(keys.c.digest == bindparam("digest"))
    .order_by(keys.c.tenant)
)


@dataclass(frozen=True)
class Owner:
    """A tenant that has, or had, a key of this digest."""

    tenant: str
    pseudonym: str | None
    state: KeyState
    sequence: int


@dataclass(frozen=True)
class Moment:
    """An event in a key's life, and whether it stands in the tree.

    Attributes:
        gap: what is missing before it in the owner's own count of its statements; `None` where nothing is.
    """

    entry: Entry
    check: Check
    gap: str | None


@console.get("/keys")
def list_keys() -> Response:
    """Every key that was ever registered, by tenant."""
    here = parts()
    wanted = text_of("digest", _SEARCH, "the beginning of a key's digest, in hexadecimal")
    tenant = text_of("tenant", r"[a-z0-9._-]{1,64}", "a tenant's name")
    state = text_of("state", "|".join(KeyState), "one of the states of a key")
    after = text_of("after", _PLACE, "where a page ended")
    note_reading(here, auditor(), "keys")
    query = _KEYS.limit(PAGE + 1)
    if wanted is not None:
        query = query.where(keys.c.digest.startswith("sha256:" + wanted.rpartition(":")[2], autoescape=True))
    if tenant is not None:
        query = query.where(keys.c.tenant == tenant)
    if state is not None:
        query = query.where(keys.c.state == state)
    if after is not None:
        query = query.where(tuple_(keys.c.tenant, keys.c.digest) > tuple_(*after.split("/")))
    with here.database.read() as connection:
        rows = connection.execute(query).all()
    given = {"digest": wanted or "", "tenant": tenant or "", "state": state or ""}
    return render(
        "keys.html",
        rows=rows[:PAGE],
        given=given,
        states=list(KeyState),
        is_first=after is None,
        after=f"{rows[PAGE - 1].tenant}/{rows[PAGE - 1].digest}" if len(rows) > PAGE else None,
    )


@console.get("/keys/<digest>")
def show_key(digest: str) -> Response:
    """The life of one key."""
    if not re.fullmatch(DIGEST, digest):
        raise not_found("key")
    here = parts()
    after = index_of("after")
    note_reading(here, auditor(), "keys")
    checker = checker_now()
    what = {"object": key_object(digest)}
    start = -1 if after is None else after
    page = page_of(here.database, size=checker.head.size, after=start, most=LIFE, **what)
    owners = _owners(here.database, digest)
    if not page.events and not owners:
        raise not_found("key")
    entries = [entry_from(one) for one in page.events]
    return render(
        "key.html",
        digest=digest,
        owners=owners,
        moments=_moments(entries, [checker.check(entry) for entry in entries], is_whole=after is None),
        names=names_in(here.database, entries),
        size=checker.head.size,
        is_first=after is None,
        after=page.after,
    )


def _owners(database: Database, digest: str) -> list[Owner]:
    with database.read() as connection:
        rows = connection.execute(_OWNERS, {"digest": digest}).all()
    return [
        Owner(row.tenant, known_pseudonym(database, "tenant", row.tenant), KeyState(row.state), row.sequence)
        for row in rows
    ]


def _moments(entries: Sequence[Entry], checks: Sequence[Check], *, is_whole: bool) -> list[Moment]:
    """Follow each owner's count of its statements, and the digest of the one before that each statement names.

    An entry whose words were erased may be any statement that is missing: so many are not called gaps.
    """
    last: dict[str | None, tuple[int, str | None]] = {}
    erased = 0
    moments = []
    for entry, check in zip(entries, checks, strict=True):
        gap = None
        erased += entry.is_erased
        number = entry.details.get("sequence", "")
        if entry.event is not None and re.fullmatch(r"[0-9]{1,9}", number):
            before = last.get(entry.event.tenant, (0, None) if is_whole else None)
            if before is not None:
                gap = _gap(before, (int(number), entry.event.digest), entry.details.get("previous"), erased)
            last[entry.event.tenant] = (int(number), entry.event.digest)
            erased = 0
        moments.append(Moment(entry, check, gap))
    return moments


def _gap(before: tuple[int, str | None], this: tuple[int, str | None], previous: str | None, erased: int) -> str | None:
    if this == before:
        return None  # the gateway carried out what the owner had scheduled
    expected, number = before[0] + 1, this[0]
    if not expected <= number <= expected + erased:
        missing = str(expected) if number <= expected + 1 else f"{expected} to {number - 1}"
        return f"The owner's statement {missing} is missing here: this one is statement {number}."
    if number == expected and previous != before[1]:
        return f"Statement {number} follows on another one than the statement before it here."
    return None
