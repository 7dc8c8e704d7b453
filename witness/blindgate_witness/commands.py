"""`blindgate witness …`: make a witness, tell it of logs, let it serve, and look at what it saw.

Every command but `serve` works beside a witness that is running. Exit code 1 is a refusal that the message explains, 2 a
command that was typed wrongly.
"""

import base64
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from platformdirs import user_data_path

from blindgate_protocol.errors import BlindgateError, LogError, MalformedError
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_witness.records import Kept, KnownLog, Records
from blindgate_witness.signer import Signer, add_second_key, load_signer, save_signer
from blindgate_witness.submissions import Rule

app = typer.Typer(
    name="witness",
    help="Run a witness: it cosigns a log's checkpoints, and refuses a log that forks or goes back.",
    no_args_is_help=True,
)
logs_app = typer.Typer(help="The logs whose checkpoints this witness cosigns.", no_args_is_help=True)
app.add_typer(logs_app, name="logs")

_KEY_FILE = "witness.key"
_RECORDS_FILE = "witness.sqlite3"

Data = Annotated[
    Path,
    typer.Option("--data", envvar="BLINDGATE_WITNESS_DATA", help="The witness's folder: its key and its record."),
]
_DATA = user_data_path("blindgate") / "witness"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    *,
    data: Data = _DATA,
    name: Annotated[
        str,
        typer.Option(help="The witness's name, an address without https://.", show_default="this machine's name"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a witness: its key and an empty record. Prints the verifier key, which clients put into their policies."""
    with _explained():
        file = data / _KEY_FILE
        if file.exists():
            message = f"there is a witness in {data} already: `blindgate witness key --data {data}` shows its key"
            raise BlindgateError(message)
        signer = Signer.generate(name or f"{socket.gethostname()}/witness")
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The record first: a key without one is a witness that forgot, and is refused.
        records = data / _RECORDS_FILE
        if not records.exists():
            Records.create(records)
        elif Records(records).logs():
            message = f"{records} is the record of a witness whose key is gone: make the new one in a folder of its own"
            raise BlindgateError(message)
        save_signer(file, signer)
    if as_json:
        _print_json({"key": str(signer.key), "name": signer.name, "data": str(data.resolve())})
    else:
        typer.echo(str(signer.key))
        typer.echo(
            f"The key for clients' policies is above. Next: blindgate witness logs add KEY --data {data}", err=True
        )


@app.command()
def key(*, data: Data = _DATA, as_json: AsJson = False) -> None:
    """Show the witness's verifier key, by Ed25519. `second-key` shows the one by ML-DSA-44."""
    with _explained():
        signer = _signer(data)
    if as_json:
        _print_json({"key": str(signer.key), "name": signer.name, "data": str(data.resolve())})
    else:
        typer.echo(str(signer.key))


@app.command(name="second-key")
def second_key(*, data: Data = _DATA, as_json: AsJson = False) -> None:
    """Show the witness's second key, by ML-DSA-44; make it where there is none yet.

    From its next start on the witness signs by both. Its cosignature by the second holds also against whoever can forge Ed25519 by
    the time it is read; those who want that put this key into their policies, in place of the first. It is the same witness.
    """
    with _explained():
        signer = _signer(data)
        made = signer.second is None
        if made:
            signer = add_second_key(data / _KEY_FILE, signer)
    if as_json:
        _print_json({"key": str(signer.second_key), "name": signer.name, "data": str(data.resolve()), "made": made})
        return
    typer.echo(str(signer.second_key))
    if made:
        typer.echo("Made. Start `blindgate witness serve` again: it signs with both keys then.", err=True)


@app.command()
def serve(
    *,
    data: Data = _DATA,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="On which port.", min=1, max=65535)] = 8090,
) -> None:
    """Cosign what continues what was seen, until a signal ends it. Log lines are JSON, on standard error."""
    # Imported here: the other commands need no server.
    from blindgate_witness import server  # noqa: PLC0415

    with _explained():
        signer, records = _signer(data), Records(data / _RECORDS_FILE)
        server.serve(signer, records, host=host, port=port)


@app.command()
def show(
    origin: Annotated[str, typer.Argument(help="The log's origin: the name in its verifier key.")],
    *,
    data: Data = _DATA,
    as_json: AsJson = False,
) -> None:
    """Show the last checkpoint of a log that was cosigned, with the log's signature."""
    with _explained():
        known = _records(data).log(origin)
        if known is None:
            message = (
                f"this witness was not told of a log {origin!r}: `blindgate witness logs list` shows which it knows"
            )
            raise LogError(message)
    if as_json:
        _print_json(_log_view(known) | {"note": known.seen.note or None})
    elif known.seen.note:
        typer.echo(_printable(known.seen.note), nl=False)
    else:
        typer.echo("nothing of this log was cosigned yet", err=True)


@app.command()
def forks(*, data: Data = _DATA, as_json: AsJson = False) -> None:
    """Show what logs signed and this witness refused.

    A `fork` is two trees of one size, both signed by the log: that proves it lied, to anybody. Something `unproven` came without a
    proof that it continues what was seen: the log forked, or somebody else sent its checkpoint with a false proof.
    """
    with _explained():
        kept = _records(data).kept()
    if as_json:
        _print_json([_kept_view(one) for one in kept])
    elif not kept:
        typer.echo("none")
    else:
        typer.echo("\n".join(map(_told, kept)), nl=False)


@logs_app.command()
def add(
    verifier_key: Annotated[str, typer.Argument(metavar="KEY", help="The log's verifier key: origin+id+key.")],
    *,
    data: Data = _DATA,
    as_json: AsJson = False,
) -> None:
    """Cosign this log's checkpoints from now on. What was seen of it before it was removed still counts."""
    with _explained():
        known = _records(data).add(_log_key(verifier_key))
    if as_json:
        _print_json(_log_view(known))
    else:
        seen = f" from {known.seen.size} entries on" if known.seen.size else ""
        typer.echo(f"{_printable(known.key.name)} is witnessed{seen}.")


@logs_app.command(name="list")
def list_command(*, data: Data = _DATA, as_json: AsJson = False) -> None:
    """List the logs, with how much of each was seen."""
    with _explained():
        known = _records(data).logs()
    if as_json:
        _print_json([_log_view(one) for one in known])
    elif not known:
        typer.echo("none: blindgate witness logs add KEY")
    for one in known if not as_json else ():
        state = "" if one.witnessed else ", removed"
        when = f", last cosigned {_time(one.seen.seconds)}" if one.seen.seconds else ""
        typer.echo(f"{one.key}: {one.seen.size} entries{when}{state}")


@logs_app.command()
def remove(
    origin: Annotated[str, typer.Argument(help="The log's origin: the name in its verifier key.")],
    *,
    data: Data = _DATA,
) -> None:
    """Cosign no more of a log. What was seen of it stays."""
    with _explained():
        _records(data).remove(origin)
    typer.echo(f"{_printable(origin)} is witnessed no more; what was seen of it stays.")


def _records(data: Path) -> Records:
    _signer(data)
    return Records(data / _RECORDS_FILE)


def _signer(data: Path) -> Signer:
    signer = load_signer(data / _KEY_FILE)
    if signer is None:
        message = f"there is no witness in {data}: make one with `blindgate witness init --data {data}`"
        raise BlindgateError(message)
    return signer


def _log_key(text: str) -> VerifierKey:
    found = VerifierKey.parse(text)
    if found.kind is KeyKind.ED25519:
        return found
    message = f"the key of {found.name} is of the kind {found.kind.name}: logs sign with {KeyKind.ED25519.name}"
    raise MalformedError(message)


def _log_view(known: KnownLog) -> dict[str, Any]:
    return {
        "origin": known.key.name,
        "key": str(known.key),
        "witnessed": known.witnessed,
        "size": known.seen.size,
        "root": base64.b64encode(known.seen.root).decode(),
        "cosigned": known.seen.seconds or None,
    }


def _kept_view(kept: Kept) -> dict[str, Any]:
    return {
        "origin": kept.origin,
        "rule": kept.rule,
        "size": kept.size,
        "root": base64.b64encode(kept.root).decode(),
        "seconds": kept.seconds,
        "note": kept.note,
        "old": kept.old,
        "proof": kept.proof.splitlines(),
        "seen": kept.seen or None,
    }


def _told(kept: Kept) -> str:
    what = {
        Rule.FORK: f"a second tree of {kept.size} entries. Signed by the log:",
        Rule.UNPROVEN: f"a tree of {kept.size} entries that was not shown to continue the one of {kept.old}. Signed by the log:",
    }[kept.rule]
    seen = _printable(kept.seen) if kept.seen else "nothing: this was the first\n"
    head = f"{kept.rule} of {_printable(kept.origin)} at {_time(kept.seconds)}: {what}"
    return f"{head}\n\n{_printable(kept.note)}\nCosigned before:\n\n{seen}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _printable(text: str) -> str:
    """`text` without control characters but newlines: a log writes what it likes, and this is an operator's terminal."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what was refused, and what the record or the disk says, into one line and exit code 1."""
    try:
        yield
    except (BlindgateError, OSError, sqlite3.Error) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
