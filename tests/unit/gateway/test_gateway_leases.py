"""Who may compute a job, and what a late or lying node cannot do to it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from blindgate_gateway.database import clock
from blindgate_gateway.sweep import sweep_leases
from blindgate_gateway.tables import jobs
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import Commit, JobRequest, JobView, Lease, Refusal, Release
from blindgate_protocol.order import Order
from blindgate_protocol.signing import SigningKey, open_signed
from brokerage import Worker, blob_ref, now_ms, random_bytes
from desk import OTHER_OPERATOR, Desk


def _lose(desk: Desk, lease: Lease) -> None:
    desk.let_pass(lease.job)
    sweep_leases(desk.parts)


def test_a_job_goes_through_and_its_result_is_what_the_node_stored(desk: Desk) -> None:
    """What the tenant downloads is, byte for byte, what the node put under its lease."""
    data, output = random_bytes(1024), random_bytes(2048)
    job = desk.submit(data).job
    lease = desk.worker.lease()
    assert lease is not None
    order = open_signed(lease.order, Order).document
    assert desk.worker.command(lease, "GET", f"blobs/{order.input.digest}").content == data
    view = desk.worker.finish(lease, output)
    assert view.state is JobState.SUCCEEDED
    assert view.result == blob_ref(output)
    assert desk.tenant.ask("GET", f"/v1/jobs/{job}/result").content == output
    assert [attempt.outcome for attempt in view.attempts] == ["succeeded"]
    assert desk.tenant.send("POST", f"/v1/jobs/{job}/acknowledge").status_code == 204


COMMANDS: list[Any] = [
    pytest.param(lambda desk, lease: desk.worker.command(lease, "POST", "heartbeat"), id="heartbeat"),
    pytest.param(lambda desk, lease: desk.worker.command(lease, "PUT", "result", b"late"), id="result"),
    pytest.param(
        lambda desk, lease: desk.worker.commit(lease, desk.worker.receipt(lease, b"out")),
        id="commit",
    ),
    pytest.param(
        lambda desk, lease: desk.worker.command(lease, "POST", "refuse", Refusal(code="bad", reason="late")),
        id="refuse",
    ),
    pytest.param(
        lambda desk, lease: desk.worker.command(lease, "POST", "release", Release(code="bad", reason="late")),
        id="release",
    ),
    pytest.param(
        lambda desk, lease: desk.worker.command(
            lease, "GET", f"blobs/{open_signed(lease.order, Order).document.input.digest}"
        ),
        id="download",
    ),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_late_node_cannot_touch_its_successors_lease(desk: Desk, command: Callable[[Desk, Lease], Any]) -> None:
    """Whatever the old holder sends is 409, and the new holder finishes as if nothing had been."""
    old = desk.leased()
    desk.worker.command(old, "PUT", "result", b"out")
    _lose(desk, old)
    new = desk.worker.lease()
    assert new is not None
    assert (new.job, new.generation) == (old.job, 2)
    assert new.token != old.token
    refused = command(desk, old)
    assert (refused.status_code, refused.json()["code"]) == (409, "lease-lost")
    assert desk.worker.finish(new, b"new").state is JobState.SUCCEEDED
    assert desk.tenant.ask("GET", f"/v1/jobs/{old.job}/result").content == b"new"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lease_that_ran_out_is_over_before_anybody_swept(desk: Desk, command: Callable[[Desk, Lease], Any]) -> None:
    """The database's clock decides, not the sweep."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    desk.let_pass(lease.job)
    assert command(desk, lease).json()["code"] == "lease-lost"


@pytest.mark.parametrize("command", COMMANDS)
def test_another_node_cannot_use_a_lease(desk: Desk, command: Callable[[Desk, Lease], Any]) -> None:
    """Knowing job, generation and token is not enough: the lease belongs to the node that took it."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    desk.worker = Worker(desk.http, desk.brokerage, name="node-2")
    assert command(desk, lease).status_code == 409
    assert desk.state(lease.job) is JobState.LEASED


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lease_without_its_token_is_nothing(desk: Desk, command: Callable[[Desk, Lease], Any]) -> None:
    """Job, generation and node can be guessed; the token cannot."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    assert command(desk, lease.model_copy(update={"token": "0" * 32})).status_code == 409
    assert desk.state(lease.job) is JobState.LEASED


def test_a_lost_job_is_leased_again_and_dies_with_every_reason(desk: Desk) -> None:
    """After the last attempt the job is dead, and says how each attempt ended."""
    first = desk.leased()
    _lose(desk, first)
    assert desk.state(first.job) is JobState.QUEUED
    second = desk.worker.lease()
    assert second is not None
    desk.worker.command(second, "POST", "release", Release(code="worker-ended", reason="out of memory"))
    view = desk.tenant.job(first.job)
    assert (view.state, view.code) == (JobState.DEAD, "job-dead")
    assert [(attempt.outcome, attempt.node) for attempt in view.attempts] == [
        ("lost", "node-1"),
        ("released", "node-1"),
    ]
    assert "out of memory" in view.attempts[1].reason
    assert "attempt 2 of 2" in (view.reason or "")
    assert desk.worker.lease() is None


def test_a_lease_from_a_time_that_was_set_back_ends_when_one_from_now_does(desk: Desk) -> None:
    """The clock was an hour ahead, and its node is gone: the job is not held for an hour."""
    lease, duration = desk.leased(), desk.parts.settings.lease
    desk.let_pass(lease.job, to=clock() + 3_600_000)
    sweep_leases(desk.parts)
    with desk.parts.database.read() as connection:
        left = connection.execute(select((jobs.c.leased_until - clock()).label("left"))).scalar()
    assert 0 < left <= duration
    assert desk.worker.command(lease, "POST", "heartbeat").status_code == 200
    _lose(desk, lease)
    assert desk.worker.lease() is not None


def test_a_heartbeat_keeps_the_lease(desk: Desk) -> None:
    """A lease that goes on is not lost."""
    lease = desk.leased()
    assert desk.worker.command(lease, "POST", "heartbeat").json() == {"duration": 60_000}
    sweep_leases(desk.parts)
    assert desk.state(lease.job) is JobState.LEASED


def test_a_refused_job_failed_for_good(desk: Desk) -> None:
    """A node that says that the bytes are no ciphertexts ends the job; nobody tries again."""
    lease = desk.leased()
    answer = desk.worker.command(lease, "POST", "refuse", Refusal(code="bad-ciphertext", reason="too short"))
    view = JobView.model_validate_json(answer.content)
    assert (view.state, view.code, view.reason) == (JobState.FAILED, "bad-ciphertext", "too short")
    assert desk.worker.lease() is None
    refused = desk.tenant.send("GET", f"/v1/jobs/{lease.job}/result")
    assert (refused.status_code, refused.json()["code"]) == (409, "job-failed")


def test_the_same_commit_again_is_the_same_answer(desk: Desk) -> None:
    """A node whose answer was lost may ask again."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    receipt = desk.worker.receipt(lease, b"out")
    first, second = desk.worker.commit(lease, receipt), desk.worker.commit(lease, receipt)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()


def test_a_second_receipt_for_a_finished_job_is_refused(desk: Desk) -> None:
    """No honest node signs two: the first stays."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    first, second = desk.worker.receipt(lease, b"out"), desk.worker.receipt(lease, b"out", finished=now_ms() + 5)
    assert desk.worker.commit(lease, first).status_code == 200
    refused = desk.worker.commit(lease, second)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert desk.tenant.job(lease.job).receipt == first.envelope


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"order": "sha256:" + "0" * 64}, "receipt-order", id="another order"),
        pytest.param({"job": "0" * 32}, "receipt-order", id="another job"),
        pytest.param({"tenant": "clinic"}, "receipt-order", id="another tenant"),
        pytest.param({"circuit": "sha256:" + "0" * 64}, "receipt-model", id="another circuit"),
        pytest.param({"evaluation_key": "sha256:" + "0" * 64}, "receipt-model", id="another key"),
        pytest.param({"input": blob_ref(b"other")}, "receipt-model", id="another input"),
        pytest.param({"generation": 2}, "receipt-order", id="another generation"),
        pytest.param({"output": blob_ref(b"other")}, "digest-mismatch", id="another output"),
        pytest.param({"finished": 1, "started": 1}, "receipt-node", id="before the certificate"),
    ],
)
def test_a_receipt_that_is_not_about_this_lease_commits_nothing(desk: Desk, changes: Any, code: str) -> None:
    """The gateway refuses what the client would refuse later, and the job stays with its node."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    refused = desk.worker.commit(lease, desk.worker.receipt(lease, b"out", **changes))
    assert refused.json()["code"] == code
    assert desk.state(lease.job) is JobState.LEASED


def test_a_receipt_signed_by_somebody_else_commits_nothing(desk: Desk) -> None:
    """A node cannot commit with a receipt that another key signed."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    forged = SigningKey.generate().sign(desk.worker.receipt(lease, b"out").document)
    assert desk.worker.commit(lease, forged).json()["code"] == "receipt-node"
    assert desk.state(lease.job) is JobState.LEASED


def test_a_result_that_an_earlier_lease_stored_cannot_be_committed(desk: Desk) -> None:
    """Only bytes that came under this lease count, even if the same bytes are stored."""
    old = desk.leased()
    desk.worker.command(old, "PUT", "result", b"out")
    _lose(desk, old)
    new = desk.worker.lease()
    assert new is not None
    assert desk.worker.commit(new, desk.worker.receipt(new, b"out")).json()["code"] == "digest-mismatch"


def test_a_lease_opens_its_own_jobs_blobs_and_no_other(desk: Desk) -> None:
    """Input and server part, but not another job's input, and not the client part."""
    other = blob_ref(b"another job's input")
    desk.tenant.upload(b"another job's input")
    lease = desk.leased()
    assert desk.worker.command(lease, "GET", f"blobs/{blob_ref(b'server part').digest}").content == b"server part"
    for digest in (other.digest, blob_ref(b"client part").digest):
        assert desk.worker.command(lease, "GET", f"blobs/{digest}").status_code == 404


def test_a_cancelled_jobs_node_is_told_at_its_next_command(desk: Desk) -> None:
    """Cancelling a running job ends the lease."""
    lease = desk.leased()
    desk.worker.command(lease, "PUT", "result", b"out")
    assert JobView.model_validate_json(desk.tenant.ask("POST", f"/v1/jobs/{lease.job}/cancel").content).state is (
        JobState.CANCELLED
    )
    assert desk.worker.command(lease, "POST", "heartbeat").json()["code"] == "lease-lost"
    assert desk.worker.commit(lease, desk.worker.receipt(lease, b"out")).json()["code"] == "lease-lost"
    view = desk.tenant.job(lease.job)
    assert (view.state, view.code, view.attempts[0].outcome) == (JobState.CANCELLED, "job-cancelled", "cancelled")


def test_a_finished_job_cannot_be_cancelled(desk: Desk) -> None:
    """What succeeded stays."""
    lease = desk.leased()
    desk.worker.finish(lease, b"out")
    assert desk.tenant.send("POST", f"/v1/jobs/{lease.job}/cancel").json()["code"] == "bad-transition"


@pytest.mark.parametrize("leased", [pytest.param(False, id="queued"), pytest.param(True, id="leased")])
def test_a_job_whose_deadline_passed_expires(desk: Desk, leased: bool) -> None:
    """Nobody works on it any more, and the tenant is told why."""
    job = desk.leased().job if leased else desk.submit().job
    desk.let_pass(job, "deadline")
    assert desk.worker.lease() is None
    view = desk.tenant.job(job)
    assert (view.state, view.code) == (JobState.EXPIRED, "job-timeout")


def test_only_the_orders_operators_nodes_get_the_job(desk: Desk) -> None:
    """An order for another operator's nodes is invisible to these; one for nobody's is refused, since it would wait for ever."""
    desk.submit(operators=(OTHER_OPERATOR.id,))
    assert desk.worker.lease() is None
    ref = desk.tenant.upload(b"nobody computes this")
    order = desk.tenant.order(desk.manifest, ref, operators=(SigningKey.generate().id,))
    refused = desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope))
    assert (refused.status_code, refused.json()["code"]) == (422, "policy")
    mine = desk.submit(operators=(SigningKey.generate().id, desk.brokerage.keys.operator.id)).job
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == mine


def test_a_job_under_a_key_in_the_nodes_memory_goes_first(desk: Desk) -> None:
    """An older job under another key waits while the node has the right key at hand."""
    model = desk.brokerage.manifest(name="keyed", evaluation_key=True)
    desk.publisher.publish(model)
    jobs = {}
    for key in (b"key 1", b"key 2"):
        ref = desk.tenant.upload(key)
        assert desk.tenant.state(desk.tenant.statement(ref, KeyState.ACTIVE)).status_code == 201
        order = desk.tenant.order(model, desk.tenant.upload(random_bytes(32)), evaluation_key=ref.digest)
        jobs[key] = desk.tenant.submit(order).job
    lease = desk.worker.lease(keys=(blob_ref(b"key 2").digest,))
    assert lease is not None
    assert lease.job == jobs[b"key 2"]
    assert desk.worker.command(lease, "GET", f"blobs/{blob_ref(b'key 2').digest}").content == b"key 2"


@pytest.mark.sqlite
@pytest.mark.parametrize("header", [None, "", "1", "x." + "0" * 32, "1." + "0" * 31, "9" * 30 + "." + "0" * 32])
def test_a_lease_header_of_another_shape_is_malformed(desk: Desk, header: str | None) -> None:
    """It is refused before anything is looked up."""
    lease = desk.leased()
    headers = {} if header is None else {"Blindgate-Lease": header}
    refused = desk.worker.send("POST", f"/v1/leases/{lease.job}/heartbeat", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "malformed")


def test_a_result_past_the_models_limit_is_refused_before_it_is_read(desk: Desk) -> None:
    """The manifest bounds what a node may store."""
    lease = desk.leased()
    refused = desk.worker.command(lease, "PUT", "result", bytes((1 << 26) + 1))
    assert (refused.status_code, refused.json()["code"]) == (413, "too-large")


def test_a_commit_names_the_field_that_is_wrong(desk: Desk) -> None:
    """A body that is no commit is 422, with the field and without the value."""
    lease = desk.leased()
    body = Commit(receipt=desk.worker.receipt(lease, b"out").envelope).model_dump_json().replace("payload", "load")
    refused = desk.worker.command(lease, "POST", "commit", body.encode())
    assert refused.status_code == 422
    assert "receipt.payload" in refused.json()["detail"]
