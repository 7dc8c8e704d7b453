"""`blindgate publisher key`: the key that signs models."""

from pathlib import Path

import typer

from blindgate.commands.options import Home, Json, Passphrase
from blindgate.keystore import FileStore, SecretStore
from blindgate.output import show_one
from blindgate.places import home_folder
from blindgate_protocol.signing import SigningKey

app = typer.Typer(help="Sign models: your publisher key.", no_args_is_help=True)

_NAME = "publisher-signing-key"


@app.callback()
def _group() -> None:
    """Sign models: your publisher key."""


@app.command()
def key(home: Home = None, passphrase: Passphrase = None, as_json: Json = False) -> None:
    """Show your publisher key, made on first use. Give it to those who are to trust your models."""
    show_one({"publisher_key": publisher_key(key_store(home, passphrase)).id}, as_json=as_json)


def key_store(home: Path | None, passphrase: str | None) -> SecretStore:
    """The key store under `home`."""
    return FileStore(home_folder(home) / "keys", passphrase)


def publisher_key(store: SecretStore) -> SigningKey:
    """The key that signs this publisher's models. Made on first use."""
    with store.lock():
        seed = store.get(_NAME)
        if seed is None:
            made = SigningKey.generate()
            store.put(_NAME, made.seed())
            return made
    return SigningKey.from_seed(seed)
