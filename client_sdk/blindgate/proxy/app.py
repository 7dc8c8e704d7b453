"""What the proxy answers over HTTP: the part of OpenAI's API that a sealed model can serve.

    POST /v1/chat/completions     whole, or with "stream": true as server-sent events (`events`)
    POST /v1/embeddings
    GET  /v1/models               the models of lane tee that the policy believes
    GET  /v1/models/{id}
    GET  /healthz                 the process answers; needs no token

The header `Blindgate-Data-Class` says what kind of data a request is, by the name that the policy uses.

The order of things for each request: who asks (`door`), before anything of the body is read; the body's length, its type, its JSON
and the members that are needed here; then the SDK, which leaves out what changes no answer and refuses what none can have
(`blindgate.requests`), checks the policy, seals and submits. What else a request asks is the node's to check, inside the seal.
`X-Request-Id` is the job's id: `blindgate jobs receipt ID` shows what was signed about it.
"""

import json
import re
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from blindgate.chat import Stream
from blindgate.client import Client
from blindgate.decisions import Decision, decide
from blindgate.proxy import journal
from blindgate.proxy.door import Door
from blindgate.proxy.events import events
from blindgate.proxy.failures import Failure, failure_of, no_model, refused
from blindgate.proxy.hangups import Hangups
from blindgate.sealed_job import SealedJob
from blindgate.shapes import ChatCompletionChunk, completion_of
from blindgate_protocol.errors import InputError, ManifestError, NotFoundError, PolicyError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import NAME

MAX_BODY_BYTES: Final = 4 << 20
DRAIN_BYTES: Final = 64 << 20
DATA_CLASS: Final = "Blindgate-Data-Class"
"""The header by which a caller says what kind of data its request is, by the name that the policy uses."""

_PIECE_BYTES: Final = 1 << 16
_JSON: Final = "application/json"
AnswerT = TypeVar("AnswerT")
_ALWAYS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def create_app(client: Client, door: Door, hangups: Hangups, *, timeout: float) -> Flask:
    """The WSGI application. `timeout`: seconds that an answer may take."""
    app = Flask(__name__, static_folder=None)
    app.debug = False  # whatever FLASK_DEBUG says
    app.url_map.merge_slashes = False  # it would answer with a redirection, which few clients follow with a body
    # One more: of a body in chunks, werkzeug reads so many bytes and says nothing of the rest.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    _guard(app, door)
    _tell_failures(app)

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        body = _body("messages", list)
        with ExitStack() as stack:
            stream = _begun(lambda: client.chat.completions.begin(body, timeout, data_class=_data_class()))
            _watch(stack, hangups, stream.job)
            stack.callback(stream.close)
            if not body.get("stream"):
                return _answer(completion_of(stream).model_dump(mode="json"))
            first = next(stream, None)
            if first is None:
                raise refused(HTTPStatus.INTERNAL_SERVER_ERROR, "malformed", "the answer has no chunk")
            return _streamed(stream, first, stack.pop_all())

    @app.post("/v1/embeddings")
    def embeddings() -> Response:
        body = _body("input", (str, list))
        with ExitStack() as stack:
            job = _begun(lambda: client.embeddings.begin(body, data_class=_data_class()))
            _watch(stack, hangups, job)
            return _answer(client.embeddings.read(job, timeout).model_dump(mode="json"))

    @app.get("/v1/models")
    def models() -> Response:
        offered = [model for model in client.models() if _is_usable(client, model)]
        return _answer({"object": "list", "data": [_shown(client, model) for model in offered]})

    @app.get("/v1/models/<path:name>")
    def model(name: str) -> Response:
        found = _begun(lambda: client.manifest(_checked_name(name)))
        client.require_believed(found)
        _decision(client, found).require()
        if not _is_usable(client, found):
            raise no_model()
        return _answer(_shown(client, found))

    @app.get("/healthz")
    def healthz() -> Response:
        return _answer({"status": "ok"})

    return app


def _guard(app: Flask, door: Door) -> None:
    """Ask who it is before anything else, and tell of each answer."""

    @app.before_request
    def admit() -> None:
        g.began = time.monotonic()
        door.check_place(host=request.environ.get("HTTP_HOST"), origin=request.environ.get("HTTP_ORIGIN"))
        if request.path != "/healthz":
            door.check_token(request.environ.get("HTTP_AUTHORIZATION"))

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.update(_ALWAYS)
        if job := _job():
            response.headers["X-Request-Id"] = job
        if _route() != "/healthz":
            taken = round((time.monotonic() - g.began) * 1000)
            journal.tell("answered", route=_route(), status=response.status_code, job=job, millis=taken)
        return response


def _tell_failures(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def plain(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            _drain()
        code = {HTTPStatus.NOT_FOUND: "unknown_url", HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed"}.get(status)
        response = _failed(Failure(status, code or "bad-request", _said(status, request.path)))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return _failed(_failure(error, _route(), _job()))


def _drain() -> None:
    """Read on, up to a limit: a caller who is still sending when the connection is closed hears of no refusal."""
    left = DRAIN_BYTES
    with suppress(OSError):  # it stalls, or is gone
        while left > 0 and (read := len(request.environ["wsgi.input"].read(_PIECE_BYTES))):
            left -= read


def _said(status: HTTPStatus, path: str) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f"this proxy has /v1/chat/completions, /v1/embeddings and /v1/models, and nothing else{_instead(path)}"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"the request has more than {MAX_BODY_BYTES} bytes"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return "that is not asked in this way: chats and embeddings are a POST, models a GET"
    return status.phrase


def _instead(path: str) -> str:
    """What to ask in place of an address that is not here. The path itself is not repeated."""
    if path.rstrip("/") == "/v1/responses":
        return ": ask /v1/chat/completions; in LangChain, that is ChatOpenAI(use_responses_api=False)"
    if path.rstrip("/") == "/v1/completions":
        return ": ask /v1/chat/completions, with the prompt as a message"
    if not path.startswith("/v1/"):
        return ": the address that programs are given ends in /v1"
    return ""


def _route() -> str | None:
    """The route that was asked for, as it is written here: a path could hold anything."""
    return None if request.url_rule is None else request.url_rule.rule


def _job() -> str | None:
    """The job's id. It is looked at as late as can be: a request that is sealed anew is another job's."""
    job: SealedJob | None = g.get("job")
    return None if job is None else job.id


def _failure(error: Exception, route: str | None, job: str | None) -> Failure:
    failure = failure_of(error)
    if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        journal.tell_error(error, route=route, job=job)
    return failure


def _failed(failure: Failure) -> Response:
    response = _answer(failure.body())
    response.status_code = failure.status
    response.headers["X-Should-Retry"] = str(failure.again).lower()
    if failure.after is not None:
        response.headers["Retry-After"] = str(max(1, round(failure.after)))
    if failure.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), content_type=_JSON)


def _streamed(stream: Stream, first: ChatCompletionChunk, stack: ExitStack) -> Response:
    """What is left of an answer. The stack is closed when the caller has all of it, or is gone."""
    route, job = _route(), stream.job.id
    response = Response(
        events(first, stream, lambda error: _failure(error, route, job)),
        content_type="text/event-stream; charset=utf-8",
    )
    response.call_on_close(stack.close)
    return response


def _body(needed: str, kind: type | tuple[type, ...]) -> dict[str, Any]:
    """The request's JSON: an object with a `model` and a member `needed` of this kind. Raises `RefusedError`."""
    if request.mimetype != _JSON:
        message = f"the request's Content-Type is not {_JSON}; in curl, that is -H 'Content-Type: {_JSON}'"
        raise refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "bad-input", message)
    data = request.get_data(cache=False)
    if len(data) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    try:
        body = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise refused(HTTPStatus.BAD_REQUEST, "bad-input", "the request's body is no JSON object")
    _checked_name(body.get("model"))
    if not isinstance(body.get(needed), kind):
        message = f"{needed}: missing, or not of its type"
        raise refused(HTTPStatus.BAD_REQUEST, "bad-input", message, param=needed)
    if not isinstance(body.get("stream", False), bool | None):
        message = "stream: expected true or false"
        raise refused(HTTPStatus.BAD_REQUEST, "bad-input", message, param="stream")
    return body


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and infinities are no JSON


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise refused(HTTPStatus.BAD_REQUEST, "bad-input", "model: expected a model's name", param="model")
    if not re.fullmatch(NAME, name):
        raise no_model()
    return name


def _begun(ask: Callable[[], AnswerT]) -> AnswerT:
    """Ask for a model by its name, or of it."""
    try:
        return ask()
    except NotFoundError as error:
        raise no_model() from error


def _watch(stack: ExitStack, hangups: Hangups, job: SealedJob) -> None:
    g.job = job
    stack.enter_context(hangups.watching(request.environ.get("gunicorn.socket"), job))


def _is_usable(client: Client, model: Signed[Manifest]) -> bool:
    """Whether the policy believes a model that this API can ask."""
    if model.document.api not in {"chat", "embeddings"}:
        return False
    try:
        client.require_believed(model)
    except (PolicyError, ManifestError):
        return False
    return _decision(client, model).allowed


def _decision(client: Client, model: Signed[Manifest]) -> Decision:
    return decide(client.policy, model, now=time.time_ns() // 1_000_000)


def _data_class() -> str | None:
    """What kind of data the caller says that its request is."""
    said = request.headers.get(DATA_CLASS)
    if said is not None and re.fullmatch(NAME, said) is None:
        message = f"{DATA_CLASS}: not the name of a class"
        raise InputError(message)
    return said


def _shown(client: Client, model: Signed[Manifest]) -> dict[str, Any]:
    owner = next((name for name, key in client.policy.publishers.items() if key == model.signer), model.signer)
    document = model.document
    return {"id": document.name, "object": "model", "created": document.issued // 1000, "owned_by": owner}
