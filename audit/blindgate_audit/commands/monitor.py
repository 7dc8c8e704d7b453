"""`blindgate audit monitor`: does a gateway's history of keys agree with what their owner signed?"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from blindgate_audit.gateway import Gateway
from blindgate_audit.own_keys import OwnChain, examine, read_folder
from blindgate_protocol.key_history import KeyFinding
from blindgate_protocol.logged import Logged


def monitor(
    url: Annotated[str, typer.Argument(metavar="URL", help="The gateway's address.")],
    statements: Annotated[
        Path,
        typer.Option(
            "--statements", metavar="FOLDER", help="What the owner signed: a client's HOME/statements, or a copy of it."
        ),
    ],
    api_key: Annotated[
        str, typer.Option("--api-key", envvar="BLINDGATE_API_KEY", help="The tenant's API key, or an auditor's.")
    ],
    every: Annotated[
        float | None, typer.Option("--every", min=1.0, help="Look again every so many seconds, until stopped.")
    ] = None,
    ca: Annotated[str | None, typer.Option("--ca", help="A file of CA certificates to trust.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line a round, for scripts.")] = False,
) -> None:
    """Hold a gateway's history of keys against what their owner signed: what was left out, changed, or is not the owner's.

    Needs no secret: a copy of the owner's statements is enough. Exit status 1 when something disagrees; with --every it goes on
    until then. That the events stand in the log that everybody sees is checked by `verify`.
    """
    with Gateway(url, api_key, ca=ca) as gateway:
        ask = partial(_events, gateway)
        while True:
            owned = read_folder(statements)
            found = _examined(owned, ask)
            _tell(found, keys=len(owned), as_json=as_json)
            if any(finding.disagreement.is_fault for finding in found):
                raise typer.Exit(1)
            if every is None:
                return
            time.sleep(every)


def _examined(owned: Iterable[OwnChain], ask: Callable[[str], Iterable[Logged]]) -> list[KeyFinding]:
    now = int(time.time() * 1000)
    return [finding for own in owned for finding in examine(own, ask, now=now)]


def _events(gateway: Gateway, key: str) -> Iterable[Logged]:
    return gateway.logged(f"/v1/keys/{key}/events") if gateway.is_tenants else gateway.events(object_id=f"key:{key}")


def _tell(found: list[KeyFinding], *, keys: int, as_json: bool) -> None:
    rows = [finding.row() for finding in found]
    if as_json:
        sys.stdout.write(json.dumps({"keys": keys, "findings": rows}) + "\n")
        sys.stdout.flush()
        return
    console = Console(soft_wrap=True)
    for row in rows:
        place = "" if row["event"] is None else f" (event {row['event']})"
        console.print(_text(f"{row['finding']}: key {row['key']}, statement {row['statement']}{place}: {row['says']}"))
    if not rows:
        console.print(f"{keys} keys: their history is whole and agrees with what their owner signed")


def _text(said: str) -> Text:
    """Text as it is: nothing that a stranger wrote steers the terminal."""
    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in said))
