"""The database as a whole: can it be reached, has it this version's tables, does it find itself undamaged, is its clock right."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text

from blindgate_gateway import opening
from blindgate_gateway.check import rules
from blindgate_gateway.check.findings import Finding, fault, warning, well
from blindgate_gateway.database import Database, Transaction, clock, database_fault
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import metadata

RESTORE: Final = "restore the last backup into a new place, and check that (docs/operations.md, Incidents)"
CLOCK_OFF_SECONDS: Final = 5.0
CLOCK_USELESS_SECONDS: Final = 120.0
"""Beyond this, nodes' signatures and receipts are refused."""
_SPARE_CONNECTIONS: Final = 1
"""Of each process, for its bell."""


def reach(settings: Settings, database: Database) -> Iterator[Finding]:
    """Check that the database answers and has the tables of this version. A fault here leaves nothing else to ask."""
    if settings.database is None and not settings.sqlite_file.is_file():
        missing = f"there is no database {settings.sqlite_file}"
        yield fault("database", missing, "run `blindgate gateway init`, or correct `data`")
        return
    try:
        with whole_view(database) as connection:
            what = "SELECT sqlite_version() AS version" if settings.database is None else "SHOW server_version"
            version = connection.execute(text(what)).scalar()
    except Exception as error:
        said = database_fault(error)
        if said is None:
            raise
        yield fault("database", f"it cannot be used: {said}", f"start the database server; if that is up, {RESTORE}")
        return
    yield well("database", f"{'SQLite' if settings.database is None else 'PostgreSQL'} {version} answers")
    yield _tables(database)


def _tables(database: Database) -> Finding:
    head, known = opening.revisions()
    with database.migrating() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found != head:
            older = found is None or found in known
            remedy = "run `blindgate gateway migrate`" if older else "install the version of Blindgate that made them"
            return fault("tables", f"the tables are of revision {found or 'none'}, this version's are {head}", remedy)
        wrong = [_told(difference) for difference in compare_metadata(MigrationContext.configure(connection), metadata)]
        invalid = [] if connection.dialect.name == "sqlite" else _invalid(connection)
    if wrong or invalid:
        what = f"{len(wrong) + len(invalid)} differences from what revision {head} makes"
        return fault("tables", what, f"somebody changed tables by hand: undo it, or {RESTORE}", *wrong, *invalid)
    return well("tables", f"as revision {head} makes them")


def look(settings: Settings, database: Database) -> Iterator[Finding]:
    """Check what the database knows of its own state."""
    with whole_view(database) as connection:
        if settings.database is None:
            yield from _sqlite(connection)
        else:
            yield from _postgresql(settings, connection)
    yield _clock(database)


def _sqlite(connection: Transaction) -> Iterator[Finding]:
    said = [row[0] for row in connection.execute(text("PRAGMA integrity_check(20)")).all()]
    if said == ["ok"]:
        yield well("integrity", "integrity_check finds every page and index sound")
    else:
        yield fault("integrity", "SQLite finds its file damaged", RESTORE, *(" ".join(one.split()) for one in said))
    dangling = connection.execute(text("PRAGMA foreign_key_check")).all()
    if dangling:
        named = [f"{row[0]} row {row[1]} names no row of {row[2]}" for row in dangling]
        yield fault("references", f"{len(dangling)} rows refer to rows that are not there", RESTORE, *named)
    else:
        yield well("references", "every row that another refers to is there")


def _postgresql(settings: Settings, connection: Transaction) -> Iterator[Finding]:
    checksums = connection.execute(text("SHOW data_checksums")).scalar() == "on"
    failures = connection.execute(
        text(
            "SELECT coalesce(checksum_failures, 0) AS failures FROM pg_stat_database WHERE datname = current_database()"
        )
    ).scalar()
    if failures:
        yield fault("integrity", f"PostgreSQL has read {failures} pages that were altered on the disk", RESTORE)
    elif checksums:
        yield well("integrity", "PostgreSQL has met no page with a wrong checksum; `pg_amcheck` reads all of them")
    else:
        yield well("integrity", "nothing is known: the server keeps no checksums (`pg_checksums --enable`)")
    loose = connection.execute(
        text("SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT convalidated")
    ).scalars()
    if loose:
        yield fault(
            "references", f"{len(loose)} foreign keys are not validated", "ALTER TABLE … VALIDATE CONSTRAINT", *loose
        )
    else:
        yield well("references", "every row that another refers to is there")
    yield from rules.look(connection)
    yield _connections(settings, connection)


def _connections(settings: Settings, connection: Transaction) -> Finding:
    most = int(connection.execute(text("SHOW max_connections")).scalar())
    kept = int(connection.execute(text("SHOW superuser_reserved_connections")).scalar())
    wanted = settings.workers * (settings.connections + _SPARE_CONNECTIONS)
    detail = f"a gateway takes up to {wanted} connections, the server gives {most - kept}"
    if wanted > most - kept:
        remedy = "lower `connections` or `workers`, or raise the server's max_connections"
        return warning("connections", detail, remedy)
    return well("connections", f"{detail}: {(most - kept) // wanted} gateways with these settings fit")


def _clock(database: Database) -> Finding:
    with database.read() as connection:
        connection.execute(select(clock())).scalar()  # the connection is there
        before = time.time()
        said = connection.execute(select(clock())).scalar() / 1000
        after = time.time()
    off = max(before - said, said - after, 0.0)
    detail = f"the database's clock and this machine's are {off:.1f} s apart"
    remedy = "let both machines keep time (chrony, systemd-timesyncd)"
    if off > CLOCK_USELESS_SECONDS:
        return fault("clock", detail, remedy)
    if off > CLOCK_OFF_SECONDS:
        return warning("clock", detail, remedy)
    return well("clock", detail)


@contextmanager
def whole_view(database: Database) -> Iterator[Transaction]:
    """One consistent view for as long as it takes: the limits that requests have are not for this."""
    with database.read() as connection:
        if connection.dialect == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield connection


def _invalid(connection: object) -> list[str]:
    found = connection.exec_driver_sql(  # type: ignore[attr-defined]
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indrelid "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE NOT indisvalid AND nspname = current_schema()"
    )
    return [f"index {name} is not valid" for (name,) in found]


def _told(difference: object) -> str:
    return " ".join(str(part) for part in difference)[:200] if isinstance(difference, tuple) else str(difference)[:200]
