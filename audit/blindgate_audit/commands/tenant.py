"""`blindgate audit tenant`: everything that the log tells of a tenant, in a window of time, each event proven."""

from typing import Annotated

import typer

from blindgate_audit.answers import tenant_question
from blindgate_audit.chains import Chains
from blindgate_audit.commands.reporting import Open, Place, conclude, report, reports
from blindgate_audit.moments import moment
from blindgate_protocol.errors import InputError


def _moment(text: str) -> int:
    try:
        return moment(text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


@reports
def tenant_(
    reading: Open,
    place: Place,
    tenant: Annotated[
        str, typer.Argument(metavar="TENANT", help="The tenant's name, which the gateway translates, or its pseudonym.")
    ],
    since: Annotated[
        int | None,
        typer.Option(
            parser=_moment,
            metavar="TIME",
            help="From this moment on, itself included: 2026-01-31 (its begin, UTC) or 2026-01-31T08:00+01:00.",
        ),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(
            parser=_moment,
            metavar="TIME",
            help="Up to this moment, itself not included: --until 2026-02-01 is all of January.",
        ),
    ] = None,
) -> None:
    """Show everything that the log tells of a tenant, each event proven to stand there.

    Its keys, jobs and credentials, by the tenant's pseudonym. Gaps in the statements about each key are named below.

    Exit status 1 when a body is altered or missing, or a gap shows.
    """
    if since is not None and until is not None and since >= until:
        message = "it is not before --until"
        raise typer.BadParameter(message, param_hint="--since")
    with reading() as log:
        question = tenant_question(tenant, since=since, until=until, folder=log.answers.whole)
        chains = Chains(whole=since is None)
        tally = report(log, question, place, what=f"the tenant {tenant}", chains=chains)
    conclude(place, tally, chains)
