"""Processes that believe another time than this machine's: what they ask for the time of day is preloaded (`clock.c`)."""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

HOUR = 3600
"""Seconds."""
_SOURCE = Path(__file__).with_name("clock.c")
_FILE, _LIBRARY = "ahead", "clock.so"


class Clock:
    """A clock that some processes go by, right at first."""

    def __init__(self, folder: Path) -> None:
        self._file, library = folder / _FILE, folder / _LIBRARY
        self._file.write_bytes(struct.pack("=q", 0))
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "BLINDGATE_TEST_CLOCK": str(self._file)}
        """What lets a process go by this clock."""

    def set(self, seconds: int) -> None:
        """Be so many seconds ahead, or behind."""
        with self._file.open("r+b", buffering=0) as file:  # the same file, since it is mapped
            file.write(struct.pack("=q", seconds))


@contextmanager
def clock_of_their_own() -> Iterator[Clock]:
    """A clock, in a folder that everybody may enter. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no C compiler (cc) to make a clock with")
    with tempfile.TemporaryDirectory(prefix="blindgate-clock-") as folder:
        Path(folder).chmod(0o711)
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", Path(folder) / _LIBRARY, _SOURCE], check=True)
        yield Clock(Path(folder))
