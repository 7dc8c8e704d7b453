"""`blindgate jobs list|show|receipt|cancel`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blindgate.bundles import Bundles
from blindgate.commands.options import Connect, Home, Json, PolicyPath, asks_gateway
from blindgate.output import show, show_one, when
from blindgate.places import home_folder, policy_file
from blindgate.policy import Policy
from blindgate_protocol.bundle import Bundle, read_bundle
from blindgate_protocol.errors import ReceiptError
from blindgate_protocol.inclusion import Standing, check_logged
from blindgate_protocol.messages import JobList, JobRecord
from blindgate_protocol.receipts import check_receipt
from blindgate_protocol.revocations import signatures

app = typer.Typer(help="Your jobs: how they stand, their receipts, cancelling.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


@app.command("list")
@asks_gateway
def list_(connect: Connect, as_json: Json = False) -> None:
    """List this tenant's jobs at the gateway, latest first."""
    with connect() as client:
        views = client.transport.get("/v1/jobs", JobList).jobs
    rows = [
        {
            "job": view.job,
            "state": view.state.value,
            "submitted": view.submitted if as_json else when(view.submitted),
            "attempts": len(view.attempts),
            "reason": view.reason,
        }
        for view in views
    ]
    show(rows, as_json=as_json, empty="No jobs yet.")


@app.command("show")
@asks_gateway
def show_(connect: Connect, job: JobArgument, as_json: Json = False) -> None:
    """Show everything that the gateway stored about a job: names, sizes, digests, and no value."""
    with connect() as client:
        record = client.transport.get(f"/v1/jobs/{job}/record", JobRecord)
    if as_json:
        typer.echo(record.model_dump_json(indent=2))
        return
    show_one({"job": record.job, "tenant": record.tenant, "state": record.state.value}, as_json=False)
    show([blob.model_dump() | {"stored": when(blob.stored)} for blob in record.blobs], as_json=False, empty="No blobs.")


@app.command()
def receipt(
    job: Annotated[str, typer.Argument(help="The job's id, or a bundle's file.")],
    policy: PolicyPath = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Verify a job's receipt again, offline, from the bundle that this client kept; exit status 1 when it does not hold.

    Where the policy names a log, it must stand in that, too; what was fetched before the policy did has no proof of it.

    What was signed before its signer was revoked holds: by the log's time, or, without a log, by the receipt's own.
    """
    path = Path(job)
    bundle = read_bundle(path.read_bytes()) if path.is_file() else Bundles(home_folder(home) / "bundles").load(job)
    if bundle.receipt is None:
        message = f"job {job} has no receipt yet"
        raise ReceiptError(message)
    roots = Policy.load(policy_file(policy, home))
    roots.require_publisher(bundle.manifest)
    certificate = check_receipt(bundle.receipt, bundle.order, bundle.manifest, operators=roots.named_operators())
    standing = check_logged(bundle, roots.log_trusts()) if roots.logs else None
    logged = None if standing is None else standing.event.time
    roots.require_unrevoked(bundle, logged=logged)
    document = bundle.receipt.document
    shown: dict[str, Any] = {
        "job": document.job,
        "verified": "order, model, circuit, key, input, node and operator agree with what this client signed",
        "model": f"{document.model.name} version {document.model.version}",
        "publisher": bundle.manifest.signer,
        "node": f"{certificate.document.name} ({document.node})",
        "operator": certificate.signer,
        "evaluation_key": document.evaluation_key or "none needed",
        "input": f"{document.input.digest} ({document.input.size} bytes)",
        "output": f"{document.output.digest} ({document.output.size} bytes)",
        "software": ", ".join(f"{name} {version}" for name, version in document.software.items()),
        "started": when(document.started),
        "finished": when(document.finished),
        "logged": _place(standing) if as_json else _place_in_words(standing, bundle),
        "not_proven": "that the node computed what it says: a receipt is the node's word"
        + ("" if document.evidence is None else ", worth what its evidence proves"),
    }
    if standing is not None and not standing.cosigned:
        shown["not_proven"] += "; that the log shows others the same tree: no witness cosigned it"
    if any(one.own_word and one.key in roots.revoked for one in signatures(bundle, logged=logged)):
        shown["not_proven"] += (
            "; that this came before the revocation of its node or operator: no log that the policy names shows the time, "
            "which is the node's word"
        )
    show_one(shown, as_json=as_json)


@app.command()
@asks_gateway
def cancel(connect: Connect, job: JobArgument) -> None:
    """Stop a job. What has ended stays as it ended."""
    with connect() as client:
        typer.echo(client.job(job).cancel().value)


def _place(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    return {
        "log": standing.log,
        "origin": standing.key.name,
        "index": standing.index,
        "size": standing.checkpoint.size,
        "time": standing.event.time,
        "cosigned": {name: seconds * 1000 for name, seconds in standing.cosigned.items()},
    }


def _place_in_words(standing: Standing | None, bundle: Bundle) -> str:
    if standing is None:
        kept = "" if bundle.logged is None else "; the bundle has a proof, which was not checked"
        return f"not asked: the policy names no log{kept}"
    witnesses = ", ".join(f"{name} at {when(seconds * 1000)}" for name, seconds in standing.cosigned.items())
    return (
        f"{when(standing.event.time)}, at index {standing.index} of {standing.log} ({standing.key.name}), in the tree of "
        f"{standing.checkpoint.size} entries, cosigned by {witnesses or 'no witness'}"
    )
