"""The bytes: every blob that a row names is there in full, and with `--read-data` has the digest that it is called by.

A tenant's rows in the order of their digests, and what lies in the store in the order of names, are gone through side by side,
since a name begins with its blob's digest: one listing of the store answers for all, and little is held in memory. What seems to be
missing is looked for again a while later, for it may have been deleted or stored anew meanwhile: a key's bytes go before the
transaction ends that destroys it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from sqlalchemy import bindparam, func, select

from blindgate_gateway.blobs import Blobs, StoredObject, digest_of, name_prefix
from blindgate_gateway.check.findings import Finding, Progress, fault, warning, well
from blindgate_gateway.database import Database, Row, prepared
from blindgate_gateway.settings import Settings
from blindgate_gateway.stored import find_data, is_named
from blindgate_gateway.tables import blobs, keys, tenants
from blindgate_protocol.canonical import digest as digest_of_bytes
from blindgate_protocol.errors import BlindgateError, NotFoundError
from blindgate_protocol.keys import KeyState

_PAGE: Final = 1000
SETTLE_SECONDS: Final = 3.0
"""How long a transaction that deletes bytes may take to end."""
_TENANTS = prepared(select(tenants.c.name).order_by(tenants.c.name))
_COUNT = prepared(select(func.count()).select_from(blobs))
_ROWS = prepared(
    select(blobs.c.tenant, blobs.c.digest, blobs.c.size, blobs.c.object)
    .where(blobs.c.tenant == bindparam("of_tenant"), blobs.c.digest > bindparam("after"))
    .order_by(blobs.c.digest)
    .limit(_PAGE)
)
_STILL = prepared(
    select(blobs.c.object).where(blobs.c.tenant == bindparam("of_tenant"), blobs.c.digest == bindparam("of_digest"))
)
_DESTROYED = prepared(
    select(keys.c.digest).where(keys.c.tenant == bindparam("of_tenant"), keys.c.state == KeyState.DESTROYED.value)
)
_LOST: Final = (
    "copy these objects back from a backup of the store; where there is none, whoever has the bytes uploads them again"
)


@dataclass
class _Seen:
    """What was found so far."""

    rows: int = 0
    bytes: int = 0
    unnamed: int = 0
    suspect: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)


def reach(settings: Settings, store: Blobs) -> Iterator[Finding]:
    """Check that the store takes something now."""
    remedy = "see that the disk has room and the folder is writable, or that the bucket and its credentials are right"
    if settings.blobs is None and not (settings.data / "incoming").is_dir():
        yield well("store", "no gateway has worked in this folder yet: `serve` makes the rest of it")
        return
    try:
        is_writable = store.writable()
    except BlindgateError as error:
        yield fault("store", str(error), remedy)
        return
    where = settings.blobs or str(settings.data / "blobs")
    if is_writable:
        yield well("store", f"{where} answers")
    else:
        yield fault("store", f"{where} cannot be written", remedy)


def look(database: Database, store: Blobs, *, read_data: bool, progress: Progress) -> Iterator[Finding]:
    """Hold rows and store against each other."""
    seen = _Seen()
    with database.read() as connection:
        names, total = connection.execute(_TENANTS).scalars(), connection.execute(_COUNT).scalar()
    for name in names:
        for row in _beside(database, store, name, seen):
            seen.rows += 1
            seen.bytes += row.size
            if read_data:
                _read(database, store, row, seen)
            progress("blobs", seen.rows, max(total, seen.rows))
    if seen.suspect:
        time.sleep(SETTLE_SECONDS)
        lost = [row for row in seen.suspect if not _is_well(database, store, row)]
        seen.missing += [f"{row.tenant} {row.digest} ({row.object})" for row in lost]
    yield from _told(seen, read_data=read_data)


def _told(seen: _Seen, *, read_data: bool) -> Iterator[Finding]:
    if seen.missing:
        yield fault(
            "blobs.missing", f"of {seen.rows} blobs {len(seen.missing)} are not there in full", _LOST, *seen.missing
        )
    else:
        yield well("blobs.missing", f"{seen.rows} blobs of {seen.bytes} bytes are there in full")
    if seen.altered:
        yield fault(
            "blobs.altered", f"{len(seen.altered)} blobs have other bytes than their digest", _LOST, *seen.altered
        )
    elif read_data:
        yield well("blobs.altered", f"{seen.rows} blobs were read and have their digests")
    if seen.destroyed:
        remedy = "they came back with a restored store; the gateway deletes them when they are older than `grace`"
        told = f"{len(seen.destroyed)} objects are the bytes of destroyed keys"
        yield warning("blobs.destroyed", told, remedy, *seen.destroyed)
    else:
        yield well("blobs.destroyed", "nothing is left of destroyed keys")
    yield well(
        "blobs.unnamed", f"{seen.unnamed} objects that no row names; the gateway deletes those older than `grace`"
    )


def _beside(database: Database, store: Blobs, tenant: str, seen: _Seen) -> Iterator[Row]:
    """The rows of a tenant whose bytes are there. Everything else is noted in `seen`."""
    with database.read() as connection:
        destroyed = {name_prefix(key) for key in connection.execute(_DESTROYED, {"of_tenant": tenant}).scalars()}

    def pass_over(objects: list[StoredObject]) -> None:
        with database.read() as connection:
            unnamed = [one.name for one in objects if not is_named(connection, one.name)]
        seen.unnamed += len(unnamed)
        seen.destroyed += [f"{tenant} {name}" for name in unnamed if name.partition("-")[0] in destroyed]

    groups = groupby(store.listing(tenant), key=lambda one: one.name.partition("-")[0])
    prefix, objects = _next(groups)
    for row in _rows(database, tenant):
        wanted = name_prefix(row.digest)
        while prefix is not None and prefix < wanted:
            pass_over(objects)
            prefix, objects = _next(groups)
        here = objects if prefix == wanted else []
        others = [one for one in here if one.name != row.object]
        if others:
            pass_over(others)
        if prefix == wanted:
            prefix, objects = _next(groups)
        if row.object is None or StoredObject(row.object, row.size) in here or _is_well(database, store, row):
            yield row
        else:
            seen.rows += 1
            seen.suspect.append(row)
    while prefix is not None:
        pass_over(objects)
        prefix, objects = _next(groups)


def _next(groups: "groupby[str, StoredObject]") -> tuple[str | None, list[StoredObject]]:
    prefix, found = next(groups, (None, iter(())))
    return prefix, list(found)


def _rows(database: Database, tenant: str) -> Iterator[Row]:
    after = ""
    while True:
        with database.read() as connection:
            page = connection.execute(_ROWS, {"of_tenant": tenant, "after": after}).all()
        if not page:
            return
        yield from page
        after = page[-1].digest


def _is_well(database: Database, store: Blobs, row: Row) -> bool:
    """Whether a blob that was not in the listing is there after all, or its row is gone or names another object by now."""
    if store.holds(row.tenant, row.object, row.size):
        return True
    now = database.look(_STILL, {"of_tenant": row.tenant, "of_digest": row.digest})
    return now is None or now.object != row.object


def _read(database: Database, store: Blobs, row: Row, seen: _Seen) -> None:
    if row.object is None:
        with database.read() as connection:
            data = find_data(connection, row.tenant, row.digest)
        found = row.digest if data is None else digest_of_bytes(data)  # swept meanwhile, or `blobs.rows` tells of it
    else:
        try:
            found = digest_of(store.open(row.tenant, row.object)[0])
        except NotFoundError:
            seen.suspect.append(row)
            return
    if found != row.digest:
        seen.altered.append(f"{row.tenant} {row.digest} ({row.object or 'in its row'})")
