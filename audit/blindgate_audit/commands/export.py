"""`blindgate audit export`: a log as files, to be kept and verified elsewhere."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from blindgate_audit.exports import export as write_export
from blindgate_audit.gateway import Gateway
from blindgate_audit.progress import working
from blindgate_audit.sources import Address


def export(
    log: Annotated[str, typer.Argument(metavar="URL", help="The gateway's address, or its log's.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; what is there already is kept.")],
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key", envvar="BLINDGATE_API_KEY", help="An auditor's API key: with the events' bodies, too."
        ),
    ] = None,
    ca: Annotated[str | None, typer.Option("--ca", help="A file of CA certificates to trust.")] = None,
) -> None:
    """Copy a log into a folder: its tiles, its checkpoint and, with an auditor's API key, its events.

    What broke off goes on, and an older export is brought up to date. Then: blindgate audit verify FOLDER.
    """
    source = Address(log, ca=ca)
    otherwise = f"Without a key the log is exported, without its events: BLINDGATE_API_KEY= blindgate audit export {log} {folder}"
    try:
        with (
            nullcontext(None)
            if api_key is None
            else Gateway(source.gateway, api_key, ca=ca, otherwise=otherwise) as gateway,
            working("entries", total=None) as done,
        ):
            if gateway is not None:
                gateway.require_auditor()
            size = write_export(source, folder, gateway, done=done)
    finally:
        source.close()
    what = "entries" if api_key is None else "entries and their events"
    typer.echo(f"{size:,} {what} in {folder}. Verify them: blindgate audit verify {folder}")
