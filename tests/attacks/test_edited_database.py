"""An operator edits the database behind a running gateway: `audit verify` with an auditor's key names the row.

The gateway is honest, and shows what its tables have. What is edited is put back after each test.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from audit_command import audit_verify
from blindgate_audit.held import HELD
from blindgate_models.compilers.polynomial import compile_network
from campaigns import leave_to_nightly
from runs import SOON_IN_THE_LOG
from signed_packages import PUBLISHER, package
from square_networks import drawn
from static_logs import findings
from typed import type_command
from world import World

Found = tuple[int, list[tuple[int | None, str]], str]
Edit = tuple[str, str, dict[str, Any], str]
SUCCESS = "position = (SELECT min(position) FROM events WHERE action = 'job.succeeded')"
A_JOB = "job = (SELECT min(job) FROM ended_jobs)"
DIGEST = f"sha256:{'0' * 64}"
STRANGER = f"ed25519:{'A' * 43}"
A_SECOND_LATER = object()
HOSPITAL = "name = 'hospital'"
HOSPITAL_S = "tenant = 'hospital'"
KEY = "tenant = 'hospital' AND revoked IS NULL AND expires IS NULL"
REPLACED = "tenant = 'hospital' AND expires IS NOT NULL"
SPENT = "node IS NOT NULL"
LATE = 9_000_000_000_000
DOOR = {"id": "d00d", "secret_hash": "0" * 64, "created": 1}

EDITS: dict[str, Edit] = {
    "an event's words": ("events", SUCCESS, {"body": "{}"}, "commitment"),
    "an event's salt": ("events", SUCCESS, {"salt": bytes(32)}, "commitment"),
    "an event's entry": ("events", SUCCESS, {"commitment": bytes(32)}, "commitment"),
    "by which action an event is found": ("events", SUCCESS, {"action": "job.failed"}, "commitment"),
    "by which object an event is found": ("events", SUCCESS, {"object": f"job:{'0' * 32}"}, "commitment"),
    "by which tenant an event is found": ("events", SUCCESS, {"tenant": f"tenant-{'0' * 32}"}, "commitment"),
    "by which time an event is found": ("events", SUCCESS, {"time": 1_700_000_000_000}, "commitment"),
    "an event, deleted": ("events", SUCCESS, {}, "gap"),
    "an event at another place": ("events", SUCCESS, {"position": 10_000_000}, "gap"),
    "an event erased in secret": ("events", SUCCESS, {"body": None, "salt": None}, "erasure"),
    "how a job ended": ("ended_jobs", A_JOB, {"state": "failed"}, "record"),
    "a job's tenant": ("ended_jobs", A_JOB, {"tenant": "models"}, "record"),
    "a job, deleted": ("ended_jobs", A_JOB, {}, "record"),
    "a job's documents, deleted": ("job_documents", A_JOB, {}, "record"),
    "who is meant by a pseudonym": ("pseudonyms", "name = 'hospital'", {"name": "other"}, "record"),
    "a pseudonym, erased in secret": ("pseudonyms", "name = 'hospital'", {}, "record"),
    "a node's name": ("nodes", "1", {"name": "other"}, "record"),
    "a node's operator": ("nodes", "1", {"operator": STRANGER}, "record"),
    "a node, dismissed in secret": ("nodes", "1", {"expires": 0}, "record"),
    "a node's key": ("nodes", "1", {"key": STRANGER}, "record"),
    "a node's certificate": ("nodes", "1", {"certificate": "{}"}, "record"),
    "when a node was taken in": ("nodes", "1", {"enrolled": 1_700_000_000_000}, "record"),
    "what is meant by a name": ("pseudonyms", "name = 'hospital'", {"pseudonym": f"tenant-{'0' * 32}"}, "record"),
    "an order": ("job_documents", A_JOB, {"order": "{}"}, "record"),
    "a node, deleted": ("nodes", "1", {}, "record"),
    "a job's state, to none that there is": ("ended_jobs", A_JOB, {"state": "well"}, "row"),
    "a job's model": ("ended_jobs", A_JOB, {"manifest": DIGEST}, "row"),
    "a job's input": ("ended_jobs", A_JOB, {"input_digest": DIGEST}, "row"),
    "a job's key": ("ended_jobs", A_JOB, {"evaluation_key": DIGEST}, "row"),
    "a job's time": ("ended_jobs", A_JOB, {"submitted": 1_700_000_000_000}, "row"),
    "a job's deadline": ("ended_jobs", A_JOB, {"deadline": 1_700_000_000_000}, "row"),
    "a job's end": ("ended_jobs", A_JOB, {"ended": 1_700_000_000_000}, "row"),
    "a job's lease": ("ended_jobs", A_JOB, {"generation": 7}, "row"),
    "a job's node": ("ended_jobs", A_JOB, {"node": STRANGER}, "row"),
    "a job's result": ("ended_jobs", A_JOB, {"result_digest": DIGEST}, "row"),
    "a result's size": ("ended_jobs", A_JOB, {"result_size": 1}, "row"),
    "a receipt, taken away": ("job_documents", A_JOB, {"receipt": None}, "record"),
    "an order's digest": ("job_documents", A_JOB, {"order_digest": DIGEST}, "row"),
    "a receipt's digest": ("job_documents", A_JOB, {"receipt_digest": DIGEST}, "row"),
    "why a job ended": ("job_documents", A_JOB, {"code": "no", "reason": "no"}, "row"),
    "an attempt's job": ("attempts", A_JOB, {"job": "0" * 32}, "row"),
    "an attempt's node": ("attempts", A_JOB, {"node": "other"}, "row"),
    "an attempt's outcome": ("attempts", A_JOB, {"outcome": "lost"}, "row"),
    "an attempt's reason": ("attempts", A_JOB, {"reason": "no"}, "row"),
    "an attempt's end": ("attempts", A_JOB, {"ended": 1_700_000_000_000}, "row"),
    "a job's end, by a second": ("ended_jobs", A_JOB, {"ended": A_SECOND_LATER}, "row"),
    "a job's urgency": ("ended_jobs", A_JOB, {"rank": -9}, "row"),
    "what opened a job's lease": ("ended_jobs", A_JOB, {"token": "0" * 32}, "row"),
    "an acknowledgement, taken back": ("job_documents", A_JOB, {"acknowledged": None}, "row"),
    "an acknowledgement, by a second": ("job_documents", A_JOB, {"acknowledged": A_SECOND_LATER}, "row"),
    "an attempt's end, by a second": ("attempts", A_JOB, {"ended": A_SECOND_LATER}, "row"),
    "a statement's time, by a second": ("key_statements", "1", {"received": A_SECOND_LATER}, "row"),
    "a model's time, by a second": ("manifests", "1", {"published": A_SECOND_LATER}, "row"),
    "for whom a queue is": ("queues", "1", {"tenant": "models"}, "row"),
    "whose nodes a queue's jobs may go to": ("queue_operators", "1", {"operator": STRANGER}, "row"),
    "an attempt, deleted": ("attempts", A_JOB, {}, "row"),
    "an attempt put in": ("attempts", A_JOB, {"generation": 2}, "row"),
    "a key's state": ("keys", "1", {"state": "suspended"}, "row"),
    "a key's sequence": ("keys", "1", {"sequence": 7}, "row"),
    "a key's end": ("keys", "1", {"destroy_at": 9_000_000_000_000}, "row"),
    "a key's digest": ("keys", "1", {"digest": DIGEST}, "row"),
    "a key, deleted": ("keys", "1", {}, "row"),
    "of which key a statement is": ("key_statements", "1", {"key": DIGEST}, "row"),
    "which statement it is": ("key_statements", "1", {"sequence": 7}, "row"),
    "a statement's digest": ("key_statements", "1", {"digest": DIGEST}, "row"),
    "a statement's time": ("key_statements", "1", {"received": 1}, "row"),
    "a statement's words": ("key_statements", "1", {"envelope": "{}"}, "record"),
    "a statement, deleted": ("key_statements", "1", {}, "record"),
    "a model's digest": ("manifests", "1", {"digest": DIGEST}, "row"),
    "a model's name": ("manifests", "1", {"name": "other"}, "row"),
    "a model's version": ("manifests", "1", {"version": 7}, "row"),
    "a model's tenant": ("manifests", "1", {"tenant": "hospital"}, "row"),
    "a model's client part": ("manifests", "1", {"client_digest": DIGEST}, "row"),
    "a model's server part": ("manifests", "1", {"server_digest": DIGEST}, "row"),
    "a model's manifest": ("manifests", "1", {"envelope": "{}"}, "row"),
    "a model's time": ("manifests", "1", {"published": 1}, "row"),
    "a model, deleted": ("manifests", "1", {}, "row"),
    "what an API key opens": ("api_keys", KEY, {"scopes": "jobs publish read"}, "row"),
    "whose an API key is": ("api_keys", KEY, {"tenant": "models"}, "row"),
    "an API key's secret": ("api_keys", KEY, {"secret_hash": "0" * 64}, "row"),
    "an API key's end": ("api_keys", KEY, {"expires": 9_000_000_000_000}, "row"),
    "an API key's age": ("api_keys", KEY, {"created": 1}, "row"),
    "an API key, revoked in secret": ("api_keys", KEY, {"revoked": 1_700_000_000_000}, "row"),
    "an API key, revoked no more": ("api_keys", "revoked IS NOT NULL", {"revoked": None}, "row"),
    "an API key, revoked at another time": ("api_keys", "revoked IS NOT NULL", {"revoked": 1}, "row"),
    "an API key, good again after it was replaced": ("api_keys", REPLACED, {"expires": None}, "row"),
    "an API key, deleted": ("api_keys", "revoked IS NOT NULL", {}, "row"),
    "an auditor who is an operator": ("api_keys", "staff = 'eve'", {"scopes": "operator"}, "row"),
    "an auditor who is somebody else": ("api_keys", "staff = 'eve'", {"staff": "bob"}, "row"),
    "whose a session is": ("sessions", "1", {"api_key": None, "person": "oidc:bob"}, "row"),
    "a session's age": ("sessions", "1", {"created": 9_000_000_000_000}, "row"),
    "a session's end": ("sessions", "1", {"expires": 9_000_000_000_000}, "row"),
    "a session's grounds": ("sessions", "1", {"grounds": "[]"}, "row"),
    "a tenant's age": ("tenants", HOSPITAL, {"created": 1}, "row"),
    "a tenant, deleted": ("tenants", "name = 'shop'", {}, "row"),
    "a signer, believed again": ("tenants", HOSPITAL, {"revoked_signers": None}, "row"),
    "a signer, revoked in secret": ("tenants", "name = 'models'", {"revoked_signers": STRANGER}, "row"),
    "a tenant's share": ("tenants", HOSPITAL, {"in_flight": None}, "row"),
    "a tenant's share that nobody set": ("tenants", "name = 'models'", {"in_flight": 3}, "row"),
    "a tenant's quota": ("tenants", HOSPITAL, {"quota": 1}, "row"),
    "a tenant's quota that nobody set": ("tenants", "name = 'models'", {"quota": 3}, "row"),
    "an enrolment token, to be used again": ("enrolment_tokens", SPENT, {"node": None}, "row"),
    "an enrolment token's end": ("enrolment_tokens", "node IS NULL", {"expires": 9_000_000_000_000}, "row"),
    "an enrolment token's secret": ("enrolment_tokens", "node IS NULL", {"secret_hash": "0" * 64}, "row"),
    "an enrolment token's age": ("enrolment_tokens", "node IS NULL", {"created": 1}, "row"),
    "an enrolment token, used up in secret": ("enrolment_tokens", "node IS NULL", {"node": STRANGER}, "row"),
    "an enrolment token, deleted": ("enrolment_tokens", SPENT, {}, "row"),
    "a key's blob, deleted": ("blobs", "digest IN (SELECT digest FROM keys)", {}, "row"),
    "how many rows a tenant asked of a model": ("rows_asked", "1", {"rows": 1}, "row"),
    "a budget, deleted": ("rows_asked", "1", {}, "row"),
    "how much a tenant has stored": ("stored_bytes", HOSPITAL_S, {"bytes": 0}, "row"),
    "a result, deleted before its time": ("blobs", "digest IN (SELECT result_digest FROM ended_jobs)", {}, "row"),
    "a model's part, deleted": ("blobs", "digest IN (SELECT server_digest FROM manifests)", {}, "row"),
    "bytes of a blob": ("blobs", HOSPITAL_S, {"data": b"other"}, "row"),
    "a session, deleted": ("sessions", "1", {}, "row"),
    "whom a gateway believes": ("gateways", "1", {"publishers": STRANGER}, "row"),
    "a gateway, deleted": ("gateways", "1", {}, "row"),
    "a key's size": ("blobs", "digest IN (SELECT digest FROM keys)", {"size": 1}, "row"),
}
PUT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "a back door": ("api_keys", {**DOOR, "tenant": "hospital", "scopes": "jobs publish read"}),
    "a back door for the staff": ("api_keys", {**DOOR, "staff": "eve", "scopes": "auditor"}),
    "a back door for nodes": ("enrolment_tokens", {**DOOR, "expires": 9_000_000_000_000}),
    "a session that nobody began": (
        "sessions",
        {"token_hash": "0" * 64, "person": "oidc:eve", "grounds": "[]", "expires": LATE, "created": LATE, "used": LATE},
    ),
    "a budget that nobody used": (
        "rows_asked",
        {"tenant": "hospital", "publisher": STRANGER, "model": "small", "rows": 1},
    ),
    "a gateway that nobody started": (
        "gateways",
        {"id": "0" * 32, "since": 1, "seen": 1, "publishers": STRANGER, "operators": "", "kept": "{}"},
    ),
    "a tenant that nobody added": ("tenants", {"name": "ghost", "created": 1}),
}
"""Rows of which no event tells; those that may say so say that they are older than the log."""


def kind(edit: str) -> tuple[str, str, bool, tuple[str, ...]]:
    """Its table, its rule and whether rows are deleted; and which columns, where it is not the table's columns that are held."""
    table, _, columns, rule = EDITS[edit]
    return table, rule, not columns, () if rule == "row" else tuple(columns)


FIRST = {kind(edit): edit for edit in reversed(EDITS)}
"""One edit of each kind, for `make test`, which edits every column of every row in tests/unit/audit/test_audit_rows.py."""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway of its own that did two jobs under a key."""
    rows = np.random.default_rng(0).uniform(-1, 1, size=(60, 3))
    compiled = compile_network(drawn([3, 4, 2]), rows, ranges=[(-1.0, 1.0)] * 3)
    with World(tmp_path_factory.mktemp("world"), gateway=SOON_IN_THE_LOG) as made:
        made.trust("tests", PUBLISHER.id)
        made.start_gateway()
        made.start_node("node-1")
        made.publish(package(compiled, name="small"))
        with made.client() as client:
            client.model("small").predict(rows[:1])
            client.model("small").predict(rows[1:2])
        let_in(made)
        yield made


def let_in(world: World) -> None:
    """What a gateway's operator does about those who get in, and an auditor who signs in to the console."""
    for command in (
        ("tenants", "limit", "hospital", "--in-flight", "5"),
        ("tenants", "quota", "hospital", str(10**12)),
        ("tenants", "revoke-signer", "hospital", STRANGER),
        ("tenants", "add", "shop"),
        ("tenants", "rotate", of_operator(world, "tenants", "add", "hospital", "--json")["id"]),
        ("tenants", "revoke", of_operator(world, "tenants", "add", "hospital", "--json")["id"]),
        ("enrol",),
    ):
        of_operator(world, *command)
    key = of_operator(world, "staff", "add", "eve", "--role", "auditor", "--json")["api_key"]
    with httpx2.Client(base_url=world.url, trust_env=False) as http:
        answer = http.post("/console/sign-in", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303, answer.text


def of_operator(world: World, *command: str) -> dict[str, Any]:
    """Run a command of the gateway's operator. Gives what it prints as JSON, where it does."""
    done = type_command(("gateway", *command, "--data", str(world.gateway_folder)), os.environ)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)) if "--json" in command else {}


@pytest.fixture(scope="module")
def api_key(audited: World) -> str:
    """An auditor's."""
    command = ["gateway", "staff", "add", "ann", "--role", "auditor", "--json", "--data", str(audited.gateway_folder)]
    return str(json.loads(type_command(command, os.environ).stdout)["api_key"])


@pytest.fixture
def verify(audited: World, api_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Found]:
    """The command; gives its exit status, its findings by entry and rule, and all that it printed."""
    monkeypatch.setattr("blindgate_audit.commands.verify._LATEST_SECONDS", 0.0)

    def run() -> Found:
        status, said = audit_verify(tmp_path / "memory", audited.url, "--api-key", api_key, "--json")
        return status, findings(said), said

    return run


@contextmanager
def edited(world: World, table: str, which: str, **columns: Any) -> Iterator[None]:
    """Edit the columns of the rows that are meant, or delete those where none is named."""
    with closing(
        sqlite3.connect(world.gateway_folder / "gateway.sqlite", isolation_level=None, timeout=10)
    ) as database:
        kept = database.execute(f'SELECT * FROM "{table}" WHERE {which}').fetchall()
        places = database.execute(f'SELECT rowid FROM "{table}" WHERE {which}').fetchall()
        assert kept
        try:
            if columns:
                later = {name for name, value in columns.items() if value is A_SECOND_LATER}
                names = ", ".join(
                    f'"{name}" = "{name}" + 1000' if name in later else f'"{name}" = ?' for name in columns
                )
                values = [value for name, value in columns.items() if name not in later]
                database.execute(f'UPDATE "{table}" SET {names} WHERE {which}', values)
            else:
                database.execute(f'DELETE FROM "{table}" WHERE {which}')
            yield
        finally:
            database.executemany(f'DELETE FROM "{table}" WHERE rowid = ?', places)
            marks = ", ".join("?" for _ in kept[0])
            database.executemany(f'INSERT OR REPLACE INTO "{table}" VALUES ({marks})', kept)


@contextmanager
def put_in(world: World, table: str, row: dict[str, Any]) -> Iterator[None]:
    """Put a row in, and take it out again."""
    path = world.gateway_folder / "gateway.sqlite"
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
        place = database.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', tuple(row.values())).lastrowid
        try:
            yield
        finally:
            database.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (place,))


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_found_by_its_rule_and_place(edit: str, audited: World, verify: Callable[[], Found]) -> None:
    """Of events, of jobs, their documents and attempts, of nodes, of keys and their statements, of models; of who gets in."""
    if FIRST[kind(edit)] != edit:
        leave_to_nightly()
    table, which, columns, rule = EDITS[edit]
    with closing(sqlite3.connect(audited.gateway_folder / "gateway.sqlite")) as database:
        (place,) = database.execute(f"SELECT position FROM events WHERE {SUCCESS}").fetchone()
    with edited(audited, table, which, **columns):
        status, found, said = verify()
    assert status == 1, said
    assert rule in {name for _, name in found}, said
    if table == "events":
        assert place in {index for index, _ in found}, said


@pytest.mark.parametrize("row", PUT_IN)
def test_a_row_that_was_put_in_is_found(row: str, audited: World, verify: Callable[[], Found]) -> None:
    """And nothing else is."""
    with put_in(audited, *PUT_IN[row]):
        status, found, said = verify()
    assert (status, found) == (1, [(None, "row")]), said
    assert f"it has a row of {PUT_IN[row][0]}, and no event of the log tells of it" in said


def test_each_column_that_documents_or_events_hold_is_edited_here() -> None:
    """Those that rows hold are edited one by one in the audit's own tests."""
    edited_here = {(table, column) for table, _, columns, _ in EDITS.values() for column in columns}
    held = {
        (table, column)
        for table, by in HELD.items()
        for rule, columns in by.items()
        for column in columns
        if rule != "row"
    }
    assert held <= edited_here


def test_what_is_not_held_is_said(audited: World, api_key: str, tmp_path: Path) -> None:
    """In one line for people, with its reasons for scripts; and nothing of it without an auditor's key."""
    status, said = audit_verify(tmp_path / "memory", audited.url, "--api-key", api_key, "--json")
    told = json.loads(said[said.index("{") :])
    assert {one["table"] for one in told["not_held"]} >= {"idempotency", "nonces", "uploads"}
    assert (status, told["not_shown"]) == (0, [])
    _, said = audit_verify(tmp_path / "memory", audited.url, "--api-key", api_key)
    (line,) = [line for line in said.splitlines() if line.startswith("Not held")]
    assert "tenants.served" in line
    assert "idempotency" in line
    status, said = audit_verify(tmp_path / "memory", audited.url, "--json")
    assert json.loads(said[said.index("{") :])["not_held"] is None


def test_what_was_put_back_is_as_it_was(verify: Callable[[], Found]) -> None:
    """Nothing was found above but what was edited."""
    status, found, said = verify()
    assert (status, found) == (0, []), said


def test_an_event_that_is_gone_is_missed_by_whoever_may_not_read_events(audited: World, tmp_path: Path) -> None:
    """The gateway cannot make the tile; its answer is a finding, and no end of the audit."""
    with edited(audited, "events", SUCCESS):
        status, said = audit_verify(tmp_path / "memory", audited.url, "--json")
    assert (status, {rule for _, rule in findings(said)}) == (1, {"missing"}), said
    assert "is missing in the database" in said
