"""Files that are there wholly or not at all, whatever happens while they are written."""

import os
import tempfile
from pathlib import Path


def write_whole(file: Path, data: bytes, *, durable: bool = False) -> None:
    """Put `data` in the place of `file`, in a folder that is made if need be. `durable` waits until the disk has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
            if durable:
                opened.flush()
                os.fsync(opened.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
