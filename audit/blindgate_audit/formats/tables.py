"""The table that people read, printed as it comes.

Ids are cut to their first twelve characters: enough to tell them apart, and `audit key` takes the beginning of a digest. Other
formats have all of them. On a terminal that is narrower than the table the cells are folded; elsewhere lines are as long as they
need to be, so that `grep` and `less -S` see a row as one line. Columns are as wide as the rows of one block ask for, those that
no row of it fills are left out, and each block has the header again.
"""

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice
from typing import BinaryIO, Final

from blindgate_audit.formats.columns import rfc3339
from blindgate_audit.report import Row

ROWS_IN_A_BLOCK: Final = 500
_SHOWN: Final = 12
_LONGEST: Final = 80
_ID: Final = re.compile(r"((?:[a-z0-9]+[:-])*)([A-Za-z0-9_-]{20,})")
_HEADER: Final = (
    "index",
    "time (UTC)",
    "proof",
    "action",
    "object",
    "state",
    "actor",
    "role",
    "job",
    "node",
    "statement",
    "digest",
    "outcome",
    "request",
    "note",
)


def write_table(rows: Iterable[Row], out: BinaryIO, *, width: int | None = None, about: str | None = None) -> None:
    """Write the rows in blocks. `width` is how many characters a line may have, or as many as it needs.

    An object that is the one that the report is `about` is not repeated.
    """
    for block in _blocks(iter(rows)):
        lines = _without_empty_columns([_HEADER, *(_texts(row, about) for row in block)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        if width is None or sum(widths) + 2 * len(widths) <= width:
            text = "".join(_line(line, widths) for line in lines)
        else:
            text = _folded(lines, width)
        out.write(text.encode(errors="replace"))
        out.flush()


def terminal_width() -> int | None:
    """How wide the terminal is that standard output goes to; `None` where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def shortened(text: str) -> str:
    """An id by its beginning, on one line and without what would steer a terminal."""
    match = _ID.fullmatch(text)
    if match:
        return f"{match.group(1)}{match.group(2)[:_SHOWN]}…"
    plain = "".join(one if one.isprintable() else "�" for one in text)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while block := list(islice(rows, ROWS_IN_A_BLOCK)):
        yield block


def _texts(row: Row, about: str | None) -> tuple[str, ...]:
    event = row.event
    if event is None:
        return (str(row.index), "", row.proof.value, *[""] * (len(_HEADER) - 4), shortened(row.note or ""))
    state = " → ".join(one for one in (event.before, event.after) if one is not None)
    sequence = row.sequence
    return (
        str(row.index),
        rfc3339(event.time)[:-1].replace("T", " "),
        row.proof.value,
        event.action.value,
        "" if event.object == about else shortened(event.object),
        state,
        shortened(event.actor),
        event.role,
        shortened(row.detail("job") or ""),
        shortened(row.detail("node") or ""),
        "" if sequence is None else str(sequence),
        shortened(event.digest or ""),
        event.outcome,
        shortened(event.request or ""),
        shortened(row.note or event.reason or ""),
    )


def _without_empty_columns(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The header and the rows, without the columns that no row has a text for."""
    used = [any(column[1:]) for column in zip(*lines, strict=True)]
    return [list(compress(line, used)) for line in lines]


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{text:<{width}}" for text, width in zip(texts, widths, strict=True)).rstrip() + "\n"


def _folded(lines: Sequence[Sequence[str]], width: int) -> str:
    from rich.console import Console  # noqa: PLC0415  (rich is slow to load, and only terminals need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    header, *rest = lines
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for line in rest:
        table.add_row(*map(Text, line))
    console = Console(width=width)
    with console.capture() as shown:
        console.print(table)
    return shown.get()
