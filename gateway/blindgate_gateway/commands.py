"""`blindgate gateway …`: run a gateway, and tell it whom it serves.

Every command but `serve` works beside a gateway that is running, on the same data folder. What is secret (API keys, enrolment
tokens) is printed once, when it is made, and kept nowhere in clear. With `--json` a command prints one JSON value and nothing
else. Errors go to standard error, and the exit code is 1.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from blindgate_gateway import dead_letters, identity, jobs, nodes, opening, queues, quotas
from blindgate_gateway.database import Database, database_fault
from blindgate_gateway.settings import DAY, Settings, load_settings
from blindgate_protocol.errors import BlindgateError, MalformedError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.values import Name

app = typer.Typer(name="gateway", help="Run the gateway: a broker that sees no data.", no_args_is_help=True)
tenants_app = typer.Typer(help="Who may submit jobs or publish models, and their API keys.", no_args_is_help=True)
nodes_app = typer.Typer(help="The nodes that were taken in.", no_args_is_help=True)
jobs_app = typer.Typer(help="Every tenant's jobs, and why one ended.", no_args_is_help=True)
app.add_typer(tenants_app, name="tenants")
app.add_typer(nodes_app, name="nodes")
app.add_typer(jobs_app, name="jobs")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="BLINDGATE_GATEWAY_CONFIG", help="A TOML file with settings.", show_default=False),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The folder of the database and the blobs.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
HOUR = DAY // 24
_PIPE_WIDTH = 1000


@app.command()
def serve(
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Where to listen.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="On which port.", show_default=False)] = None,
    publisher: Annotated[
        list[str] | None, typer.Option(help="A key id whose models are taken in. Repeatable.", show_default=False)
    ] = None,
    operator: Annotated[
        list[str] | None, typer.Option(help="A key id whose nodes are taken in. Repeatable.", show_default=False)
    ] = None,
) -> None:
    """Serve until a signal ends it. Makes the data folder and migrates the database as needed.

    Log lines are JSON, on standard error. SIGTERM lets running requests finish.
    """
    # Imported here: the other commands need no server.
    from blindgate_gateway import server  # noqa: PLC0415

    with _refusals():
        settings = load_settings(
            config,
            data=data,
            host=host,
            port=port,
            publishers=tuple(publisher) if publisher else None,
            operators=tuple(operator) if operator else None,
        )
        server.serve(settings)


@app.command()
def init(
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    tenant: Annotated[str, typer.Option(help="The first tenant's name.")] = "default",
    publisher: Annotated[str, typer.Option(help="The name under which models are published.")] = "models",
    as_json: JsonOption = False,
) -> None:
    """Make a data folder with one tenant, one publisher and one enrolment token, and say what to do next."""
    with _refusals():
        settings = load_settings(config, data=data)
        opening.migrate(settings)
        with _opened(settings) as database:
            made = {
                "data": str(settings.data),
                "tenant_key": str(identity.add_tenant(database, _name(tenant), "tenant")),
                "publisher_key": str(identity.add_tenant(database, _name(publisher), "publish")),
                "enrolment_token": str(identity.add_enrolment_token(database, lasts=DAY)),
            }
    if as_json:
        _print_json(made)
        return
    console = Console(soft_wrap=True)
    console.print(f"A gateway in {made['data']}. These are shown once:\n", highlight=False)
    _print_secret(console, f"API key of tenant {tenant!r}", made["tenant_key"])
    _print_secret(console, f"API key of publisher {publisher!r}", made["publisher_key"])
    _print_secret(console, "Enrolment token for one node, for a day", made["enrolment_token"])
    console.print(
        f"\nNow: blindgate gateway serve --data {made['data']} --publisher KEY_ID --operator KEY_ID", highlight=False
    )


@app.command()
def migrate(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this version's tables. `serve` does it, too."""
    with _refusals():
        before, after = opening.migrate(load_settings(config, data=data))
    if as_json:
        _print_json({"before": before, "after": after})
    else:
        Console().print(f"{before or 'nothing'} → {after}" if before != after else f"{after}: nothing to do")


@app.command()
def settings(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every setting as the gateway would use it, secrets hidden."""
    with _refusals():
        shown = load_settings(config, data=data).shown()
    if as_json:
        _print_json(shown)
    else:
        _print_table(("setting", "value"), ((name, json.dumps(value)) for name, value in shown.items()))


@app.command()
def enrol(
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    hours: Annotated[int, typer.Option(min=1, max=24 * 30, help="How long the token is good.")] = 24,
    as_json: JsonOption = False,
) -> None:
    """Make a token with which one node can enrol, once. Give it to the node's operator."""
    with _refusals(), _database(config, data) as database:
        token = str(identity.add_enrolment_token(database, lasts=hours * HOUR))
    if as_json:
        _print_json({"enrolment_token": token, "hours": hours})
    else:
        _print_secret(Console(soft_wrap=True), f"Enrolment token for one node, for {hours} hours, shown once", token)


@tenants_app.command("add")
def add_tenant(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, dots, dashes.")],
    *,
    publish: Annotated[bool, typer.Option("--publish", help="A key that publishes models.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant, or another API key of one, and print the key once."""
    with _refusals(), _database(config, data) as database:
        key = str(identity.add_tenant(database, _name(name), "publish" if publish else "tenant"))
    if as_json:
        _print_json({"tenant": name, "scope": "publish" if publish else "tenant", "api_key": key})
    else:
        _print_secret(Console(soft_wrap=True), f"API key of {name!r}, shown once", key)


@tenants_app.command("list")
def list_tenants(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the API keys by tenant. Their secrets are not kept."""
    with _refusals(), _database(config, data) as database:
        keys = [asdict(key) for key in identity.list_api_keys(database)]
    _print_rows(keys, as_json=as_json, times=("created", "revoked"))


@tenants_app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The key's id: what stands between `bg_` and the dot.")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Make an API key useless from now on."""
    with _refusals(), _database(config, data) as database:
        identity.revoke_api_key(database, key)


@tenants_app.command("quota")
def set_quota(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    most: Annotated[int, typer.Argument(metavar="BYTES", min=0, max=2**53 - 1, help="How many it may store.")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Let a tenant have so many bytes stored, and no more. What it has already stays."""
    with _refusals(), _database(config, data) as database:
        quotas.set_quota(database, _name(name), most)


@tenants_app.command("storage")
def show_storage(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List how many bytes each tenant has stored, and its quota where it has one of its own."""
    with _refusals(), _database(config, data) as database:
        found = [asdict(storage) for storage in quotas.list_storage(database)]
    _print_rows(found, as_json=as_json, times=())


@nodes_app.command("list")
def list_nodes(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the enrolled nodes."""
    with _refusals(), _database(config, data) as database:
        found = [asdict(node) for node in nodes.list_nodes(database)]
    _print_rows(found, as_json=as_json, times=("expires", "enrolled"))


@nodes_app.command("dismiss")
def dismiss_node(
    key: Annotated[str, typer.Argument(help="The node's key id.")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Take a node's access away. Its leases run out, and their jobs are leased again."""
    with _refusals(), _database(config, data) as database:
        nodes.dismiss_node(database, key)


@jobs_app.command("list")
def list_jobs(
    *,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.", show_default=False)] = None,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="How many, latest first.")] = 50,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, latest first."""
    with _refusals(), _database(config, data) as database:
        found = jobs.list_all_jobs(database, state=state, most=most)
    rows = [
        {
            "job": view.job,
            "tenant": tenant,
            "state": view.state.value,
            "submitted": view.submitted,
            "ended": view.ended,
            "attempts": len(view.attempts),
            "code": view.code,
            "reason": view.reason,
        }
        for tenant, view in found
    ]
    _print_rows(rows, as_json=as_json, times=("submitted", "ended"))


@jobs_app.command("show")
def show_job(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one job with every attempt and its reason: the dead letter, read."""
    with _refusals(), _database(config, data) as database:
        tenant, view = jobs.find_any_job(database, job)
    if as_json:
        _print_json({"tenant": tenant} | view.model_dump(mode="json"))
        return
    facts = view.model_dump(mode="json", exclude={"attempts", "receipt"}) | {"tenant": tenant}
    _print_table(("field", "value"), ((name, json.dumps(value)) for name, value in facts.items()))
    if view.attempts:
        _print_rows([attempt.model_dump(mode="json") for attempt in view.attempts], as_json=False, times=())


@jobs_app.command("resend")
def resend_jobs(
    ids: Annotated[list[str], typer.Argument(help="Ids of dead jobs.", metavar="JOB...")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead jobs to nodes again, with fresh attempts. Each stands for itself: one that cannot be sent stops no other."""
    found = load_settings(config, data=data)
    refused = {}
    with _refusals(), _opened(found) as database:
        for job in ids:
            try:
                dead_letters.resend(database, job, operators=found.operators)
            except BlindgateError as error:
                refused[job] = str(error)
    sent = [job for job in ids if job not in refused]
    if as_json:
        _print_json({"sent": sent, "refused": refused})
    else:
        for job in sent:
            typer.echo(f"{job}: waits for a node again")
        for reason in refused.values():
            typer.echo(f"error: {reason}", err=True)
    if refused:
        raise typer.Exit(1)


@tenants_app.command("limit")
def limit_tenant(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    *,
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many jobs nodes may have of it at once. Without: as the settings say.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Say how much of the nodes a tenant may take up at once."""
    with _refusals(), _database(config, data) as database:
        queues.limit_tenant(database, name, in_flight=in_flight)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (BlindgateError, OSError) as error:
        _fail(str(error), error)
    except Exception as error:
        fault = database_fault(error)
        if fault is None:
            raise
        _fail(f"the database cannot be used: {fault}", error)


def _fail(message: str, error: Exception) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1) from error


@contextmanager
def _database(config: Path | None, data: Path | None) -> Iterator[Database]:
    with _opened(load_settings(config, data=data)) as database:
        yield database


@contextmanager
def _opened(found: Settings) -> Iterator[Database]:
    database = opening.open_database(found)
    try:
        yield database
    finally:
        database.close()


def _name(text: str) -> str:
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError as error:
        message = f"{text!r} is not a name: 1 to 64 lower-case letters, digits, dots, dashes or underscores"
        raise MalformedError(message) from error


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _print_secret(console: Console, what: str, secret: str) -> None:
    console.print(f"{what}:\n  {secret}", highlight=False, markup=False)


def _print_rows(rows: Sequence[dict[str, Any]], *, as_json: bool, times: Sequence[str]) -> None:
    if as_json:
        _print_json(rows)
    elif rows:
        _print_table(rows[0], ([_cell(row[name], is_time=name in times) for name in row] for row in rows))
    else:
        typer.echo("none")


def _print_table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    # In a pipe nothing is folded: a line is a row.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table, markup=False)


def _cell(value: Any, *, is_time: bool) -> str:
    if value is None:
        return "-"
    if is_time:
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    # A node's reason is whatever the node sent: no control characters on an operator's terminal.
    return "".join(character if character.isprintable() else "?" for character in str(value))
