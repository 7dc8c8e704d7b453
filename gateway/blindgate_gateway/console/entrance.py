"""Signing in and out.

Signing in shows an auditor's API key once, or, where the settings name an OpenID Connect issuer, a person's token from there, in
the same field. It is looked at by the same code as what any other request brings: the same limits for wrong guesses by address,
the same events in the log for failures. What is of neither shape is a wrong guess without a further look. Key and token are kept
nowhere; what the browser gets is another token, which is good for this console alone, and ends.
"""

import re
import time
from http import HTTPStatus
from typing import Final

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Request
from werkzeug.wrappers import Response as AnyResponse

from blindgate_gateway.console.pages import COOKIE, console, drop_cookie, needs_tls, parts, render
from blindgate_gateway.console.sessions import begin_session, end_session
from blindgate_gateway.identity import Role, Staff
from blindgate_gateway.problems import status_of
from blindgate_protocol.errors import GatewayError, NotAuthorisedError

_API_KEY: Final = re.compile(r"bs_[0-9a-f]{16}\.[A-Za-z0-9_-]{43}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SHOWN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
_WHY: Final = {
    HTTPStatus.UNAUTHORIZED: "This is not a valid {} of an auditor.",
    HTTPStatus.FORBIDDEN: "This {} is good, but not an auditor's. The console is for auditors.",
}


@console.get("/sign-in")
def show_sign_in() -> Response:
    """The form."""
    return _form(None)


@console.post("/sign-in")
def sign_in() -> AnyResponse:
    """Begin a session for an auditor's API key or token."""
    given = request.form.get("key", "").strip()
    try:
        found = _identify(given)
    except GatewayError as error:
        status = status_of(error)
        if status not in _SHOWN:
            raise
        response = _form(_why(error, HTTPStatus(status), given), status)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return response
    token = begin_session(parts().database, found, instead_of=request.cookies.get(COOKIE, ""))
    signed_in = redirect(url_for("console.show_overview"), HTTPStatus.SEE_OTHER)
    signed_in.set_cookie(COOKIE, token, path="/console", secure=needs_tls(), httponly=True, samesite="Strict")
    return signed_in


@console.post("/sign-out")
def sign_out() -> AnyResponse:
    """End the session."""
    end_session(parts().database, request.cookies.get(COOKIE, ""))
    response = redirect(url_for("console.show_sign_in"), HTTPStatus.SEE_OTHER)
    drop_cookie(response)
    return response


def _form(error: str | None, status: int = HTTPStatus.OK) -> Response:
    return render("sign_in.html", status, error=error, takes_tokens=parts().doorkeeper.people is not None)


def _why(error: GatewayError, status: HTTPStatus, shown: str) -> str:
    """What the form says: where a refusal's own words help whoever owns what was shown, those."""
    is_token = _is_token(shown)
    refused_token = is_token and status == HTTPStatus.UNAUTHORIZED
    if refused_token or error.problem == "key-expired" or status == HTTPStatus.TOO_MANY_REQUESTS:
        return str(error)
    return _WHY[status].format("token" if is_token else "API key")


def _is_token(text: str) -> bool:
    return parts().doorkeeper.people is not None and _TOKEN.fullmatch(text) is not None


def _identify(shown: str) -> Staff:
    """Whose API key or token this is. Raises `GatewayError` with 401, 403, 429 or 503."""
    given = shown if _API_KEY.fullmatch(shown) or _is_token(shown) else ""
    environ = {name: value for name, value in request.environ.items() if not name.startswith("HTTP_SIGNATURE")}
    asked = Request({**environ, "HTTP_AUTHORIZATION": f"Bearer {given}"}, populate_request=False)
    caller = parts().doorkeeper.admit(asked, frozenset({Role.AUDITOR}))
    assert isinstance(caller, Staff)  # noqa: S101  (nobody else has the role)
    if caller.grounds is not None and caller.grounds.expires <= time.time() * 1000:
        # The API gives clocks some leeway; a session has none, and would be over when it begins.
        message = "the token has expired: sign in again"
        raise NotAuthorisedError(message, status=HTTPStatus.UNAUTHORIZED)
    return caller
