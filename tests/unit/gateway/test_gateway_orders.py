"""Which orders become jobs."""

import re
from typing import Any

import pytest
from sqlalchemy import insert

from blindgate_gateway.tables import manifests
from blindgate_protocol.canonical import digest
from blindgate_protocol.keys import KeyState
from blindgate_protocol.manifest import Limits, ModelRef
from blindgate_protocol.messages import JobList, JobRecord, JobRequest
from blindgate_protocol.signing import SigningKey
from brokerage import PARAMETERS, Tenant, blob_ref, now_ms, random_bytes
from desk import Desk

HOUR = 3_600_000
NOWHERE = "sha256:" + "0" * 64


def test_the_same_order_twice_is_one_job(desk: Desk) -> None:
    """A client whose answer was lost may submit again."""
    order = desk.tenant.order(desk.manifest, desk.tenant.upload(b"input"))
    body = JobRequest(order=order.envelope)
    first, second = desk.tenant.send("POST", "/v1/jobs", body), desk.tenant.send("POST", "/v1/jobs", body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(JobList.model_validate_json(desk.tenant.ask("GET", "/v1/jobs").content).jobs) == 1


def test_a_job_id_names_one_order(desk: Desk) -> None:
    """Another order under a used id is refused, whoever sends it."""
    ref = desk.tenant.upload(b"input")
    order = desk.tenant.order(desk.manifest, ref)
    desk.tenant.submit(order)
    other = desk.tenant.order(desk.manifest, ref, job=order.document.job, rows=2)
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=other.envelope))
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    theirs = desk.stranger.order(desk.manifest, desk.stranger.upload(b"input"), job=order.document.job)
    assert desk.stranger.send("POST", "/v1/jobs", JobRequest(order=theirs.envelope)).status_code == 409


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        pytest.param({"tenant": "clinic"}, 409, "conflict", id="another tenant's"),
        pytest.param({"client": SigningKey.generate().id}, 422, "bad-signature", id="signed by another key"),
        pytest.param({"deadline": 1}, 422, "job-timeout", id="past its deadline"),
        pytest.param({"issued": now_ms() + 24 * HOUR}, 422, "clock-skew", id="dated ahead of its time"),
        pytest.param({"rows": 5000}, 413, "too-large", id="too many rows"),
        pytest.param({"input": blob_ref(b"never sent")}, 404, "not-found", id="no such input"),
        pytest.param(
            {"input": blob_ref(b"input").model_copy(update={"size": 6})}, 422, "digest-mismatch", id="size is wrong"
        ),
        pytest.param(
            {"input": blob_ref(b"").model_copy(update={"size": 1 << 27})}, 413, "too-large", id="input past the limit"
        ),
        pytest.param(
            {"model": ModelRef(name="echo", version=1, manifest=NOWHERE)}, 404, "not-found", id="no such model"
        ),
        pytest.param({"evaluation_key": NOWHERE}, 422, "policy", id="a key for a model without"),
    ],
)
def test_an_order_that_does_not_hold_makes_no_job(desk: Desk, changes: Any, status: int, code: str) -> None:
    """Each gets its own refusal, and nothing is queued."""
    order = desk.tenant.order(desk.manifest, desk.tenant.upload(b"input"), **changes)
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope))
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert desk.worker.lease() is None


def test_a_client_whose_clock_is_off_learns_by_how_much(desk: Desk) -> None:
    """Ahead, no receipt for its order could be taken; behind, its order's time is over before it begins."""
    ref = desk.tenant.upload(b"input")
    for hours, said in ((1, "dated 3,[56]00 s ahead of the gateway's clock"), (-2, r"dated 7,20\d s ago")):
        now = now_ms() + hours * HOUR
        order = desk.tenant.order(desk.manifest, ref, issued=now, deadline=now + HOUR)
        refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope))
        assert refused.status_code == 422
        assert re.search(said, refused.json()["detail"])


def test_an_order_that_misnames_its_model_is_refused(desk: Desk) -> None:
    """The reference must be the manifest's own name and version."""
    ref = ModelRef(name="echo", version=2, manifest=desk.manifest.digest)
    order = desk.tenant.order(desk.manifest, desk.tenant.upload(b"input"), model=ref)
    assert desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope)).json()["code"] == "policy"


def test_an_expired_models_order_is_refused(desk: Desk) -> None:
    """A manifest that was good when it was offered stops being good by itself."""
    document = desk.manifest.document.model_copy(update={"name": "old", "issued": 1, "expires": 2})
    expired = desk.brokerage.keys.publisher.sign(document)
    row = {
        "digest": expired.digest,
        "name": "old",
        "version": 1,
        "tenant": "models",
        "client_digest": document.encrypted().client.digest,
        "server_digest": document.server.digest,
        "envelope": expired.envelope.model_dump_json(),
        "published": 1,
    }
    with desk.parts.database.write() as connection:
        connection.execute(insert(manifests).values(row))
    order = desk.tenant.order(expired, desk.tenant.upload(b"input"))
    assert desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope)).json()["code"] == "manifest-expired"


def test_an_order_under_a_key_needs_that_key_active_and_fitting(desk: Desk) -> None:
    """Unknown, not active, of other parameters, too large: each is refused by name."""
    keyed = desk.brokerage.manifest(name="keyed", evaluation_key=True)
    other = desk.brokerage.manifest(name="other", evaluation_key=True, key_parameters=digest(b"other parameters"))
    small = desk.brokerage.manifest(
        name="small",
        evaluation_key=True,
        limits=Limits(rows_per_job=1, input_bytes=100, result_bytes=100, evaluation_key_bytes=2),
    )
    for manifest in (keyed, other, small):
        desk.publisher.publish(manifest)
    ref, key = desk.tenant.upload(b"input"), desk.tenant.upload(b"key")

    def code(manifest: Any, given: str | None) -> str:
        order = desk.tenant.order(manifest, ref, evaluation_key=given)
        return str(desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope)).json().get("code"))

    assert code(keyed, None) == "policy"
    assert code(keyed, key.digest) == "not-found"
    registered = desk.tenant.statement(key, KeyState.REGISTERED)
    desk.tenant.state(registered)
    assert code(keyed, key.digest) == "conflict"
    desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, registered))
    assert code(other, key.digest) == "policy"
    assert code(small, key.digest) == "too-large"
    assert code(keyed, key.digest) == "None"
    assert keyed.document.key_parameters == PARAMETERS


def test_the_record_names_everything_that_is_stored_and_no_byte_of_it(desk: Desk) -> None:
    """Roles, digests and sizes; the order and the receipt as they were signed."""
    data = random_bytes(100)
    job = desk.submit(data).job
    lease = desk.worker.lease()
    assert lease is not None
    desk.worker.finish(lease, b"out")
    record = JobRecord.model_validate_json(desk.tenant.ask("GET", f"/v1/jobs/{job}/record").content)
    assert {(blob.role, blob.digest, blob.size) for blob in record.blobs} == {
        ("input", blob_ref(data).digest, 100),
        ("result", blob_ref(b"out").digest, 3),
    }
    assert record.order == lease.order
    assert record.receipt is not None


def test_a_job_without_a_result_says_so(desk: Desk) -> None:
    """Downloading too early is a conflict with a name of its own."""
    refused = desk.tenant.send("GET", f"/v1/jobs/{desk.submit().job}/result")
    assert (refused.status_code, refused.json()["code"]) == (409, "not-ready")


def test_cancelling_twice_is_cancelling_once(desk: Desk) -> None:
    """The second time answers like the first."""
    job = desk.submit().job
    first = desk.tenant.ask("POST", f"/v1/jobs/{job}/cancel").json()
    assert desk.tenant.ask("POST", f"/v1/jobs/{job}/cancel").json() == first
    assert desk.worker.lease() is None


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "99999999999"])
def test_a_wait_that_is_no_number_is_refused(desk: Desk, wait: str) -> None:
    """A query is checked like a body."""
    job = desk.submit().job
    assert desk.tenant.send("GET", f"/v1/jobs/{job}?wait={wait}").json()["code"] == "malformed"


def test_only_an_ended_jobs_result_can_be_acknowledged(desk: Desk) -> None:
    """There is nothing to acknowledge before."""
    assert desk.tenant.send("POST", f"/v1/jobs/{desk.submit().job}/acknowledge").json()["code"] == "bad-transition"


def test_jobs_are_listed_latest_first(desk: Desk) -> None:
    """And no more than were asked for."""
    made = [desk.submit().job for _ in range(3)]
    listed = JobList.model_validate_json(desk.tenant.ask("GET", "/v1/jobs?most=2").content).jobs
    assert len(listed) == 2
    assert {view.job for view in listed} <= set(made)
    assert listed[0].submitted >= listed[1].submitted
    assert isinstance(desk.stranger, Tenant)
    assert JobList.model_validate_json(desk.stranger.ask("GET", "/v1/jobs").content).jobs == ()
