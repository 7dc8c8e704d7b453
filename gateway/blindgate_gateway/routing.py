"""How a request becomes a call: who calls, what they ask, and what they get back.

A room declares its routes beside the functions that answer them:

    @routes.post("/v1/jobs", roles={Role.TENANT}, body=JobRequest, answers={200: JobView, 201: JobView})
    def submit(call: Call[Account, JobRequest]) -> Answer: ...

The declaration is all there is: from it come the check of the caller, the parsing of the body, the OpenAPI document, and the
test that tries every route with every wrong role. In this order a request is refused:

1. the caller's credential is missing or wrong (401), or of another role (403);
2. the body has no length (411), is too long (413), is not what a node signed, or is not the declared value (422, naming the field);
3. the room refuses.

Bodies are read here or streamed by the room; nothing is read before 1 held.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from flask import Response
from flask import request as flask_request
from pydantic import ValidationError
from werkzeug.wrappers import Request

from blindgate_gateway.idempotency import HEADER, once
from blindgate_gateway.identity import Account, Node, Role, Staff
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.settings import Settings
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.http_signatures import CONTENT_DIGEST, parse_content_digest
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Value

MAX_BODY = 5 << 19
"""2.5 MiB: a JSON body holds at most one envelope of 2 MiB and little else."""

CALLER = "blindgate.caller"
"""Where a request's environment says who called, for the log."""

Answer: TypeAlias = "Value | tuple[Value, int] | Response | None"
"""What a room gives back: a value (the first declared status), one with its status, raw bytes, or nothing (204)."""

CallerT = TypeVar("CallerT", Account, Staff, Node, None)
BodyT = TypeVar("BodyT", bound="Value | None")
HandlerT = TypeVar("HandlerT", bound=Callable[..., "Answer"])


@dataclass(frozen=True, slots=True)
class Call(Generic[CallerT, BodyT]):
    """One request, after steps 1 and 2. What a tenant's request does with the database is bound to that tenant's rows."""

    parts: Parts
    caller: CallerT
    body: BodyT
    request: Request

    def query(self, name: str, *, default: int, most: int) -> int:
        """A whole number from the query, at most `most`. Raises `MalformedError`."""
        text = self.request.args.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text):
            message = f"the query's {name} must be a whole number"
            raise MalformedError(message)
        return min(int(text), most)

    def text(self, name: str, *, pattern: str) -> str | None:
        """A text from the query, which matches `pattern` as a whole. Raises `MalformedError`."""
        text = self.request.args.get(name)
        if text is not None and not re.fullmatch(pattern, text):
            message = f"the query's {name} is not of the form that this route gives and takes"
            raise MalformedError(message)
        return text

    def length(self, most: int) -> int:
        """The length of a body that the room reads itself. Raises `GatewayError`."""
        return _length(self.request, most)

    def announced(self) -> str:
        """The digest that a body that the room reads itself must have. Raises `MalformedError`."""
        return parse_content_digest(self.request.headers.get(CONTENT_DIGEST, ""))


@dataclass(frozen=True)
class Raw:
    """Stands for raw bytes where a route's declaration would name a value."""

    media: str = "application/octet-stream"


@dataclass(frozen=True)
class Route:
    """One declared route.

    Attributes:
        roles: who may call it; empty for everybody.
        body: the value in the body, `Raw()` for a body that the room streams, or `None`.
        answers: what each good status comes with; the first is the usual one.
        parameters: what the room reads besides: name to (where, meaning). Where is `header`, `query` (a whole number), or
            `query text`.
        most: how many bytes a body has at most that is a value, as the settings say.
    """

    method: str
    rule: str
    name: str
    handler: Callable[..., Answer]
    roles: frozenset[Role]
    body: type[Value] | Raw | None
    answers: Mapping[int, type[Value] | Raw | None]
    parameters: Mapping[str, tuple[str, str]]
    group: str
    most: Callable[[Settings], int]

    @property
    def usual(self) -> int:
        """The status of the usual good answer."""
        return next(iter(self.answers))

    @property
    def creates(self) -> bool:
        """Whether a good answer may mean that something is there that was not: then it takes an `Idempotency-Key`."""
        return self.method == "POST" and 201 in self.answers  # noqa: PLR2004  (Created)


@dataclass
class Routes:
    """The routes of one room."""

    group: str
    declared: list[Route] = field(default_factory=list)

    def get(self, rule: str, **declaration: Any) -> Callable[[HandlerT], HandlerT]:
        """Declare a GET route; the keywords are `Route`'s."""
        return self._declare("GET", rule, **declaration)

    def post(self, rule: str, **declaration: Any) -> Callable[[HandlerT], HandlerT]:
        """Declare a POST route."""
        return self._declare("POST", rule, **declaration)

    def put(self, rule: str, **declaration: Any) -> Callable[[HandlerT], HandlerT]:
        """Declare a PUT route."""
        return self._declare("PUT", rule, **declaration)

    def delete(self, rule: str, **declaration: Any) -> Callable[[HandlerT], HandlerT]:
        """Declare a DELETE route."""
        return self._declare("DELETE", rule, **declaration)

    def _declare(  # noqa: PLR0913  (what a route declares)
        self,
        method: str,
        rule: str,
        *,
        answers: Mapping[int, type[Value] | Raw | None],
        roles: Iterable[Role] = (),
        body: type[Value] | Raw | None = None,
        parameters: Mapping[str, tuple[str, str]] | None = None,
        most: Callable[[Settings], int] = lambda _settings: MAX_BODY,
    ) -> Callable[[HandlerT], HandlerT]:
        def declare(handler: HandlerT) -> HandlerT:
            name = f"{self.group}.{handler.__name__}"
            self.declared.append(
                Route(
                    method,
                    rule,
                    name,
                    handler,
                    frozenset(roles),
                    body,
                    answers,
                    dict(parameters or {}),
                    self.group,
                    most,
                )
            )
            return handler

        return declare


def view(route: Route, parts: Parts) -> Callable[..., Response]:
    """Build the Flask view of `route`."""

    def answer(**path: Any) -> Response:
        request = flask_request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  (the proxy costs on every access)
        return respond(route, parts, request, path)

    answer.__doc__ = route.handler.__doc__
    answer.__name__ = route.handler.__name__
    return answer


def respond(route: Route, parts: Parts, request: Request, path: Mapping[str, Any]) -> Response:
    """Answer a request that `route` takes, with what its rule reads from the `path`. Raises what refuses it."""
    # 1.
    caller = None
    if route.roles:
        caller = parts.doorkeeper.admit(request, route.roles)
        request.environ[CALLER] = caller.name
    if any("\0" in str(value) for value in path.values()):
        raise not_found("object")  # PostgreSQL cannot even be asked for it
    # 2.
    model = route.body if isinstance(route.body, type) else None
    data = b"" if model is None else request.stream.read(_length(request, route.most(parts.settings)))
    if isinstance(caller, Node) and data:
        _check_digest(request, data)
    body = None if model is None else _parse(data, model)

    # 3.
    theirs = parts.of_tenant(caller.tenant) if isinstance(caller, Account) else parts

    def ask() -> Response:
        given = route.handler(Call(theirs, caller, body, request), **path)
        if given is None:
            return Response(status=204)
        if isinstance(given, Response):
            return given
        value, status = given if isinstance(given, tuple) else (given, route.usual)
        return Response(value.model_dump_json(), status, mimetype="application/json")

    key = request.headers.get(HEADER)
    if key is None or not route.creates or caller is None:
        return ask()
    who = caller.tenant if isinstance(caller, Account) else caller.key
    return once(theirs.database, caller=who, key=key, route=request.path, body=data, answer=ask)


def _length(request: Request, most: int) -> int:
    length = request.content_length
    if length is None:
        raise refusal("length-required", "this request needs a Content-Length")
    if length > most:
        raise refusal("too-large", f"a body of {length} bytes: at most {most} are taken here")
    return length


def _check_digest(request: Request, data: bytes) -> None:
    if digest(data) != parse_content_digest(request.headers.get(CONTENT_DIGEST, "")):
        raise refusal("digest-mismatch", f"the body is not what the signed {CONTENT_DIGEST} names")


def _parse(data: bytes, model: type[Value]) -> Value:
    try:
        value = model.model_validate_json(data)
    except ValidationError as error:
        message = f"the body is not a {model.__name__}: {first_error(error)}"
        raise MalformedError(message) from error
    json.loads(data, object_pairs_hook=_once_each)
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    """Refuse a field that is there twice: a proxy that looks into bodies may have read the other one."""
    if len({name for name, _ in pairs}) != len(pairs):
        message = "the body is not one value: a field is there twice"
        raise MalformedError(message)
