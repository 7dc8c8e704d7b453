"""`blindgate audit …`: the auditor's commands, one module each."""

import typer

from blindgate_audit.commands.export import export
from blindgate_audit.commands.key import key_
from blindgate_audit.commands.monitor import monitor
from blindgate_audit.commands.replay import replay
from blindgate_audit.commands.tenant import tenant_
from blindgate_audit.commands.verify import verify

app = typer.Typer(
    name="audit",
    help="Check a gateway's log without trusting the gateway, and read what it says of keys, tenants and jobs.",
    no_args_is_help=True,
)
app.command("verify")(verify)
app.command("key")(key_)
app.command("tenant")(tenant_)
app.command("replay")(replay)
app.command("monitor")(monitor)
app.command("export")(export)
