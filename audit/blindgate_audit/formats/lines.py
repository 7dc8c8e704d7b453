"""JSON Lines: one object a line, UTF-8. Not one array, so that it can be read while it is written, however long it is.

The members are the columns (`columns`); `index` and `statement` are numbers, `details` is an object.
"""

import json
from collections.abc import Iterable
from typing import BinaryIO

from blindgate_audit.formats.columns import cells, rfc3339
from blindgate_audit.report import Row


def write_lines(rows: Iterable[Row], out: BinaryIO) -> None:
    """Write a row a line."""
    for row in rows:
        given = cells(row)
        time = given["time"]
        given["time"] = rfc3339(time) if isinstance(time, int) else None
        out.write(json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n")
