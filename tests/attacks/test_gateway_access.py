"""Every route, with every wrong caller.

The table is held against the application's own routes: a route that is added without a row here fails the first test. The auditors'
console has a table of its own: who comes there brings no credential with a request, but the cookie of a session.
"""

import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import httpx2
import pytest
from sqlalchemy import update

from blindgate_gateway.app import ROUTES
from blindgate_gateway.identity import Role
from blindgate_gateway.routing import MAX_BODY, Route
from blindgate_gateway.tables import api_keys, attestations
from blindgate_protocol.attestations import AttestationAnswer, AttestationPoll, AttestationRequest
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import (
    LEASE_HEADER,
    AnswerPart,
    Commit,
    CorpusRequest,
    EvictionReport,
    JobRequest,
    KeyRequest,
    LeaseRequest,
    ModelOffer,
    Refusal,
    Release,
    UploadRequest,
)
from blindgate_protocol.nodes import Eviction
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import Value
from brokerage import Caller, Worker, blob_ref, now_ms, random_bytes
from desk import Desk, open_desk

TENANT, READER, PUBLISHER, NODE = Role.TENANT, Role.READER, Role.PUBLISHER, Role.NODE
OPERATOR, AUDITOR = Role.OPERATOR, Role.AUDITOR
ANYBODY: frozenset[Role] = frozenset()

OWNED = {"job", "digest", "upload", "attestation", "corpus"}
"""What a path calls objects of one tenant."""
SHARED = {"table", "name", "manifest", "number", "tile"}
"""What it calls models, which are for every tenant, parts of an upload, and tiles of the log, which are for everybody."""


@dataclass(frozen=True)
class Row:
    """Who may call a route, and whether its path names an object of somebody's."""

    roles: frozenset[Role]
    owned: bool = False


TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/v1/tenant"): Row(frozenset({TENANT, READER, PUBLISHER})),
    ("GET", "/v1/models"): Row(frozenset({TENANT, READER, PUBLISHER})),
    ("GET", "/v1/models/<name>"): Row(frozenset({TENANT, READER, PUBLISHER})),
    ("GET", "/v1/models/<manifest>/client"): Row(frozenset({TENANT, READER})),
    ("GET", "/v1/models/<name>/budget"): Row(frozenset({TENANT, READER})),
    ("POST", "/v1/models"): Row(frozenset({PUBLISHER})),
    ("POST", "/v1/uploads"): Row(frozenset({TENANT, PUBLISHER})),
    ("POST", "/v1/uploads/<upload>/complete"): Row(frozenset({TENANT, PUBLISHER}), owned=True),
    ("GET", "/v1/uploads/<upload>"): Row(frozenset({TENANT, PUBLISHER}), owned=True),
    ("PUT", "/v1/uploads/<upload>/parts/<int:number>"): Row(frozenset({TENANT, PUBLISHER}), owned=True),
    ("PUT", "/v1/corpora/<corpus>"): Row(frozenset({TENANT}), owned=True),
    ("GET", "/v1/corpora"): Row(frozenset({TENANT, READER})),
    ("GET", "/v1/corpora/<corpus>"): Row(frozenset({TENANT, READER}), owned=True),
    ("GET", "/v1/corpora/<corpus>/blobs/<digest>"): Row(frozenset({TENANT, READER}), owned=True),
    ("DELETE", "/v1/corpora/<corpus>"): Row(frozenset({TENANT}), owned=True),
    ("POST", "/v1/keys"): Row(frozenset({TENANT})),
    ("GET", "/v1/keys"): Row(frozenset({TENANT, READER})),
    ("GET", "/v1/keys/<digest>"): Row(frozenset({TENANT, READER}), owned=True),
    ("POST", "/v1/jobs"): Row(frozenset({TENANT})),
    ("GET", "/v1/jobs"): Row(frozenset({TENANT, READER})),
    ("GET", "/v1/jobs/<job>"): Row(frozenset({TENANT, READER}), owned=True),
    ("GET", "/v1/jobs/<job>/result"): Row(frozenset({TENANT, READER}), owned=True),
    ("GET", "/v1/jobs/<job>/answer"): Row(frozenset({TENANT, READER}), owned=True),
    ("POST", "/v1/jobs/<job>/cancel"): Row(frozenset({TENANT}), owned=True),
    ("POST", "/v1/jobs/<job>/acknowledge"): Row(frozenset({TENANT}), owned=True),
    ("GET", "/v1/jobs/<job>/record"): Row(frozenset({TENANT, READER}), owned=True),
    ("POST", "/v1/nodes"): Row(ANYBODY),
    ("POST", "/v1/leases"): Row(frozenset({NODE})),
    ("POST", "/v1/leases/<job>/heartbeat"): Row(frozenset({NODE})),
    ("GET", "/v1/leases/<job>/blobs/<digest>"): Row(frozenset({NODE})),
    ("GET", "/v1/leases/<job>/corpora/<corpus>/blobs/<digest>"): Row(frozenset({NODE})),
    ("PUT", "/v1/leases/<job>/result"): Row(frozenset({NODE})),
    ("POST", "/v1/leases/<job>/answer"): Row(frozenset({NODE})),
    ("POST", "/v1/leases/<job>/commit"): Row(frozenset({NODE})),
    ("POST", "/v1/leases/<job>/refuse"): Row(frozenset({NODE})),
    ("POST", "/v1/leases/<job>/release"): Row(frozenset({NODE})),
    ("POST", "/v1/attestations"): Row(frozenset({TENANT})),
    ("GET", "/v1/attestations/<attestation>"): Row(frozenset({TENANT, READER}), owned=True),
    ("POST", "/v1/questions"): Row(frozenset({NODE})),
    ("POST", "/v1/questions/<attestation>/answer"): Row(frozenset({NODE})),
    ("POST", "/v1/questions/<attestation>/refuse"): Row(frozenset({NODE})),
    ("POST", "/v1/evictions"): Row(frozenset({NODE})),
    ("GET", "/v1/log"): Row(ANYBODY),
    ("GET", "/log/checkpoint"): Row(ANYBODY),
    ("GET", "/log/tile/<path:tile>"): Row(ANYBODY),
    ("GET", "/v1/jobs/<job>/proof"): Row(frozenset({TENANT, READER}), owned=True),
    ("GET", "/v1/keys/<digest>/events"): Row(frozenset({TENANT, READER}), owned=True),
    ("GET", "/v1/audit/events"): Row(frozenset({AUDITOR})),
    ("GET", "/v1/audit/pseudonyms"): Row(frozenset({AUDITOR})),
    ("GET", "/v1/operator/jobs"): Row(frozenset({OPERATOR})),
    ("GET", "/v1/operator/jobs/<job>"): Row(frozenset({OPERATOR})),
    ("GET", "/v1/operator/nodes"): Row(frozenset({OPERATOR})),
    ("GET", "/v1/audit/jobs"): Row(frozenset({AUDITOR})),
    ("GET", "/v1/audit/jobs/<job>"): Row(frozenset({AUDITOR})),
    ("GET", "/v1/audit/keys"): Row(frozenset({AUDITOR})),
    ("GET", "/v1/audit/nodes"): Row(frozenset({AUDITOR})),
    ("GET", "/v1/audit/rows/<table>"): Row(frozenset({AUDITOR})),
    ("GET", "/healthz"): Row(ANYBODY),
    ("GET", "/readyz"): Row(ANYBODY),
    ("GET", "/metrics"): Row(ANYBODY),
    ("GET", "/openapi.json"): Row(ANYBODY),
    ("GET", "/docs"): Row(ANYBODY),
}
OPEN, SESSION = False, True
CONSOLE: dict[tuple[str, str], bool] = {
    ("GET", "/console/sign-in"): OPEN,
    ("POST", "/console/sign-in"): OPEN,
    ("GET", "/console/static/<path:filename>"): OPEN,
    ("POST", "/console/sign-out"): SESSION,
    ("GET", "/console/"): SESSION,
    ("GET", "/console/keys"): SESSION,
    ("GET", "/console/keys/<digest>"): SESSION,
    ("GET", "/console/jobs"): SESSION,
    ("GET", "/console/jobs/<job>"): SESSION,
    ("GET", "/console/jobs/<job>/check"): SESSION,
    ("GET", "/console/jobs/<job>/receipt"): SESSION,
    ("GET", "/console/log"): SESSION,
    ("GET", "/console/log/<int:index>"): SESSION,
    ("GET", "/console/log/<int:index>/check"): SESSION,
    ("GET", "/console/log/<int:index>/proof"): SESSION,
    ("GET", "/console/exports"): SESSION,
    ("GET", "/console/exports/events.jsonl"): SESSION,
    ("GET", "/console/exports/events.csv"): SESSION,
    ("GET", "/console/names"): SESSION,
}
"""The pages of the console, and whether they need an auditor's session."""
GUARDED_PAGES = [pytest.param(*place, id=" ".join(place)) for place, needed in CONSOLE.items() if needed]
DECLARED = {(route.method, route.rule): route for route in ROUTES}
GUARDED = [pytest.param(route, id=f"{route.method} {route.rule}") for route in ROUTES if route.roles]


@dataclass
class World:
    """A gateway with one object of everything, all of them the tenant's."""

    desk: Desk
    bodies: dict[str, Value]
    names: dict[str, str]
    lease: str

    def path(self, route: Route) -> str:
        """The route's path to the tenant's own objects."""
        path = route.rule.replace("<int:number>", "1")
        for name, value in self.names.items():
            path = path.replace(f"<{name}>", value)
        return path

    def call(self, caller: Caller, route: Route) -> httpx2.Response:
        """Call a route as its rightful caller would, but as `caller`."""
        body = self.bodies.get(route.name, b"" if route.method != "GET" else None)
        return caller.send(route.method, self.path(route), body, {LEASE_HEADER: self.lease})


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One gateway for the whole table, on each database: what is refused changes nothing."""
    database = None
    if request.param == "postgresql":
        database = request.getfixturevalue("postgresql_server").new_database()
    with open_desk(tmp_path_factory.mktemp("access"), failures=0, database=database) as desk:
        key = desk.tenant.upload(b"evaluation key")
        statement = desk.tenant.statement(key, KeyState.ACTIVE)
        desk.tenant.state(statement)
        lease = desk.leased()
        order = desk.tenant.order(desk.manifest, desk.tenant.upload(random_bytes(8)))
        upload = desk.tenant.ask("POST", "/v1/uploads", UploadRequest(size=9, sha256=blob_ref(random_bytes(9)).digest))
        receipt = desk.worker.receipt(lease, b"out")
        eviction = desk.worker.key.sign(
            Eviction(node=desk.worker.key.id, tenant="bank", key=key.digest, reason="room", issued=now_ms())
        )
        question = AttestationRequest(model=desk.manifest.digest, policy=key.digest, nonce=random_bytes(32))
        asked = desk.tenant.ask("POST", "/v1/attestations", question).json()["attestation"]
        head = CorpusRequest(head=key, shards=(), instead_of=None)
        desk.tenant.ask("PUT", "/v1/corpora/notes", head)
        with desk.parts.database.write() as connection:  # the table takes longer than a question lives
            connection.execute(update(attestations).values(until=attestations.c.until + 3_600_000))
        yield World(
            desk=desk,
            bodies={
                "models.offer_model": ModelOffer(manifest=desk.manifest.envelope),
                "uploads.request_upload": UploadRequest(size=1, sha256=key.digest),
                "keys.state_key": KeyRequest(statement=statement.envelope),
                "corpora.put_corpus": head.model_copy(update={"instead_of": key.digest}),
                "jobs.submit": JobRequest(order=order.envelope),
                "leases.poll": LeaseRequest(families=("echo",)),
                "attestations.ask": question,
                "attestations.pull": AttestationPoll(),
                "attestations.answer": AttestationAnswer(recipient=receipt.envelope, evidence=b"evidence"),
                "attestations.refuse": Refusal(code="no", reason=""),
                "sealed_answers.add_part": AnswerPart(begin=0, data=b"sealed"),
                "evictions.report": EvictionReport(evictions=(eviction.envelope,)),
                "leases.commit": Commit(receipt=receipt.envelope),
                "leases.refuse": Refusal(code="no", reason=""),
                "leases.release": Release(code="no", reason=""),
            },
            names={
                "job": lease.job,
                "digest": key.digest,
                "upload": upload.json()["upload"],
                "attestation": asked,
                "corpus": "notes",
                "name": "echo",
                "manifest": desk.manifest.digest,
                "table": "keys",
            },
            lease=f"{lease.generation}.{lease.token}",
        )


def _as(world: World, role: Role) -> Caller:
    desk = world.desk
    return {
        TENANT: desk.tenant,
        READER: desk.reader,
        PUBLISHER: desk.publisher,
        NODE: desk.worker,
        OPERATOR: desk.operator,
        AUDITOR: desk.auditor,
    }[role]


def test_every_route_has_a_row_and_every_row_a_route(world: World) -> None:
    """A new route must say here who may call it."""
    rules = {
        (method, rule.rule)
        for rule in world.desk.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static" and not rule.endpoint.startswith("console.")
    }
    assert rules == set(TABLE)
    for place, route in DECLARED.items():
        assert route.roles == TABLE[place].roles, place


def test_every_page_of_the_console_has_a_row(world: World) -> None:
    """A new page must say here whether it is shown without a session, and is no route of the interface's document."""
    rules = {
        (method, rule.rule)
        for rule in world.desk.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint.startswith("console.")
    }
    assert rules == set(CONSOLE)
    assert not any(path.startswith("/console") for path in world.desk.http.get("/openapi.json").json()["paths"])


def _console(world: World, method: str, rule: str, cookie: str | None, **headers: str) -> httpx2.Response:
    names = {"<int:index>": "0", "<job>": world.names["job"], "<digest>": world.names["digest"]}
    for name, value in names.items():
        rule = rule.replace(name, value)
    given = {"Sec-Fetch-Site": "same-origin"} | ({} if cookie is None else {"Cookie": f"blindgate-console={cookie}"})
    world.desk.http.cookies.clear()
    return world.desk.http.request(method, rule, headers=given | headers)


def _session(world: World) -> str:
    form = {"key": world.desk.auditor.token}
    answer = world.desk.http.post("/console/sign-in", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    return str(answer.cookies["blindgate-console"])


@pytest.mark.parametrize(("method", "rule"), GUARDED_PAGES)
@pytest.mark.parametrize(
    "cookie",
    [None, "", "x", "A" * 43, '"' + r"\303\251" * 43 + '"', "A" * 4000],
    ids=["none", "empty", "short", "unknown", "odd", "long"],
)
def test_a_page_without_a_session_sends_to_sign_in(world: World, method: str, rule: str, cookie: str | None) -> None:
    """And shows nothing: also to whoever brings an auditor's API key, as on the other routes."""
    for headers in ({}, {"Authorization": f"Bearer {world.desk.auditor.token}"}):
        answer = _console(world, method, rule, cookie, **headers)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/console/sign-in")
        assert world.names["job"] not in answer.text


@pytest.mark.parametrize(("method", "rule"), GUARDED_PAGES)
@pytest.mark.parametrize(
    "change",
    [{"revoked": 1}, {"expires": 1}, {"scopes": "operator"}],
    ids=["revoked", "expired", "an operator's now"],
)
def test_a_session_is_worth_what_its_key_is(world: World, method: str, rule: str, change: dict[str, int | str]) -> None:
    """At each request."""
    cookie = _session(world)
    assert world.desk.auditor.token is not None
    this = update(api_keys).where(api_keys.c.id == world.desk.auditor.token[3:19])
    with world.desk.parts.database.write() as connection:
        connection.execute(this.values(change))
    try:
        answer = _console(world, method, rule, cookie)
    finally:
        with world.desk.parts.database.write() as connection:
            connection.execute(this.values({"revoked": None, "expires": None, "scopes": "auditor"}))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/sign-in")


@pytest.mark.parametrize(("method", "rule"), GUARDED_PAGES)
def test_an_auditors_session_opens_the_page(world: World, method: str, rule: str) -> None:
    """Each of them: what is not there (a receipt, before the job ended) is not found, and nothing is refused."""
    world.desk.parts.log.sequencer.advance()
    answer = _console(world, method, rule, _session(world))
    assert answer.status_code in {200, 302, 303, 404}
    assert answer.headers.get("Location") != "/console/sign-in" or rule == "/console/sign-out"
    assert answer.status_code != 404 or "receipt" in rule


@pytest.mark.parametrize("role", [TENANT, READER, PUBLISHER, OPERATOR])
def test_nobody_but_an_auditor_signs_in(world: World, role: Role) -> None:
    """Whatever their key is good for elsewhere."""
    world.desk.http.cookies.clear()
    form = {"key": _as(world, role).token}
    answer = world.desk.http.post("/console/sign-in", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (403 if role is OPERATOR else 401, False)


def test_a_session_opens_nothing_but_the_console(world: World) -> None:
    """No other route looks at its cookie."""
    headers = {"Cookie": f"blindgate-console={_session(world)}"}
    for route in ROUTES:
        if route.roles:
            assert world.desk.http.request(route.method, world.path(route), headers=headers).status_code == 401


def test_a_path_that_names_a_tenants_object_is_tried_by_another_tenant() -> None:
    """A row cannot leave that out: which names in a path are a tenant's is said once, and a new name has to be said, too."""
    for (method, rule), row in TABLE.items():
        named = set(re.findall(r"<(?:int:|path:)?(\w+)>", rule))
        assert named <= OWNED | SHARED, (method, rule)
        assert row.owned == bool(named & OWNED and row.roles & {TENANT, READER, PUBLISHER}), (method, rule)


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("Bearer ", id="empty"),
        pytest.param("Basic YTpi", id="basic"),
        pytest.param("Bearer bg_0000000000000000.AAAA", id="unknown key"),
        pytest.param("Bearer bn_0000000000000000.AAAA", id="a node's token, as they once were"),
        pytest.param("Bearer be_0000000000000000.AAAA", id="enrolment token"),
        pytest.param("Bearer bs_0000000000000000.AAAA", id="unknown staff"),
    ],
)
def test_a_route_without_a_valid_credential_is_401(world: World, route: Route, authorization: str | None) -> None:
    """Before anything of the request is looked at."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = world.desk.http.request(route.method, world.path(route), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not-authorised")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("route", GUARDED)
def test_a_right_id_with_a_wrong_secret_is_401(world: World, route: Route) -> None:
    """An id is no secret."""
    rightful = _as(world, min(route.roles))
    if isinstance(rightful, Worker):
        thief = rightful.over(rightful.http)
        thief.key = copy(rightful.key)
        thief.key._private = SigningKey.generate()._private
        answer = world.call(thief, route)
    else:
        assert rightful.token is not None
        answer = world.call(Caller(world.desk.http, f"{rightful.token.partition('.')[0]}.{'A' * 43}"), route)
    assert answer.status_code == 401


@pytest.mark.parametrize("route", [param for param in GUARDED if param.values[0].roles != {NODE}])  # type: ignore[union-attr]
@pytest.mark.parametrize(("column", "code"), [("revoked", "not-authorised"), ("expires", "key-expired")])
def test_a_key_whose_time_is_over_is_401(world: World, route: Route, column: str, code: str) -> None:
    """Of the right role, revoked or expired; only who has the secret learns that it expired."""
    rightful = _as(world, min(route.roles))
    assert rightful.token is not None
    head = rightful.token.partition(".")[0]
    this = update(api_keys).where(api_keys.c.id == head.partition("_")[2])
    with world.desk.parts.database.write() as connection:
        connection.execute(this.values({column: 1}))
    try:
        answer = world.call(rightful, route)
        guessed = world.call(Caller(world.desk.http, f"{head}.{'A' * 43}"), route)
    finally:
        with world.desk.parts.database.write() as connection:
            connection.execute(this.values({column: None}))
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert (guessed.status_code, guessed.json()["code"]) == (401, "not-authorised")


@pytest.mark.parametrize("route", [param for param in GUARDED if param.values[0].roles == {NODE}])  # type: ignore[union-attr]
def test_a_nodes_request_that_was_overheard_is_worth_nothing(world: World, route: Route) -> None:
    """Neither again, nor for another lease, nor on another route."""
    path, body = world.path(route), world.bodies.get(route.name)
    content = None if body is None else body.model_dump_json().encode()
    signed = world.desk.worker.signed(route.method, path, content, {LEASE_HEADER: world.lease})
    for there, changes in ((path + "?x=1", {}), (path, {LEASE_HEADER: f"2.{'0' * 32}"})):
        answer = world.desk.http.request(route.method, there, content=content, headers=signed | changes)
        assert (answer.status_code, answer.json()["code"]) == (401, "not-authorised")


@pytest.mark.parametrize(
    ("route", "role"),
    [
        pytest.param(route, role, id=f"{role.value} {route.method} {route.rule}")
        for route in ROUTES
        for role in Role
        if route.roles and role not in route.roles
    ],
)
def test_another_role_is_403(world: World, route: Route, role: Role) -> None:
    """A valid credential opens only the routes of its role."""
    answer = world.call(_as(world, role), route)
    assert (answer.status_code, answer.json()["code"]) == (403, "not-authorised")


@pytest.mark.parametrize(
    "route", [pytest.param(DECLARED[place], id=" ".join(place)) for place, row in TABLE.items() if row.owned]
)
def test_another_tenants_object_is_404(world: World, route: Route) -> None:
    """Exactly as one that never was, and never 403."""
    theirs = world.call(world.desk.stranger, route)
    names = dict(world.names)
    world.names.update({"job": "0" * 32, "digest": "sha256:" + "0" * 64, "upload": "0" * 32, "attestation": "0" * 32})
    world.names["corpus"] = "nobodys"
    nobodys = world.call(world.desk.stranger, route)
    world.names.update(names)
    assert (theirs.status_code, theirs.json()["code"]) == (404, "not-found")
    assert {k: v for k, v in theirs.json().items() if k != "request"} == {
        k: v for k, v in nobodys.json().items() if k != "request"
    }


@pytest.mark.parametrize(
    "route", [pytest.param(route, id=route.name) for route in ROUTES if isinstance(route.body, type)]
)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 422, id="empty"),
        pytest.param(b"{", 422, id="no JSON"),
        pytest.param(b"[]", 422, id="a list"),
        pytest.param(b'{"surprise": 1}', 422, id="an unknown field"),
        pytest.param(b"\xff\xfe", 422, id="no UTF-8"),
        pytest.param(b"[" * 100_000, 422, id="deep"),
        pytest.param(b" " * (MAX_BODY + 1), 413, id="too long"),
    ],
)
def test_a_body_of_another_shape_is_refused_and_not_repeated(
    world: World, route: Route, body: bytes, status: int
) -> None:
    """422 or 413, never 500, and the refusal holds nothing of the body."""
    caller = _as(world, min(route.roles)) if route.roles else Caller(world.desk.http, None)
    answer = caller.send(route.method, world.path(route), body, {LEASE_HEADER: world.lease})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "surprise" not in answer.json()["detail"] or "Extra" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/jobs/", "/v2/jobs", "/v1/jobs/x/../../y", "/static/x"])
def test_an_unknown_route_is_a_problem_like_any_other(world: World, path: str) -> None:
    """404, in the same form."""
    answer = world.desk.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("rule", sorted({rule for _, rule in TABLE}))
def test_a_route_with_another_method_is_a_problem_too(world: World, rule: str) -> None:
    """405, in the same form, and it says which methods there are."""
    there = {method for method, of in TABLE if of == rule}
    path = re.sub(r"<int:\w+>", "1", re.sub(r"<(?:path:)?\w+>", "a", rule))
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - there:
        answer = world.desk.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == there


def test_the_table_changed_nothing(world: World) -> None:
    """After all of it the lease still stands, and the job ends once."""
    generation, token = world.lease.split(".")
    assert world.desk.state(world.names["job"]).value == "leased"
    answer = world.desk.worker.send(
        "POST", f"/v1/leases/{world.names['job']}/heartbeat", headers={LEASE_HEADER: f"{generation}.{token}"}
    )
    assert answer.status_code == 200
