"""`blindgate policy explain`: what would happen to a request, and why, before anything is sent."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from blindgate.commands.options import Connect, DataClass, Json, asks_gateway
from blindgate.commands.predict import read_csv
from blindgate.explanation import Explanation


@asks_gateway
def explain(
    connect: Connect,
    model: Annotated[str, typer.Argument(help="The model's name: see 'blindgate models list'.")],
    rows: Annotated[
        Path | None, typer.Argument(metavar="ROWS.csv", help="A CSV file with a header; - for standard input.")
    ] = None,
    data_class: DataClass = None,
    as_json: Json = False,
) -> None:
    """Tell whether your policy would let a request to this model leave, and why, without sending it.

    Shown are the classes of its data and who says so, each rule with yes or no, what would leave, who could learn what, and what
    nodes would have to prove. Only the model's manifest is fetched.

    Exits with 0 only when it would be sent.
    """
    with connect() as client:
        manifest = client.manifest(model)
        table = None if rows is None else read_csv(rows, manifest.document.columns)
        found = client.explain(manifest, table, data_class=data_class)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        _print(found)
    if not found.sent:
        raise typer.Exit(1)


def _print(found: Explanation) -> None:
    console = Console(soft_wrap=True)
    for name, text in found.lines():
        style = ("green" if found.sent else "red") if name == "verdict" else "red" if text.startswith("NO") else ""
        console.print(Text(f"{name:<11}  "), Text(_shown(text), style), sep="")


def _shown(text: str) -> str:
    """Nothing that a stranger wrote steers the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)
