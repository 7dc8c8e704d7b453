"""An owner's record of what it signed about its keys, held against a gateway's history of them.

The record is a folder with a file for each key, as a client keeps it under its home (`statements/`), in the form of
`blindgate_protocol.key_history`. It is the owner's, so it is verified and believed. It may be a copy on another machine, which
needs no secret and no passphrase to watch over the keys.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blindgate_protocol.errors import InputError, KeyHistoryError
from blindgate_protocol.key_history import (
    MAX_CHAIN_BYTES,
    UNSENT_SUFFIX,
    KeyFinding,
    chain_key,
    compare_logged,
    read_chain,
)
from blindgate_protocol.keys import KeyStatement
from blindgate_protocol.logged import Logged
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Millis

_MOST_EVENTS = 100_000
"""No key has more: a gateway that lists more would fill this machine's memory."""


@dataclass(frozen=True)
class OwnChain:
    """Everything that an owner signed about one key.

    Attributes:
        unsent: the digest of the last statement, where the owner was told of no gateway that has it.
    """

    key: str
    chain: tuple[Signed[KeyStatement], ...]
    unsent: str | None


def read_folder(folder: Path) -> list[OwnChain]:
    """Read a record, in the order of the keys. Raises `InputError` for no record, `KeyHistoryError` for one that is damaged."""
    if not folder.is_dir():
        message = f"--statements: {folder} is no folder"
        raise InputError(message)
    keys = sorted((key, path) for path in folder.iterdir() if (key := chain_key(path.name)) is not None)
    if not keys:
        message = f"--statements: {folder} has no statements about a key; a client keeps them in HOME/statements"
        raise InputError(message)
    return [OwnChain(key, read_chain(key, _read(path)), _unsent(path)) for key, path in keys]


def examine(own: OwnChain, events: Callable[[str], Iterable[Logged]], *, now: Millis) -> list[KeyFinding]:
    """Compare one key's chain with what `events` gives for its digest. What is no history is a finding, too."""
    return compare_logged(own.key, own.chain, _bounded(events, own.key), now=now, unsent=own.unsent)


def _bounded(events: Callable[[str], Iterable[Logged]], key: str) -> Iterator[Logged]:
    for count, event in enumerate(events(key), start=1):
        if count > _MOST_EVENTS:
            message = f"the gateway lists more than {_MOST_EVENTS} events of one key"
            raise KeyHistoryError(message)
        yield event


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_CHAIN_BYTES + 1)


def _unsent(path: Path) -> str | None:
    try:
        return path.with_suffix(UNSENT_SUFFIX).read_text().strip()
    except FileNotFoundError:
        return None
