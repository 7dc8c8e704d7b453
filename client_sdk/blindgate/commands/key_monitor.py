"""`blindgate keys monitor`: does the gateway's history of this client's keys agree with what this client signed?"""

import json
import sys
import time
from typing import Annotated, Any

import typer

from blindgate.commands.options import Connect, Json, asks_gateway
from blindgate.key_life import KeyLife
from blindgate.output import note, show
from blindgate_protocol.key_history import Disagreement, KeyFinding, compare_logged
from blindgate_protocol.keys import KeyStatement
from blindgate_protocol.messages import KeyView
from blindgate_protocol.signing import open_signed


@asks_gateway
def monitor(
    connect: Connect,
    every: Annotated[
        float | None, typer.Option("--every", min=1.0, help="Look again every so many seconds, until stopped.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold the gateway's history of your keys against what this client signed: what was left out, changed, or is not yours.

    Exit status 1 when something disagrees. With --every it goes on, prints what it finds each time, and ends at the first fault.
    That an event stands in the log that everybody sees is checked by `blindgate audit verify`.
    """
    with connect() as client:
        while True:
            findings = examine(client.key_life, client.key_life.signer, now=int(time.time() * 1000))
            _tell(findings, keys=len(client.key_life.statements.keys()), as_json=as_json)
            if any(finding.disagreement.is_fault for finding in findings):
                raise typer.Exit(1)
            if every is None:
                return
            time.sleep(every)


def examine(life: KeyLife, signer: str, *, now: int) -> list[KeyFinding]:
    """Compare every key: those that this client has signed something about, and those that the gateway says it has."""
    statements = life.statements
    found: list[KeyFinding] = []
    for key in statements.keys():  # noqa: SIM118  (not a dictionary)
        chain, unsent = statements.chain(key), statements.unsent(key)
        found += compare_logged(key, chain, life.events(key), now=now, unsent=unsent)
    known = set(statements.keys())
    found += [_stranger(view) for view in life.listed() if view.key.digest not in known and _signer(view) == signer]
    return found


def _signer(view: KeyView) -> str:
    return open_signed(view.statement, KeyStatement).signer


def _stranger(view: KeyView) -> KeyFinding:
    document = open_signed(view.statement, KeyStatement).document
    says = (
        f"the gateway has a key that is {view.state.value}, stated with this client's signing key, and nothing was signed here: it "
        "is of a release that kept no statements (then use it once), of another home with the same signing key, or of somebody else"
    )
    return KeyFinding(document.key.digest, document.sequence, Disagreement.UNKNOWN, says)


def _tell(findings: list[KeyFinding], *, keys: int, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [finding.row() for finding in findings]
    if as_json:
        sys.stdout.write(json.dumps({"keys": keys, "findings": rows}) + "\n")
        sys.stdout.flush()
        return
    if rows:
        show(rows, as_json=False)
    else:
        note(f"{keys} keys: their history at the gateway is whole and agrees with what this client signed")
