"""The gateway as an application: every room's routes, one way in, one way to refuse; beside them, the auditors' `console`.

`create_app(settings)` opens nothing and starts nothing, so a server may build it once and fork. It expects a prepared data
folder and a migrated database (`opening.prepare`).
"""

import secrets
import time
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version

from apiflask import APIFlask
from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound

from blindgate_gateway import (
    attestations,
    budgets,
    callers,
    catalogue,
    corpora,
    evictions,
    jobs,
    keys,
    leased_corpora,
    leases,
    metrics,
    nodes,
    operations,
    oversight,
    rows,
    sealed_answers,
    uploads,
)
from blindgate_gateway.console import NAME as COMMAND_LINE
from blindgate_gateway.console import console, problem_page
from blindgate_gateway.documentation import describe
from blindgate_gateway.log import rooms as log_rooms
from blindgate_gateway.log.telling import REQUEST_ID
from blindgate_gateway.logs import log
from blindgate_gateway.parts import build_parts
from blindgate_gateway.problems import is_busy, is_stalled, problem_of, problem_response
from blindgate_gateway.routing import CALLER, Route, view
from blindgate_gateway.settings import Settings
from blindgate_protocol.errors import BlindgateError, GatewayError
from blindgate_protocol.messages import REQUEST_HEADER
from blindgate_telemetry import NO_TRACES

ROUTES: tuple[Route, ...] = tuple(
    route
    for room in (
        callers,
        catalogue,
        budgets,
        uploads,
        corpora,
        keys,
        jobs,
        nodes,
        leases,
        leased_corpora,
        sealed_answers,
        attestations,
        evictions,
        oversight,
        rows,
        log_rooms,
        operations,
    )
    for route in room.routes.declared
)
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that are asked so often that only their failures are logged."""
_BEGAN = "blindgate.began"


def create_app(settings: Settings) -> APIFlask:
    """Build the application. Its parts are at `app.extensions["blindgate"]`."""
    app = APIFlask("blindgate_gateway", title="Blindgate gateway", version=_version(), docs_path=None)
    app.config["AUTO_SERVERS"] = False
    app.session_interface = NoSessions()
    app.url_map.merge_slashes = False  # `//v1/jobs` is no route, instead of being sent on to whatever `Host` says
    parts = build_parts(settings)
    app.extensions["blindgate"] = parts
    for route in ROUTES:
        app.add_url_rule(
            route.rule,
            endpoint=route.name,
            view_func=view(route, parts),
            methods=[route.method],
        )
    describe(app, ROUTES)
    if settings.console:
        app.register_blueprint(console)
    app.register_error_handler(Exception, _refuse)
    app.register_error_handler(HTTPException, _refuse)
    if parts.traces is not NO_TRACES:
        from blindgate_gateway.traced import follow  # noqa: PLC0415  (only where it is used)

        follow(app, parts.traces)
    app.before_request(_begin)
    app.after_request(_finish)
    return app


class NoSessions(SessionInterface):
    """Callers bring a credential with every request: there are no cookies, and nothing to look for."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002
        """Give what no view uses."""
        return _NO_SESSION

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Save nothing."""


_NO_SESSION = NullSession()


def _begin() -> None:
    environ = request.environ
    environ[_BEGAN] = time.monotonic()
    environ[REQUEST_ID] = secrets.token_hex(8)
    if "HTTP_HOST" not in environ and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
        raise BadRequest  # RFC 9112, 3.2
    if environ["PATH_INFO"].startswith("//"):
        raise NotFound  # Werkzeug would take it for one slash, and whoever guards a path in front of it for none of ours


def _finish(response: Response) -> Response:
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  (a proxy costs each time)
    environ, status = asked.environ, response.status_code
    seconds = time.monotonic() - environ[_BEGAN]
    route = "none" if asked.url_rule is None else asked.url_rule.rule
    response.headers[REQUEST_HEADER] = environ[REQUEST_ID]
    metrics.observe(method=asked.method, route=route, status=status, seconds=seconds)
    if route not in QUIET or status >= HTTPStatus.BAD_REQUEST:
        log.info(
            "request",
            request=environ[REQUEST_ID],
            method=asked.method,
            path=asked.path,
            status=status,
            ms=round(seconds * 1000, 2),
            received=asked.content_length or 0,
            sent=response.content_length or 0,
            caller=environ.get(CALLER),
        )
    return response


def _refuse(error: Exception) -> Response:
    problem = problem_of(error, request.environ[REQUEST_ID])
    if isinstance(error, BlindgateError):
        log.info("refused", request=request.environ[REQUEST_ID], code=problem.code, detail=problem.detail)
    elif is_busy(error):
        log.warning("busy", request=request.environ[REQUEST_ID], error=type(error).__name__)
    elif not isinstance(error, HTTPException) and not is_stalled(error):
        log.error("failed", request=request.environ[REQUEST_ID], exc_info=error)
    retry_after = error.retry_after if isinstance(error, GatewayError) else None
    if request.blueprint == COMMAND_LINE:
        response = problem_page(problem, retry_after=retry_after)
    else:
        response = problem_response(problem, retry_after=retry_after)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _version() -> str:
    try:
        return version("blindgate")
    except PackageNotFoundError:
        return "unknown"
