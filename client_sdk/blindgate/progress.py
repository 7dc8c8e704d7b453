"""Long work says so: a line on the terminal for what takes over a second, and nothing for what does not.

Shown only where a person looks: when standard error is a terminal, or when the caller asks for it.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

_QUIET_SECONDS = 1.0


@contextlib.contextmanager
def working(what: str, *, show: bool | None) -> Iterator[Callable[[int, int], None]]:
    """Show `what` as in progress from the first second on. Gives a function to call with `(done, total)`.

    `show` forces or forbids it; `None` means when standard error is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415  (rich is a tenth of this package's import time)
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=None)
    timer = threading.Timer(_QUIET_SECONDS, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
