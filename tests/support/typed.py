"""Commands as somebody types them: `blindgate …`, in a process of its own, forked from one that has imported what they need.

`blindgate gateway serve` and `blindgate node serve` among them, which go on.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar

from blindgate_gateway.settings import ENVIRONMENT_PREFIX
from brokerage import GatewayProcess
from migrated import lay_database
from node_process import NodeProcess
from preloaded import Preloaded
from world import World
from world import start_server as start_fresh

BLINDGATE = Path(sys.executable).with_name("blindgate")
SECONDS = 120


class Typed:
    """Where commands are forked from, if they are; but a gateway's, which have their own process for that."""

    preloaded: ClassVar[Preloaded | None] = None


def type_command(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `blindgate` in `folder`, or in this process's."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start_command(command, environment, output, errors, folder)
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        for said in (output, errors):
            said.seek(0)
        return subprocess.CompletedProcess(command, status, output.read().decode(), errors.read().decode())


def start_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes],
    folder: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start `blindgate` in `folder`, or in this process's, and do not wait for it."""
    of_gateway = command[0] == "gateway"
    preloaded = GatewayProcess.preloaded if of_gateway else Typed.preloaded
    forked = None
    if preloaded is not None:
        forked = preloaded.start(list(command[of_gateway:]), environment, output, errors=errors, folder=folder)
    return forked or subprocess.Popen(
        [BLINDGATE, *command], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
    )


def start_server(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start `blindgate gateway serve` or `blindgate node serve`; a node knows the families of tests as well.

    A gateway that keeps its own database finds the tables there.
    """
    role, *arguments = command
    forked = None
    preloaded = GatewayProcess.preloaded if role == "gateway" else NodeProcess.preloaded
    if preloaded is not None:
        assert arguments == ["serve"]
        if role == "gateway" and f"{ENVIRONMENT_PREFIX}DATABASE" not in environment:
            lay_database(Path(environment[f"{ENVIRONMENT_PREFIX}DATA"]))
        forked = preloaded.start(arguments if role == "gateway" else [], environment, log)
    return forked or start_fresh(command, environment, log)


class FreshWorld(World):
    """A world whose processes have imported nothing before they start: for whoever looks at what they load, or at their memory."""

    start_server = staticmethod(start_fresh)


def blindgate(*command: str, folder: Path, environment: Mapping[str, str], fails: bool = False) -> str:
    """What a command prints in `folder`; of one that `fails`, what it says to standard error."""
    done = type_command(command, environment, folder)
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr if fails else done.stdout
