"""Log lines: JSON, one event a line, with names and sizes, never a body, a key or a token.

Events are named `thing.happened`. A lease's token and an enrolment's are not among the fields that anybody here passes on.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from blindgate_node.jobs import Log

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_WARNINGS = frozenset(
    {"attester.simulated", "gateway.unreachable", "lease.lost", "lease.ran-out", "job.fault", "node.short"}
)


def open_log(file: Path | None, level: str) -> Log:
    """A log that appends to `file`, or writes to standard error. Raises `OSError`."""
    opened = sys.stderr if file is None else file.open("a", encoding="utf-8", buffering=1)
    logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Lossy(opened))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    )

    def log(event: str, **fields: Any) -> None:
        write = logger.warning if event in _WARNINGS or fields.get("holds") is False else logger.info
        write(event, **fields)

    return cast("Log", log)


class _Lossy:
    """A stream that takes what it can: a full disk, or a pipe that nobody reads, costs log lines and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, if that is possible."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with suppress(OSError):
            self._stream.flush()
