"""What every page of the console has in common: who may see it, how it is sent, how it is written.

1. Nothing but the sign-in page and the static files is shown without a session (`sessions`). Whoever has none is sent to sign in.
2. What changes something (signing in, signing out) is a POST that this very site's page sent: the browser says so in
   `Sec-Fetch-Site`, or names the site in `Origin`. The cookie is `SameSite=Strict` besides.
3. Each answer forbids the browser whatever a page does not need: no script, style or picture but the console's own files, nothing
   inline, no frame around it, nothing kept in a cache, no address told to other sites.
4. Texts come from tenants, nodes and strangers. The templates escape all of them; one that names what is not there fails.

The pages need no script. htmx, where it runs, puts a part of an answer in place of loading the page anew.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from apiflask import APIBlueprint
from flask import Response, current_app, g, redirect, request, url_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.wrappers import Response as AnyResponse

from blindgate_gateway.console import shown
from blindgate_gateway.console.sessions import find_session
from blindgate_gateway.identity import Staff
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import refusal
from blindgate_gateway.routing import CALLER
from blindgate_gateway.settings import LOOPBACK
from blindgate_protocol.errors import NotAuthorisedError
from blindgate_protocol.messages import Problem

NAME: Final = "console"
COOKIE: Final = "blindgate-console"
console = APIBlueprint(NAME, __name__, url_prefix="/console", static_folder="static", enable_openapi=False)
OPEN: Final = frozenset({"console.show_sign_in", "console.sign_in", "console.static"})
"""What is shown without a session."""
MAX_FORM_BYTES: Final = 16 * 1024
"""A person's token has a few thousand bytes; in a header, no more than 8190 would be read."""
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_templates = Environment(
    loader=FileSystemLoader(f"{console.root_path}/templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["url_for"] = url_for
_templates.filters.update(shown.FILTERS)


def parts() -> Parts:
    """The application's parts."""
    found: Parts = current_app.extensions["blindgate"]
    return found


def auditor() -> Staff:
    """Who is signed in."""
    found: Staff = g.auditor
    return found


def render(template: str, status: int = 200, /, **given: Any) -> Response:
    """A page, or a part of one, of these values."""
    text = _templates.get_template(template).render(signed_in=g.get("auditor"), endpoint=request.endpoint, **given)
    return Response(text, status, mimetype="text/html")


def wants_part() -> bool:
    """Whether htmx asks, and puts what it gets into the page that is there."""
    return request.headers.get("HX-Request") == "true"


def problem_page(problem: Problem, *, retry_after: float | None = None) -> Response:
    """A refusal, for people."""
    response = render("problem.html", problem.status, problem=problem)
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(retry_after)))
    return response


def needs_tls() -> bool:
    """Whether the cookie may travel over TLS alone: always, but for a browser on the gateway's own machine, without a proxy."""
    return not _is_on_loopback() or request.headers.get("X-Forwarded-Proto") == "https"


def _is_on_loopback() -> bool:
    return (urlsplit(f"//{request.host}").hostname or "") in LOOPBACK


@console.before_request
def _admit() -> AnyResponse | None:
    # 2.
    if request.method not in {"GET", "HEAD", "OPTIONS"}:
        _check_origin()
    # 1.
    if request.endpoint in OPEN:
        return None
    found = find_session(parts().database, request.cookies.get(COOKIE, ""), parts().doorkeeper.people)
    if found is None:
        return _send_to_sign_in()
    parts().rates.spend(found.key)
    request.environ[CALLER] = found.name
    g.auditor = found
    return None


def _check_origin() -> None:
    """Raises `NotAuthorisedError` (403) for what another site's page sent, or nobody can tell, `GatewayError` for a long form."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        # With `no-referrer`, a browser that names no site sends `Origin: null`: those are from before 2023.
        origin = urlsplit(request.headers.get("Origin", ""))
        same = origin.netloc == request.host and (origin.scheme == "https" or not needs_tls())
    else:
        same = site == "same-origin"
    if not same:
        message = "this form was not sent from the console's own page, or by a browser that does not say where it was sent from"
        raise NotAuthorisedError(message, status=HTTPStatus.FORBIDDEN)
    if request.content_length is None or request.content_length > MAX_FORM_BYTES:
        raise refusal("too-large", f"a form here has at most {MAX_FORM_BYTES} bytes")


def _send_to_sign_in() -> AnyResponse:
    there = url_for("console.show_sign_in")
    if wants_part():
        response: AnyResponse = Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": there})
    else:
        response = redirect(there, HTTPStatus.SEE_OTHER)
    if COOKIE in request.cookies:
        drop_cookie(response)
    return response


def drop_cookie(response: AnyResponse) -> None:
    """Let the browser forget its token."""
    response.delete_cookie(COOKIE, path="/console", secure=needs_tls(), httponly=True, samesite="Strict")


@console.after_request
def _guard(response: Response) -> Response:
    # 3.
    response.headers.update(_HEADERS)
    if request.endpoint != "console.static":
        response.headers["Cache-Control"] = "no-store"
    return response
