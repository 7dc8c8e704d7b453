"""What a client makes of a sealed answer: read along as it comes, believed once everything held, left where it is not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blindgate import sealed_job
from blindgate.chat import Stream
from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import Sealer
from blindgate_protocol.errors import (
    ChunkError,
    InterruptedAnswerError,
    JobDeadError,
    JobError,
    JobTimeoutError,
    MalformedError,
    ReceiptNodeError,
    ResultDigestError,
)
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import AnswerView, Attempt
from blindgate_protocol.sealing import Seal
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import BlobRef
from sealed_pair import Gateway, Pair, Sent, ended, lines, view

Views = Callable[["Scene"], Iterator[AnswerView]]


class Scene:
    """A request that was answered, and a client that has to be told so."""

    def __init__(self, home: Path) -> None:
        self.home, self.pair = home, Pair()
        self.sent: Sent = self.pair.send()
        self.answer = self.pair.answer(self.sent)
        self.sealed = self.answer.result.data
        self.receipt = self.pair.receipt(self.sent, self.answer)
        self.node = self.pair.node.id

    def told(self, views: Iterator[AnswerView], **end: Any) -> tuple[sealed_job.SealedJob, Gateway]:
        """The client's job, by way of a gateway that shows these."""
        gateway = Gateway(views, ended(self.sent, self.answer, self.receipt, **end))
        return self.pair.job(self.sent, gateway, self.home), gateway

    def view(self, begin: int, end: int, **changes: Any) -> AnswerView:
        """A part of the true answer."""
        given: dict[str, Any] = {"node": self.node, "begin": begin, "data": self.sealed[begin:end]}
        return view(self.sent, **(given | changes))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A client that does not wait long."""
    monkeypatch.setattr(sealed_job, "FIRST_PAUSE_SECONDS", 0.01)
    return Scene(tmp_path)


def taken(job: sealed_job.SealedJob, timeout: float | None = 5.0) -> tuple[bytes, BaseException | None]:
    """What was given out, and what was raised behind it."""
    given = b""
    try:
        for piece in job.pieces(timeout):
            given += piece
    except Exception as error:  # noqa: BLE001
        return given, error
    return given, None


@pytest.mark.parametrize("size", [1, 40, 97, 10_000])
def test_an_answer_is_read_in_whatever_pieces_it_comes(scene: Scene, size: int) -> None:
    """And acknowledged, once; not cancelled."""
    parts = (scene.view(begin, begin + size) for begin in range(0, len(scene.sealed), size))
    job, gateway = scene.told(parts)
    assert taken(job) == (lines(), None)
    assert gateway.posted == [f"/v1/jobs/{job.id}/acknowledge"]
    assert job.bundle.receipt == scene.receipt
    job.leave()
    assert len(gateway.posted) == 1


def test_a_lease_that_is_lost_before_the_first_byte_opened_is_read_over(scene: Scene) -> None:
    """Some sealed bytes had come; the second node's answer is read from its beginning."""

    def views() -> Iterator[AnswerView]:
        yield view(scene.sent, None, generation=0)
        yield scene.view(0, 40)
        yield scene.view(40, 40, generation=2, node=None)
        yield scene.view(0, 60, generation=2)
        yield scene.view(60, 9999, generation=2)

    assert taken(scene.told(views())[0]) == (lines(), None)


def test_a_lease_that_is_lost_midway_is_an_error_that_says_so(scene: Scene) -> None:
    """What was given out is a true beginning of an answer that nobody finished."""
    for nothing_more in (b"", scene.sealed[:50]):

        def views(more: bytes = nothing_more) -> Iterator[AnswerView]:
            yield scene.view(0, 200)
            yield scene.view(200, 200, generation=2, data=more)

        job, gateway = scene.told(views())
        given, error = taken(job)
        assert isinstance(error, InterruptedAnswerError)
        assert given
        assert lines().startswith(given)
        assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]


def test_parts_of_a_lease_that_is_over_are_waited_over(scene: Scene) -> None:
    """Nobody is named who wrote them: there will be another lease, or none. The gateway is not asked without a pause."""

    def views() -> Iterator[AnswerView]:
        while True:
            yield scene.view(0, 200, node=None)

    job, gateway = scene.told(views())
    given, error = taken(job, 0.5)
    assert (given, type(error)) == (b"", JobTimeoutError)
    assert gateway.asked < 30


def test_a_job_that_ended_without_a_result_says_why_though_parts_are_left(scene: Scene) -> None:
    """They are nobody's answer."""
    left = scene.view(0, 200, node=None, state=JobState.DEAD)
    job, gateway = scene.told(iter([left] * 3), state=JobState.DEAD, receipt=None, reason="the node was lost")
    given, error = taken(job)
    assert (given, type(error)) == (b"", JobDeadError)
    assert "the node was lost" in str(error)
    assert gateway.asked == 2


@pytest.mark.parametrize(
    "reasons",
    [
        pytest.param(("key-set-gone: a", "seal-terms: b"), id="not in the end"),
        pytest.param(("seal-terms: key-set-gone: a",), id="in a node's words"),
        pytest.param((), id="by nobody"),
    ],
)
def test_only_keys_that_are_gone_are_worth_a_second_order(scene: Scene, reasons: tuple[str, ...]) -> None:
    """Any other end is one, whatever words stand in it."""
    tried = [Attempt(generation=1, node="n", outcome="released", reason=reason) for reason in reasons]
    ends = {"state": JobState.DEAD, "receipt": None, "result_data": None, "attempts": tuple(tried)}
    job, gateway = scene.told(iter([]), **ends, code="key-set-gone", reason="key-set-gone")
    assert isinstance(taken(job)[1], JobDeadError)
    assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.DEAD], ids=["by its only node", "by one of several"])
def test_a_second_order_that_would_count_against_a_budget_is_left_to_whoever_asked(
    scene: Scene, state: JobState
) -> None:
    """Its rows count once more, and nobody gives back the first's: the error says so."""
    scene.pair.manifest = Pair(rows_per_tenant=9).manifest
    gone = (Attempt(generation=1, node="n", outcome="refused", reason="key-set-gone: a"),)
    job, gateway = scene.told(iter([]), state=state, receipt=None, result_data=None, attempts=gone)
    with pytest.raises(JobError, match="Asking again is safe, and counts against the model's budget a second time"):
        job.answer(5.0)
    assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]


def test_time_is_over_also_for_an_answer_that_goes_on(scene: Scene) -> None:
    """Byte by byte, or under one lease after the other."""

    def drops() -> Iterator[AnswerView]:
        for begin in range(len(scene.sealed)):
            yield scene.view(begin, begin + 1)

    def hops() -> Iterator[AnswerView]:
        for generation in range(1, 1 << 20):
            yield scene.view(5, 9, generation=generation)

    for views in (drops(), hops()):
        job, gateway = scene.told(views)
        assert isinstance(taken(job, 0.0)[1], JobTimeoutError)
        assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]


@pytest.mark.parametrize(
    ("views", "refusal"),
    [
        pytest.param(lambda s: [s.view(7, 100)], MalformedError, id="from another place"),
        pytest.param(lambda s: [s.view(0, 100, generation=3), s.view(100, 200)], MalformedError, id="back to a lease"),
        pytest.param(
            lambda s: [s.view(0, 100, node=SigningKey.generate().id)], ReceiptNodeError, id="of a node of nobody's"
        ),
        pytest.param(lambda s: [s.view(0, 999, data=bytes(300))], ChunkError, id="of nothing"),
    ],
)
def test_a_lie_about_parts_is_refused(scene: Scene, views: Any, refusal: type[Exception]) -> None:
    """By name, and nothing is acknowledged."""
    job, gateway = scene.told(iter(views(scene) + views(scene)[-1:]))
    given, error = taken(job)
    assert isinstance(error, refusal)
    assert lines().startswith(given)
    assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]


def test_a_result_that_goes_on_otherwise_than_what_was_read_is_refused(scene: Scene) -> None:
    """Under the node's own signature: two answers for one job."""
    terms, (wrapped,) = scene.sent.terms, Seal.from_bytes(scene.sent.seal).recipients
    response = terms.response(key_set=wrapped.key_set, evidence=wrapped.evidence)
    again = Sealer(scene.sent.key, response).finish(lines())
    signed = scene.pair.receipt(scene.sent, scene.answer, output=BlobRef(digest=digest(again), size=len(again)))
    whole, gateway = scene.told(iter([]), receipt=signed.envelope, result_data=again)
    assert taken(whole) == (lines(), None)  # good in itself
    job, gateway = scene.told(iter([scene.view(0, 200)]), receipt=signed.envelope, result_data=again)
    given, error = taken(job)
    assert given
    assert isinstance(error, ResultDigestError)
    assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]


def test_leaving_a_stream_cancels_the_job_whether_or_not_it_was_read(scene: Scene) -> None:
    """Once."""
    for read in (0, 1):
        job, gateway = scene.told(iter([scene.view(0, 200), scene.view(200, 400)]))
        stream = Stream(job, 5.0)
        pieces = stream._pieces
        for _ in range(read):
            assert next(pieces)
        stream.close()
        stream.close()
        assert gateway.posted == [f"/v1/jobs/{job.id}/cancel"]
