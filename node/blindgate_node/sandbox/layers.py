"""The layers around a worker, by name, and whether each holds on this kernel.

A worker is one process that computes on bytes which somebody hostile may have written, with code that a hostile package may
have shaped. No layer is trusted alone:

| layer | what it takes away |
|---|---|
| `limits` | memory, CPU time, file sizes, processes, core dumps beyond what a job needs |
| `network`, `ipc`, `hostname` | the machine's interfaces, System V and POSIX queues, its name: namespaces of its own |
| `processes` | sight of any process outside the zygote's tree, and life after it: a PID namespace |
| `root` | the machine's files: a root of its own, read-only, without the node's folder |
| `user` | the node's user: another user id where the node is root |
| `capabilities` | every capability |
| `privileges` | gaining any by executing something |
| `memory` | being read or traced by others of the same user: not dumpable |
| `files` | opening what was not granted: Landlock |
| `syscalls` | system calls that no evaluation needs, `socket`, `execve` and `fork` among them: seccomp |

`docs/adr/0003-worker-sandbox.md` says which hold where, and what is left when one does not.
"""

from enum import StrEnum
from typing import NamedTuple


class Layer(StrEnum):
    """One layer of the sandbox."""

    LIMITS = "limits"
    NETWORK = "network"
    IPC = "ipc"
    HOSTNAME = "hostname"
    PROCESSES = "processes"
    ROOT = "root"
    USER = "user"
    CAPABILITIES = "capabilities"
    PRIVILEGES = "privileges"
    MEMORY = "memory"
    FILES = "files"
    SYSCALLS = "syscalls"


class Held(NamedTuple):
    """Whether a layer holds.

    Attributes:
        detail: how, or why not, for the person who runs the node.
    """

    layer: Layer
    holds: bool
    detail: str


def missing(held: tuple[Held, ...], required: tuple[Layer, ...]) -> tuple[Held, ...]:
    """Those of `required` that do not hold. A layer that was not reported does not hold."""
    by_layer = {entry.layer: entry for entry in held}
    found = (by_layer.get(layer, Held(layer, holds=False, detail="not reported")) for layer in required)
    return tuple(entry for entry in found if not entry.holds)
