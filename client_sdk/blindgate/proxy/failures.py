"""Errors in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`, and a status.

| what happened | status | code |
|---|---|---|
| the request is not one, or the model cannot do it | 400 | `bad-input`; `param` is the member at fault |
| the request is longer than the model reads | 400 | `context_length_exceeded` |
| no token, or a wrong one | 401 | `invalid_api_key` |
| a foreign host or origin | 403 | `foreign-host`, `foreign-origin` |
| the policy forbids it, or no node proves enough | 403 | `policy`, `untrusted-signer`, `untrusted-evidence`, … |
| the model's manifest is over, or older than was seen | 403 | `manifest-expired`, `manifest-rolled-back`, … |
| no such model | 404 | `model_not_found` |
| too much at once, or a budget is spent | 429 | `gateway`, `budget-spent` |
| the gateway cannot be reached, refuses, or the node gave no answer | 502 | `gateway-unreachable`, `job-failed`, … |
| no node is there: nothing was sealed or sent | 503 | `no-node` |
| the job was cancelled, since the proxy ends | 503 | `job-cancelled` |
| no answer in time | 504 | `job-timeout` |
| everything else, an answer that did not hold above all | 500 | the error's own, or `internal` |

Messages are shown where they speak of the request's form, of the policy or of the gateway. Everything else is named by its code
alone. What the request or the answer holds stands in none of them.

The `openai` package asks again by itself after most of these. Only what may go better the second time lets it.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from blindgate_protocol.errors import (
    BlindgateError,
    BudgetSpentError,
    ContextLengthError,
    GatewayError,
    InputError,
    InterruptedAnswerError,
    JobCancelledError,
    JobError,
    JobTimeoutError,
    ManifestError,
    NoNodeError,
    NotAuthorisedError,
    PolicyError,
)

_KINDS: Final = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
_PASSING: Final = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""What a gateway answers that may answer otherwise soon."""
_FIRST_OF_THE_SERVER: Final = 500
_NODE_SECONDS: Final = 5.0
"""When to look again for a node. Asking whether there is one takes a quarter of a minute by itself."""
_ROWS: Final[tuple[tuple[type[BlindgateError], HTTPStatus, str], ...]] = (
    (InputError, HTTPStatus.BAD_REQUEST, "{message}"),
    (NoNodeError, HTTPStatus.SERVICE_UNAVAILABLE, "{message}"),
    (PolicyError, HTTPStatus.FORBIDDEN, "{message}"),
    (ManifestError, HTTPStatus.FORBIDDEN, "{message}"),
    (JobTimeoutError, HTTPStatus.GATEWAY_TIMEOUT, "{message}"),
    (JobCancelledError, HTTPStatus.SERVICE_UNAVAILABLE, "the job was cancelled"),
    (JobError, HTTPStatus.BAD_GATEWAY, "the node gave no answer ({code})"),
    (NotAuthorisedError, HTTPStatus.BAD_GATEWAY, "the gateway refuses the API key that this proxy was started with"),
    (BudgetSpentError, HTTPStatus.TOO_MANY_REQUESTS, "{message}"),
)
"""What is told of which error, the first that fits; `failure_of` says the rest."""
_CODES: Final[dict[type[BlindgateError], str]] = {ContextLengthError: "context_length_exceeded"}
"""Codes that programs know from OpenAI and act on: they shorten the prompt."""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes:
        code: a stable name, for programs.
        param: the request's member at fault, where there is one.
        again: whether it may go better the second time.
        after: in how many seconds it may be tried again, where somebody said so.
    """

    status: HTTPStatus
    code: str
    message: str
    param: str | None = None
    again: bool = False
    after: float | None = None

    def body(self) -> dict[str, Any]:
        """OpenAI's shape of it."""
        usual = "server_error" if self.status >= _FIRST_OF_THE_SERVER else "invalid_request_error"
        kind = _KINDS.get(self.status, usual)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class RefusedError(Exception):
    """The proxy itself refuses a request."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refused(status: HTTPStatus, code: str, message: str, *, param: str | None = None) -> RefusedError:
    """An error to raise."""
    return RefusedError(Failure(status, code, message, param))


def no_model() -> RefusedError:
    """There is no model by the name that was given, which is not repeated."""
    message = "there is no such model: GET /v1/models lists those that there are"
    return refused(HTTPStatus.NOT_FOUND, "model_not_found", message, param="model")


def failure_of(error: Exception) -> Failure:
    """What a caller is told of an error. See the table above."""
    if isinstance(error, RefusedError):
        return error.failure
    if not isinstance(error, BlindgateError):
        return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the proxy failed; its log says where")
    status, message = _told(error)
    after = error.retry_after if isinstance(error, GatewayError) else None
    after = _NODE_SECONDS if isinstance(error, NoNodeError) else after
    param = error.member if isinstance(error, InputError) else None
    code = _CODES.get(type(error), error.code)
    return Failure(status, code, message, param, again=_may_go_better(error), after=after)


def _may_go_better(error: BlindgateError) -> bool:
    if isinstance(error, GatewayError) and not isinstance(error, BudgetSpentError):
        return error.status is None or error.status in _PASSING
    return isinstance(error, InterruptedAnswerError | NoNodeError)


def _told(error: BlindgateError) -> tuple[HTTPStatus, str]:
    for kind, status, said in _ROWS:
        if isinstance(error, kind):
            return status, said.format(message=str(error), code=error.code)
    if isinstance(error, GatewayError):
        busy = error.status == HTTPStatus.TOO_MANY_REQUESTS
        return (HTTPStatus.TOO_MANY_REQUESTS if busy else HTTPStatus.BAD_GATEWAY), str(error)
    message = f"there is no answer that holds ({error.code}): whatever was shown of one is not to be believed"
    return HTTPStatus.INTERNAL_SERVER_ERROR, message
