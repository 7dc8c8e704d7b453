"""Whether a job ended because the keys that it was sealed to were gone, as after a node's restart, and what is said if so.

How a job ended is the gateway's word, and a node's through it: unsigned. So it decides only what a liar may have for the asking,
one more order of the same request (`sealed_job`). It has to be said in so many words, by the code of each attempt:

- the last one found that its node had none of the keys (`key-set-gone`);
- those before found the same, or a node gave the job back because it was stopped. An attempt that was lost, or failed, might be the
  request's own doing: whoever asked decides whether to ask again.
"""

from typing import Final

from blindgate.job import why_none
from blindgate_protocol.errors import InterruptedAnswerError, JobError, KeySetGoneError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import NODE_STOPPING, JobView

_BY_ITSELF: Final = {KeySetGoneError.code, NODE_STOPPING}


def was_not_opened(view: JobView) -> bool:
    """Whether a job ended because no node had the keys that it was sealed to, and for no other reason."""
    return view.state in {JobState.FAILED, JobState.DEAD} and _keys_gone(view) and set(_codes(view)) <= _BY_ITSELF


def why_unanswered(view: JobView, *, given: bool, before: str | None, counted: bool) -> JobError:
    """Why a sealed job that ended has no answer.

    Args:
        view: how it ended.
        given: whether a beginning of the answer was given out.
        before: the job of which this one is the second order.
        counted: whether orders of its model count against a budget.
    """
    error = why_none(view)
    if not _keys_gone(view):
        return error
    if given:
        message = "was lost midway, and its keys with it, as in a restart: what was given out is a beginning; asking again is safe"
        return InterruptedAnswerError(f"job {view.job}: the node that wrote this answer {message}")
    if not was_not_opened(view):
        message = "and its keys with it, as in a restart: nothing of an answer was given out; asking again is safe"
        return InterruptedAnswerError(f"job {view.job}: a node was lost, or failed, while it worked on this, {message}")
    if before is not None:
        return type(error)(f"{error}. So it was with job {before}, and no request is sealed anew more than once")
    if counted:
        return type(error)(f"{error}. Asking again is safe, and counts against the model's budget a second time")
    return error


def _keys_gone(view: JobView) -> bool:
    return _codes(view)[-1:] == [KeySetGoneError.code]


def _codes(view: JobView) -> list[str]:
    """Why each attempt ended, by its code."""
    return [attempt.reason.partition(":")[0] for attempt in view.attempts]
