"""What the gateway's own staff sees: every tenant's jobs, in pages that leave nothing out, and no body."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from blindgate_gateway.tables import ended_jobs, job_documents
from blindgate_protocol.canonical import digest
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import Release
from blindgate_protocol.order import Order
from blindgate_protocol.oversight import (
    ELSEWHERE,
    JobRecords,
    NodeRecords,
    OverseenJob,
    OverseenJobs,
    StatementRecords,
    TableRows,
)
from blindgate_protocol.signing import open_signed
from brokerage import Caller, Worker, random_bytes
from desk import Desk


def _pages(caller: Caller, path: str, kind: Any, most: int) -> Iterator[Any]:
    """Every page but the empty one at the end."""
    after: str | None = None
    while True:
        suffix = "" if after is None else f"&after={after}"
        page = kind.model_validate_json(
            caller.ask("GET", f"{path}{'&' if '?' in path else '?'}most={most}{suffix}").content
        )
        entries = next(iter(page.model_dump().values()))
        if not entries:
            assert page.after == after
            return
        assert len(entries) <= most
        assert page.after != after
        yield page
        after = page.after


def _two_tenants(desk: Desk) -> list[str]:
    """Seven jobs of two tenants, in the order in which they were submitted; the first is dead."""
    lease = desk.leased()
    desk.worker.command(lease, "POST", "release", Release(code="worker-ended", reason="out of memory"))
    again = desk.worker.lease()
    assert again is not None
    desk.worker.command(again, "POST", "release", Release(code="worker-ended", reason="again"))
    jobs = [lease.job]
    for number in range(6):
        tenant = (desk.tenant, desk.stranger)[number % 2]
        order = tenant.order(desk.manifest, tenant.upload(random_bytes(9)))
        jobs.append(tenant.submit(order).job)
    return jobs


def test_an_operator_sees_every_tenants_jobs_latest_first(desk: Desk) -> None:
    """Page after page, each once."""
    jobs = _two_tenants(desk)
    pages = list(_pages(desk.operator, "/v1/operator/jobs", OverseenJobs, 3))
    seen = [job for page in pages for job in page.jobs]
    assert [len(page.jobs) for page in pages] == [3, 3, 1]
    assert {job.job for job in seen} == set(jobs)
    assert [job.submitted for job in seen] == sorted((job.submitted for job in seen), reverse=True)
    of_clinic = [
        job for page in _pages(desk.operator, "/v1/operator/jobs?tenant=clinic", OverseenJobs, 2) for job in page.jobs
    ]
    assert [job.tenant for job in of_clinic] == ["clinic"] * 3


def test_an_operator_reads_the_dead_letter_and_no_document(desk: Desk) -> None:
    """Every attempt with its reason; no order, no receipt, no digest of anybody's data."""
    dead = _two_tenants(desk)[0]
    answer = desk.operator.ask("GET", "/v1/operator/jobs?state=dead")
    (job,) = OverseenJobs.model_validate_json(answer.content).jobs
    assert (job.job, job.tenant) == (dead, "bank")
    assert [attempt.reason for attempt in job.attempts] == ["worker-ended: out of memory", "worker-ended: again"]
    shown = desk.operator.ask("GET", f"/v1/operator/jobs/{dead}")
    assert OverseenJob.model_validate_json(shown.content) == job
    for text in (answer.text, shown.text):
        assert "payload" not in text
        assert "sha256" not in text


def test_an_auditor_reads_every_record_in_the_order_of_submission(desk: Desk) -> None:
    """The order and the receipt as they were signed; a list that has grown goes on where it ended."""
    jobs = _two_tenants(desk)
    lease = desk.worker.lease()
    assert lease is not None
    desk.worker.finish(lease, b"result")
    pages = list(_pages(desk.auditor, "/v1/audit/jobs", JobRecords, 4))
    records = [record for page in pages for record in page.records]
    assert {record.job for record in records} == set(jobs)
    assert records[0].job == jobs[0]
    assert {open_signed(record.order, Order).document.job for record in records} == set(jobs)
    (done,) = [record for record in records if record.receipt is not None]
    assert (done.job, {blob.role for blob in done.blobs}) == (lease.job, {"input", "result"})
    assert desk.auditor.ask("GET", f"/v1/audit/jobs/{lease.job}").json() == done.model_dump(mode="json")
    later = desk.submit().job
    more = JobRecords.model_validate_json(desk.auditor.ask("GET", f"/v1/audit/jobs?after={pages[-1].after}").content)
    assert [record.job for record in more.records] == [later]


def test_an_auditor_reads_every_statement_about_every_key(desk: Desk) -> None:
    """By tenant, key and number."""
    for tenant in (desk.tenant, desk.stranger):
        key = tenant.upload(random_bytes(20))
        first = tenant.statement(key, KeyState.ACTIVE)
        tenant.state(first)
        tenant.state(tenant.statement(key, KeyState.SUSPENDED, first))
    pages = list(_pages(desk.auditor, "/v1/audit/keys", StatementRecords, 3))
    assert [len(page.statements) for page in pages] == [3, 1]
    assert [one.tenant for page in pages for one in page.statements] == ["bank", "bank", "clinic", "clinic"]


def test_nodes_are_listed_with_their_certificates(desk: Desk) -> None:
    """For both, in pages."""
    workers = [desk.worker, *(Worker(desk.http, desk.brokerage, name=f"more-{number}") for number in range(2))]
    for caller, path in ((desk.operator, "/v1/operator/nodes"), (desk.auditor, "/v1/audit/nodes")):
        pages = list(_pages(caller, path, NodeRecords, 2))
        found = [node for page in pages for node in page.nodes]
        assert [node.key for node in found] == sorted(worker.key.id for worker in workers)
        assert {node.certificate.to_bytes() for node in found} == {w.certificate.envelope.to_bytes() for w in workers}


def test_rows_are_listed_as_they_are_and_without_what_opens_a_lease(desk: Desk) -> None:
    """Every table's, in pages; of a lease's token the digest; the bytes of documents are not among them."""
    key = desk.tenant.upload(random_bytes(20))
    desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE))
    desk.worker.finish(desk.leased(), b"result")
    lease = desk.leased()
    _two_tenants(desk)
    counts = {
        "manifests": 1,
        "keys": 1,
        "key_statements": 1,
        "ended_jobs": 2,
        "jobs": 7,
        "job_documents": 9,
        "attempts": 3,
        "queues": 2,
        "queue_operators": 2,
        "tenants": 3,
        "api_keys": 6,
        "enrolment_tokens": 1,
        "rows_asked": 2,
        "stored_bytes": 3,
        "blobs": 13,
    }
    for table, count in counts.items():
        found = [row for page in _pages(desk.auditor, f"/v1/audit/rows/{table}", TableRows, 2) for row in page.rows]
        assert len(found) == count, table
        assert not {"order", "receipt", "object", "token_hash"} & found[0].keys()
        assert {row.get("data", ELSEWHERE) for row in found} <= {ELSEWHERE, *(row.get("digest") for row in found)}
        assert str(found[0].get("secret_hash", "sha256:")).startswith("sha256:")
        assert lease.token not in str(found)
        assert (digest(lease.token.encode()) in str(found)) == (table == "jobs")
    assert desk.auditor.send("GET", "/v1/audit/rows/idempotency").status_code == 404


def test_a_row_that_is_none_any_more_keeps_no_list_from_its_end(desk: Desk) -> None:
    """What was edited into something else is left out where documents are shown, and shown as it is among the rows."""
    jobs = _two_tenants(desk)
    with desk.parts.database.write() as connection:
        connection.execute(update(ended_jobs).where(ended_jobs.c.job == jobs[0]).values(state="well"))
        connection.execute(update(job_documents).where(job_documents.c.job == jobs[1]).values(order="{}"))
    shown = [one.job for page in _pages(desk.auditor, "/v1/audit/jobs", JobRecords, 3) for one in page.records]
    assert shown == jobs[2:]
    rows = TableRows.model_validate_json(desk.auditor.ask("GET", "/v1/audit/rows/ended_jobs").content).rows
    assert [(row["job"], row["state"]) for row in rows] == [(jobs[0], "well")]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "path",
    [
        "/v1/audit/rows/keys?after=x",
        "/v1/audit/rows/keys?after=[]",
        '/v1/audit/rows/keys?after=["bank"]',
        '/v1/audit/rows/keys?after=["bank",1]',
        '/v1/audit/rows/keys?after=["bank","\\u0000"]',
        '/v1/audit/rows/keys?after=["bank","\\ud800"]',
        '/v1/audit/rows/attempts?after=["a",9223372036854775808]',
        '/v1/audit/rows/attempts?after=["a",true]',
        "/v1/operator/jobs?after=x",
        "/v1/operator/jobs?after=1.%00",
        "/v1/operator/jobs?state=lost",
        "/v1/operator/jobs?tenant=A%20B",
        "/v1/operator/jobs?most=-1",
        "/v1/operator/nodes?after=ed25519:x",
    ],
)
def test_a_question_of_another_form_is_refused(desk: Desk, path: str) -> None:
    """422, and nothing of it reaches the database."""
    caller = desk.auditor if "/audit/" in path else desk.operator
    assert caller.send("GET", path).status_code == 422


def test_a_job_that_is_not_there_is_404_for_staff_too(desk: Desk) -> None:
    """In the usual form."""
    for caller, path in ((desk.operator, "operator"), (desk.auditor, "audit")):
        assert caller.send("GET", f"/v1/{path}/jobs/{'0' * 32}").json()["code"] == "not-found"
