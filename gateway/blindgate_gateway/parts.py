"""The parts that every room of one process works with, put together once."""

from dataclasses import dataclass

from blindgate_gateway.blobs import Blobs
from blindgate_gateway.database import Database
from blindgate_gateway.settings import Settings
from blindgate_gateway.wakeups import Wakeups


@dataclass(frozen=True)
class Parts:
    """Settings, database, blobs, and who waits for what. Nothing here is open before its first use: a process may fork."""

    settings: Settings
    database: Database
    blobs: Blobs
    wakeups: Wakeups


def build_parts(settings: Settings) -> Parts:
    """Build the parts as `settings` say. The data folder exists already (`opening.prepare`)."""
    return Parts(
        settings=settings,
        database=Database(settings.database),
        blobs=Blobs(settings.data),
        wakeups=Wakeups(settings.data / "wakeups", most_waiting=settings.threads * 3 // 4),
    )
