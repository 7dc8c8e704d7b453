"""How commands print: a table for people, JSON for scripts.

Members are named as a script wants them, `like_this`, and numbers have all their digits; people see a space, and four digits.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from blindgate_protocol.errors import BlindgateError, InputError

_KEPT = frozenset("\n\t\u00ad\u200c\u200d")
"""What a text of several lines has without steering a terminal: soft hyphens, and what joins letters or keeps them apart."""
_WHOLE = 1000
"""From here on nobody reads what comes after the point."""
_NO_SCREEN = 100_000


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, empty: str = "Nothing.") -> None:
    """Print rows with the same members as a table, or as a JSON array."""
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    # In a pipe or a file a row is one line, however long: what cuts it up there looks for whole ids.
    console = Console(width=None if sys.stdout.isatty() else _NO_SCREEN)
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_text("" if value is None else readable(value)) for value in row.values()))
    console.print(table)


def show_one(row: dict[str, Any], *, as_json: bool) -> None:
    """Print one thing, a line a member, or as a JSON object."""
    if as_json:
        sys.stdout.write(json.dumps(row, indent=2) + "\n")
        return
    console = Console(soft_wrap=True)
    width = max(len(name) for name in row)
    for name, value in row.items():
        console.print(Text(f"{name.replace('_', ' '):<{width}}  ", "bold"), _text(readable(value)), sep="")


def readable(value: object) -> str:
    """A value as people read it: a fraction by its first four digits, what is not known as a dash."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.4g}"
        case _:
            return str(value)


def when(millis: int) -> str:
    """A point in time, as people read it."""
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def note(text: str) -> None:
    """Tell a person something that is no result."""
    Console(stderr=True, soft_wrap=True).print(_text(text))


def show_along(parts: Iterable[str]) -> None:
    """Print a text while it comes, without the space around it, and an empty line behind it.

    Where it ends in an error, what was printed ends its line, and is said to be no more than a beginning.
    """
    shown = False
    try:
        for part in _stripped(parts):
            sys.stdout.write(printable(part))
            sys.stdout.flush()
            shown = True
    except (BlindgateError, KeyboardInterrupt):
        if shown:
            sys.stdout.write("\n")
            sys.stdout.flush()
            note("above is a beginning, and no answer: its end did not come, or did not hold")
        raise
    sys.stdout.write("\n\n")


def _stripped(parts: Iterable[str]) -> Iterator[str]:
    """What `strip` would leave of them, joined, without waiting for the last one."""
    begun, held = False, ""
    for part in parts:
        text = held + part if begun else part.lstrip()
        given = text.rstrip()
        held = text[len(given) :]
        if given:
            begun = True
            yield given


def printable(text: str) -> str:
    """A text of several lines as it is, but for what would steer the terminal."""
    return "".join(
        character
        if character.isprintable() or character in _KEPT or unicodedata.category(character) == "Zs"
        else "\ufffd"
        for character in text.replace("\r\n", "\n")
    )


def require_folder(file: Path | None) -> None:
    """Refuse to begin long work whose `file` could not be written in the end. Raises `InputError`."""
    if file is None:
        return
    if not file.parent.is_dir():
        message = f"{file}: there is no folder {file.parent} to write it in"
        raise InputError(message)
    if file.is_dir():
        message = f"{file}: is a folder, expected a file"
        raise InputError(message)
    if file.exists() and not os.access(file, os.W_OK):
        message = f"{file}: may not be written"
        raise InputError(message)


def _text(value: object) -> Text:
    """Text as it is: no brackets are markup, and nothing that a stranger wrote steers the terminal."""
    return Text("".join(character if character.isprintable() else "�" for character in str(value)))
