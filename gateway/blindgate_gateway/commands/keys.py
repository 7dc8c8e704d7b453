"""`blindgate gateway tenants …` and `… staff …`: who may call the gateway, with which keys, for how long."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blindgate_gateway import identity, queues, quotas, signers
from blindgate_gateway.commands.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    database_of,
    duration,
    name,
    refusals,
    signing_key,
)
from blindgate_gateway.commands.printing import print_json, print_rows, print_secret
from blindgate_gateway.identity import Credential, Scope, StaffRole

tenants_app = typer.Typer(help="Who may submit jobs or publish models, and their API keys.", no_args_is_help=True)
staff_app = typer.Typer(
    help="The gateway's own people: operators, who watch jobs, and auditors, who read records.", no_args_is_help=True
)

_TIMES, _DAYS = ("created", "expires", "revoked"), ("used",)
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", help="How long the key is good, such as 90d or 12h.", show_default="until it is revoked"),
]
OverlapOption = Annotated[
    str, typer.Option("--overlap", help="How long the old key works on, so that nobody is cut off: 24h, 30m, 0m.")
]
RenewedOption = Annotated[
    str | None,
    typer.Option("--expires", help="How long the new key is good.", show_default="as long as the old one was"),
]
TenantKey = Annotated[
    str, typer.Argument(help="The key's id: what stands between `bg_` and the dot.", metavar="KEY_ID")
]
StaffKey = Annotated[str, typer.Argument(help="The key's id: what stands between `bs_` and the dot.", metavar="KEY_ID")]


@tenants_app.command("add")
def add_tenant(
    tenant: Annotated[str, typer.Argument(help="Lower-case letters, digits, dots, dashes.", metavar="NAME")],
    *,
    scope: Annotated[
        list[Scope],
        typer.Option(
            help="What the key is good for: jobs (submit them and all that belongs to it), publish (models), "
            "read (look, change nothing). Repeatable."
        ),
    ] = [Scope.JOBS],  # noqa: B006  (typer reads it)
    expires: ExpiresOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant, or another API key of one, and print the key once."""
    with refusals():
        lasts = None if expires is None else duration(expires)
        with database_of(config, data) as database:
            key = identity.add_tenant(database, name(tenant), scope, lasts=lasts)
    if as_json:
        scopes = sorted(one.value for one in set(scope))
        print_json({"tenant": tenant, "id": key.id, "scopes": scopes, "expires": expires, "api_key": str(key)})
    else:
        print_secret(Console(soft_wrap=True), f"API key of {tenant!r}, shown once", str(key))


@tenants_app.command("list")
def list_tenants(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the API keys by tenant, with the day of their last use. Their secrets are not kept."""
    _list("tenant", config=config, data=data, as_json=as_json)


@tenants_app.command("rotate")
def rotate_tenant_key(
    key: TenantKey,
    *,
    overlap: OverlapOption = "24h",
    expires: RenewedOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace an API key: print a new one of the same tenant and scopes, and let the old one end after the overlap."""
    _rotate(key, staff=False, overlap=overlap, expires=expires, config=config, data=data, as_json=as_json)


@tenants_app.command("revoke")
def revoke_tenant_key(key: TenantKey, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Make an API key useless from now on."""
    with refusals(), database_of(config, data) as database:
        identity.revoke_api_key(database, key, staff=False)


@tenants_app.command("revoke-signer")
def revoke_signer(
    tenant: Annotated[str, typer.Argument(help="The tenant.", metavar="NAME")],
    key: Annotated[
        str, typer.Argument(help="The client's signing key, as `blindgate keys signer` shows it.", metavar="KEY_ID")
    ],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Believe a client's signing key no longer, for its tenant, who asked for it: no new job and no new key by its word.

    There is no way back. Jobs that wait still run; the log says from when on (signer.revoked).
    """
    with refusals(), database_of(config, data) as database:
        signers.revoke_signer(database, name(tenant), signing_key(key))


@tenants_app.command("limit")
def limit_tenant(
    tenant: Annotated[str, typer.Argument(help="The tenant.", metavar="NAME")],
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
    with refusals(), database_of(config, data) as database:
        queues.limit_tenant(database, tenant, in_flight=in_flight)


@tenants_app.command("quota")
def set_quota(
    tenant: Annotated[str, typer.Argument(help="The tenant.", metavar="NAME")],
    most: Annotated[int, typer.Argument(help="How many it may store.", metavar="BYTES", min=0, max=2**53 - 1)],
    *,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Let a tenant have so many bytes stored, and no more. What it has already stays."""
    with refusals(), database_of(config, data) as database:
        quotas.set_quota(database, name(tenant), most)


@tenants_app.command("storage")
def show_storage(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List how many bytes each tenant has stored, and its quota where it has one of its own."""
    with refusals(), database_of(config, data) as database:
        found = [asdict(storage) for storage in quotas.list_storage(database)]
    print_rows(found, as_json=as_json, times=())


@staff_app.command("add")
def add_staff(
    person: Annotated[str, typer.Argument(help="Whose key it is: lower-case letters, digits, dots.", metavar="NAME")],
    *,
    role: Annotated[
        StaffRole,
        typer.Option(
            help="operator: sees every tenant's jobs and why they ended, and the nodes. "
            "auditor: reads orders, receipts, key statements. Neither sees a body or changes anything."
        ),
    ],
    expires: ExpiresOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give somebody of the staff an API key, and print it once. It belongs to no tenant."""
    with refusals():
        lasts = None if expires is None else duration(expires)
        with database_of(config, data) as database:
            key = identity.add_staff(database, name(person), role, lasts=lasts)
    if as_json:
        print_json({"name": person, "id": key.id, "role": role.value, "expires": expires, "api_key": str(key)})
    else:
        print_secret(Console(soft_wrap=True), f"API key of {person!r}, {role.value}, shown once", str(key))


@staff_app.command("list")
def list_staff(*, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the staff's API keys, with the day of their last use."""
    _list("staff", config=config, data=data, as_json=as_json)


@staff_app.command("rotate")
def rotate_staff_key(
    key: StaffKey,
    *,
    overlap: OverlapOption = "24h",
    expires: RenewedOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace an API key: print a new one of the same person and role, and let the old one end after the overlap."""
    _rotate(key, staff=True, overlap=overlap, expires=expires, config=config, data=data, as_json=as_json)


@staff_app.command("revoke")
def revoke_staff_key(key: StaffKey, *, config: ConfigOption = None, data: DataOption = None) -> None:
    """Make an API key useless from now on."""
    with refusals(), database_of(config, data) as database:
        identity.revoke_api_key(database, key, staff=True)


def _list(whose: str, *, config: Path | None, data: Path | None, as_json: bool) -> None:
    with refusals(), database_of(config, data) as database:
        keys = [asdict(key) for key in identity.list_api_keys(database, staff=whose == "staff")]
    rows = [{whose: key.pop("owner")} | key for key in keys]
    print_rows(rows, as_json=as_json, times=_TIMES, days=_DAYS)


def _rotate(
    key: str,
    *,
    staff: bool,
    overlap: str,
    expires: str | None,
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    with refusals():
        lasts, until = None if expires is None else duration(expires), duration(overlap)
        with database_of(config, data) as database:
            new: Credential = identity.rotate_api_key(database, key, staff=staff, overlap=until, lasts=lasts)
    if as_json:
        print_json({"id": new.id, "replaces": key, "overlap": overlap, "api_key": str(new)})
    else:
        print_secret(
            Console(soft_wrap=True), f"API key in place of {key}, which ends in {overlap}; shown once", str(new)
        )
