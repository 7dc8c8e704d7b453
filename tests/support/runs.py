"""Callers that run at once, and what a test waits for meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

SOON_IN_THE_LOG: Final[dict[str, Any]] = {"checkpoint": 200}
"""A gateway's setting: a client that wants its result in the log waits for milliseconds, and not for seconds."""


def wait_until(holds: Callable[[], bool], *, seconds: float) -> None:
    """Wait until it is so, and fail when that takes too long."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


@contextmanager
def running(runs: list[Callable[[], None]], over: threading.Event) -> Iterator[list[BaseException]]:
    """Threads, until the block ends; gives what they raise."""
    errors: list[BaseException] = []

    def guard(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guard, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        over.set()
        for thread in threads:
            thread.join()
