"""The machine: who may look into the data folder, and how much room is left."""

import os
import shutil
import stat
from collections.abc import Iterator
from typing import Final

from blindgate_gateway.check.findings import Finding, fault, warning, well
from blindgate_gateway.settings import MEBI, Settings

LEAST_BYTES: Final = 64 * MEBI
"""Below this a database cannot be sure to write its next page."""
FEW_BYTES: Final = 1024 * MEBI
FEW_PERCENT: Final = 5.0
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def look(settings: Settings) -> Iterator[Finding]:
    """Check the data folder and its disk."""
    if not settings.data.is_dir():
        yield fault(
            "folder", f"there is no folder {settings.data}", "run `blindgate gateway migrate`, or correct `data`"
        )
        return
    yield _permissions(settings)
    yield _room(settings)


def _permissions(settings: Settings) -> Finding:
    paths = [settings.data, *([settings.sqlite_file] if settings.sqlite_file.exists() else [])]
    open_to_others = [str(path) for path in paths if path.stat().st_mode & _OTHERS]
    if open_to_others:
        what = "others on this machine may look into the data folder"
        return fault("folder", what, "chmod 700 the folder, and 600 the database in it", *open_to_others)
    mine = os.geteuid()
    if mine not in {0, settings.data.stat().st_uid}:
        return fault(
            "folder", "the data folder belongs to another user", "run this as the gateway's user", str(settings.data)
        )
    return well("folder", f"{settings.data} is its user's alone")


def _room(settings: Settings) -> Finding:
    usage, files = shutil.disk_usage(settings.data), os.statvfs(settings.data)
    percent = 100 * usage.free / usage.total
    inodes = 100 * files.f_favail / files.f_files if files.f_files else 100.0
    detail = f"{usage.free // MEBI} MiB are free ({percent:.0f} %), and {inodes:.0f} % of the inodes"
    remedy = "make room, or move the data folder; until then the gateway refuses what it cannot store (503)"
    if usage.free < LEAST_BYTES or inodes < 1:
        return fault("disk", detail, remedy)
    if usage.free < FEW_BYTES or min(percent, inodes) < FEW_PERCENT:
        return warning("disk", detail, remedy)
    return well("disk", detail)
