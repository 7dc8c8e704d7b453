r"""CSV as RFC 4180 has it: a header, lines that end with CR LF, UTF-8.

Whoever opens the file in a spreadsheet must not run what a stranger wrote into a reason: a text that a spreadsheet may take for a
formula (it begins with `=`, `+`, `-`, `@`, a tab or a line's end, with or without spaces before) gets an apostrophe before it,
which spreadsheets read as "this is text". Nothing that Blindgate itself writes begins so. `details` is a JSON object.
"""

import csv
import io
import json
from collections.abc import Iterable
from typing import BinaryIO, Final

from blindgate_audit.formats.columns import COLUMNS, Cell, cells, rfc3339
from blindgate_audit.report import Row

_FORMULA: Final = ("=", "+", "-", "@")
_BLANK: Final = ("\t", "\r", "\n")


def write_csv(rows: Iterable[Row], out: BinaryIO) -> None:
    """Write the header and a row a record."""
    text = io.TextIOWrapper(out, "utf-8", errors="replace", newline="", write_through=False)
    try:
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for row in rows:
            given = cells(row)
            time = given["time"]
            given["time"] = rfc3339(time) if isinstance(time, int) else None
            writer.writerow([_text(given[name]) for name in COLUMNS])
        text.flush()
    finally:
        text.detach()  # whoever opened `out` closes it


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case dict():
            return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))
        case str() if cell.startswith(_BLANK) or cell.lstrip().startswith(_FORMULA):
            return f"'{cell}"
        case _:
            return str(cell)
