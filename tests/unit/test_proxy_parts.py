"""The parts of `blindgate proxy` that are functions of values: what is streamed when, who is told what, whose job is cancelled."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from blindgate.proxy.events import DONE, events
from blindgate.proxy.failures import Failure, failure_of
from blindgate.proxy.hangups import Hangups
from blindgate.shapes import ChatCompletionChunk
from blindgate_protocol import errors

SECRET = "planted: Aurelia Quince"


def chunk(text: str | None, reason: str | None = None) -> ChatCompletionChunk:
    """A chunk as a node writes it."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]
    return ChatCompletionChunk.read({"id": "c", "created": 1, "model": "m", "choices": choices})


def failing(error: Exception) -> Failure:
    """What `app` does, without a log."""
    return failure_of(error)


def test_the_end_of_an_answer_waits_until_everything_held() -> None:
    """Its last chunk and what follows come after the checks, which are what the reading ends with."""
    order: list[str] = []

    def answer() -> Iterator[ChatCompletionChunk]:
        yield chunk(" b")
        yield chunk("", "stop")
        yield chunk(None)
        order.append("held")

    sent = []
    for event in events(chunk("a"), answer(), failing):
        order.append("sent")
        sent.append(event)
    assert order == ["sent", "sent", "held", "sent", "sent", "sent"]
    assert sent[-1] == DONE
    assert [json.loads(event[6:])["choices"] for event in sent[:2]][1][0]["delta"] == {"content": " b"}


def test_an_answer_that_did_not_hold_has_no_end() -> None:
    """Also where the node had written all of it."""

    def answer() -> Iterator[ChatCompletionChunk]:
        yield chunk("", "stop")
        raise errors.ReceiptNodeError(SECRET)

    beginning, last = events(chunk("a"), answer(), failing)
    assert b'"a"' in beginning
    assert json.loads(last[6:])["error"]["code"] == "receipt-node"
    assert SECRET.encode() not in last


@pytest.mark.parametrize(
    ("error", "status", "told", "again"),
    [
        pytest.param(errors.InputError("tools"), 400, True, False, id="input"),
        pytest.param(errors.PolicyError("rules.lanes"), 403, True, False, id="policy"),
        pytest.param(errors.UntrustedEvidenceError("debug"), 403, True, False, id="evidence"),
        pytest.param(errors.NoNodeError("none answered"), 503, True, True, id="no node"),
        pytest.param(errors.ContextLengthError("too long"), 400, True, False, id="too long"),
        pytest.param(errors.ExpiredManifestError("over"), 403, True, False, id="manifest"),
        pytest.param(errors.JobTimeoutError("late"), 504, True, False, id="timeout"),
        pytest.param(errors.JobCancelledError(SECRET), 503, False, False, id="cancelled"),
        pytest.param(errors.JobFailedError(SECRET), 502, False, False, id="refused by the node"),
        pytest.param(errors.InterruptedAnswerError(SECRET), 502, False, True, id="node lost"),
        pytest.param(errors.GatewayUnreachableError("no answer"), 502, True, True, id="no gateway"),
        pytest.param(errors.GatewayError("a fault", status=500), 502, True, False, id="a gateway's fault"),
        pytest.param(errors.NotAuthorisedError(SECRET, status=401), 502, False, False, id="wrong API key"),
        pytest.param(errors.GatewayError("busy", status=429, retry_after=3.0), 429, True, True, id="busy"),
        pytest.param(errors.BudgetSpentError("spent", status=403), 429, True, False, id="budget"),
        pytest.param(errors.SealError(SECRET), 500, False, False, id="seal"),
        pytest.param(errors.NotLoggedError(SECRET), 500, False, False, id="log"),
        pytest.param(errors.MalformedError(SECRET), 500, False, False, id="malformed"),
        pytest.param(RuntimeError(SECRET), 500, False, False, id="a bug"),
    ],
)
def test_each_error_has_its_status_and_says_no_more_than_it_may(
    error: Exception, status: int, told: bool, again: bool
) -> None:
    """Texts that could hold a part of a request or an answer are left out."""
    failure = failure_of(error)
    assert (failure.status, failure.again) == (HTTPStatus(status), again)
    assert (str(error) in failure.message) is told
    assert SECRET not in json.dumps(failure.body())


def test_the_member_at_fault_and_the_time_to_wait_are_told() -> None:
    """As `param`, and as seconds; a prompt that is too long has the code that programs know."""
    assert failure_of(errors.InputError("tools: no", member="tools")).param == "tools"
    long = failure_of(errors.ContextLengthError("messages: too long", member="messages"))
    assert (long.code, long.param) == ("context_length_exceeded", "messages")
    assert failure_of(errors.NoNodeError("none answered")).after == 5


class Job:
    """Whether it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """As the gateway is asked."""
        self.cancelled.set()


def test_the_job_of_a_caller_that_left_is_cancelled_and_no_other() -> None:
    """Nor one whose answer was given before its caller left."""
    hangups = Hangups()
    left, leaving = socket.socketpair()
    stays, other = socket.socketpair()
    gone, kept, done = Job(), Job(), Job()
    with left, stays, other:
        with hangups.watching(left, done):
            pass
        with hangups.watching(left, gone), hangups.watching(stays, kept), hangups.watching(None, kept):
            leaving.close()
            assert gone.cancelled.wait(30)
            assert not kept.cancelled.is_set()
            hangups.end_all()
            assert kept.cancelled.wait(30)
        assert not done.cancelled.is_set()
        late = Job()
        with hangups.watching(stays, late):
            assert late.cancelled.wait(30)


def test_the_sdk_loads_no_server() -> None:
    """Flask and gunicorn are the proxy's alone."""
    code = "import sys, blindgate, blindgate.client; print([m for m in ('flask', 'gunicorn') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
