"""How much of the machine one process may use: resource limits, which hold on every kernel.

RLIMIT_AS bounds the address space, so an allocation past it fails inside the worker rather than calling the machine's
out-of-memory killer. RLIMIT_FSIZE bounds temporary files and the result, which lies in memory but counts as a file; so does
every other memfd, which RLIMIT_AS does not see, and RLIMIT_NOFILE bounds how many there are.
"""

import resource
from typing import NamedTuple

_ZYGOTE_DESCRIPTORS, _WORKER_DESCRIPTORS, _WORKER_THREADS = 1024, 24, 512


class Limits(NamedTuple):
    """The limits of one process.

    Attributes:
        memory: bytes of address space.
        cpu: seconds of CPU time, or `None` where the node's own clock is the limit.
        file: bytes of the largest file it may write.
        processes: whether it may start processes.
    """

    memory: int
    cpu: int | None
    file: int
    processes: bool


def apply(limits: Limits) -> str:
    """Put `limits` on this process, for good. Says what they are. Raises `OSError` or `ValueError`."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, _ZYGOTE_DESCRIPTORS if limits.processes else _WORKER_DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _lower(kind, value)
    if limits.cpu is not None:
        _lower(resource.RLIMIT_CPU, limits.cpu)
    if not limits.processes:
        _lower(resource.RLIMIT_NPROC, _WORKER_THREADS)
    return f"{limits.memory >> 20} MiB of memory"


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
