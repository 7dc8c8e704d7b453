"""What the gateway writes down about itself: JSON lines of names, sizes, digests and times. Never a body, a query or a secret.

`log` is the one logger; `configure_logs` says where its lines go. Gunicorn's own messages take the same way.
"""

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("blindgate.gateway")


def configure_logs(*, file: Path | None, level: str) -> None:
    """Send every line to `file`, or to standard error."""
    stream = sys.stderr if file is None else file.open("a", buffering=1, encoding="utf-8")
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Lossy(stream))),
        cache_logger_on_first_use=True,
    )
    handler = _Forward()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    # Alembic tells of every step at info; the gateway tells of the whole.
    logging.getLogger("alembic").setLevel(logging.WARNING)


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


class _Forward(logging.Handler):
    """Takes the lines of libraries that use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        details: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            details["exc_info"] = record.exc_info
        log.log(record.levelno, record.getMessage(), **details)
