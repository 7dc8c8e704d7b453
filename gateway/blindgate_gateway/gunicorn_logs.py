"""Gunicorn's own messages, on the gateway's one way out (`logs`)."""

import logging
import sys
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Hands every message to the standard library's root logger; writes no access log, for `app` does."""

    def setup(self, cfg: Any) -> None:
        """Forget gunicorn's handlers."""
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.handlers = []
        self.error_log.propagate = True
        # Workers that start and stop are told at info; the gateway says itself where it listens.
        self.error_log.setLevel(max(logging.WARNING, logging.getLogger().level))

    def exception(self, msg: str, *args: Any, **given: Any) -> None:
        """Write what went wrong, but not that a caller stalled: strangers could fill the log with it."""
        if not isinstance(sys.exc_info()[1], BlockingIOError):
            super().exception(msg, *args, **given)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing."""
