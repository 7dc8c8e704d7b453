"""Whether a job ended because the keys that it was sealed to were gone, as after a node's restart, and what is said if so.

How a job ended is the gateway's word, and a node's through it: unsigned. So it decides only what a liar may have for the asking,
one more order of the same request (`sealed_job`). It has to be said in so many words, by the code of the attempt that was the last
(`key-set-gone`). Whether leases were lost before is no matter: a node that is killed loses those that it had, and those that a
gateway gives it before it notices.
"""

from blindgate.job import why_none
from blindgate_protocol.errors import InterruptedAnswerError, JobError, KeySetGoneError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobView


def are_keys_gone(view: JobView) -> bool:
    """Whether a job ended because the node that had it last has none of the keys that it was sealed to."""
    last = view.attempts[-1].reason if view.attempts else ""
    return view.state in {JobState.FAILED, JobState.DEAD} and last.partition(":")[0] == KeySetGoneError.code


def why_unanswered(view: JobView, *, given: bool, before: str | None, counted: bool) -> JobError:
    """Why a sealed job that ended has no answer.

    Args:
        view: how it ended.
        given: whether a beginning of the answer was given out.
        before: the job of which this one is the second order.
        counted: whether orders of its model count against a budget.
    """
    error = why_none(view)
    if not are_keys_gone(view):
        return error
    if given:
        message = "was lost midway, and its keys with it, as in a restart: what was given out is a beginning; asking again is safe"
        return InterruptedAnswerError(f"job {view.job}: the node that wrote this answer {message}")
    if before is not None:
        return type(error)(f"{error}. So it was with job {before}, and no request is sealed anew more than once")
    if counted:
        return type(error)(f"{error}. Asking again is safe, and counts against the model's budget a second time")
    return error
