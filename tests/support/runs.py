"""Callers that run at once, what a test waits for meanwhile, and what something costs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

SOON_IN_THE_LOG: Final[dict[str, Any]] = {"checkpoint": 200}
"""A gateway's setting: a client that wants its result in the log waits for milliseconds, and not for seconds."""


def processor_seconds(run: Callable[[], object], *, enough: float) -> float:
    """The least processor time of up to three runs, seconds; one that took less than `enough` is the last.

    A neighbour on the same core makes whatever runs beside it slower, by its processor's time too.
    """
    least = float("inf")
    for _ in range(3):
        begun = time.process_time()
        run()
        least = min(least, time.process_time() - begun)
        if least < enough:
            break
    return least


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
