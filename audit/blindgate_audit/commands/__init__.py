"""`blindgate audit …`: the auditor's commands, one module each."""

import typer

from blindgate_audit.commands import export, key, monitor, replay, tenant, verify

app = typer.Typer(
    name="audit",
    help="Check a gateway's log without trusting the gateway, and read what it says of keys, tenants and jobs.",
    no_args_is_help=True,
)
app.command("verify")(verify.verify)
app.command("key")(key.key_)
app.command("tenant")(tenant.tenant_)
app.command("replay")(replay.replay)
app.command("monitor")(monitor.monitor)
app.command("export")(export.export)
