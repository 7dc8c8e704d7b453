"""From settings to a data folder that a gateway can work in.

`prepare` is what `serve` does before it forks: it takes the folder for itself, migrates the database, and clears away what the
last gateway was in the middle of. The lock is held by the returned file, and by every process forked from here, so a second
gateway on the same folder is refused for as long as a worker of the first one lives.
"""

import fcntl
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from blindgate_gateway.database import Database
from blindgate_gateway.parts import connect, open_blobs
from blindgate_gateway.settings import Settings
from blindgate_protocol.errors import BlindgateError

LOCK_SECONDS = 3.0
_MIGRATIONS = Path(__file__).with_name("migrations")


def prepare(settings: Settings) -> TextIO:
    """Make the data folder ready for one gateway; gives the lock, to be kept open. Raises `BlindgateError`."""
    _make_folder(settings.data)
    lock = _lock(settings.data / "lock")
    try:
        open_blobs(settings).prepare()
        wakeups = settings.data / "wakeups"
        wakeups.mkdir(exist_ok=True)
        for stale in wakeups.iterdir():
            stale.unlink(missing_ok=True)
        migrate(settings)
    except BaseException:
        lock.close()
        raise
    return lock


def migrate(settings: Settings, *, to: str = "head") -> tuple[str | None, str]:
    """Bring the database to this version's tables, or an older one's; gives the revisions before and after."""
    _make_folder(settings.data)
    config, head = _history()
    after = head if to == "head" else to
    with connect(settings).migrating() as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        if before != after:
            config.attributes["connection"] = connection
            command.upgrade(config, after)
    return before, after


def open_database(settings: Settings) -> Database:
    """The database, for a command beside a gateway that may be running. Raises `BlindgateError`."""
    if settings.database is None and not settings.sqlite_file.is_file():
        message = f"there is no gateway in {settings.data}: run `blindgate gateway init` or `serve` first"
        raise BlindgateError(message)
    migrate(settings)
    return connect(settings)


def revisions() -> tuple[str, frozenset[str]]:
    """The revision of this version's tables, and all that led to it."""
    config, head = _history()
    return head, frozenset(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


@lru_cache(maxsize=1)
def _history() -> tuple[Config, str]:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config, ScriptDirectory.from_config(config).get_current_head() or ""


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _lock(path: Path) -> TextIO:
    lock = path.open("a+", encoding="utf-8")
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                lock.seek(0)
                message = f"another gateway (process {lock.read(20).strip() or 'unknown'}) works in {path.parent}"
                raise BlindgateError(message) from None
            time.sleep(0.05)
        else:
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            return lock
