"""Jobs, and the way of one from submit to receipt, with what shows that the log told it so."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from flask import Response, redirect, url_for
from sqlalchemy import bindparam
from werkzeug.wrappers import Response as AnyResponse

from blindgate_gateway.console.entries import Entry, entry_from, names_in
from blindgate_gateway.console.events import checker_now, download
from blindgate_gateway.console.filters import text_of
from blindgate_gateway.console.pages import auditor, console, parts, render, wants_part
from blindgate_gateway.database import Database, Row, Transaction, prepared
from blindgate_gateway.listings import Condition, behind, page
from blindgate_gateway.log.objects import job_object, key_object
from blindgate_gateway.log.reading import page_of
from blindgate_gateway.log.rooms import note_reading
from blindgate_gateway.problems import not_found
from blindgate_gateway.tables import all_jobs
from blindgate_gateway.views import VIEW, record
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.nodes import NodeCertificate, check_certificate
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import DocumentT, Signed, open_signed

PAGE: Final = 50
STEPS: Final = 200
JOB: Final = r"[0-9a-f]{32}"
_PLACE: Final = r"[0-9]{1,15}\.[0-9a-f]{32}"
_OF_JOB = prepared(VIEW.where(all_jobs.c.job == bindparam("job")))


@dataclass(frozen=True)
class Way:
    """What is on record of one job, read and held against what the log told.

    Attributes:
        record: what the gateway stored; `None` once that was deleted.
        findings: what was compared, in words, and whether it agreed.
    """

    entries: Sequence[Entry]
    record: JobRecord | None
    order: Signed[Order] | None
    receipt: Signed[Receipt] | None
    certificate: Signed[NodeCertificate] | None
    findings: Sequence[tuple[str, bool]]

    @property
    def receipt_entry(self) -> Entry | None:
        """The entry that tells of the receipt."""
        return _last(self.entries, Action.JOB_SUCCEEDED)


@console.get("/jobs")
def list_jobs() -> AnyResponse:
    """Jobs of all tenants, the latest first; or the one that was searched."""
    job = text_of("job", JOB, "a job's id: 32 digits in hexadecimal")
    if job is not None:
        return redirect(url_for("console.show_job", job=job))
    here = parts()
    tenant = text_of("tenant", r"[a-z0-9._-]{1,64}", "a tenant's name")
    state = text_of("state", "|".join(JobState), "one of the states of a job")
    after = text_of("after", _PLACE, "where a page ended")
    note_reading(here, auditor(), "jobs")
    conditions: list[Condition] = []
    if tenant is not None:
        conditions.append(lambda table: table.c.tenant == tenant)
    if after is not None:
        submitted, _, name = after.partition(".")
        conditions.append(behind("latest", (int(submitted), name)))
    query = page("latest", PAGE + 1, *conditions, state=None if state is None else JobState(state))
    with here.database.read() as connection:
        rows = connection.execute(query).all()
    return render(
        "jobs.html",
        rows=rows[:PAGE],
        given={"tenant": tenant or "", "state": state or ""},
        states=list(JobState),
        is_first=after is None,
        after=f"{rows[PAGE - 1].submitted}.{rows[PAGE - 1].job}" if len(rows) > PAGE else None,
    )


@console.get("/jobs/<job>")
def show_job(job: str) -> Response:
    """One job's way."""
    here, checker = parts(), checker_now()
    note_reading(here, auditor(), "jobs")
    way = _find(job, checker.head.size)
    proven = way.receipt_entry
    return render(
        "job.html",
        job=job,
        way=way,
        checks={entry.index: checker.check(entry) for entry in way.entries},
        proven=proven,
        names=names_in(here.database, way.entries),
        size=checker.head.size,
    )


@console.get("/jobs/<job>/check")
def check_job(job: str) -> AnyResponse:
    """Check anew that the receipt is in the log: the part of the page that says what came out."""
    if not wants_part():
        return redirect(url_for("console.show_job", job=job, _anchor="check"))
    checker = checker_now()
    entry = _find(job, checker.head.size).receipt_entry
    if entry is None:
        raise not_found("receipt in the log")
    return render("check.html", check=checker.check(entry))


@console.get("/jobs/<job>/receipt")
def download_receipt(job: str) -> Response:
    """The receipt's envelope, as a file."""
    with parts().database.read() as connection:
        row = _row(connection, job)
    if row is None or row.receipt is None:
        raise not_found("receipt")
    note_reading(parts(), auditor(), f"receipt of job {job}", exported=True)
    return download(row.receipt.encode(), "application/json", f"receipt-{job}.json")


def _find(job: str, size: int) -> Way:
    """Raises `NotFoundError`."""
    database = parts().database
    if not re.fullmatch(JOB, job):
        raise not_found("job")
    with database.read() as connection:
        row = _row(connection, job)
        stored = None if row is None else record(connection, row)
    events = page_of(database, size=size, after=-1, most=STEPS, object=job_object(job)).events
    entries = [entry_from(one) for one in events]
    if row is None and not entries:
        raise not_found("job")
    entries += _sent(database, entries, job, size)
    entries.sort(key=lambda entry: entry.index)
    return _way(entries, row, stored)


def _row(connection: Transaction, job: str) -> Row:
    return connection.execute(_OF_JOB, {"job": job}).first()


def _sent(database: Database, entries: Sequence[Entry], job: str, size: int) -> Iterable[Entry]:
    """The entries that tell when the job's key was sent to a node for it."""
    submitted = next((entry for entry in entries if _is(entry, Action.JOB_SUBMITTED)), None)
    key = "" if submitted is None else submitted.details.get("key", "")
    if submitted is None or not key:
        return []
    wanted = {"object": key_object(key), "action": Action.KEY_SENT.value}
    found = page_of(database, size=size, after=submitted.index, most=STEPS, **wanted).events
    return [entry for entry in map(entry_from, found) if entry.details.get("job") == job]


def _way(entries: Sequence[Entry], row: Row, stored: JobRecord | None) -> Way:
    findings: list[tuple[str, bool]] = []
    order = receipt = certificate = None
    if row is not None:
        order = _opened(row.order, Order, "order", findings)
        receipt = None if row.receipt is None else _opened(row.receipt, Receipt, "receipt", findings)
    submitted, succeeded = (_last(entries, action) for action in (Action.JOB_SUBMITTED, Action.JOB_SUCCEEDED))
    if order is not None and submitted is not None and submitted.event is not None:
        text = f"The order on record is the one that entry {submitted.index} names by its digest."
        findings.append((text, order.digest == submitted.event.digest))
    if receipt is not None:
        document = receipt.document
        if succeeded is not None and succeeded.event is not None:
            text = f"The receipt on record is the one that entry {succeeded.index} names by its digest."
            findings.append((text, receipt.digest == succeeded.event.digest))
        if order is not None:
            same = (document.order, document.job, document.tenant) == (order.digest, row.job, row.tenant)
            findings.append(("The receipt answers this order, of this job and tenant.", same))
        findings.append(("The node that the receipt names signed it.", receipt.signer == document.node))
        certificate = _certificate(receipt, order, findings)
    return Way(entries, stored, order, receipt, certificate, findings)


def _opened(text: str, kind: type[DocumentT], name: str, findings: list[tuple[str, bool]]) -> Signed[DocumentT] | None:
    try:
        signed = open_signed(text.encode(), kind)
    except BlindgateError as error:
        findings.append((f"The {name} on record is refused: {error}.", False))
        return None
    findings.append((f"The signature of the {name} verifies.", True))
    return signed


def _certificate(
    receipt: Signed[Receipt], order: Signed[Order] | None, findings: list[tuple[str, bool]]
) -> Signed[NodeCertificate] | None:
    try:
        certificate = open_signed(receipt.document.certificate, NodeCertificate)
        check_certificate(certificate, node=receipt.document.node, at=receipt.document.finished)
    except BlindgateError as error:
        findings.append((f"The node's certificate is refused: {error}.", False))
        return None
    findings.append(("An operator's certificate vouches for the node at that time.", True))
    if order is not None:
        allowed = certificate.signer in order.document.operators
        findings.append(("The order allowed nodes of this operator.", allowed))
    return certificate


def _is(entry: Entry, action: Action) -> bool:
    return entry.event is not None and entry.event.action is action


def _last(entries: Iterable[Entry], action: Action) -> Entry | None:
    return next((entry for entry in reversed([*entries]) if _is(entry, action)), None)
