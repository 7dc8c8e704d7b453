"""Embedded databases that have a gateway's tables before it starts: to copy one takes no time, to migrate to it half a second.

What tries migrations makes its database itself, and so does a gateway that is started as an operator would.
"""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from blindgate_gateway.opening import migrate
from blindgate_gateway.settings import Settings


def lay_database(data: Path) -> None:
    """Put a migrated database, with nothing in its tables, where a gateway with this data folder has its own, if there is none."""
    there = Settings(data=data).sqlite_file
    if not there.exists():
        data.mkdir(parents=True, mode=0o700, exist_ok=True)
        shutil.copyfile(_migrated(), there)


@cache
def _migrated() -> Path:
    folder = Path(mkdtemp(prefix="migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = Settings(data=folder)
    migrate(settings)
    return settings.sqlite_file
