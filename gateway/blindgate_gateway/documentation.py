"""The interface, described by itself: OpenAPI 3.1 at `/openapi.json`, and a page for people at `/docs`.

APIFlask makes the paths and the summaries from the views; what it cannot know, because bodies are parsed by `routing` in one
step from bytes, is put in from the same declarations that `routing` works by. The page is plain HTML from the
same document, with nothing loaded from elsewhere: gateways stand in networks that reach no CDN.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from apiflask import APIFlask
from flask import render_template
from pydantic.json_schema import models_json_schema

from blindgate_gateway.idempotency import HEADER, LONGEST
from blindgate_gateway.identity import Role
from blindgate_gateway.problems import REFUSALS, STATUS
from blindgate_gateway.routing import Raw, Route
from blindgate_protocol.errors import BlindgateError, JobTimeoutError, NotAuthorisedError
from blindgate_protocol.http_signatures import SIGNATURE
from blindgate_protocol.messages import DIGEST_HEADER, LEASE_HEADER, REQUEST_HEADER, Problem
from blindgate_protocol.oversight import TableName
from blindgate_protocol.values import NAME, Value

_REF = "#/components/schemas/{model}"
_SCHEMES = {
    Role.TENANT: "apiKey",
    Role.READER: "readKey",
    Role.PUBLISHER: "publisherKey",
    Role.NODE: "nodeSignature",
    Role.OPERATOR: "operatorKey",
    Role.AUDITOR: "auditorKey",
}


def _bearer(description: str) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": description}


_SECURITY = {
    "apiKey": _bearer("A tenant's API key, `bg_<id>.<secret>`, with the scope `jobs`."),
    "readKey": _bearer("A tenant's API key with the scope `read`: it changes nothing."),
    "publisherKey": _bearer("A tenant's API key with the scope `publish`."),
    "operatorKey": _bearer("An API key, `bs_<id>.<secret>`, of one of the gateway's own operators."),
    "auditorKey": _bearer("An API key, `bs_<id>.<secret>`, of an auditor."),
    "nodeSignature": {
        "type": "apiKey",
        "in": "header",
        "name": SIGNATURE,
        "description": "An enrolled node's signature over the request (RFC 9421): see section 11 of the protocol.",
    },
}
_CALLERS = {
    "apiKey": "a tenant",
    "readKey": "a tenant's reader",
    "publisherKey": "a publisher",
    "nodeSignature": "a node",
    "operatorKey": "an operator",
    "auditorKey": "an auditor",
}
_PATH_PARAMETERS = {
    "job": ("a job's id", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    "digest": ("a blob's digest", {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
    "manifest": ("a manifest's digest", {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
    "attestation": ("a question's id", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    "upload": ("an upload's id", {"type": "string"}),
    "corpus": ("a corpus's name", {"type": "string", "pattern": NAME}),
    "number": ("a part's number, from 1", {"type": "integer", "minimum": 1}),
    "name": ("a model's name", {"type": "string"}),
    "table": ("a table's name", {"enum": list(get_args(TableName))}),
    "tile": ("a tile's place, such as `0/x001/234` or `entries/000.p/17`", {"type": "string"}),
}


def describe(app: APIFlask, routes: Iterable[Route]) -> None:
    """Serve `/docs`, and complete the document that APIFlask makes."""
    known = tuple(routes)
    app.config["SECURITY_SCHEMES"] = _SECURITY

    @app.spec_processor
    def _complete(spec: dict[Any, Any] | str) -> dict[Any, Any] | str:
        return spec if isinstance(spec, str) else complete(spec, known)

    @app.get("/docs")
    @app.doc(hide=True)
    def docs() -> str:
        spec = app._get_spec("json")  # noqa: SLF001  (cached)
        groups = list(dict.fromkeys(route.group for route in known))
        return render_template("docs.html", spec=spec, groups=groups, callers=_CALLERS, refusals=_refusals())


def complete(spec: dict[str, Any], routes: Iterable[Route]) -> dict[str, Any]:
    """Put bodies, answers and parameters into an OpenAPI document, as the routes declare them."""
    known = tuple(routes)
    models: dict[type[Value], None] = {Problem: None}
    for route in known:
        operation = spec["paths"][_path(route.rule)][route.method.lower()]
        operation["tags"] = [route.group]
        operation["operationId"] = route.name.replace(".", "_")
        operation["parameters"] = _parameters(route)
        if route.roles:
            operation["security"] = [{_SCHEMES[role]: []} for role in sorted(route.roles)]
        if route.body is not None:
            operation["requestBody"] = {"required": True, "content": _content(route.body)}
        operation["responses"] = {
            str(status): _answer(value, links=_links(route, known)) for status, value in route.answers.items()
        } | {status: {"$ref": f"#/components/responses/{name}"} for status, name in _REFUSED.items()}
        models |= {value: None for value in (route.body, *route.answers.values()) if isinstance(value, type)}
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    spec.setdefault("components", {})["schemas"] = schemas["$defs"]
    spec["components"]["responses"] = {
        "Refusal": _refusal("A refusal."),
        "NotAuthorised": _refusal(
            "No credential, or one that is not good.", {"WWW-Authenticate": ("how to bring one", {"type": "string"})}
        ),
        "NotNow": _refusal(
            "Too much, or not now.",
            {"Retry-After": ("in how many seconds to try again", {"type": "integer", "minimum": 1})},
        ),
    }
    return spec


_REFUSED = {"401": "NotAuthorised", "429": "NotNow", "503": "NotNow", "default": "Refusal"}
_REQUEST = {REQUEST_HEADER: ("the name under which the gateway's log has the request", {"type": "string"})}
_HANDED_OUT: dict[str, dict[str, str]] = {
    "uploads.request_upload": {"upload": "$response.body#/upload", "number": "$response.body#/missing/0"},
    "jobs.submit": {"job": "$response.body#/job"},
    "leases.poll": {
        "job": "$response.body#/job",
        f"header.{LEASE_HEADER}": "{$response.body#/generation}.{$response.body#/token}",
    },
}
"""What an answer gives to its caller that other routes of the same room ask for."""


def _answer(value: type[Value] | Raw | None, *, links: dict[str, Any]) -> dict[str, Any]:
    headers = _REQUEST
    if isinstance(value, Raw) and value == Raw():
        headers = headers | {DIGEST_HEADER: ("the digest of these bytes", {"type": "string"})}
    answer: dict[str, Any] = {"description": "As asked.", "headers": _headers(headers)}
    if value is not None:
        answer["content"] = _content(value)
    if links and value is not None:
        answer["links"] = links
    return answer


def _refusal(description: str, headers: Mapping[str, tuple[str, dict[str, Any]]] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _headers(_REQUEST | dict(headers or {})),
        "content": {"application/problem+json": {"schema": _schema(Problem)}},
    }


def _headers(headers: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return {
        name: {"description": meaning, "required": True, "schema": schema}
        for name, (meaning, schema) in headers.items()
    }


def _links(route: Route, routes: Iterable[Route]) -> dict[str, Any]:
    """To where an answer leads: every route of the room whose path has only what the answer gave."""
    given = _HANDED_OUT.get(route.name, {})
    links = {}
    for other in routes:
        wanted = set(re.findall(r"{(\w+)}", _path(other.rule)))
        if other.group == route.group and wanted and wanted <= set(given):
            names = {name: expression for name, expression in given.items() if name in wanted or "." in name}
            links[other.handler.__name__] = {"operationId": other.name.replace(".", "_"), "parameters": names}
    return links


_ONCE: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Any text of the caller's choice: the same request under it again gets the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
}


def _path(rule: str) -> str:
    return rule.replace("<int:", "{").replace("<path:", "{").replace("<", "{").replace(">", "}")


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name][0],
            "schema": _PATH_PARAMETERS[name][1],
        }
        for name in _PATH_PARAMETERS
        if f"{{{name}}}" in _path(route.rule)
    ]
    others = [
        {
            "name": name,
            "in": where.split()[0],
            "required": where == "header",
            "description": meaning,
            "schema": {"type": "integer" if where == "query" else "string"},
        }
        for name, (where, meaning) in route.parameters.items()
    ]
    return in_path + others + ([_ONCE] if route.creates else [])


def _content(value: type[Value] | Raw) -> dict[str, Any]:
    if isinstance(value, Raw):
        return {
            value.media: {
                "schema": {"type": "string"} | ({} if value.media.startswith("text/") else {"format": "binary"})
            }
        }
    return {"application/json": {"schema": _schema(value)}}


def _schema(model: type[Value]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def problem_codes() -> frozenset[tuple[str, int]]:
    """Every problem code with each status that it comes with."""
    return frozenset((code, status) for code, status, _ in _refusals())


def _refusals() -> list[tuple[str, int, str]]:
    """Every problem code with its status and meaning, for the page."""
    tree = {
        (
            kind.code,
            next(STATUS[each] for each in kind.__mro__ if each in STATUS),
            (kind.__doc__ or "").strip().splitlines()[0],
        )
        for top in STATUS
        for kind in _kinds(top)
    }
    return sorted([*tree, *((code, status, meaning) for code, (status, meaning) in REFUSALS.items()), *_ALSO])


_ALSO = (
    (NotAuthorisedError.code, 403, "The credential is good, and does not open this route."),
    (JobTimeoutError.code, 409, "The job has no result: its deadline passed."),
    ("bad-request", 414, "A path and query longer than this server takes."),
    ("bad-request", 417, "An expectation that this server does not know."),
    ("bad-request", 431, "More or longer header fields than this server takes."),
)
"""Codes that come with another status, too."""


def _kinds(kind: type[BlindgateError]) -> Iterator[type[BlindgateError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)
