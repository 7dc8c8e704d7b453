"""Whether this node has what a job takes: room on its disk for a receipt, file descriptors for connections, blobs and workers.

A lease that cannot be finished costs its job one of its attempts, and the gateway then gives the job to whoever asks next. A node
that is short of something is free at once and asks first: it would use up every attempt of every job. So it looks before it asks.
"""

import os
from pathlib import Path
from typing import Final

ROOM_BYTES: Final = 1 << 20
"""More than the receipts of all slots; packages say themselves when they do not fit."""
DESCRIPTORS: Final = 32
"""More than one job opens at once, a fresh zygote for it among them."""


def shortage(folder: Path) -> str | None:
    """What is lacking now, in words; `None` where nothing is. `folder` is where receipts are kept."""
    held: list[int] = []
    try:
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < ROOM_BYTES:
            return f"less than {ROOM_BYTES >> 20} MiB are free in {folder}"
        held.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        while len(held) < DESCRIPTORS:
            held.append(os.dup(held[0]))
    except OSError as error:
        return f"{error.strerror} (looking after {folder})"
    finally:
        for descriptor in held:
            os.close(descriptor)
    return None
