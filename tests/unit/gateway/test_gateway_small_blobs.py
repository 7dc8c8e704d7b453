"""Small blobs travel inside the message that names them, and are kept as well as any other."""

import json

import pytest
from sqlalchemy import select

from blindgate_gateway.sweep import sweep_bytes
from blindgate_gateway.tables import blobs
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRecord, JobRequest, UploadRequest
from blindgate_protocol.values import SMALL_BYTES
from brokerage import blob_ref, random_bytes
from desk import Desk

DATA, OUTPUT = random_bytes(SMALL_BYTES), random_bytes(SMALL_BYTES)


def submit(desk: Desk, data: bytes, sent: bytes | None = None) -> str:
    """Submit an order over `data`, along with `sent`."""
    return desk.tenant.submit(desk.tenant.order(desk.manifest, blob_ref(data)), data if sent is None else sent).job


def test_a_small_job_is_four_requests_and_its_bytes_come_through(desk: Desk) -> None:
    """Input with the order, input with the lease, result with the receipt, result with the job: up to 64 KiB each."""
    job = submit(desk, DATA)
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.input_data == DATA
    assert desk.worker.finish(lease, OUTPUT, along=True).state is JobState.SUCCEEDED
    assert desk.tenant.job(job, inline=SMALL_BYTES).result_data == OUTPUT


def test_what_came_along_is_a_blob_like_any_other(desk: Desk) -> None:
    """It can be fetched, it is known to the next upload, the record shows it; nobody else has it."""
    job = submit(desk, DATA)
    asked = UploadRequest(size=len(DATA), sha256=blob_ref(DATA).digest)
    assert desk.tenant.ask("POST", "/v1/uploads", asked).json()["status"] == "exists"
    assert desk.stranger.ask("POST", "/v1/uploads", asked).json()["status"] == "parts"
    lease = desk.worker.lease()
    assert lease is not None
    assert desk.worker.command(lease, "GET", f"blobs/{blob_ref(DATA).digest}").content == DATA
    desk.worker.finish(lease, OUTPUT, along=True)
    answer = desk.tenant.ask("GET", f"/v1/jobs/{job}/result")
    assert (answer.content, answer.headers["Content-Type"]) == (OUTPUT, "application/octet-stream")
    assert desk.stranger.send("GET", f"/v1/jobs/{job}?inline={SMALL_BYTES}").status_code == 404
    record = JobRecord.model_validate_json(desk.tenant.ask("GET", f"/v1/jobs/{job}/record").content)
    assert {(blob.role, blob.digest, blob.size) for blob in record.blobs} == {
        ("input", blob_ref(DATA).digest, len(DATA)),
        ("result", blob_ref(OUTPUT).digest, len(OUTPUT)),
    }


def test_nobody_gets_bytes_that_they_did_not_ask_for(desk: Desk) -> None:
    """A view, a list and a commit's answer stay short; so does an input that was uploaded, whatever its size."""
    job = submit(desk, DATA)
    lease = desk.worker.lease()
    assert lease is not None
    assert desk.worker.finish(lease, OUTPUT, along=True).result_data is None
    assert desk.tenant.job(job).result_data is None
    assert desk.tenant.job(job, inline=SMALL_BYTES - 1).result_data is None
    assert 'result_data":"' not in desk.tenant.ask("GET", "/v1/jobs").text
    assert desk.leased().input_data is None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(DATA[:-1] + bytes([DATA[-1] ^ 1]), id="one bit"),
        pytest.param(DATA[:-1], id="cut off"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_input_that_is_not_the_orders_is_refused_and_not_kept(desk: Desk, sent: bytes) -> None:
    """The order's digest is the client's word; the bytes beside it are checked against it."""
    order = desk.tenant.order(desk.manifest, blob_ref(DATA))
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=sent))
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert desk.worker.lease() is None
    assert _blobs(desk) == 2, "the model's two parts"


def test_an_order_that_is_refused_leaves_no_input_behind(desk: Desk) -> None:
    """Input and order are one transaction."""
    order = desk.tenant.order(desk.manifest, blob_ref(DATA), rows=5000)
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=DATA))
    assert refused.status_code == 413
    assert _blobs(desk) == 2


def test_a_blob_past_64_kib_is_no_small_blob(desk: Desk) -> None:
    """It is refused by the name of its field."""
    order = desk.tenant.order(desk.manifest, blob_ref(DATA + b"!"))
    body = json.loads(JobRequest(order=order.envelope, input_data=DATA).model_dump_json())
    body["input_data"] = body["input_data"][:-4] + "AAAA" * 2
    refused = desk.tenant.send("POST", "/v1/jobs", json.dumps(body).encode())
    assert refused.status_code == 422
    assert "input_data" in refused.json()["detail"]


def test_a_result_that_is_not_the_receipts_is_refused_and_the_lease_goes_on(desk: Desk) -> None:
    """The node may still commit the right one, once; the same commit again is the same answer, another is not."""
    submit(desk, DATA)
    lease = desk.worker.lease()
    assert lease is not None
    receipt = desk.worker.receipt(lease, OUTPUT)
    refused = desk.worker.commit(lease, receipt, OUTPUT[::-1])
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert desk.worker.commit(lease, receipt).json()["code"] == "digest-mismatch", "nothing was stored"
    first, again = (desk.worker.commit(lease, receipt, OUTPUT) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    other = desk.worker.commit(lease, desk.worker.receipt(lease, DATA), DATA)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_late_commit_with_its_result_changes_nothing(desk: Desk) -> None:
    """A node whose lease is over brings its result in vain."""
    job = submit(desk, DATA)
    lease = desk.worker.lease()
    assert lease is not None
    desk.let_pass(job)
    late = desk.worker.commit(lease, desk.worker.receipt(lease, OUTPUT), OUTPUT)
    assert (late.status_code, late.json()["code"]) == (409, "lease-lost")
    assert _blobs(desk) == 3, "the model's parts and the input"


def test_small_blobs_are_swept_like_the_others(desk: Desk) -> None:
    """What no job needs any more is gone."""
    submit(desk, DATA)
    lease = desk.worker.lease()
    assert lease is not None
    desk.worker.finish(lease, OUTPUT, along=True)
    object.__setattr__(desk.parts, "settings", desk.parts.settings.model_copy(update={"retention": 0}))
    assert sweep_bytes(desk.parts) == 2
    assert _blobs(desk) == 2


def _blobs(desk: Desk) -> int:
    with desk.parts.database.read() as connection:
        return len(connection.execute(select(blobs.c.digest)).all())
