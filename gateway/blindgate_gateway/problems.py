"""How a refusal leaves the gateway: RFC 9457, made from the error tree, in one place.

Rooms raise the errors of `blindgate_protocol.errors`; `STATUS` says which HTTP status each becomes, the nearest class in the
tree winning. For what has no class of its own (a conflict, a body too large) rooms raise `GatewayError` with the status and
the `code`, which is what the client's side raises again when it reads the problem. `REFUSALS` lists those codes.

Another tenant's object is not found, exactly as one that never was. Whatever was not raised on purpose is a 500 that says
nothing but the request's id, under which the log has the rest.
"""

import errno
import math
from http import HTTPStatus

from flask import Response
from werkzeug.exceptions import HTTPException

from blindgate_gateway import database
from blindgate_protocol import errors
from blindgate_protocol.errors import BlindgateError, GatewayError, NotAuthorisedError, NotFoundError
from blindgate_protocol.messages import Problem

STATUS: dict[type[BlindgateError], int] = {
    errors.InputError: 422,
    errors.PolicyError: 422,
    errors.UntrustedSignerError: 403,
    errors.MalformedError: 422,
    errors.SignatureError: 422,
    errors.ManifestError: 409,
    errors.ReceiptError: 422,
    errors.TransitionError: 409,
    errors.LeaseLostError: 409,
    errors.LogError: 409,
    errors.SealError: 422,
    errors.JobError: 409,
    errors.JobTimeoutError: 422,
    NotFoundError: 404,
    NotAuthorisedError: 401,
    errors.ClockSkewError: 401,
    errors.BudgetSpentError: 403,
}
"""The status of each error, inherited down the tree."""

REFUSALS: dict[str, tuple[int, str]] = {
    "conflict": (409, "The same name was used before for something else."),
    "corpus-changed": (
        409,
        "The corpus has another head by now than the one to be replaced; fetch that, and try again.",
    ),
    "still-running": (409, "The same request is still being answered; ask again in a moment."),
    "key-reused": (422, "The Idempotency-Key was used before, for another request."),
    "too-many-waiting": (429, "The tenant has as many waiting jobs as it may have; ask again when some are done."),
    "too-many-questions": (429, "The tenant has asked as many questions for evidence as it may in a minute."),
    "queue-full": (503, "The gateway has as many waiting jobs as it takes; ask again later."),
    "not-ready": (409, "The job has no result yet."),
    "digest-mismatch": (422, "The bytes are not those that were announced."),
    "too-large": (413, "More bytes than this gateway or this model allows."),
    "length-required": (411, "A body needs a Content-Length."),
    "key-expired": (401, "The API key was good once, and its time is over."),
    "issuer-unreachable": (503, "The keys of the people's identity provider cannot be fetched now; try again."),
    "rate-limited": (
        429,
        "More requests, or more wrong credentials, than one caller may send; ask again after `Retry-After`.",
    ),
    "replayed": (401, "The same signed request came before: each is good once."),
    "stalled": (408, "The body did not come in time."),
    "quota": (429, "The tenant has as many bytes, or corpora, stored as it may; try again when some are deleted."),
    "busy": (503, "The database or the disk cannot take this now; try again."),
    "method-not-allowed": (405, "No such method on this route."),
    "bad-request": (400, "Not a request that this server understands."),
    "internal": (500, "A fault of the gateway. Its log knows more under the request's id."),
}
"""What the gateway refuses beside the error tree: code, status, meaning."""

_BUSY_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}


def refusal(code: str, message: str, *, retry_after: float | None = None) -> GatewayError:
    """An error for one of `REFUSALS`; `retry_after` says in how many seconds it may be tried again."""
    return GatewayError(message, status=REFUSALS[code][0], problem=code, retry_after=retry_after)


def not_found(what: str) -> NotFoundError:
    """The same words whether it never was or belongs to another tenant."""
    return NotFoundError(f"no such {what}", status=404, problem=NotFoundError.code)


def status_of(error: BlindgateError) -> int:
    """The HTTP status for `error`: its own, or the nearest in the tree."""
    if isinstance(error, GatewayError) and error.status is not None:
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def problem_of(error: Exception, request: str) -> Problem:
    """Say `error` to the outside."""
    if isinstance(error, BlindgateError):
        code = error.problem if isinstance(error, GatewayError) and error.problem is not None else error.code
        return _problem(status_of(error), code, str(error), request)
    if isinstance(error, HTTPException):
        code = {404: NotFoundError.code, 405: "method-not-allowed", 413: "too-large"}.get(
            error.code or 500, "bad-request"
        )
        return _problem(error.code or 500, code, error.name, request)
    if is_stalled(error):
        return _problem(408, "stalled", REFUSALS["stalled"][1], request)
    if is_busy(error):
        return _problem(503, "busy", REFUSALS["busy"][1], request)
    return _problem(500, "internal", REFUSALS["internal"][1], request)


def is_busy(error: Exception) -> bool:
    """Whether `error` is the disk's, the database's or the system's way to say: not now."""
    if isinstance(error, OSError):
        return error.errno in _BUSY_ERRNO
    return database.is_busy(error)


def is_stalled(error: Exception) -> bool:
    """Whether `error` is the connection's way to say that its caller sent nothing for too long (`worker`)."""
    return isinstance(error, BlockingIOError)


def problem_response(problem: Problem, *, retry_after: float | None = None) -> Response:
    """The response for `problem`. Whoever may try again is told when: in a second, or in `retry_after`."""
    response = Response(problem.model_dump_json(), problem.status, mimetype="application/problem+json")
    if problem.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after or 1)))
    return response


def _problem(status: int, code: str, detail: str, request: str) -> Problem:
    return Problem(
        type=f"/docs#{code}", title=HTTPStatus(status).phrase, status=status, detail=detail, code=code, request=request
    )
