"""`blindgate audit …`: the auditor's commands, one module each."""

import typer

app = typer.Typer(
    name="audit",
    help="Check a gateway's log without trusting the gateway, and read what it says of keys, tenants and jobs.",
    no_args_is_help=True,
)

from blindgate_audit.commands import key, tenant  # noqa: E402, F401  (each adds itself to `app`)
