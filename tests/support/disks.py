"""Disks that can be full: small file systems of the tests' own, in memory. Only root may mount them."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_STEP = 1 << 20


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    """A file system of so many MiB, which everybody may enter. Skips the test where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="blindgate-disk-") as folder:
        Path(folder).chmod(0o711)
        disk = Path(folder) / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0711", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip("only root may mount a small disk")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that there is, again what became free since; gives the file that took it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for step in (_STEP, 4096):
            with suppress(OSError):
                while True:
                    file.write(bytes(step))
    return filler
