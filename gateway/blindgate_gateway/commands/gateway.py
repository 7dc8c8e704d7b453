"""`blindgate gateway …`: run a gateway, and tell it whom it serves.

Every command but `serve` works beside a gateway that is running, on the same data folder or database server. What is secret (API
keys, enrolment tokens) is printed once, when it is made, and kept nowhere in clear. With `--json` a command prints one JSON value
and nothing else. Errors go to standard error, and the exit code is 1.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from blindgate_gateway import dead_letters, identity, nodes, opening, oversight
from blindgate_gateway.commands.check import check
from blindgate_gateway.commands.keys import staff_app, tenants_app
from blindgate_gateway.commands.log import log_app
from blindgate_gateway.commands.options import (
    HOUR,
    ConfigOption,
    DataOption,
    JsonOption,
    database_of,
    name,
    opened,
    refusals,
)
from blindgate_gateway.commands.printing import print_json, print_rows, print_secret, print_table
from blindgate_gateway.identity import Scope
from blindgate_gateway.settings import DAY, load_settings
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.jobs import JobState

app = typer.Typer(name="gateway", help="Run the gateway: a broker that sees no data.", no_args_is_help=True)
nodes_app = typer.Typer(help="The nodes that were taken in.", no_args_is_help=True)
jobs_app = typer.Typer(help="Every tenant's jobs, and why one ended.", no_args_is_help=True)
app.add_typer(tenants_app, name="tenants")
app.add_typer(staff_app, name="staff")
app.add_typer(nodes_app, name="nodes")
app.add_typer(jobs_app, name="jobs")
app.add_typer(log_app, name="log")
app.command()(check)


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

    with refusals():
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
    with refusals():
        settings = load_settings(config, data=data)
        opening.migrate(settings)
        with opened(settings) as database:
            made = {
                "data": str(settings.data),
                "tenant_key": str(identity.add_tenant(database, name(tenant), [Scope.JOBS])),
                "publisher_key": str(identity.add_tenant(database, name(publisher), [Scope.PUBLISH])),
                "enrolment_token": str(identity.add_enrolment_token(database, lasts=DAY)),
            }
    if as_json:
        print_json(made)
        return
    console = Console(soft_wrap=True)
    console.print(f"A gateway in {made['data']}. These are shown once:\n", highlight=False)
    print_secret(console, f"API key of tenant {tenant!r}", made["tenant_key"])
    print_secret(console, f"API key of publisher {publisher!r}", made["publisher_key"])
    print_secret(console, "Enrolment token for one node, for a day", made["enrolment_token"])
    console.print(
        f"\nNow: blindgate gateway serve --data {made['data']} --publisher KEY_ID --operator KEY_ID", highlight=False
    )


@app.command()
def migrate(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this version's tables. `serve` does it, too."""
    with refusals():
        before, after = opening.migrate(load_settings(config, data=data))
    if as_json:
        print_json({"before": before, "after": after})
    else:
        Console().print(f"{before or 'nothing'} → {after}" if before != after else f"{after}: nothing to do")


@app.command()
def settings(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every setting as the gateway would use it, secrets hidden."""
    with refusals():
        shown = load_settings(config, data=data).shown()
    if as_json:
        print_json(shown)
    else:
        print_table(("setting", "value"), ((setting, json.dumps(value)) for setting, value in shown.items()))


@app.command()
def enrol(
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    hours: Annotated[int, typer.Option(min=1, max=24 * 30, help="How long the token is good.")] = 24,
    as_json: JsonOption = False,
) -> None:
    """Make a token with which one node can enrol, once. Give it to the node's operator."""
    with refusals(), database_of(config, data) as database:
        token = str(identity.add_enrolment_token(database, lasts=hours * HOUR))
    if as_json:
        print_json({"enrolment_token": token, "hours": hours})
    else:
        print_secret(Console(soft_wrap=True), f"Enrolment token for one node, for {hours} hours, shown once", token)


@nodes_app.command("list")
def list_nodes(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the enrolled nodes."""
    with refusals(), database_of(config, data) as database:
        found = [asdict(node) for node in nodes.list_nodes(database)]
    print_rows(found, as_json=as_json, times=("expires", "enrolled"))


@nodes_app.command("dismiss")
def dismiss_node(
    key: Annotated[str, typer.Argument(help="The node's key id.")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Take a node's access away. Its leases run out, and their jobs are leased again."""
    with refusals(), database_of(config, data) as database:
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
    with refusals(), database_of(config, data) as database:
        found = oversight.overseen_jobs(database, state=state, most=most)
    rows = [
        {
            "job": view.job,
            "tenant": view.tenant,
            "state": view.state.value,
            "submitted": view.submitted,
            "ended": view.ended,
            "attempts": len(view.attempts),
            "code": view.code,
            "reason": view.reason,
        }
        for view in found
    ]
    print_rows(rows, as_json=as_json, times=("submitted", "ended"))


@jobs_app.command("show")
def show_job(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one job with every attempt and its reason: the dead letter, read."""
    with refusals(), database_of(config, data) as database:
        view = oversight.overseen_job(database, job)
    if as_json:
        print_json(view.model_dump(mode="json"))
        return
    facts = view.model_dump(mode="json", exclude={"attempts"})
    print_table(("field", "value"), ((field, json.dumps(value)) for field, value in facts.items()))
    if view.attempts:
        print_rows([attempt.model_dump(mode="json") for attempt in view.attempts], as_json=False, times=())


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
    with refusals(), opened(found) as database:
        for job in ids:
            try:
                dead_letters.resend(database, job, operators=found.operators)
            except BlindgateError as error:
                refused[job] = str(error)
    sent = [job for job in ids if job not in refused]
    if as_json:
        print_json({"sent": sent, "refused": refused})
    else:
        for job in sent:
            typer.echo(f"{job}: waits for a node again")
        for reason in refused.values():
            typer.echo(f"error: {reason}", err=True)
    if refused:
        raise typer.Exit(1)
