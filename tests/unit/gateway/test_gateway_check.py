"""`blindgate gateway check` finds what was lost or altered, by name, and nothing where nothing was.

One gateway on each database with one of each kind of job, key and blob is damaged in one way after the other; what was damaged is
put back in between.
"""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, insert, select, update
from typer.testing import CliRunner

from blindgate_gateway.check import State, examine
from blindgate_gateway.check import server as server_checks
from blindgate_gateway.check import store as store_checks
from blindgate_gateway.commands import app
from blindgate_gateway.database import Transaction
from blindgate_gateway.opening import revisions
from blindgate_gateway.parts import connect
from blindgate_gateway.tables import (
    attempts,
    blobs,
    ended_jobs,
    job_documents,
    jobs,
    key_statements,
    keys,
    manifests,
    nodes,
    queue_operators,
    stored_bytes,
    uploads,
)
from desk import open_desk
from patient import LARGE, PART, Patient, open_patient
from postgresql import PostgresqlServer

BY_DATABASE = pytest.mark.parametrize("patient", ["sqlite, folder", "postgresql, folder"], indirect=True)
BY_STORE = pytest.mark.parametrize("patient", ["sqlite, folder", "sqlite, s3"], indirect=True)


@pytest.fixture(autouse=True)
def nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works here beside the test: what is missing need not be waited for."""
    monkeypatch.setattr(store_checks, "SETTLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def patient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """One of each kind, on the database and the store that the test names."""
    database, store = request.param.split(", ")
    s3_server = request.getfixturevalue("s3_server") if store == "s3" else None
    url = request.getfixturevalue("postgresql_server").new_database() if database == "postgresql" else None
    with open_patient(tmp_path_factory.mktemp("patient"), database=url, s3_server=s3_server) as made:
        yield made


@BY_DATABASE
def test_a_gateway_that_is_well_is_said_to_be(patient: Patient) -> None:
    """Jobs in every state, keys in every state, an upload that has not come: none of it is a fault."""
    assert patient.bad() == {}
    found = patient.look()
    assert "1 jobs" in found["jobs.dead"].detail
    assert {"documents", "blobs.altered"} <= set(found)
    assert not {"documents", "blobs.altered"} & set(patient.look(read_data=False))


def _end_twice(patient: Patient, connection: Transaction) -> None:
    row = connection.execute(select(ended_jobs).where(ended_jobs.c.job == patient.job["cancelled"])).one()
    connection.execute(insert(ended_jobs).values(row._asdict() | {"job": patient.job["queued"]}))
    connection.execute(
        update(job_documents).where(job_documents.c.job == patient.job["queued"]).values(code="job-cancelled")
    )


DAMAGES: Mapping[str, tuple[set[str], Callable[[Patient, Transaction], Any]]] = {
    "a lease without a token": (
        {"jobs.lease"},
        lambda p, c: c.execute(update(jobs).where(jobs.c.job == p.job["leased"]).values(token=None)),
    ),
    "a state that is none": (
        {"jobs.lease"},
        lambda p, c: c.execute(update(jobs).where(jobs.c.job == p.job["queued"]).values(state="asleep")),
    ),
    "a success without a result": (
        {"jobs.end", "documents"},
        lambda p, c: c.execute(
            update(ended_jobs).where(ended_jobs.c.job == p.job["succeeded"]).values(result_digest=None)
        ),
    ),
    "an end without a reason": (
        {"jobs.end"},
        lambda p, c: c.execute(update(job_documents).where(job_documents.c.job == p.job["dead"]).values(code=None)),
    ),
    "an attempt that is gone": (
        {"jobs.attempts"},
        lambda p, c: c.execute(delete(attempts).where(attempts.c.job == p.job["succeeded"])),
    ),
    "a job that was leased again by hand": (
        {"jobs.attempts"},
        lambda p, c: c.execute(update(jobs).where(jobs.c.job == p.job["queued"]).values(generation=3)),
    ),
    "a job that is open and ended": (
        {"jobs.twice", "documents"},
        _end_twice,
    ),
    "a job without its order": (
        {"jobs.documents", "jobs.attempts"},
        lambda p, c: (
            c.execute(delete(ended_jobs).where(ended_jobs.c.job == p.job["succeeded"]))
            and c.execute(delete(job_documents).where(job_documents.c.job == p.job["leased"]))
            and c.execute(delete(attempts).where(attempts.c.job == p.job["dead"]))
        ),
    ),
    "a queue that nobody serves": (
        {"jobs.queue", "jobs.operators"},
        lambda _, c: c.execute(delete(queue_operators)),
    ),
    "a job that is let go though its key is suspended": (
        {"jobs.keys"},
        lambda p, c: c.execute(update(jobs).where(jobs.c.job == p.job["held"]).values(held=0)),
    ),
    "a lease that ended long ago": (
        {"jobs.overdue"},
        lambda p, c: c.execute(update(jobs).where(jobs.c.job == p.job["leased"]).values(leased_until=1)),
    ),
    "the row of a model's part that is gone": (
        {"blobs.referenced", "counts"},
        lambda _, c: c.execute(delete(blobs).where(blobs.c.tenant == "models", blobs.c.size == len(b"server part"))),
    ),
    "the row of a result that is gone": (
        {"blobs.referenced", "counts"},
        lambda p, c: c.execute(
            delete(blobs).where(
                blobs.c.digest
                == select(ended_jobs.c.result_digest).where(ended_jobs.c.job == p.job["succeeded"]).scalar_subquery()
            )
        ),
    ),
    "a small blob that was cut": (
        {"blobs.rows"},
        lambda _, c: c.execute(update(blobs).where(blobs.c.data.is_not(None)).values(data=b"x")),
    ),
    "bytes of a destroyed key": (
        {"blobs.rows", "keys", "jobs.keys"},
        lambda p, c: c.execute(update(keys).where(keys.c.digest == p.key).values(state="destroyed")),
    ),
    "a count that is wrong": (
        {"counts"},
        lambda _, c: c.execute(update(stored_bytes).where(stored_bytes.c.tenant == "bank").values(bytes=7)),
    ),
    "a model's name that was changed": (
        {"models"},
        lambda _, c: c.execute(update(manifests).where(manifests.c.name == "echo").values(name="other")),
    ),
    "a node under another's name": (
        {"nodes"},
        lambda _, c: c.execute(update(nodes).values(name="node-7")),
    ),
    "nobody who computes": (
        {"nodes.heard"},
        lambda _, c: c.execute(update(nodes).values(expires=0)),
    ),
    "a statement that is gone": (
        {"keys"},
        lambda _, c: c.execute(delete(key_statements).where(key_statements.c.sequence == 1)),
    ),
    "an order for another input": (
        {"documents", "blobs.referenced"},
        lambda p, c: c.execute(
            update(jobs).where(jobs.c.job == p.job["queued"]).values(input_digest="sha256:" + "0" * 64)
        ),
    ),
}
WARNINGS = {"jobs.operators", "jobs.overdue", "nodes.heard"}


@pytest.mark.parametrize("damage", DAMAGES)
@BY_DATABASE
def test_damage_to_rows_is_found_by_name(patient: Patient, damage: str) -> None:
    """Each check tells of its own, and no other does."""
    checks, harm = DAMAGES[damage]
    with patient.damaged(lambda connection: harm(patient, connection)):
        found = patient.rows()
    bad = {name: finding for name, finding in found.items() if finding.state is not State.OK and name != "jobs.dead"}
    assert {name: finding.state for name, finding in bad.items()} == {
        name: State.WARNING if name in WARNINGS else State.FAULT for name in checks
    }
    assert all(finding.remedy for finding in bad.values())


@pytest.mark.parametrize(
    ("harm", "undo"),
    [
        ("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY", "ALTER TABLE jobs ENABLE ROW LEVEL SECURITY"),
        ("ALTER POLICY tenant ON uploads RENAME TO nobody", "ALTER POLICY nobody ON uploads RENAME TO tenant"),
        ("CREATE POLICY more ON jobs TO blindgate_tenant USING (true)", "DROP POLICY more ON jobs"),
        ("GRANT SELECT ON api_keys TO blindgate_tenant", "REVOKE ALL ON api_keys FROM blindgate_tenant"),
        ("REVOKE SELECT ON keys FROM blindgate_tenant", "GRANT SELECT ON keys TO blindgate_tenant"),
    ],
)
@pytest.mark.parametrize("patient", ["postgresql, folder"], indirect=True)
def test_rules_that_somebody_changed_are_found(patient: Patient, harm: str, undo: str) -> None:
    """Row-level security that is gone is missed by no query."""
    with patient.desk.parts.database.migrating() as connection:
        connection.exec_driver_sql(harm)
    try:
        assert patient.bad(read_data=False) == {"rules": State.FAULT}
    finally:
        with patient.desk.parts.database.migrating() as connection:
            connection.exec_driver_sql(undo)
    assert patient.bad(read_data=False) == {}


@pytest.mark.parametrize(
    ("kind", "check"), [("gone", "blobs.missing"), ("cut", "blobs.missing"), ("turned", "blobs.altered")]
)
@BY_STORE
def test_damage_to_bytes_is_found_by_name(patient: Patient, kind: str, check: str) -> None:
    """Objects that are gone, cut or altered; the last only by reading. Their blobs are named."""
    data = {"gone": None, "cut": bytes(LARGE - 1), "turned": bytes(LARGE)}[kind]
    with patient.object_as(patient.large, data):
        assert patient.bad() == {check: State.FAULT}
        assert any(patient.large in example for example in patient.look()[check].examples)
        assert bool(patient.bad(read_data=False)) == (kind != "turned")
    assert patient.bad() == {}


@BY_STORE
def test_objects_that_no_row_names_are_counted_and_no_fault(patient: Patient) -> None:
    """They are what an upload that came to nothing leaves, and are collected. Those of a destroyed key are told apart."""

    def forget(connection: Transaction) -> None:
        connection.execute(delete(uploads))
        connection.execute(delete(blobs).where(blobs.c.digest.in_([patient.large, patient.key])))
        connection.execute(update(keys).where(keys.c.digest == patient.key).values(state="destroyed"))

    with patient.damaged(forget):
        found = patient.look(read_data=False)
    assert found["blobs.unnamed"].state is State.OK
    assert found["blobs.unnamed"].detail.startswith("2 objects")
    assert found["blobs.destroyed"].state is State.WARNING
    assert patient.key.removeprefix("sha256:") in found["blobs.destroyed"].examples[0]


@BY_DATABASE
def test_counts_and_held_jobs_are_repaired(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database itself knows better is set right; the command says what it did."""
    _environment(patient, monkeypatch)

    def harm(connection: Transaction) -> None:
        connection.execute(update(stored_bytes).values(bytes=7))
        connection.execute(update(jobs).where(jobs.c.job == patient.job["held"]).values(held=0))

    with patient.damaged(harm):
        assert set(patient.bad()) == {"counts", "jobs.keys"}
        done = CliRunner().invoke(app, ["check", "--repair", "--json"])
        assert (done.exit_code, json.loads(done.stdout)["well"]) == (0, True), done.output
        assert len(json.loads(done.stdout)["repaired"]) >= 3
        assert patient.bad() == {}


@BY_STORE
def test_the_command_says_it_for_people_and_for_scripts(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a check; what is wrong with examples and what to do; exit code 1."""
    _environment(patient, monkeypatch)
    well = CliRunner().invoke(app, ["check", "--read-data"])
    assert (well.exit_code, "this gateway is well" in well.stdout) == (0, True), well.output
    with patient.object_as(patient.large, None):
        ill = CliRunner().invoke(app, ["check"])
        assert ill.exit_code == 1
        lines = ill.stdout.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("fault   blobs.missing"))
        assert patient.large in lines[start + 1]
        assert "→ copy these objects back" in lines[start + 2]
        told = json.loads(CliRunner().invoke(app, ["check", "--json"]).stdout)
    assert told["well"] is False
    assert [check["check"] for check in told["checks"] if check["state"] == "fault"] == ["blobs.missing"]


def _environment(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = patient.desk.brokerage.settings
    given = {"data": settings.data, "part": PART, "max_blob": 1 << 20, "operators": ",".join(settings.operators)}
    given |= patient.store
    if settings.database is not None:
        given["database"] = settings.database.get_secret_value()
    for name, value in given.items():
        monkeypatch.setenv(f"BLINDGATE_GATEWAY_{name.upper()}", str(value))


@BY_DATABASE
def test_tables_of_another_revision_or_shape_are_found(patient: Patient) -> None:
    """Older ones are to be migrated, newer ones need a newer Blindgate, and an index that is missing is missed."""
    newest, _ = revisions()
    for revision, remedy in (("0001", "migrate"), ("9999", "version of Blindgate")):
        with _sql(patient, f"UPDATE alembic_version SET version_num = '{revision}'"):
            tables = patient.look()["tables"]
            assert (tables.state, remedy in str(tables.remedy)) == (State.FAULT, True)
            assert "jobs.lease" not in patient.look()
        with _sql(patient, f"UPDATE alembic_version SET version_num = '{newest}'"):
            pass
    with _sql(patient, "DROP INDEX ix_uploads_object"):
        assert "ix_uploads_object" in patient.look()["tables"].examples[0]
    with _sql(patient, "CREATE INDEX ix_uploads_object ON uploads (object)"):
        assert patient.bad() == {}


@contextmanager
def _sql(patient: Patient, statement: str) -> Iterator[None]:
    with connect(patient.desk.brokerage.settings).migrating() as connection:
        connection.exec_driver_sql(statement)
    yield


@BY_DATABASE
def test_a_folder_that_others_may_read_is_found(patient: Patient) -> None:
    """The data folder is its user's alone."""
    data = patient.desk.brokerage.settings.data
    data.chmod(0o755)
    assert patient.bad() == {"folder": State.FAULT}
    data.chmod(0o700)
    assert patient.bad() == {}


@BY_DATABASE
def test_a_full_disk_and_a_wrong_clock_are_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both before they hurt and when they do."""
    real = shutil.disk_usage(patient.desk.brokerage.settings.data)
    for free, state in ((512 << 20, State.WARNING), (1 << 20, State.FAULT)):
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda _, free=free: real._replace(free=free))
            assert patient.bad() == {"disk": state}
    for seconds, state in ((30, State.WARNING), (3600, State.FAULT)):
        with monkeypatch.context() as patched:
            patched.setattr(server_checks, "time", _LateClock(seconds))
            assert patient.bad() == {"clock": state}


class _LateClock:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return time.time() + self._seconds


def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    """SQLite finds pages that were overwritten; rows that refer to nothing are found, too."""
    with open_desk(tmp_path) as desk:
        for _ in range(40):
            desk.submit()
        settings = desk.brokerage.settings
    with sqlite3.connect(settings.sqlite_file) as raw:
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("INSERT INTO queue_operators VALUES ('no-queue', 'nobody')")
    raw.close()
    found = {finding.check: finding for finding in examine(settings, read_data=False, progress=lambda *_: None)}
    assert "queue_operators" in found["references"].examples[0]
    with sqlite3.connect(settings.sqlite_file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_jobs_deadline'").fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    raw.close()
    with settings.sqlite_file.open("r+b") as file:
        file.seek((page - 1) * size + 8)
        file.write(os.urandom(200))
    states = {
        finding.state
        for finding in examine(settings, read_data=False, progress=lambda *_: None)
        if finding.check in {"integrity", "database"}
    }
    assert State.FAULT in states


def test_a_database_that_is_away_is_a_finding(tmp_path: Path, postgresql_server: PostgresqlServer) -> None:
    """No traceback: what cannot be reached is said, and the store is looked at all the same."""
    with open_desk(tmp_path, database=postgresql_server.new_database()) as desk:
        settings = desk.brokerage.settings
    away = settings.model_copy(update={"database": SecretStr("postgresql://gateway@127.0.0.1:9/none")})
    found = {finding.check: finding.state for finding in examine(away, read_data=False, progress=lambda *_: None)}
    assert found["database"] is State.FAULT
    assert found["store"] is State.OK
