"""The interface, described by itself: OpenAPI 3.1 at `/openapi.json`, and a page for people at `/docs`.

APIFlask makes the paths and the summaries from the views; what it cannot know, because bodies are parsed by `routing` in one
step from bytes, is put in from the same declarations that `routing` works by. The page is plain HTML from the
same document, with nothing loaded from elsewhere: gateways stand in networks that reach no CDN.
"""

from collections.abc import Iterable
from typing import Any

from apiflask import APIFlask
from flask import render_template
from pydantic.json_schema import models_json_schema

from blindgate_gateway.idempotency import HEADER, LONGEST
from blindgate_gateway.identity import Role
from blindgate_gateway.problems import REFUSALS, STATUS
from blindgate_gateway.routing import Raw, Route
from blindgate_protocol.http_signatures import SIGNATURE
from blindgate_protocol.messages import Problem
from blindgate_protocol.values import Value

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
    "upload": ("an upload's id", {"type": "string"}),
    "number": ("a part's number, from 1", {"type": "integer", "minimum": 1}),
    "name": ("a model's name", {"type": "string"}),
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
    models: dict[type[Value], None] = {Problem: None}
    for route in routes:
        operation = spec["paths"][_path(route.rule)][route.method.lower()]
        operation["tags"] = [route.group]
        operation["operationId"] = route.name.replace(".", "_")
        operation["parameters"] = _parameters(route)
        if route.roles:
            operation["security"] = [{_SCHEMES[role]: []} for role in sorted(route.roles)]
        if route.body is not None:
            operation["requestBody"] = {"required": True, "content": _content(route.body)}
        operation["responses"] = {
            str(status): {"description": "As asked."} | ({"content": _content(value)} if value is not None else {})
            for status, value in route.answers.items()
        } | {
            "default": {
                "description": "A refusal.",
                "content": {"application/problem+json": {"schema": _schema(Problem)}},
            }
        }
        models |= {value: None for value in (route.body, *route.answers.values()) if isinstance(value, type)}
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    spec.setdefault("components", {})["schemas"] = schemas["$defs"]
    return spec


_ONCE: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Any text of the caller's choice: the same request under it again gets the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
}


def _path(rule: str) -> str:
    return rule.replace("<int:", "{").replace("<", "{").replace(">", "}")


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


def _refusals() -> list[tuple[str, int, str]]:
    """Every problem code with its status and meaning, for the page."""
    tree = [(kind.code, status, (kind.__doc__ or "").strip().splitlines()[0]) for kind, status in STATUS.items()]
    return sorted(tree + [(code, status, meaning) for code, (status, meaning) in REFUSALS.items()])
