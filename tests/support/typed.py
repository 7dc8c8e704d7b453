"""Commands as somebody types them: `blindgate …`, in a process of its own, forked from one that has imported what they need."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from preloaded import Preloaded

BLINDGATE = Path(sys.executable).with_name("blindgate")
SECONDS = 120


class Typed:
    """Where commands are forked from, if they are."""

    preloaded: ClassVar[Preloaded | None] = None


def blindgate(*command: str, folder: Path, environment: Mapping[str, str], fails: bool = False) -> str:
    """What a command prints in `folder`; of one that `fails`, what it says to standard error."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        forked = None
        if Typed.preloaded is not None:
            forked = Typed.preloaded.start(list(command), environment, output, errors=errors, folder=folder)
        process = forked or subprocess.Popen(
            [BLINDGATE, *command], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        for said in (output, errors):
            said.seek(0)
        printed, complained = output.read().decode(), errors.read().decode()
    assert (status != 0) is fails, complained
    return complained if fails else printed
