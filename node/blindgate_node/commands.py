"""`blindgate node …`: run a node, and what has to be done once before.

Every command says on success what to do next, and on failure what to do about it. Exit code 1 is a refusal that the message
explains, 2 a command that was typed wrongly.
"""

import json
import os
import re
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from blindgate_node.attester.challenge import Challenge
from blindgate_node.attester.choice import choose
from blindgate_node.attester.evidence_files import Shown, ask
from blindgate_node.enrolment import enrol, enrol_anew, load_certificate
from blindgate_node.families import FAMILIES, Family
from blindgate_node.logs import open_log
from blindgate_node.loop import Node
from blindgate_node.pool import Pool
from blindgate_node.sandbox.layers import Held, missing
from blindgate_node.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from blindgate_node.signer import load_or_create_key
from blindgate_node.trial import compiled_programs, try_layers
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.evidence import NONCE_BYTES
from blindgate_protocol.simulated_evidence import INSECURE_SIMULATED, WARNING

app = typer.Typer(
    name="node",
    help="Run a compute node: it pulls encrypted jobs from a gateway, computes on them in a sandbox, and signs receipts.",
    no_args_is_help=True,
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar=f"{ENVIRONMENT_PREFIX}CONFIG", help="A TOML file with settings.", show_default=False
    ),
]
Data = Annotated[
    Path | None, typer.Option("--data", help="The node's folder.  [default: ./blindgate-node]", show_default=False)
]
GatewayUrl = Annotated[
    str | None,
    typer.Option("--gateway", help="The gateway's address.  [default: http://127.0.0.1:8080]", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def serve(
    *,
    config: Config = None,
    data: Data = None,
    gateway: GatewayUrl = None,
    publisher: Annotated[
        list[str] | None,
        typer.Option(
            "--publisher",
            help="The key id of a publisher whose models this node computes; repeat it.",
            show_default=False,
        ),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="The node's certificate.", show_default=False)] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs at once.  [default: one a core]", show_default=False)] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Where to write the log.  [default: standard error]", show_default=False)
    ] = None,
) -> None:
    """Pull jobs and compute them until told to stop.

    SIGTERM or Ctrl-C: no new jobs, running ones finish or are given back. A second time: end at once.
    The enrolment token is read from BLINDGATE_NODE_ENROLMENT_TOKEN; it is needed once.
    """
    with explained():
        settings = load_settings(
            config,
            data=data,
            gateway=gateway,
            publishers=publisher,
            certificate=certificate,
            slots=slots,
            log_file=log_file,
        )
        serve_node(settings)


@app.command()
def check(*, config: Config = None, as_json: AsJson = False) -> None:
    """Try out the sandbox on this machine: which layers hold, and which do not.

    Exits with 1 when a layer that the settings require does not hold.
    """
    with explained():
        settings = load_settings(config)
        with tempfile.TemporaryDirectory(prefix="blindgate-check-") as folder:
            Path(folder).chmod(0o711)
            trial = settings.model_copy(update={"data": Path(folder)})
            pool = Pool(
                trial.data / "work", compiled_programs(), first_user=settings.first_user, most=1, idle_seconds=1
            )
            try:
                held = try_layers(pool, trial)
            finally:
                pool.close()
        lacking = missing(held, settings.require)
        _show(held, settings, as_json=as_json)
    if lacking:
        raise typer.Exit(1)


@app.command()
def key(*, config: Config = None, data: Data = None, as_json: AsJson = False) -> None:
    """Show this node's key id; the key is made when there is none. Its operator certifies the id."""
    with explained():
        settings = load_settings(config, data=data)
        file = settings.data / "node.key"
        found = load_or_create_key(file)
    if as_json:
        print_json({"node": found.id, "file": str(file)})
    else:
        typer.echo(found.id)


@app.command(name="enrol")
def enrol_command(
    *,
    config: Config = None,
    data: Data = None,
    gateway: GatewayUrl = None,
    certificate: Annotated[Path | None, typer.Option(help="The node's certificate.", show_default=False)] = None,
    again: Annotated[bool, typer.Option("--again", help="Enrol even if this node is enrolled already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enrol at the gateway, with the one-time token in BLINDGATE_NODE_ENROLMENT_TOKEN.

    `blindgate node serve` does it by itself when it starts for the first time.
    """
    with explained():
        settings = load_settings(config, data=data, gateway=gateway, certificate=certificate)
        own = load_or_create_key(settings.data / "node.key")
        now = _now()
        vouched = load_certificate(settings.certificate_file, own, now)
        (enrol_anew if again else enrol)(settings, own, vouched, now)
    if as_json:
        print_json({"node": own.id, "name": vouched.document.name, "gateway": settings.gateway})
    else:
        typer.echo(f"Node {vouched.document.name} ({own.id}) is enrolled at {settings.gateway}.")


@app.command()
def attest(
    *,
    config: Config = None,
    data: Data = None,
    nonce: Annotated[
        str | None,
        typer.Option(
            help="The challenge of whoever wants to see it, 32 bytes in hexadecimal.  [default: drawn at random]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where to write the evidence; it must be empty, or not exist.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what this machine would prove of itself: its platform, its GPUs, and evidence of both for a challenge.

    The settings `attester` and `gpu_attester` name what is asked; by default, what is there. What is bound is a hash of the
    nonce behind words of its own, so that no one can have this machine vouch for their keys: --json has it.
    Exits with 1 where there is nothing to show, and says what is missing.
    """
    challenge = Challenge(secrets.token_bytes(NONCE_BYTES) if nonce is None else _nonce(nonce))
    with explained():
        settings = load_settings(config, data=data)
        attesters = choose(settings, open_log(settings.log_file, settings.log_level), _now)
        shown = ask(attesters, challenge)
        written = [] if out is None else shown.write(out)
    if as_json:
        print_json(shown.to_json(written))
    else:
        _show_evidence(shown, out, written)


def serve_node(settings: Settings, *, families: Mapping[str, Family] = FAMILIES) -> None:
    """Run a node in this process until a signal ends it. Raises `BlindgateError`."""
    node = Node(settings, open_log(settings.log_file, settings.log_level), families=families)
    _drain_on_signals(node)
    node.serve()


def _drain_on_signals(node: Node) -> None:
    told = False

    def on_signal(number: int, _: object) -> None:
        nonlocal told
        if told:
            # Zygotes and workers die with this process: the kernel sees to it.
            os._exit(128 + number)
        told = True
        node.drain()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def _show(held: tuple[Held, ...], settings: Settings, *, as_json: bool) -> None:
    if as_json:
        layers = [
            {
                "layer": entry.layer.value,
                "holds": entry.holds,
                "required": entry.layer in settings.require,
                "detail": entry.detail,
            }
            for entry in held
        ]
        print_json({"layers": layers, "missing": [entry.layer.value for entry in missing(held, settings.require)]})
        return
    table = Table("layer", "holds", "required", "detail")
    for entry in held:
        required = "yes" if entry.layer in settings.require else ""
        table.add_row(entry.layer.value, "yes" if entry.holds else "[bold red]no[/]", required, entry.detail)
    Console().print(table)


def _show_evidence(shown: Shown, out: Path | None, written: list[Path]) -> None:
    if shown.platform is not None:
        beside = f", and {len(shown.platform.chain)} certificates beside it" if shown.platform.chain else ""
        typer.echo(
            f"This machine is {shown.platform.platform}: {len(shown.platform.evidence)} bytes of evidence{beside}."
        )
        if shown.platform.platform == INSECURE_SIMULATED:
            typer.echo(WARNING)
    if shown.gpus:
        typer.echo(f"Its GPUs are {shown.gpu_platform}: {len(shown.gpus)} bytes of evidence.")
    typer.echo(f"The challenge was {shown.challenge.nonce.hex()}.")
    for one in shown.missing:
        typer.echo(f"Not there: {one}")
    if out is None:
        typer.echo("Nothing was written: --out FOLDER writes the evidence, for `blindgate trust appraise`.")
        return
    for file in written:
        typer.echo(f"Wrote {file}")
    typer.echo("Judge it, here or anywhere, with:")
    for command in shown.appraisals(out):
        typer.echo(f"  {command}")


def _nonce(text: str) -> bytes:
    if not re.fullmatch(rf"(?:0x)?[0-9a-fA-F]{{{2 * NONCE_BYTES}}}", text):
        message = f"expected {NONCE_BYTES} bytes in hexadecimal, got {len(text)} characters"
        raise typer.BadParameter(message, param_hint="--nonce")
    return bytes.fromhex(text.removeprefix("0x"))


def _now() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def explained() -> Iterator[None]:
    """Turn Blindgate's own errors into a sentence and exit code 1."""
    try:
        yield
    except BlindgateError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1)


def print_json(value: dict[str, Any]) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2))
