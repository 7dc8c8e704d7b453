"""Processes that have no file descriptor left."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def few_descriptors(process: int, spare: int) -> Iterator[None]:
    """Let a running process have only `spare` more descriptors than it has open."""
    limits = resource.prlimit(process, resource.RLIMIT_NOFILE)
    taken = max(int(descriptor.name) for descriptor in Path(f"/proc/{process}/fd").iterdir())
    resource.prlimit(process, resource.RLIMIT_NOFILE, (min(taken + 1 + spare, limits[0]), limits[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, limits)
