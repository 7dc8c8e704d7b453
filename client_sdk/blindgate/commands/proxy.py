"""`blindgate proxy`: OpenAI's API on this machine, for programs that know nothing of Blindgate."""

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from blindgate.commands.options import Connect, Json, asks_gateway, path
from blindgate.keyring import signing_key
from blindgate.output import note
from blindgate.proxy.door import Door, check_address
from blindgate.proxy.server import Place, serve
from blindgate_protocol.errors import InputError, PolicyError

DEFAULT_PORT: Final = 8081
_TOKEN_VARIABLE: Final = "BLINDGATE_PROXY_TOKEN"  # noqa: S105  (its name)
_READABLE_BY_OTHERS: Final = 0o004
_MOST_TOKEN_BYTES: Final = 4096

app = typer.Typer(add_completion=False)


@app.command()
@asks_gateway
def proxy(
    connect: Connect,
    port: Annotated[int, typer.Option(help="On which port; 0 for one that is free.", min=0, max=65535)] = DEFAULT_PORT,
    listen: Annotated[str, typer.Option(help="On which address of loopback, in digits.")] = "127.0.0.1",
    unsafe_listen: Annotated[
        bool,
        typer.Option(
            "--unsafe-listen", help="Take a --listen that other machines reach: they would send prompts in the clear."
        ),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the token that programs must give. Without one, a token is made and shown once.",
            parser=path,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name by which programs may call this proxy, besides localhost.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="The origin of a page that may ask: https://page.example.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.", min=1)] = 600.0,
    as_json: Json = False,
) -> None:
    """Serve OpenAI's API on this machine: /v1/chat/completions, /v1/embeddings and /v1/models.

    A program that uses the openai package, LangChain or curl needs two things, which are printed at the start: the address, as
    OPENAI_BASE_URL, and a token, as OPENAI_API_KEY. With --json they come as one line: {"url", "token", "process"}.

    Requests are sealed here, to nodes that your policy believes, and leave this machine sealed. A streamed answer is shown as it
    is written: until its end it is a beginning, and one that did not hold ends in an error.

    The token may also be given in BLINDGATE_PROXY_TOKEN. It is needed because other users of this machine reach the port, too.
    The log is lines of JSON on standard error, without a word of what was asked. Ctrl-C ends it.
    """
    place = Place(check_address(listen, unsafe=unsafe_listen), port)
    given = _given_token(token_file)
    token = given or "bp_" + secrets.token_urlsafe(32)
    door = Door(token, hosts=[*(allow_host or ()), place.host], origins=allow_origin or ())
    with connect() as client:  # what would fail at the first request fails here
        if "tee" not in client.policy.rules.lanes:
            message = (
                f"the policy's rule rules.lanes allows {', '.join(client.policy.rules.lanes)}: nothing could be sealed"
            )
            raise PolicyError(message)
        signing_key(client.key_store)
    if unsafe_listen:
        note(f"warning: listening on {place.address}: whoever reads that network reads prompts and answers")

    def ready(url: str) -> None:
        shown = None if given else token
        if as_json:
            lines = [json.dumps({"url": f"{url}/v1", "token": shown, "process": os.getpid()})]
        else:
            lines = [f"export OPENAI_BASE_URL={url}/v1", *([f"export OPENAI_API_KEY={shown}"] if shown else [])]
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()

    serve(connect, door, place, timeout=timeout, ready=ready)


def _given_token(file: Path | None) -> str | None:
    """The token that somebody chose; `None` where nobody did. Raises `InputError`."""
    if file is None:
        return os.environ.get(_TOKEN_VARIABLE) or None
    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_mode & _READABLE_BY_OTHERS:
            message = f"{file}: every user of this machine can read this token: chmod 600 {file}"
            raise InputError(message)
        token = opened.read(_MOST_TOKEN_BYTES).decode("ascii", "replace").strip()
    if not token:
        message = f"{file}: there is no token in it"
        raise InputError(message)
    return token
