"""Adding many documents takes minutes, and says so: a bar on standard error, where that is a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and of how much."""


@contextlib.contextmanager
def shown(*, show: bool | None) -> Iterator[Advance]:
    """A bar that is moved by calling what this gives. `show` forces or forbids it; `None`: where standard error is a terminal."""
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415  (a tenth of a second, for those who see it)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(what: str, done: int, total: int) -> None:
            if (
                done < bar.tasks[0].completed
            ):  # something else: what is left of it is not told by the pace of what was before
                bar.reset(task)
            bar.update(task, description=what, completed=done, total=total)

        yield advance
