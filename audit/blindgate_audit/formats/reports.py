"""Rows into a file or onto standard output, in the format that was asked for.

A file has its name once it is whole: it is written beside its place, under its name and `.part`, so that a report that broke off is
not taken for one that says everything.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from blindgate_audit.formats.lines import write_lines
from blindgate_audit.formats.ocsf import write_ocsf
from blindgate_audit.formats.parquet import require_parquet, write_parquet
from blindgate_audit.formats.spreadsheets import write_csv
from blindgate_audit.formats.tables import terminal_width, write_table
from blindgate_audit.report import Row
from blindgate_protocol.errors import InputError


class Format(StrEnum):
    """What a report can be written as."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    OCSF = "ocsf"
    PARQUET = "parquet"


def require_place(form: Format, output: Path | None) -> None:
    """Refuse to begin a report that could not be written in the end. Raises `InputError`."""
    if form is Format.PARQUET:
        require_parquet()
        if output is None:
            message = "parquet is no text: say where to write it, with --output FILE"
            raise InputError(message)
    if output is not None and (not output.parent.is_dir() or output.is_dir()):
        message = f"--output {output}: " + ("is a folder" if output.is_dir() else f"there is no folder {output.parent}")
        raise InputError(message)


def write_report(
    rows: Iterable[Row], form: Format, output: Path | None, *, origin: str, about: str | None = None
) -> None:
    """Write the rows as `form` to the file `output`, or to standard output.

    `origin` is the log's name, `about` the one object that was asked for.
    """
    with _opened(output) as out:
        match form:
            case Format.TABLE:
                write_table(rows, out, width=terminal_width() if output is None else None, about=about)
            case Format.JSON:
                write_lines(rows, out)
            case Format.CSV:
                write_csv(rows, out)
            case Format.OCSF:
                write_ocsf(rows, out, origin=origin)
            case Format.PARQUET:
                write_parquet(rows, out)


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
