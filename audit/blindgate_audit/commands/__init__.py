"""`blindgate audit …`: the auditor's commands, one module each."""

import typer

from blindgate_audit.commands.monitor import monitor

app = typer.Typer(
    name="audit",
    help="Check a gateway's log without trusting the gateway, and read what it says of keys, tenants and jobs.",
    no_args_is_help=True,
)


@app.callback()
def audit() -> None:
    """Check a gateway's log without trusting the gateway, and read what it says of keys, tenants and jobs."""


app.command("monitor")(monitor)
