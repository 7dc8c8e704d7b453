"""The gateway as an application: every room's routes, one way in, one way to refuse.

`create_app(settings)` opens nothing and starts nothing, so a server may build it once and fork. It expects a prepared data
folder and a migrated database (`opening.prepare`).
"""

import secrets
import time
from importlib.metadata import PackageNotFoundError, version

from apiflask import APIFlask
from flask import Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException

from blindgate_gateway import callers, catalogue, jobs, keys, leases, metrics, nodes, operations, uploads
from blindgate_gateway.documentation import describe
from blindgate_gateway.logs import log
from blindgate_gateway.parts import build_parts
from blindgate_gateway.problems import is_busy, problem_of, problem_response
from blindgate_gateway.routing import Route, view
from blindgate_gateway.settings import Settings
from blindgate_protocol.errors import BlindgateError

ROUTES: tuple[Route, ...] = tuple(
    route
    for room in (callers, catalogue, uploads, keys, jobs, nodes, leases, operations)
    for route in room.routes.declared
)
REQUEST_HEADER = "Blindgate-Request"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


def create_app(settings: Settings) -> APIFlask:
    """Build the application. Its parts are at `app.extensions["blindgate"]`."""
    app = APIFlask("blindgate_gateway", title="Blindgate gateway", version=_version(), docs_path=None)
    app.config["AUTO_SERVERS"] = False
    app.session_interface = NoSessions()
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
    app.register_error_handler(Exception, _refuse)
    app.register_error_handler(HTTPException, _refuse)
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
    g.began = time.monotonic()
    g.request = secrets.token_hex(8)


def _finish(response: Response) -> Response:
    seconds = time.monotonic() - g.began
    route = "none" if request.url_rule is None else request.url_rule.rule
    response.headers[REQUEST_HEADER] = g.request
    metrics.observe(method=request.method, route=route, status=response.status_code, seconds=seconds)
    if route not in QUIET or response.status_code >= 400:  # noqa: PLR2004
        log.info(
            "request",
            request=g.request,
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=round(seconds * 1000, 2),
            received=request.content_length or 0,
            sent=response.content_length or 0,
            caller=request.environ.get("blindgate.caller"),
        )
    return response


def _refuse(error: Exception) -> Response:
    problem = problem_of(error, g.request)
    if isinstance(error, BlindgateError):
        log.info("refused", request=g.request, code=problem.code, detail=problem.detail)
    elif is_busy(error):
        log.warning("busy", request=g.request, error=type(error).__name__)
    elif not isinstance(error, HTTPException):
        log.error("failed", request=g.request, exc_info=error)
    return problem_response(problem)


def _version() -> str:
    try:
        return version("blindgate")
    except PackageNotFoundError:
        return "unknown"
