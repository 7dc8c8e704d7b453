"""Requests that schemathesis made up, on their way to a stage as a caller sends them, and what may be wrong with an answer."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import requests
import schemathesis
from schemathesis import Case
from schemathesis.specs.openapi import checks as openapi

from blindgate_gateway.app import ROUTES
from blindgate_gateway.documentation import problem_codes
from blindgate_gateway.routing import Route
from blindgate_protocol.messages import LEASE_HEADER
from blindgate_protocol.values import Value
from hostile_stage import Stage

CALLERS: Final = (
    "nobody",
    "jobs",
    "publish",
    "read",
    "every scope",
    "node",
    "enrolment token",
    "operator",
    "auditor",
    "expired",
    "revoked",
)
ROLES: Final[dict[str, set[str]]] = {
    "jobs": {"tenant"},
    "publish": {"publisher"},
    "read": {"reader"},
    "every scope": {"tenant", "publisher", "reader"},
    "node": {"node"},
    "operator": {"operator"},
    "auditor": {"auditor"},
}
TENANTS: Final = {"jobs", "publish", "read", "every scope"}
CHECKS: Final = [
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
]
AS_GENERATED, REAL, WITH_BODY, ANOTHERS, POISONED = (
    "generated",
    "real names",
    "and a body",
    "another's names",
    "poisoned",
)
MIXES: Final = (AS_GENERATED, REAL, WITH_BODY, WITH_BODY, ANOTHERS, POISONED)
POISONS: Final = (
    "\0",
    "a\0b",
    "..",
    "a/../b",
    "%00",
    "' OR 1=1 --",
    "\u202e",
    "\u00e9" * 300,
    "\ud800",
    "{{7*7}}",
    "%s%n",
    "",
)
"""What stands in the place of one text of a request that is right: no generator thinks of a NUL often enough."""
BEFORE_ROLES: Final = {401, 403, 404, 405, 414, 431}
"""What a caller gets whom a route is not for: from it, or from the server before it was looked for."""
LONGEST_WAIT: Final = 20
MadeUp: TypeAlias = Case[Any]
BY_OPERATION: Final = {route.name.replace(".", "_"): route for route in ROUTES}


def name_objects(stage: Stage, case: MadeUp, mix: str, number: int) -> None:
    """Let a request name real objects, or one that nobody would, and carry the lease that there is."""
    if mix == AS_GENERATED:
        return
    leases = operation_of(case).startswith("leases_")
    names = stage.names["clinic" if mix == ANOTHERS else "bank"] | ({"job": [stage.lease.job]} if leases else {})
    for name in case.path_parameters or {}:
        case.path_parameters[name] = names[name][number % len(names[name])]
    if mix == POISONED and case.path_parameters and number % 2:
        case.path_parameters[next(iter(case.path_parameters))] = POISONS[number % len(POISONS)]
    if leases and LEASE_HEADER in (case.headers or {}):
        case.headers[LEASE_HEADER] = f"{stage.lease.generation}.{stage.lease.token}"


def with_poison(value: Any, number: int) -> Any:
    """The same value with another text in one place."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        inside = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for key, held in inside:
            waiting.append(held)
            places += [(each, key)] if isinstance(held, str) else []
    if places:
        place, key = places[number % len(places)]
        place[key] = POISONS[number // 7 % len(POISONS)]
    return value


def operation_of(case: MadeUp) -> str:
    """The operation's id in the document; empty for the two that the document leaves out of it."""
    return str(case.operation.definition.raw.get("operationId", ""))


def prepared(
    stage: Stage, case: MadeUp, caller: str, *, with_body: bool, poison: int | None = None
) -> requests.PreparedRequest:
    """The request to the byte, as `caller` sends it, perhaps with a body that is right, or that is so but for one text.

    Raises what `requests` does of what is no request.
    """
    if re.fullmatch(r"[0-9]{1,9}", str((case.query or {}).get("wait", ""))):
        case.query["wait"] = LONGEST_WAIT
    given = case.as_transport_kwargs(base_url=stage.url)
    given.pop("cookies", None)
    if "json" in given:
        value = given.pop("json")
        if isinstance(value, dict) and isinstance(value.get("wait"), int):
            value["wait"] = min(value["wait"], LONGEST_WAIT)
        given["data"] = json.dumps(value)
    made = stage.body(operation_of(case)) if with_body else None
    if made is not None:
        given["data"] = made.model_dump_json() if isinstance(made, Value) else made
    if isinstance(made, Value) and poison is not None:
        given["data"] = json.dumps(with_poison(json.loads(given["data"]), poison))
    ready = requests.Request(**given).prepare()
    stage.authorise(ready, caller)
    return ready


def faults_of(
    stage: Stage, case: MadeUp, caller: str, asked: requests.PreparedRequest, answer: requests.Response
) -> Iterator[str]:
    """What is wrong with an answer."""
    status, kind = answer.status_code, answer.headers.get("Content-Type", "")
    if status >= 500 and not (status == 503 and answer.headers.get("Retry-After", "").isdigit()):
        yield f"{status}: {answer.text[:300]}"
    try:
        case.validate_response(answer, checks=CHECKS)
    except schemathesis.core.failures.FailureGroup as error:
        yield from (
            f"{status}, not as in the document: {each.title}: {each.message[:600]}" for each in error.exceptions
        )
    if status >= 300:
        code = answer.json().get("code") if kind == "application/problem+json" else None
        if (code, status) not in problem_codes():
            yield f"{status} {kind} is no problem with a known code: {code}"
    if status == 405 and not answer.headers.get("Allow"):
        yield "405 without Allow"
    route: Route | None = BY_OPERATION.get(operation_of(case))
    if route is not None and route.roles and not route.roles & ROLES.get(caller, set()) and status not in BEFORE_ROLES:
        yield f"{status} for {caller}"
    token = stage.credentials[caller]
    if token is not None and token.partition(".")[2] in answer.text:
        yield "the answer has the credential"
    if caller in TENANTS:
        yield from (f"the answer has the clinic's {mark[:40]}" for mark in stage.marks if mark in answer.text)


def texts_of(body: bytes) -> Iterator[str]:
    """The texts in a body that no log may repeat: long, and no name of an object."""
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [*each.values(), *each]
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str) and len(each) >= 16 and not re.fullmatch(r"[a-z0-9:._/+-]*|ed25519:[\w-]{43}", each):
            yield each
