"""The same request twice is one request, and too much at once is told to come again."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from flask import Response
from sqlalchemy import func, select, update

from blindgate_gateway.idempotency import ABANDONED, once, sweep_answers
from blindgate_gateway.tables import idempotency, jobs
from blindgate_protocol.messages import JobRequest, UploadRequest
from brokerage import blob_ref, random_bytes
from desk import Desk, open_desk

KEY = "Idempotency-Key"


def _request(desk: Desk) -> JobRequest:
    data = random_bytes(16)
    return JobRequest(order=desk.tenant.order(desk.manifest, blob_ref(data)).envelope, input_data=data)


def _post(desk: Desk, request: JobRequest | UploadRequest, key: str, path: str = "/v1/jobs") -> httpx2.Response:
    return desk.tenant.send("POST", path, request, {KEY: key})


def test_the_first_answer_is_given_again(desk: Desk) -> None:
    """Word for word with its status, though the job has gone on since."""
    request = _request(desk)
    first = _post(desk, request, "one")
    lease = desk.worker.lease()
    assert lease is not None
    again = _post(desk, request, "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert desk.tenant.send("POST", "/v1/jobs", request).json()["state"] == "leased"


def test_another_request_under_the_same_key_is_refused(desk: Desk) -> None:
    """Another body, or the same body elsewhere."""
    _post(desk, _request(desk), "one")
    for path, request in (
        ("/v1/jobs", _request(desk)),
        ("/v1/uploads", UploadRequest(size=1, sha256=blob_ref(b"x").digest)),
    ):
        refused = _post(desk, request, "one", path)
        assert (refused.status_code, refused.json()["code"]) == (422, "key-reused")


def test_keys_of_another_tenant_are_other_keys(desk: Desk) -> None:
    """Nobody learns from a refusal which keys others use."""
    _post(desk, _request(desk), "one")
    theirs = desk.stranger.send(
        "POST", "/v1/uploads", UploadRequest(size=1, sha256=blob_ref(b"y").digest), {KEY: "one"}
    )
    assert theirs.status_code == 201


def test_what_was_refused_may_be_tried_again(desk: Desk) -> None:
    """The input was missing, then it was there."""
    data = random_bytes(16)
    request = JobRequest(order=desk.tenant.order(desk.manifest, blob_ref(data)).envelope)
    assert _post(desk, request, "one").status_code == 404
    desk.tenant.upload(data)
    assert _post(desk, request, "one").status_code == 201


def test_many_at_once_make_one_job(desk: Desk) -> None:
    """Each gets the one answer, or is told that it is still being made."""
    request, start = _request(desk), threading.Barrier(8)

    def send(_: int) -> httpx2.Response:
        start.wait()
        return _post(desk, request, "one")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    made = {answer.content for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"still-running"}
    with desk.parts.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(jobs)).scalar() == 1


def test_a_request_that_died_half_way_is_taken_up_again(desk: Desk) -> None:
    """Not at once: it may still be running. By then only one of those who ask takes it up."""
    request = _request(desk)
    first = _post(desk, request, "one")
    with desk.parts.database.write() as connection:
        connection.execute(update(idempotency).values(status=None, answer=None))
    assert _post(desk, request, "one").json()["code"] == "still-running"
    with desk.parts.database.write() as connection:
        connection.execute(update(idempotency).values(began=idempotency.c.began - ABANDONED))
    again = _post(desk, request, "one")
    assert again.status_code == 200
    assert again.json()["job"] == first.json()["job"]


def test_who_was_taken_for_dead_does_not_change_the_answer(desk: Desk) -> None:
    """A process that was only slow gives the answer that was given meanwhile, and so does whoever asks again."""
    database, said = desk.parts.database, []

    def ask(words: str, slowly: Callable[[], object] = lambda: None) -> str:
        def answer() -> Response:
            slowly()
            return Response(words, 201, mimetype="application/json")

        given = once(database, caller="bank", key="one", route="/v1/jobs", body=b"order", answer=answer)
        return given.get_data(as_text=True)

    def a_minute_later() -> None:
        with database.write() as connection:
            connection.execute(update(idempotency).values(began=idempotency.c.began - ABANDONED))
        said.append(ask("by the quick one"))

    assert ask("by the slow one", a_minute_later) == "by the quick one"
    assert [*said, ask("by anybody")] == ["by the quick one"] * 2


def test_who_was_taken_for_dead_and_fails_leaves_the_request_to_its_successor(desk: Desk) -> None:
    """It is still being answered, so nobody else begins with it."""
    database = desk.parts.database

    def fail() -> Response:
        with database.write() as connection:
            connection.execute(update(idempotency).values(began=idempotency.c.began + 1))  # taken up by another
        raise TimeoutError

    with pytest.raises(TimeoutError):
        once(database, caller="bank", key="one", route="/v1/jobs", body=b"order", answer=fail)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(idempotency)).scalar() == 1


def test_answers_are_forgotten_after_a_day(desk: Desk) -> None:
    """The key can then be used for another request."""
    _post(desk, _request(desk), "one")
    sweep_answers(desk.parts.database)
    assert _post(desk, _request(desk), "one").status_code == 422
    with desk.parts.database.write() as connection:
        connection.execute(update(idempotency).values(began=1))
    sweep_answers(desk.parts.database)
    assert _post(desk, _request(desk), "one").status_code == 201


@pytest.mark.sqlite
@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_is_short_printable_ascii(desk: Desk, key: str) -> None:
    """Named when it is not."""
    refused = desk.tenant.send("POST", "/v1/jobs", _request(desk), {KEY: key})
    assert refused.status_code == 422
    assert KEY in refused.json()["detail"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("waiting", (429, "too-many-waiting")), ("queue", (503, "queue-full"))],
    ids=["tenant", "all"],
)
def test_too_many_waiting_jobs_are_told_to_come_again(
    tmp_path: Path, database_url: str | None, limit: str, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a time to wait; the order that is there already is no further one, and another tenant's share is its own."""
    monkeypatch.setattr("blindgate_gateway.backpressure.GOOD_SECONDS", 0.0)
    with open_desk(tmp_path, database=database_url, **{limit: 3}) as desk:
        requests = [_request(desk) for _ in range(4)]
        for request in requests[:3]:
            desk.tenant.ask("POST", "/v1/jobs", request)
        refused = desk.tenant.send("POST", "/v1/jobs", requests[3])
        assert (refused.status_code, refused.json()["code"]) == expected
        assert int(refused.headers["Retry-After"]) >= 1
        assert desk.tenant.send("POST", "/v1/jobs", requests[0]).status_code == 200
        order = desk.stranger.order(desk.manifest, blob_ref(b"theirs"))
        theirs = desk.stranger.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=b"theirs"))
        assert theirs.status_code == (201 if limit == "waiting" else 503)
        lease = desk.worker.lease()
        assert lease is not None
        desk.worker.finish(lease, b"done")
        assert desk.tenant.send("POST", "/v1/jobs", requests[3]).status_code == 201
