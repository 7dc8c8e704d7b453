"""`blindgate keys list`: which key sets this client has."""

from pathlib import Path

import typer

from blindgate.commands.options import Home, Json, Passphrase
from blindgate.keyring import described, signing_key
from blindgate.keystore import FileStore
from blindgate.output import show, when
from blindgate.places import home_folder

app = typer.Typer(help="Your key sets, without their secrets.", no_args_is_help=True)


@app.command("list")
def list_(home: Home = None, passphrase: Passphrase = None, as_json: Json = False) -> None:
    """List the key sets: for which tenant and parameters, when made, and the evaluation key's digest."""
    rows = [
        {
            "tenant": about["tenant"],
            "parameters": about["parameters"],
            "evaluation_key": about["evaluation"] or "none needed",
            "made": about["made"] if as_json else when(about["made"]),
        }
        for about in described(_store(home, passphrase))
    ]
    show(rows, as_json=as_json, empty="No keys yet: they are made when a model is first used.")


@app.command()
def signer(home: Home = None, passphrase: Passphrase = None) -> None:
    """Show the public half of the key that signs this client's orders. Auditors and gateways may ask for it."""
    typer.echo(signing_key(_store(home, passphrase)).id)


def _store(home: Path | None, passphrase: str | None) -> FileStore:
    return FileStore(home_folder(home) / "keys", passphrase)
