"""Signing in and out.

Signing in shows an auditor's API key once. It is looked at by the same code as the key of any other request: the same limits for
wrong guesses by address, the same events in the log for failures. What is not of a key's shape is a wrong guess without a further
look. The key itself is kept nowhere; what the browser gets is a token that is good for this console alone, and ends.
"""

import re
from http import HTTPStatus
from typing import Final

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Request
from werkzeug.wrappers import Response as AnyResponse

from blindgate_gateway.console.pages import COOKIE, console, drop_cookie, needs_tls, parts, render
from blindgate_gateway.console.sessions import begin_session, end_session
from blindgate_gateway.identity import Role, Staff
from blindgate_gateway.problems import status_of
from blindgate_protocol.errors import GatewayError

_API_KEY: Final = re.compile(r"bs_[0-9a-f]{16}\.[A-Za-z0-9_-]{43}")
_SHOWN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
_WHY: Final = {
    HTTPStatus.UNAUTHORIZED: "This is not a valid API key of an auditor.",
    HTTPStatus.FORBIDDEN: "This API key is good, but not an auditor's. The console is for auditors.",
}


@console.get("/sign-in")
def show_sign_in() -> Response:
    """The form."""
    return render("sign_in.html", error=None)


@console.post("/sign-in")
def sign_in() -> AnyResponse:
    """Begin a session for an auditor's API key."""
    try:
        found = _identify(request.form.get("key", "").strip())
    except GatewayError as error:
        status = status_of(error)
        if status not in _SHOWN:
            raise
        expired = error.problem == "key-expired"
        why = str(error) if expired or status == HTTPStatus.TOO_MANY_REQUESTS else _WHY[HTTPStatus(status)]
        response = render("sign_in.html", status, error=why)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return response
    end_session(parts().database, request.cookies.get(COOKIE, ""))
    token = begin_session(parts().database, found)
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


def _identify(key: str) -> Staff:
    """Whose key this is. Raises `GatewayError` with 401, 403 or 429."""
    given = key if _API_KEY.fullmatch(key) else ""
    environ = {name: value for name, value in request.environ.items() if not name.startswith("HTTP_SIGNATURE")}
    asked = Request({**environ, "HTTP_AUTHORIZATION": f"Bearer {given}"}, populate_request=False)
    caller = parts().doorkeeper.admit(asked, frozenset({Role.AUDITOR}))
    assert isinstance(caller, Staff)  # noqa: S101  (nobody else has the role)
    return caller
