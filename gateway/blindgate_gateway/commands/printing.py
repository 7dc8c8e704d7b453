"""How commands answer: tables for people, one JSON value for scripts, one line for what went wrong."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 1000


def fail(message: str, error: Exception) -> NoReturn:
    """Say what went wrong and end with exit code 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1) from error


def print_json(value: Any) -> None:
    """Print one JSON value."""
    typer.echo(json.dumps(value, indent=2))


def print_secret(console: Console, what: str, secret: str) -> None:
    """Print what is shown once."""
    console.print(f"{what}:\n  {secret}", highlight=False, markup=False)


def print_rows(
    rows: Sequence[dict[str, Any]], *, as_json: bool, times: Sequence[str] = (), days: Sequence[str] = ()
) -> None:
    """Print rows of the same columns; `times` and `days` name columns of milliseconds."""
    forms = dict.fromkeys(times, "%Y-%m-%d %H:%M:%S") | dict.fromkeys(days, "%Y-%m-%d")
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows[0], ([_cell(row[name], forms.get(name)) for name in row] for row in rows))
    else:
        typer.echo("none")


def print_table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    # In a pipe nothing is folded: a line is a row.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table, markup=False)


def printable(text: str) -> str:
    """`text` without control characters: a node's reason is whatever the node sent, and this is an operator's terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _cell(value: Any, form: str | None) -> str:
    if value is None:
        return "-"
    if form is not None:
        return datetime.fromtimestamp(value / 1000, UTC).strftime(form)
    return printable(", ".join(value) if isinstance(value, list | tuple) else str(value))
