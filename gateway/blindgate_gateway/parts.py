"""The parts that every room of one process works with, put together once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blindgate_gateway.backpressure import Backpressure
from blindgate_gateway.bells import Bell, FolderBell, PostgresqlBell
from blindgate_gateway.blobs import Blobs
from blindgate_gateway.database import Database, open_postgresql, open_sqlite
from blindgate_gateway.identity import Doorkeeper
from blindgate_gateway.rates import Rates
from blindgate_gateway.settings import Settings
from blindgate_gateway.wakeups import Wakeups
from blindgate_protocol.errors import BlindgateError

if TYPE_CHECKING:
    from blindgate_gateway.identity.people import People


@dataclass(frozen=True)
class Parts:
    """Settings, database, blobs, who waits for what, who may come in.

    Nothing here is open before its first use: a process may fork.
    """

    settings: Settings
    database: Database
    blobs: Blobs
    wakeups: Wakeups
    backpressure: Backpressure
    doorkeeper: Doorkeeper
    rates: Rates


def connect(settings: Settings) -> Database:
    """The database that `settings` name. Nothing is opened yet. Raises `BlindgateError` when its driver is not installed."""
    return _connect(settings)[0]


def build_parts(settings: Settings) -> Parts:
    """Build the parts as `settings` say. The data folder exists already (`opening.prepare`)."""
    database, bell = _connect(settings)
    rates = Rates(settings)
    return Parts(
        settings=settings,
        database=database,
        blobs=Blobs(settings.data),
        wakeups=Wakeups(bell, most_waiting=settings.threads * 3 // 4),
        backpressure=Backpressure(settings),
        doorkeeper=Doorkeeper(database, settings, rates, _people(settings, database)),
        rates=rates,
    )


def _people(settings: Settings, database: Database) -> "People | None":
    if settings.oidc_issuer is None:
        return None
    try:
        from blindgate_gateway.identity.people import People  # noqa: PLC0415  (an extra)
    except ImportError as error:
        message = "people's tokens (the setting `oidc_issuer`) need PyJWT: pip install 'blindgate[oidc]'"
        raise BlindgateError(message) from error
    return People(settings, database)


def _connect(settings: Settings) -> tuple[Database, Bell]:
    if settings.database is None:
        return open_sqlite(settings.sqlite_file), FolderBell(settings.data / "wakeups")
    server = open_postgresql(settings.database.get_secret_value(), most=settings.connections)
    return server, PostgresqlBell(server.listener)
