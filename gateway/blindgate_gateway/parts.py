"""The parts that every room of one process works with, put together once."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blindgate_gateway.backpressure import Backpressure
from blindgate_gateway.bells import Bell, FolderBell, PostgresqlBell
from blindgate_gateway.blobs import Blobs
from blindgate_gateway.database import Database, open_postgresql, open_sqlite
from blindgate_gateway.folder import FolderBlobs
from blindgate_gateway.identity import Doorkeeper
from blindgate_gateway.identity.failures import Failures
from blindgate_gateway.log.keeper import LogKeeper
from blindgate_gateway.rates import Rates
from blindgate_gateway.settings import Settings
from blindgate_gateway.wakeups import Wakeups
from blindgate_protocol.errors import BlindgateError
from blindgate_telemetry import NO_TRACES, Traces, open_traces

if TYPE_CHECKING:
    from blindgate_gateway.identity.people import People


@dataclass
class Leaving:
    """Whether this process was told to stop.

    A bare attribute: a signal's handler sets it, perhaps in the midst of another signal's, and an event's lock would stand still.
    """

    told: bool = False


@dataclass(frozen=True)
class Parts:
    """Settings, database, blobs, the log, who waits for what, who may come in, whether this process was told to stop.

    Nothing here is open before its first use: a process may fork.
    """

    settings: Settings
    database: Database
    blobs: Blobs
    wakeups: Wakeups
    backpressure: Backpressure
    doorkeeper: Doorkeeper
    rates: Rates
    leaving: Leaving
    traces: Traces
    log: LogKeeper

    def of_tenant(self, tenant: str) -> "Parts":
        """The parts for what is done in this tenant's name: see `Database.of_tenant`."""
        return replace(self, database=self.database.of_tenant(tenant))


def connect(settings: Settings) -> Database:
    """The database that `settings` name. Nothing is opened yet. Raises `BlindgateError` when its driver is not installed."""
    return _connect(settings)[0]


def open_blobs(settings: Settings) -> Blobs:
    """The store that `settings` name. Nothing is opened yet. Raises `BlindgateError` when its library is not installed."""
    if settings.blobs is None:
        return FolderBlobs(settings.data)
    try:
        from blindgate_gateway.bucket import BucketBlobs  # noqa: PLC0415  (an extra)
        from blindgate_gateway.s3 import Bucket  # noqa: PLC0415
    except ImportError as error:
        message = "an S3 store needs boto3: pip install 'blindgate[s3]'"
        raise BlindgateError(message) from error
    name, _, prefix = settings.blobs.removeprefix("s3://").strip("/").partition("/")
    secret = settings.s3_secret
    return BucketBlobs(
        Bucket(
            name=name,
            prefix=f"{prefix}/" if prefix else "",
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            credentials=None
            if settings.s3_key_id is None or secret is None
            else (settings.s3_key_id, secret.get_secret_value()),
            public=settings.s3_public,
            lifetime=settings.s3_url_lifetime,
            connections=settings.threads,
        )
    )


def build_parts(settings: Settings) -> Parts:
    """Build the parts as `settings` say. The data folder exists already (`opening.prepare`)."""
    database, bell = _connect(settings)
    blobs, rates, traces = open_blobs(settings), Rates(settings), _traces()
    if traces is not NO_TRACES:
        from blindgate_gateway.traced import TracedDatabase, traced_blobs  # noqa: PLC0415  (only where it is used)

        database = TracedDatabase(database, traces, "sqlite" if settings.database is None else "postgresql")
        blobs = traced_blobs(blobs, traces)
    return Parts(
        settings=settings,
        database=database,
        blobs=blobs,
        wakeups=Wakeups(bell, most_waiting=settings.threads * 3 // 4),
        backpressure=Backpressure(database, settings),
        doorkeeper=Doorkeeper(database, settings, rates, Failures(database), _people(settings, database)),
        rates=rates,
        leaving=Leaving(),
        traces=traces,
        log=LogKeeper(database, settings),
    )


def _traces() -> Traces:
    try:
        return open_traces("blindgate-gateway")
    except ImportError as error:
        raise BlindgateError(str(error)) from error


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
