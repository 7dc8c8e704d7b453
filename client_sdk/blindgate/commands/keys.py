"""`blindgate keys …`: this client's key sets, and what it says about them."""

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from blindgate.client import Client
from blindgate.commands import key_monitor
from blindgate.commands.options import ApiKey, Ca, Connect, Home, Json, Passphrase, Url, asks_gateway
from blindgate.key_life import KeyLife
from blindgate.keyring import described, forget, signing_key
from blindgate.keystore import FileStore
from blindgate.output import note, show, show_one, when
from blindgate.places import home_folder
from blindgate.statements import OwnStatements
from blindgate_protocol.errors import BlindgateError, GatewayError, InputError, NotFoundError
from blindgate_protocol.keys import KEY_TRANSITIONS, KeyState, KeyStatement
from blindgate_protocol.messages import KeyView
from blindgate_protocol.signing import open_signed
from blindgate_protocol.values import Millis

app = typer.Typer(help="Your key sets, without their secrets, and what you say about them.", no_args_is_help=True)
app.command("monitor")(key_monitor.monitor)

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_NOT_ASKED: Final = "not asked"

KeyArgument = Annotated[str, typer.Argument(help="The evaluation key's digest, or how it begins.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, in a sentence that the gateway's staff may read.")]
Offline = Annotated[bool, typer.Option("--offline", help="Do not ask the gateway: what this client has signed itself.")]


@app.command("list")
def list_(
    url: Url = "",
    api_key: ApiKey = "",
    home: Home = None,
    ca: Ca = None,
    passphrase: Passphrase = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """List the key sets: for what, when made, what you last said of the evaluation key, and what the gateway says of it.

    Keys that you destroyed are listed, too.
    """
    store = FileStore(home_folder(home) / "keys", passphrase)
    statements = OwnStatements(home_folder(home) / "statements")
    made = {about["evaluation"] or about["parameters"]: about for about in described(store)}
    gateway: dict[str, str] = {}
    keys = statements.keys()
    keys += [about["evaluation"] for about in made.values() if about["evaluation"] and about["evaluation"] not in keys]
    if keys and not offline:
        with _client(url, api_key, home, ca, passphrase) as client:
            gateway = {key: _at_gateway(client.key_life, key) for key in keys}
    rows = [_row(about, None, "", as_json=as_json) for about in made.values() if not about["evaluation"]]
    for key in keys:
        chain = statements.chain(key)
        last = chain[-1].document if chain else None
        rows.append(_row(made.get(key, {}), last, gateway.get(key, _NOT_ASKED), as_json=as_json, key=key))
    show(rows, as_json=as_json, empty="No keys yet: they are made when a model is first used.")


@app.command("show")
def show_(
    key: KeyArgument,
    url: Url = "",
    api_key: ApiKey = "",
    home: Home = None,
    ca: Ca = None,
    passphrase: Passphrase = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Show a key's life: every statement that you signed about it, and where the gateway says that it stands."""
    statements = OwnStatements(home_folder(home) / "statements")
    named = _named(key, statements.keys())
    chain = statements.chain(named)
    unsent = statements.unsent(named)
    gateway = _NOT_ASKED
    if not offline:
        with _client(url, api_key, home, ca, passphrase) as client:
            gateway = _at_gateway(client.key_life, named)
    rows = [
        {
            "sequence": signed.document.sequence,
            "state": signed.document.state.value,
            "signed": signed.document.issued if as_json else when(signed.document.issued),
            "destroy_at": _time(signed.document.destroy_at, as_json=as_json),
            "successor": signed.document.successor,
            "reason": signed.document.reason,
            "sent": signed.digest != unsent,
            "statement": signed.digest,
        }
        for signed in chain
    ]
    about: dict[str, Any] = {
        "key": named,
        "bytes": chain[-1].document.key.size,
        "tenant": chain[-1].document.tenant,
        "parameters": chain[-1].document.parameters,
        "signer": chain[-1].signer,
        "at_gateway": gateway,
    }
    if as_json:
        show_one(about | {"statements": rows}, as_json=True)
        return
    show_one(about, as_json=False)
    show(rows, as_json=False)


@app.command()
def signer(home: Home = None, passphrase: Passphrase = None) -> None:
    """Show the public half of the key that signs this client's orders. Auditors and gateways may ask for it."""
    typer.echo(signing_key(FileStore(home_folder(home) / "keys", passphrase)).id)


@app.command()
@asks_gateway
def suspend(connect: Connect, key: KeyArgument, reason: Reason = None) -> None:
    """Say that a key is not to be used for now. Its waiting jobs wait until you resume it; no new one is taken."""
    with connect() as client:
        _say(client, key, KeyState.SUSPENDED, reason)


@app.command()
@asks_gateway
def resume(connect: Connect, key: KeyArgument, reason: Reason = None) -> None:
    """Say that a suspended key is active again; or call a scheduled destruction off: the key is what it was before."""
    with connect() as client:
        _say(client, key, None, reason)


@app.command()
@asks_gateway
def supersede(
    connect: Connect,
    key: KeyArgument,
    reason: Reason = None,
    later: Annotated[
        bool,
        typer.Option(
            "--later",
            help="Make no other key now: one is made when a model with these parameters is next used, and nobody is told which "
            "key it took the place of.",
        ),
    ] = False,
) -> None:
    """Say that another key takes this one's place, and which: it is made and uploaded first, or found if it is there.

    Waiting jobs still run under the old one, and their results are still decrypted. There is no way back.
    """
    with connect() as client:
        named = _named(key, _known(client))
        stands = open_signed(client.key_life.show(named).statement, KeyStatement).document.state
        successor = None
        if not later and KeyState.SUPERSEDED in KEY_TRANSITIONS[stands]:
            successor = client.successor_of(named)
        _say(client, named, KeyState.SUPERSEDED, reason, successor=successor)
        if successor is not None:
            note(f"its place took {successor}")
        elif not later:
            note("no model that you may use has these parameters, so no other key was made, and none is named")


@app.command()
@asks_gateway
def deactivate(connect: Connect, key: KeyArgument, reason: Reason = None) -> None:
    """Say that nothing new is to be computed under a key. Waiting jobs still run. There is no way back."""
    with connect() as client:
        _say(client, key, KeyState.DEACTIVATED, reason)


@app.command()
@asks_gateway
def compromised(connect: Connect, key: KeyArgument, reason: Reason = None) -> None:
    """Say that somebody else may have a key's secret. Its waiting and running jobs are cancelled. There is no way back."""
    with connect() as client:
        _say(client, key, KeyState.COMPROMISED, reason)


@app.command("schedule-destruction")
@asks_gateway
def schedule_destruction(
    connect: Connect,
    key: KeyArgument,
    at: Annotated[
        str | None, typer.Option("--at", help="When: 2027-01-31, or 2027-01-31T12:00; UTC, unless it names an offset.")
    ] = None,
    after: Annotated[str | None, typer.Option("--in", help="In how long: 45m, 12h, 30d.")] = None,
    reason: Reason = None,
) -> None:
    """Say when a key is to be destroyed. Until then nobody may use it, and `resume` calls it off.

    The gateway deletes its bytes at that time without being told again. The secret key here stays until you `destroy`.
    """
    destroy_at = _destroy_at(at, after)
    with connect() as client:
        _say(client, key, KeyState.DESTRUCTION_SCHEDULED, reason, destroy_at=destroy_at)


@app.command()
@asks_gateway
def destroy(
    connect: Connect,
    key: KeyArgument,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_secret: Annotated[
        bool, typer.Option("--keep-secret", help="Keep the secret key here, so that results can still be decrypted.")
    ] = False,
) -> None:
    """Destroy a key: its bytes at the gateway, now and for good, and the secret key here.

    Its waiting and running jobs are cancelled. Without the secret key no result of a job under it can be decrypted any more.
    """
    with connect() as client:
        named = _named(key, _known(client))
        shown = client.key_life.show(named)
        if not yes:
            typer.confirm(f"Destroy key {named} at the gateway, and cancel its jobs?", abort=True)
        if not (yes or keep_secret):
            keep_secret = not typer.confirm("Delete its secret key here, too? No result can be decrypted any more.")
        if open_signed(shown.statement, KeyStatement).document.state is not KeyState.DESTROYED:
            _say(client, named, KeyState.DESTROYED, reason)
        if not keep_secret and forget(client.key_store, named):
            note("its secret key here is deleted")


@app.command()
@asks_gateway
def resend(connect: Connect, key: KeyArgument) -> None:
    """Send the gateway what it has not got of your statements about a key: it is another one, or was restored from a backup."""
    with connect() as client:
        named = _named(key, client.key_life.statements.keys())
        note(f"key {named}: {client.key_life.resend(named)} statements sent")


def _say(
    client: Client,
    key: str,
    state: KeyState | None,
    reason: str | None,
    *,
    destroy_at: Millis | None = None,
    successor: str | None = None,
) -> None:
    named = _named(key, _known(client))
    view = client.key_life.state(named, state, reason=reason, destroy_at=destroy_at, successor=successor)
    note(f"key {named}: {_described(view, client.key_life.statements.chain(named)[-1].document)}")


def _known(client: Client) -> list[str]:
    """The keys that something was signed about, and those that were registered before such statements were kept."""
    made = [about["evaluation"] for about in described(client.key_store) if about["evaluation"]]
    return sorted({*client.key_life.statements.keys(), *made})


def _described(view: KeyView, last: KeyStatement) -> str:
    if view.state is KeyState.DESTRUCTION_SCHEDULED and last.destroy_at is not None:
        return f"{view.state.value}, for {when(last.destroy_at)}"
    return view.state.value


def _at_gateway(life: KeyLife, key: str) -> str:
    """A state, or what is wrong with what the gateway shows."""
    try:
        return life.show(key).state.value
    except NotFoundError:
        return "not there"
    except GatewayError:
        raise
    except BlindgateError as error:
        return f"WRONG: {error}"


def _client(url: str, api_key: str, home: Path | None, ca: str | None, passphrase: str | None) -> Client:
    if not url or not api_key:
        message = "give --url and --api-key, or set BLINDGATE_URL and BLINDGATE_API_KEY; or --offline"
        raise GatewayError(message)
    return Client(url, api_key, home=home, ca=ca, passphrase=passphrase)


def _named(given: str, keys: Iterable[str]) -> str:
    """The one key whose digest begins like this. Raises `InputError`."""
    digits = given.removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{4,64}", digits):
        message = f"KEY: {given!r} is no digest, nor four or more digits that one begins with"
        raise InputError(message)
    found = [key for key in keys if key.startswith(f"sha256:{digits}")]
    if len(found) != 1:
        message = f"KEY: {len(found)} of this client's keys begin with {digits}; see `blindgate keys list`"
        raise InputError(message)
    return found[0]


def _row(
    about: dict[str, Any], last: KeyStatement | None, gateway: str, *, as_json: bool, key: str = "none needed"
) -> dict[str, Any]:
    return {
        "tenant": about.get("tenant") or (last.tenant if last else ""),
        "parameters": about.get("parameters") or (last.parameters if last else ""),
        "evaluation_key": key,
        "made": _time(about.get("made"), as_json=as_json),
        "secret": "here" if about else "deleted",
        "state": last.state.value if last else "",
        "at_gateway": gateway,
    }


def _time(millis: Millis | None, *, as_json: bool) -> Millis | str | None:
    return millis if millis is None or as_json else when(millis)


def _destroy_at(at: str | None, after: str | None) -> Millis:
    if (at is None) == (after is None):
        message = "give one of --at and --in"
        raise InputError(message)
    if after is not None:
        match = re.fullmatch(r"([0-9]{1,6})([mhd])", after)
        if match is None:
            message = f"--in: got {after!r}, expected a number and m, h or d, such as 30d"
            raise InputError(message)
        return int(time.time() * 1000) + int(match[1]) * _SECONDS[match[2]] * 1000
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError as error:
        message = f"--at: got {at!r}, expected a date, or a date and a time, such as 2027-01-31T12:00"
        raise InputError(message) from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
