"""On PostgreSQL, a query that forgot whose rows it means finds nothing of another tenant's."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from sqlalchemy import Table, delete, insert, select, update

from blindgate_gateway import corpora as rooms_corpora
from blindgate_gateway import jobs as rooms_jobs
from blindgate_gateway import keys as rooms_keys
from blindgate_gateway import stored, uploads
from blindgate_gateway import views as rooms_views
from blindgate_gateway.commands.options import refusals
from blindgate_gateway.database import Prepared, prepared
from blindgate_gateway.log.pseudonyms import name_of
from blindgate_gateway.opening import migrate
from blindgate_gateway.tables import (
    all_jobs,
    api_keys,
    ended_jobs,
    enrolment_tokens,
    jobs,
    metadata,
    nodes,
    nonces,
    queues,
)
from blindgate_protocol.attestations import AttestationPoll, AttestationRequest
from blindgate_protocol.canonical import digest
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import AnswerPart, CorpusRequest, JobRequest, UploadRequest
from brokerage import Keys, Tenant, blob_ref, make_settings, random_bytes
from desk import Desk, open_desk
from postgresql import PostgresqlServer

NOBODYS = {"api_keys", "cosignatures", "enrolment_tokens", "gateways", "log_head", "log_tiles", "nonces", "sessions"}
"""Tables that no tenant's request reads."""
SHARED = {"manifests": "every tenant reads the catalogue", "nodes": "names of the nodes that had a tenant's jobs"}


@pytest.fixture
def guarded(tmp_path: Path, postgresql_server: PostgresqlServer) -> Iterator[Desk]:
    """A gateway on PostgreSQL where two tenants have one of everything."""
    with open_desk(tmp_path, database=postgresql_server.new_database(), part=64 * 1024) as desk:
        for tenant in (desk.tenant, desk.stranger):
            _fill(desk, tenant)
        _submit(desk, desk.tenant)
        yield desk


def _fill(desk: Desk, tenant: Tenant) -> None:
    """A key, a job that ended, with a part of its answer, one that waits, an upload that has not come, an answer that is kept."""
    key = tenant.statement(tenant.upload(random_bytes(100)), KeyState.REGISTERED)
    assert tenant.state(key).is_success
    _submit(desk, tenant)
    while (lease := desk.worker.lease()) is not None:
        assert desk.worker.command(lease, "POST", "answer", AnswerPart(begin=0, data=b"sealed")).status_code == 204
        desk.worker.finish(lease, random_bytes(10), along=True)
    _submit(desk, tenant)
    question = AttestationRequest(model=desk.manifest.digest, policy=desk.manifest.digest, nonce=random_bytes(32))
    tenant.ask("POST", "/v1/attestations", question)
    desk.worker.ask("POST", "/v1/questions", AttestationPoll())
    head = CorpusRequest(head=tenant.upload(random_bytes(30)), shards=(), instead_of=None)
    tenant.ask("PUT", f"/v1/corpora/{tenant.name}-notes", head)
    wanted = UploadRequest(size=5, sha256=digest(random_bytes(5)))
    tenant.ask("POST", "/v1/uploads", wanted, headers={"Idempotency-Key": "one"})


def _submit(desk: Desk, tenant: Tenant) -> None:
    data = random_bytes(50)
    tenant.submit(tenant.order(desk.manifest, blob_ref(data)), data)


def _owners(desk: Desk, table: Table) -> set[str]:
    """Whose rows a query without any condition gives, for the tenant `bank`."""
    name = {"tenants": "name", "pseudonyms": "name", "idempotency": "caller"}.get(table.name, "tenant")
    with desk.parts.database.of_tenant("bank").read() as connection:
        rows = connection.execute(select(table)).all()
    assert rows, f"{table.name}: nothing is visible, not even the tenant's own"
    if table.name == "events":
        return {name_of(desk.parts.database, row.tenant) or "nobody" for row in rows}
    if hasattr(rows[0], name):
        return {getattr(row, name) for row in rows}
    with desk.parts.database.read() as connection:
        if table.name == "queue_operators":
            found = connection.execute(select(queues.c.id, queues.c.tenant)).all()
            return {dict(found)[row.queue] for row in rows}
        found = connection.execute(select(all_jobs.c.job, all_jobs.c.tenant)).all()
    return {dict(found)[row.job] for row in rows}


def test_every_table_shows_a_tenant_its_own_rows_alone(guarded: Desk) -> None:
    """A table that somebody adds, and whose rules were forgotten, fails here."""
    for table in metadata.sorted_tables:
        if table.name in NOBODYS or table.name in SHARED:
            continue
        allowed = {"bank", "models"} if table.name == "blobs" else {"bank"}  # the client part of a published model
        assert _owners(guarded, table) <= allowed, table.name
        assert "bank" in _owners(guarded, table), table.name


def test_credentials_are_out_of_a_tenants_reach(guarded: Desk) -> None:
    """Hashes of secrets, tokens of enrolment and certificates cannot be read in a tenant's name, even by a broken query."""
    for query in (select(api_keys), select(enrolment_tokens), select(nonces), select(nodes.c.certificate)):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            guarded.parts.database.of_tenant("bank").read() as connection,
        ):
            connection.execute(query)


def test_nothing_of_another_tenants_is_changed(guarded: Desk) -> None:
    """Changes without a condition reach the tenant's own rows; rows in another's name are refused."""
    bank = guarded.parts.database.of_tenant("bank")
    before = len(_jobs_of(guarded, "clinic"))
    with bank.write() as connection:
        connection.execute(update(jobs).values(rank=7))
        mine = connection.execute(delete(jobs)).rowcount
    assert mine > 0
    assert _jobs_of(guarded, "bank") == []
    assert [row.rank for row in _jobs_of(guarded, "clinic")] == [0] * before
    theirs = _jobs_of(guarded, "clinic")[0]
    with pytest.raises(psycopg.errors.InsufficientPrivilege), bank.write() as connection:
        connection.execute(insert(jobs).values(**(theirs._asdict() | {"job": "0" * 32})))


def test_a_transaction_leaves_no_tenant_behind(guarded: Desk) -> None:
    """The next that is done over the same connection sees what it may, also after a failure."""
    bank, everybody = guarded.parts.database.of_tenant("bank"), guarded.parts.database
    with pytest.raises(psycopg.errors.InsufficientPrivilege), bank.write() as connection:
        connection.execute(select(api_keys))
    assert bank.look(prepared(select(jobs.c.tenant)), {}).tenant == "bank"
    with everybody.read() as connection:
        assert {row.tenant for row in connection.execute(select(jobs.c.tenant)).all()} == {"bank", "clinic"}
        assert connection.execute(select(api_keys.c.id)).all()


_FORGETFUL: dict[str, tuple[Any, str, str]] = {
    "state of a job": (rooms_jobs, "_STATE", "/v1/jobs/{job}?wait=1"),
    "a job": (rooms_views, "_OF_JOB", "/v1/jobs/{job}/record"),
    "jobs": (rooms_jobs, "_OF_TENANT", "/v1/jobs"),
    "an upload": (uploads, "_UPLOAD", "/v1/uploads/{upload}"),
    "a corpus": (rooms_corpora, "_CORPUS", "/v1/corpora/clinic-notes"),
    "corpora": (rooms_corpora, "_OF_TENANT", "/v1/corpora"),
    "a key": (rooms_keys, "_OF_KEY", "/v1/keys/{key}"),
    "keys": (rooms_keys, "_OF_TENANT", "/v1/keys"),
}
_CONDITION = re.compile(r"(?:\w+\.)?tenant = (?::tenant|%\(tenant\)s(?:::VARCHAR)?)")


@pytest.mark.parametrize("what", _FORGETFUL)
def test_a_query_that_forgot_its_tenant_gives_nothing_away(
    tmp_path: Path, database_url: str | None, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is real, since SQLite, which has no such rules, gives the stranger's things."""
    module, name, path = _FORGETFUL[what]
    with open_desk(tmp_path, database=database_url, part=64 * 1024) as desk:
        _fill(desk, desk.stranger)
        given = {
            "job": desk.stranger.ask("GET", "/v1/jobs").json()["jobs"][0]["job"],
            "key": desk.stranger.ask("GET", "/v1/keys").json()["keys"][0]["key"]["digest"],
            "upload": _upload_of(desk, "clinic"),
        }
        honest: Prepared = getattr(module, name)
        assert _tells(desk, path.format(**given)) is False
        monkeypatch.setattr(module, name, _without_condition(honest))
        if name == "_STATE":  # the view that follows would refuse by itself
            monkeypatch.setattr(rooms_views, "_OF_JOB", _without_condition(rooms_views._OF_JOB))
        assert _tells(desk, path.format(**given)) is (database_url is None)


def test_a_published_client_part_is_everybodys_and_the_server_part_is_not(guarded: Desk) -> None:
    """The catalogue is shared on purpose; what leaves only to nodes is not seen in a tenant's name."""
    document = guarded.manifest.document
    assert guarded.tenant.ask("GET", f"/v1/models/{guarded.manifest.digest}/client").content
    seen = guarded.parts.database.of_tenant("bank")
    of = {"of_tenant": "models"}
    assert seen.look(stored._FIND, of | {"of_digest": document.encrypted().client.digest}) is not None
    assert seen.look(stored._FIND, of | {"of_digest": document.server.digest}) is None
    assert guarded.parts.database.look(stored._FIND, of | {"of_digest": document.server.digest}) is not None


def test_another_tenants_job_id_is_taken_though_it_is_not_seen(guarded: Desk) -> None:
    """409, as before, and nothing of the new order stays: not as an error of the database."""
    for theirs in _jobs_of(guarded, "clinic") + _ended_of(guarded, "clinic"):
        data = random_bytes(20)
        order = guarded.tenant.order(guarded.manifest, blob_ref(data), job=theirs.job)
        refused = guarded.tenant.send("POST", "/v1/jobs", JobRequest(order=order.envelope, input_data=data))
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert guarded.tenant.send("GET", f"/v1/jobs/{theirs.job}").status_code == 404


def test_an_owner_who_may_not_make_roles_is_told_what_to_run(
    tmp_path: Path, postgresql_server: PostgresqlServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names both roles; once it was run, the gateway starts."""
    postgresql_server.new_database()  # someone's gateway has made the role
    with psycopg.connect(postgresql_server.url("postgres"), autocommit=True) as administrator:
        administrator.execute("DROP ROLE IF EXISTS plain")
        administrator.execute("CREATE ROLE plain LOGIN")
        url = postgresql_server.new_database(owner="plain")
        with open_desk(tmp_path / "first", database=postgresql_server.new_database()):
            pass
        settings = make_settings(tmp_path / "gateway", Keys(), database=url)
        with pytest.raises(typer.Exit), refusals():
            migrate(settings)
        assert "let an administrator run GRANT blindgate_tenant TO plain" in capsys.readouterr().err
        administrator.execute("GRANT blindgate_tenant TO plain")
    with open_desk(tmp_path / "second", database=url) as desk:
        _fill(desk, desk.tenant)


def test_the_servers_administrator_is_held_to_the_rules_too(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """Row-level security does not hold for administrators, which is who many gateways connect as; here it does."""
    url = postgresql_server.new_database(owner="administrator")
    with open_desk(tmp_path, database=url) as desk:
        _fill(desk, desk.stranger)
        assert desk.parts.database.of_tenant("bank").look(prepared(select(jobs.c.job)), {}) is None


@pytest.mark.parametrize("name", ["o'brien", "a\\'; SET LOCAL ROLE gateway; --", '"x"', "ü"])
def test_a_name_is_never_more_than_a_name(guarded: Desk, name: str) -> None:
    """Whatever a tenant is called, its name is one value of one setting."""
    assert guarded.parts.database.of_tenant(name).look(prepared(select(jobs.c.job)), {}) is None


def _without_condition(statement: Prepared) -> Prepared:
    forgetful = Prepared(statement._statement)
    for dialect in ("sqlite", "postgresql"):
        text = forgetful.text(dialect)
        text.sql, found = _CONDITION.subn("'' = ''", text.sql)
        assert found, text.sql
    return forgetful


def _tells(desk: Desk, path: str) -> bool:
    answer = desk.tenant.send("GET", path)
    if answer.status_code == 404:
        return False
    assert answer.status_code == 200, answer.text
    return bool(next(iter(answer.json().values())))


def _upload_of(desk: Desk, tenant: str) -> str:
    table = metadata.tables["uploads"]
    query = prepared(select(table.c.id).where(table.c.tenant == tenant, table.c.status == "parts"))
    return str(desk.parts.database.look(query, {}).id)


def _jobs_of(desk: Desk, tenant: str) -> list[Any]:
    return _rows(desk, lambda: select(jobs).where(jobs.c.tenant == tenant))


def _ended_of(desk: Desk, tenant: str) -> list[Any]:
    return _rows(desk, lambda: select(ended_jobs).where(ended_jobs.c.tenant == tenant))


def _rows(desk: Desk, query: Callable[[], Any]) -> list[Any]:
    with desk.parts.database.read() as connection:
        return connection.execute(query()).all()
