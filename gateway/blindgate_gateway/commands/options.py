"""What most commands take, and how they come to a gateway's settings and database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from blindgate_gateway import opening
from blindgate_gateway.commands.printing import fail
from blindgate_gateway.database import Database, database_fault
from blindgate_gateway.settings import DAY, Settings, load_settings
from blindgate_protocol.errors import BlindgateError, MalformedError
from blindgate_protocol.signing import public_key
from blindgate_protocol.values import KeyId, Millis, Name

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="BLINDGATE_GATEWAY_CONFIG", help="A TOML file with settings.", show_default=False),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The folder of the database and the blobs.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
HOUR: Millis = DAY // 24
_UNITS: dict[str, Millis] = {"m": HOUR // 60, "h": HOUR, "d": DAY}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what was refused, and what the database or the disk says, into one line and exit code 1."""
    try:
        yield
    except (BlindgateError, OSError) as error:
        fail(str(error), error)
    except Exception as error:
        fault = database_fault(error)
        if fault is None:
            raise
        fail(f"the database cannot be used: {fault}", error)


@contextmanager
def database_of(config: Path | None, data: Path | None) -> Iterator[Database]:
    """The database of a gateway that may be running."""
    with opened(load_settings(config, data=data)) as database:
        yield database


@contextmanager
def opened(found: Settings) -> Iterator[Database]:
    """The database that `found` names."""
    database = opening.open_database(found)
    try:
        yield database
    finally:
        database.close()


def name(text: str) -> str:
    """A name, as an argument. Raises `MalformedError`."""
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError as error:
        message = f"{text!r} is not a name: 1 to 64 lower-case letters, digits, dots, dashes or underscores"
        raise MalformedError(message) from error


def signing_key(text: str) -> str:
    """A signing key, as an argument. Raises `MalformedError`."""
    try:
        found = TypeAdapter[str](KeyId).validate_python(text)
        public_key(found)
    except ValueError as error:
        message = f"{text!r} is not a signing key: ed25519: and 43 characters"
        raise MalformedError(message) from error
    return found


def duration(text: str) -> Millis:
    """A length of time, as an option: `90d`, `24h`, `30m`. Raises `MalformedError`."""
    found = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    if found is None:
        message = f"{text!r} is not a length of time: a number and m, h or d, such as 30m, 24h or 90d"
        raise MalformedError(message)
    return int(found[1]) * _UNITS[found[2]]
