"""`blindgate gateway log …`: which log this is, how far it is, and what is erased from its keeping."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blindgate_gateway.commands.options import ConfigOption, DataOption, JsonOption, name, opened, refusals
from blindgate_gateway.commands.printing import print_json, print_table
from blindgate_gateway.log.erasing import erase_events, erase_name
from blindgate_gateway.log.keeper import LogKeeper
from blindgate_gateway.log.restarting import restart_log
from blindgate_gateway.log.signing_key import SECOND, LogKeys
from blindgate_gateway.settings import load_settings

log_app = typer.Typer(
    help="The log that auditors and clients check: its key, its state, erasures.", no_args_is_help=True
)
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the log: a request's number, say. No names.")]


@log_app.command("key")
def show_key(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Print the log's verifier key: clients trust it with `blindgate policy trust log NAME KEY`, witnesses add it to their logs.

    Where it has a second key, by ML-DSA-44, that too: `blindgate policy trust second-key NAME KEY`.
    """
    found = load_settings(config, data=data)
    with refusals(), opened(found) as database:
        head = LogKeeper(database, found).sequencer.head()
    if as_json:
        second = None if head.second is None else str(head.second)
        print_json({"key": str(head.key), "second": second, "origin": head.key.name})
        return
    console = Console(soft_wrap=True)
    console.print(str(head.key), highlight=False)
    if head.second is not None:
        about = (
            "\nIts second key, by ML-DSA-44 (clients: blindgate policy trust second-key NAME KEY, by the name that they gave this "
            "log; auditors: blindgate audit verify --second-key KEY):\n"
        )
        console.print(about, style="dim", highlight=False)
        console.print(str(head.second), highlight=False)


@log_app.command("make-key")
def make_key(
    file: Annotated[
        Path, typer.Argument(help="Where the key goes; its second half lies beside it, in FILE.ml-dsa-44.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a log's key in a file, for several gateways that sign one log (setting `log_key`). One gateway makes its own.

    A key that is there already is left as it is.
    """
    with refusals():
        keys = LogKeys.make(file, "unnamed")
    files = [str(file), *([] if keys.second is None else [f"{file}{SECOND}"])]
    if as_json:
        print_json({"files": files})
    else:
        typer.echo("\n".join(files))


@log_app.command("show")
def show(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show how far the log is, and its latest checkpoint with the cosignatures that it has."""
    found = load_settings(config, data=data)
    with refusals(), opened(found) as database:
        keeper = LogKeeper(database, found)
        head = keeper.sequencer.head()
        facts = {
            "origin": head.key.name,
            "key": str(head.key),
            "entries": head.size,
            "pending": keeper.sequencer.pending(),
            "signs": keeper.sequencer.signs(),
            "witnesses": len(found.witnesses),
        }
        checkpoint = keeper.checkpoint()
    if as_json:
        print_json(facts | {"checkpoint": checkpoint})
        return
    print_table(("", ""), ((fact, str(value)) for fact, value in facts.items()))
    Console(soft_wrap=True).print(f"\n{checkpoint}", highlight=False, end="")


@log_app.command("erase-tenant")
def erase_tenant(
    tenant: Annotated[str, typer.Argument(help="The tenant.", metavar="NAME")],
    *,
    reason: ReasonOption,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget which pseudonym of the log stands for a tenant. Its events stay, and nobody can tell any more whose they are.

    What this gateway stores for the tenant elsewhere (jobs, keys, API keys) is not touched.
    """
    with refusals(), opened(load_settings(config, data=data)) as database:
        pseudonym = erase_name(database, "tenant", name(tenant), reason=reason)
    if as_json:
        print_json({"erased": pseudonym})
    else:
        typer.echo(f"{pseudonym} stands for nobody now")


@log_app.command("erase-events")
def erase_words(
    indices: Annotated[list[int], typer.Argument(help="Indices in the log.", metavar="INDEX...", min=0)],
    *,
    reason: ReasonOption,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase what events say. Their places in the tree stay, and every proof holds as before; that they were erased is logged."""
    with refusals(), opened(load_settings(config, data=data)) as database:
        count = erase_events(database, indices, reason=reason)
    if as_json:
        print_json({"erased": count})
    else:
        typer.echo(f"erased: {count}")


@log_app.command("restart")
def restart(
    *,
    reason: ReasonOption,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin another log over the same entries, with another name and key: after the database was put back from an older copy.

    Stop every gateway before. Clients, auditors and witnesses must be told the new key: those who saw the old log's last tree
    refuse it under the old name, and are right.
    """
    found = load_settings(config, data=data)
    with refusals(), opened(found) as database:
        key = restart_log(database, found.log_key_file, found.data / "log", reason=reason).key
    if as_json:
        print_json({"key": str(key), "origin": key.name})
    else:
        Console(soft_wrap=True).print(f"The log's key is now\n\n  {key}", highlight=False)
