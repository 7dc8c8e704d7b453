"""Jobs whose request is sealed to nodes: leased to those alone, with a seal that nobody reads, and answers that are read along."""

import base64
import os
import threading
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, update

from audited_desk import audit
from blindgate_gateway.sealed_answers import sweep_answer_parts
from blindgate_gateway.tables import answer_parts, events, job_documents
from blindgate_protocol.canonical import digest
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Limits, Manifest
from blindgate_protocol.messages import AnswerPart, AnswerView, JobRequest, JobView, Lease
from blindgate_protocol.signing import Signed, SigningKey
from brokerage import Worker, blob_ref, make_manifest, random_bytes
from desk import Desk

SEAL = b'{"unread": true}'
REQUEST = b"sealed request"
LISTED = b"list of weights"
MOST = 1 << 16


@pytest.fixture
def sealed(desk: Desk) -> Signed[Manifest]:
    """A model of lane `tee`, published."""
    plain = make_manifest().model_dump(
        exclude={"client", "key_parameters", "encryption", "accuracy", "columns", "output"}
    )
    given: dict[str, Any] = plain | {
        "name": "chat",
        "lane": "tee",
        "api": "chat",
        "columns": (),
        "server": blob_ref(LISTED),
        "determinism": "varies",
        "limits": Limits(rows_per_job=1, input_bytes=MOST, result_bytes=MOST, evaluation_key_bytes=0),
        "privacy": make_manifest().privacy,
        "discloses": make_manifest().discloses,
    }
    manifest = desk.brokerage.keys.publisher.sign(Manifest(**given))
    desk.publisher.publish(manifest, server=LISTED)
    return manifest


def submit(
    desk: Desk, manifest: Signed[Manifest], *nodes: str, seal: bytes | None = SEAL, **changes: Any
) -> httpx2.Response:
    """Submit a request that is sealed to these nodes."""
    order = desk.tenant.order(manifest, blob_ref(REQUEST), nodes=nodes or None, **changes)
    return desk.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=REQUEST, seal=seal))


def leased(desk: Desk, manifest: Signed[Manifest]) -> Lease:
    """A sealed job that the desk's node holds."""
    assert submit(desk, manifest, desk.worker.key.id).status_code == 201
    lease = desk.worker.lease()
    assert lease is not None
    return lease


def part(desk: Desk, lease: Lease, begin: int, data: bytes) -> httpx2.Response:
    """Send a part of an answer."""
    return desk.worker.command(lease, "POST", "answer", AnswerPart(begin=begin, data=data))


def read(desk: Desk, job: str, begin: int = 0, *, wait: int = 0, **query: int) -> AnswerView:
    """Read an answer along."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    answer = desk.tenant.ask("GET", f"/v1/jobs/{job}/answer?begin={begin}&wait={wait}{more}")
    return AnswerView.model_validate_json(answer.content)


def test_only_a_node_that_the_order_names_gets_the_job_and_its_seal(desk: Desk, sealed: Signed[Manifest]) -> None:
    """Another node of the same operator gets nothing, though it computes that family."""
    other = Worker(desk.http, desk.brokerage, name="node-2")
    assert submit(desk, sealed, other.key.id, SigningKey.generate().id).status_code == 201
    assert desk.worker.lease() is None
    lease = other.lease()
    assert lease is not None
    assert (lease.seal, lease.input_data) == (SEAL, REQUEST)


def test_a_job_that_any_node_may_have_is_not_held_up_by_one_that_is_sealed(
    desk: Desk, sealed: Signed[Manifest]
) -> None:
    """A node takes from both kinds of queues."""
    other = Worker(desk.http, desk.brokerage, name="node-2")
    assert submit(desk, sealed, other.key.id).status_code == 201
    job = desk.submit().job
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == job
    assert lease.seal is None


def test_nodes_and_seal_go_with_the_lane(desk: Desk, sealed: Signed[Manifest]) -> None:
    """An order without nodes, a job without a seal, or either where a model is encrypted: refused, and nothing is kept."""
    for manifest, nodes, seal, says in (
        (sealed, (), SEAL, "needs the order's nodes"),
        (sealed, (desk.worker.key.id,), None, "needs the seal"),
        (desk.manifest, (desk.worker.key.id,), None, "the order's nodes"),
        (desk.manifest, (), SEAL, "the seal"),
    ):
        answer = submit(desk, manifest, *nodes, seal=seal)
        assert answer.status_code == 422, answer.text
        assert says in answer.json()["detail"]
    assert desk.worker.lease() is None


def test_nodes_that_nobody_enrolled_are_refused(desk: Desk, sealed: Signed[Manifest]) -> None:
    """The job would wait for ever."""
    answer = submit(desk, sealed, SigningKey.generate().id)
    assert answer.status_code == 422
    assert "none of the nodes" in answer.json()["detail"]


def test_the_log_names_the_seal_by_its_digest(desk: Desk, sealed: Signed[Manifest]) -> None:
    """And nothing of what it holds."""
    leased(desk, sealed)
    with desk.parts.database.read() as connection:
        bodies = connection.execute(
            select(events.c.body).where(events.c.action == Action.JOB_SUBMITTED.value)
        ).scalars()
    (told,) = [Event.from_bytes(body.encode()) for body in bodies]
    assert dict(told.details)["seal"] == digest(SEAL)


@pytest.mark.parametrize("edit", [base64.urlsafe_b64encode(SEAL + b" ").decode(), "no base64", None])
def test_another_seal_in_the_database_is_named(desk: Desk, sealed: Signed[Manifest], edit: str | None) -> None:
    """By the auditor, who is shown its digest alone."""
    leased(desk, sealed)
    assert audit(desk)[0] == []
    with desk.parts.database.write() as connection:
        connection.execute(update(job_documents).values(seal=edit))
    (found,) = audit(desk)[0]
    assert "in its row of job_documents, seal is" in found
    assert found.endswith(f"has '{digest(SEAL)}'")


def test_an_answer_is_read_while_it_is_written(desk: Desk, sealed: Signed[Manifest]) -> None:
    """From any place on, as often as one likes; the same part twice changes nothing, one behind a gap is refused."""
    lease = leased(desk, sealed)
    assert read(desk, lease.job).data == b""
    assert part(desk, lease, 0, b"first ").status_code == 204
    assert part(desk, lease, 6, b"second").status_code == 204
    assert part(desk, lease, 6, b"other!").status_code == 204
    assert part(desk, lease, 13, b"gap").status_code == 409
    whole = read(desk, lease.job)
    assert (whole.data, whole.node, whole.generation, whole.begin) == (b"first second", desk.worker.key.id, 1, 0)
    assert read(desk, lease.job, 3).data == b"st second"
    assert read(desk, lease.job, 12).data == b""


def test_who_waits_for_more_is_woken(desk: Desk, sealed: Signed[Manifest]) -> None:
    """At once, and not when the time is over."""
    lease = leased(desk, sealed)
    found: list[AnswerView] = []
    waiting = threading.Thread(target=lambda: found.append(read(desk, lease.job, wait=20_000)))
    waiting.start()
    assert part(desk, lease, 0, b"more").status_code == 204
    waiting.join(15)
    assert [view.data for view in found] == [b"more"]


def test_a_long_answer_comes_in_messages_of_bounded_size(desk: Desk, sealed: Signed[Manifest]) -> None:
    """And is no longer than the model's results may be."""
    lease, data = leased(desk, sealed), os.urandom(MOST)
    for begin in range(0, MOST, 1000):
        assert part(desk, lease, begin, data[begin : begin + 1000]).status_code == 204
    assert part(desk, lease, MOST, b"!").status_code == 413
    got = b""
    while len(got) < MOST:
        got += read(desk, lease.job, len(got)).data
    assert got == data


@pytest.mark.parametrize("who", ["stranger", "over", "old"])
def test_nobody_else_reads_or_writes_it(desk: Desk, sealed: Signed[Manifest], who: str) -> None:
    """Another tenant; a node whose lease is over; a lease that was before."""
    lease = leased(desk, sealed)
    assert part(desk, lease, 0, b"mine").status_code == 204
    if who == "stranger":
        assert desk.stranger.send("GET", f"/v1/jobs/{lease.job}/answer").status_code == 404
        return
    desk.let_pass(lease.job)
    if who == "old":
        assert desk.worker.lease() is not None
    assert part(desk, lease, 4, b"more").status_code == 409
    after = read(desk, lease.job)
    assert after.data == (b"" if who == "old" else b"mine")


def test_the_next_lease_writes_an_answer_of_its_own(desk: Desk, sealed: Signed[Manifest]) -> None:
    """A reader sees by the generation that it is another; of the one before it may still ask."""
    first = leased(desk, sealed)
    assert part(desk, first, 0, b"one").status_code == 204
    desk.let_pass(first.job)
    second = desk.worker.lease()
    assert second is not None
    assert part(desk, second, 0, b"two").status_code == 204
    assert (read(desk, first.job).data, read(desk, first.job).generation) == (b"two", 2)
    before = read(desk, first.job, generation=1)
    assert (before.data, before.node) == (b"one", None)


def test_parts_are_forgotten_a_while_after_their_lease(desk: Desk, sealed: Signed[Manifest]) -> None:
    """Not while it goes on, however long ago they came; the result is where it belongs."""
    lease = leased(desk, sealed)
    assert part(desk, lease, 0, b"sealed answer").status_code == 204
    age(desk)
    sweep_answer_parts(desk.parts.database)
    assert read(desk, lease.job).data == b"sealed answer"
    desk.worker.finish(lease, b"sealed answer", along=True, evidence=digest(b"e"), **commitments())
    assert read(desk, lease.job).data == b"sealed answer"
    sweep_answer_parts(desk.parts.database)
    assert count(desk) == 0
    view = read(desk, lease.job)
    assert (view.state, view.data) == (JobState.SUCCEEDED, b"")
    assert desk.tenant.job(lease.job, inline=100).result_data == b"sealed answer"


def test_a_receipt_says_evidence_and_commitments_and_names_a_node_of_the_order(
    desk: Desk, sealed: Signed[Manifest]
) -> None:
    """Without them it is none of this lane."""
    lease = leased(desk, sealed)
    with pytest.raises(ValueError, match="evidence goes with lane tee"):
        desk.worker.receipt(lease, b"out")
    desk.worker.finish(lease, b"out", evidence=digest(b"e"), **commitments())
    view: JobView = desk.tenant.job(lease.job)
    assert view.state is JobState.SUCCEEDED


def commitments() -> dict[str, Any]:
    """What a receipt commits to."""
    return {side: f"hmac-sha256:{random_bytes(32).hex()}" for side in ("prompt", "answer")}


def age(desk: Desk) -> None:
    """Let all parts have come long ago."""
    with desk.parts.database.write() as connection:
        connection.execute(update(answer_parts).values(stored=1))


def count(desk: Desk) -> int:
    """How many parts are kept."""
    with desk.parts.database.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(answer_parts)).scalar() or 0
        return found
