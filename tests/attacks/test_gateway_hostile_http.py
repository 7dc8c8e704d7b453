"""Every route, as the gateway's own document describes it, with requests that schemathesis makes up, for every caller.

A request is generated from the document, so that it keeps it or breaks it; then it may name real objects, of the caller or of somebody
else, carry a real lease, or a body that is right; and then it gets the caller's credential: of a node, a signature over what
was generated. So requests reach past "not found", and the same ones come from whoever may not send them.

`make nightly` sends more than 20,000, other ones each time; `make test` a slice that is always the same.
"""

import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import requests
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks as openapi

import campaigns
from blindgate_gateway.app import ROUTES
from blindgate_gateway.documentation import problem_codes
from blindgate_gateway.routing import Route
from blindgate_protocol.messages import LEASE_HEADER
from blindgate_protocol.values import Value
from hostile_stage import CANARY, NODE, Stage, behind_a_socket, in_process

CASES: Final = campaigns.of(16, slice_of=2)
"""Of each operation, for each caller, at each gateway."""
SEED: Final = campaigns.of(random.SystemRandom().randrange(1 << 32), slice_of=0)
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
AS_GENERATED, REAL, WITH_BODY, ANOTHERS = "as generated", "real names", "real names and body", "another's names"
MIXES: Final = (AS_GENERATED, REAL, WITH_BODY, WITH_BODY, ANOTHERS)
LONGEST_WAIT: Final = 20
UNSENT: Final = 0
BY_OPERATION: Final = {route.name.replace(".", "_"): route for route in ROUTES}


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the application in this process logs."""
    lines: list[str] = []

    def keep(_logger: object, method: str, event: dict[str, Any]) -> str:
        lines.append(repr((method, event)))
        raise structlog.DropEvent

    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    yield lines
    structlog.reset_defaults()


@pytest.fixture(
    params=[
        "in this process",
        pytest.param("behind a socket", marks=pytest.mark.skipif(campaigns.CAMPAIGN == 1, reason="nightly")),
    ]
)
def stage(request: pytest.FixtureRequest, tmp_path: Path, database_url: str | None, said: list[str]) -> Iterator[Stage]:
    """A gateway on each database, in this process and as processes of its own."""
    made: AbstractContextManager[Stage]
    if request.param == "in this process":
        made = in_process(tmp_path, database_url, lambda: "\n".join(said))
    else:
        made = behind_a_socket(tmp_path, database_url)
    with made as opened:
        yield opened


def test_no_request_of_anybody_makes_the_gateway_fail_or_its_document_a_lie(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    """No 5xx, every answer as the document says, nothing of another tenant's, and no body in the log."""
    schema = schemathesis.openapi.from_dict(stage.http.get("/openapi.json").json())
    campaign = Campaign(stage)
    for result in schema.get_all_operations():
        operation: Any = result.ok()
        strategy = st.tuples(cases(operation), st.sampled_from(MIXES), st.integers(0, 1 << 16))
        for caller in CALLERS:
            campaign.drive(strategy, caller, f"{request.node.name}/{operation.label}/{caller}")
    faults, counts = campaign.faults, campaign.counts
    log = stage.log()
    faults += [f"the log has {text!r}" for text in (*campaign.sent, CANARY) if text in log]
    faults += [f"the log: {line[:3000]}" for line in log.splitlines() if re.search(r"[\"'](failed|error)[\"']", line)]
    print(f"seed {SEED}: {sum(counts.values())} requests: " + table(counts))
    assert not faults, f"seed {SEED}, {len(faults)} faults:\n\n" + "\n\n".join(faults[:20])
    assert all(counts[caller, UNSENT] < 0.05 * sum(counts.values()) for caller in CALLERS)
    for caller in ROLES:
        assert any(counts[caller, good] for good in (200, 201, 204)), f"{caller} was never answered well"


@dataclass
class Campaign:
    """What was sent to a stage, and what came back."""

    stage: Stage
    faults: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    sent: set[str] = field(default_factory=set)

    def drive(self, strategy: st.SearchStrategy[tuple[Case, str, int]], caller: str, name: str) -> None:
        """Send, as `caller`, so many of what the strategy gives; which ones, the seed and the name decide."""

        @hypothesis.seed(zlib.crc32(name.encode()) ^ SEED)
        @hypothesis.settings(
            max_examples=CASES,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(strategy)
        def attempt(drawn: tuple[Case, str, int]) -> None:
            self.attempt(*drawn, caller)

        attempt()

    def attempt(self, case: Case, mix: str, number: int, caller: str) -> None:
        """Send one request, and look at its answer."""
        try:
            asked = prepared(self.stage, case, mix, number, caller)
        except (requests.RequestException, UnicodeError, ValueError):
            self.counts[caller, UNSENT] += 1  # no HTTP library sends this; raw bytes have a test of their own
            return
        answer = self.stage.session.send(asked, timeout=30, allow_redirects=False)
        self.counts[caller, answer.status_code] += 1
        self.sent.update(texts_of(asked.body))
        self.faults += [
            f"{caller}, {mix}: {asked.method} {asked.path_url}: {fault}\n{asked.body!r:.2000}"
            for fault in faults_of(self.stage, case, caller, asked, answer)
        ]
        if caller == NODE and answer.ok and asked.method == "POST":
            self.stage.renew()


def cases(operation: Any) -> st.SearchStrategy[Case]:
    """Requests that keep what the document says of an operation, and such that break it, where it says anything."""
    keeping = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    route = BY_OPERATION.get(operation.definition.raw.get("operationId"))
    if route is None or not (route.body or route.parameters or "<" in route.rule):
        return keeping  # type: ignore[no-any-return]
    return st.one_of(keeping, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def prepared(stage: Stage, case: Case, mix: str, number: int, caller: str) -> requests.PreparedRequest:
    """The request to the byte, as `caller` sends it. Raises what `requests` does of what is no request."""
    operation = case.operation.definition.raw.get("operationId")
    if mix != AS_GENERATED:
        names = stage.names["clinic" if mix == ANOTHERS else "bank"]
        if operation.startswith("leases_"):
            names = names | {"job": [stage.lease.job]}
        for name in case.path_parameters or {}:
            case.path_parameters[name] = names[name][number % len(names[name])]
        if LEASE_HEADER in (case.headers or {}) or operation.startswith("leases_"):
            case.headers[LEASE_HEADER] = f"{stage.lease.generation}.{stage.lease.token}"
    for name in ("wait",):
        if re.fullmatch(r"[0-9]{1,9}", str((case.query or {}).get(name, ""))):
            case.query[name] = LONGEST_WAIT
    given = case.as_transport_kwargs(base_url=stage.url)
    given.pop("cookies", None)
    if "json" in given:
        value = given.pop("json")
        if isinstance(value, dict) and isinstance(value.get("wait"), int):
            value["wait"] = min(value["wait"], LONGEST_WAIT)
        given["data"] = json.dumps(value)
    made = stage.body(operation or "") if mix in {WITH_BODY, ANOTHERS} else None
    if made is not None:
        given["data"] = made.model_dump_json() if isinstance(made, Value) else made
    ready = requests.Request(**given).prepare()
    stage.authorise(ready, caller)
    return ready


def faults_of(
    stage: Stage, case: Case, caller: str, asked: requests.PreparedRequest, answer: requests.Response
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
    if 300 <= status:
        code = answer.json().get("code") if kind == "application/problem+json" else None
        if (code, status) not in problem_codes():
            yield f"{status} {kind} is no problem with a known code: {code}"
    if status == 405 and not answer.headers.get("Allow"):
        yield "405 without Allow"
    route: Route | None = BY_OPERATION.get(case.operation.definition.raw.get("operationId", ""))
    if (
        route is not None
        and route.roles
        and not route.roles & ROLES.get(caller, set())
        and status not in {401, 403, 404, 405}
    ):
        yield f"{status} for {caller}"
    token = stage.credentials[caller]
    if token is not None and token.partition(".")[2] in answer.text:
        yield "the answer has the credential"
    if caller in TENANTS:
        yield from (f"the answer has the clinic's {mark[:40]}" for mark in stage.marks if mark in answer.text)


def texts_of(body: bytes | str | None) -> Iterator[str]:
    """The texts in a body that no log may repeat: long, and no name of an object."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
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
        elif isinstance(each, str) and len(each) >= 16 and not re.fullmatch(r"[a-z0-9:._/+-]*", each):
            yield each


def table(counts: Counter[tuple[str, int]]) -> str:
    """How often each caller got each status."""
    return "; ".join(
        f"{caller}: "
        + ", ".join(f"{status} {count}" for (who, status), count in sorted(counts.items()) if who == caller)
        for caller in CALLERS
    )
