"""The columns of the gateway's tables are held against documents and log.

An honest gateway's hold, whatever befell its jobs and keys; each edit is named by its row and column.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from audited_desk import audit, pages, read_records
from blindgate_audit.findings import Findings
from blindgate_audit.held import HELD, NOT_HELD
from blindgate_audit.records import Records
from blindgate_audit.rows import TABLES
from blindgate_gateway.console.sessions import begin_session
from blindgate_gateway.database import Transaction
from blindgate_gateway.identity import (
    Grounds,
    Role,
    Scope,
    Staff,
    StaffRole,
    add_enrolment_token,
    add_staff,
    add_tenant,
    revoke_api_key,
    rotate_api_key,
)
from blindgate_gateway.keys import destroy_due
from blindgate_gateway.log.starting import tell_start
from blindgate_gateway.queues import limit_tenant
from blindgate_gateway.quotas import set_quota
from blindgate_gateway.settings import DAY
from blindgate_gateway.signers import revoke_signer
from blindgate_gateway.sweep import sweep_leases, sweep_records
from blindgate_gateway.tables import (
    attempts,
    ended_jobs,
    job_documents,
    jobs,
    key_statements,
    keys,
    manifests,
    metadata,
)
from blindgate_gateway.transitions import resend
from blindgate_protocol.events import Action, Event
from blindgate_protocol.keys import KeyState
from blindgate_protocol.logged import LoggedPage
from blindgate_protocol.messages import Refusal, Release
from blindgate_protocol.oversight import ELSEWHERE, TableName, TableRows
from blindgate_protocol.signing import SigningKey
from brokerage import blob_ref, now_ms, random_bytes
from campaigns import CAMPAIGN
from desk import Desk
from patient import Patient, open_patient

EXPIRES_MS = 1500
DOCUMENT = Path(__file__).parents[3] / "docs" / "audit.md"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def patient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """A gateway of many lives, on each database."""
    url = request.getfixturevalue("postgresql_server").new_database() if request.param == "postgresql" else None
    with open_patient(tmp_path_factory.mktemp("patient"), database=url, s3_server=None) as made:
        tell_start(made.desk.brokerage.settings)
        live(made)
        yield made


def live(patient: Patient) -> None:
    """What jobs and keys come to, besides what happened to the patient's already."""
    desk, job = patient.desk, patient.job
    sign_in(desk)
    for name in ("held", "queued"):
        desk.tenant.ask("POST", f"/v1/jobs/{job[name]}/cancel")
    data = random_bytes(9)
    order = desk.tenant.order(desk.manifest, blob_ref(data), deadline=now_ms() + EXPIRES_MS)
    job["expired"] = desk.tenant.submit(order, data).job
    time.sleep(EXPIRES_MS / 1000 + 0.2)
    sweep_leases(desk.parts)
    job["refused"] = refuse(desk)
    job["lost"] = desk.leased().job
    desk.let_pass(job["lost"])
    sweep_leases(desk.parts)
    job["again"] = desk.leased().job
    desk.let_pass(job["again"])
    sweep_leases(desk.parts)
    with desk.parts.database.write() as connection:
        queue = connection.execute(select(jobs.c.queue).where(jobs.c.job == job["leased"])).scalar()
        assert resend(connection, job["again"], queue=queue)
    finish(desk)
    for name in ("again", "succeeded"):
        assert desk.tenant.ask("POST", f"/v1/jobs/{job[name]}/acknowledge").status_code in {204, 409}
    desk.parts.settings.__dict__["attempts"] = 3
    job["released"] = release(desk)
    desk.worker.lease()
    desk.let_pass(job["released"])
    sweep_leases(desk.parts)
    desk.worker.lease()
    desk.parts.settings.__dict__["attempts"] = 1
    job["cancelled while leased"] = desk.leased().job
    desk.tenant.ask("POST", f"/v1/jobs/{job['cancelled while leased']}/cancel")
    desk.publisher.publish(desk.brokerage.manifest(version=2))
    for states in (
        (KeyState.REGISTERED, KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.ACTIVE, KeyState.SUPERSEDED),
        (KeyState.ACTIVE, KeyState.DEACTIVATED),
        (KeyState.ACTIVE, KeyState.COMPROMISED),
    ):
        key, said = desk.tenant.upload(random_bytes(30)), None
        for state in states:
            said = desk.tenant.statement(key, state, said)
            assert desk.tenant.state(said).status_code in {200, 201}
    schedule(desk, in_ms=600_000)
    schedule(desk, in_ms=50)
    time.sleep(0.1)
    assert destroy_due(desk.parts) == 1


def sign_in(desk: Desk) -> None:
    """Sessions at the console, of both kinds, and what else a caller may have."""
    database, auditor = desk.parts.database, frozenset({Role.AUDITOR})
    key = add_staff(database, "ann", StaffRole.AUDITOR)
    begin_session(database, Staff("ann", auditor, key.id))
    begin_session(database, Staff("oidc:eva", auditor, "oidc:eva", Grounds('["issuer"]', now_ms() + 3_600_000)))
    rotated = add_tenant(database, "shop", [Scope.JOBS], lasts=DAY)
    revoke_api_key(database, rotate_api_key(database, rotated.id, staff=False, overlap=60_000).id, staff=False)
    set_quota(database, "shop", 10**9)
    limit_tenant(database, "bank", in_flight=10**6)
    revoke_signer(database, "shop", SigningKey.generate().id)
    add_enrolment_token(database, lasts=DAY)


def schedule(desk: Desk, *, in_ms: int) -> None:
    """A key that is to be destroyed."""
    key = desk.tenant.upload(random_bytes(30))
    first = desk.tenant.statement(key, KeyState.ACTIVE)
    assert desk.tenant.state(first).status_code == 201
    then = desk.tenant.statement(key, KeyState.ACTIVE, first).document
    then = then.model_copy(update={"state": KeyState.DESTRUCTION_SCHEDULED, "destroy_at": then.issued + in_ms})
    assert desk.tenant.state(desk.tenant.keys.client.sign(then)).status_code == 200


def finish(desk: Desk) -> None:
    """Lease what waits, and do it."""
    lease = desk.worker.lease()
    assert lease is not None
    desk.worker.finish(lease, random_bytes(20))


def refuse(desk: Desk) -> str:
    """Lease a job and refuse it. Gives the job."""
    lease = desk.leased()
    refusal = Refusal(code="input-malformed", reason="three columns were asked")
    assert desk.worker.command(lease, "POST", "refuse", refusal).status_code == 200
    return lease.job


def release(desk: Desk) -> str:
    """Lease a job and give it back. Gives the job."""
    lease = desk.leased()
    back = Release(code="node-stopping", reason="the node is stopping")
    assert desk.worker.command(lease, "POST", "release", back).status_code == 200
    return lease.job


def test_an_honest_gateway_is_accused_of_nothing(patient: Patient) -> None:
    """Jobs that succeeded, failed, died, were cancelled, ran out, were sent again; keys in every state; and all rows were read."""
    found, count = audit(patient.desk)
    assert found == []
    with patient.desk.parts.database.read() as connection:
        sizes = {table: len(connection.execute(select(metadata.tables[table])).all()) for table in TABLES}
    assert count == sum(sizes.values())


def test_what_happens_while_the_audit_reads_is_no_contradiction(patient: Patient) -> None:
    """Jobs that come, are leased, end and are forgotten, a model and keys that move."""
    desk = patient.desk

    def go_on() -> None:
        desk.submit()
        finish(desk)
        desk.leased()
        refuse(desk)
        desk.publisher.publish(desk.brokerage.manifest(version=3))
        schedule(desk, in_ms=50)
        key = desk.tenant.upload(random_bytes(30))
        desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE))
        time.sleep(0.1)
        destroy_due(desk.parts)

    assert audit(desk, between=go_on)[0] == []
    assert audit(desk)[0] == []


def test_a_gateway_that_shows_no_rows_is_held_by_its_records(patient: Patient) -> None:
    """One of before has no such route."""
    with patient.damaged(lambda c: c.execute(update(keys).values(state="active"))):
        assert audit(patient.desk, hidden=TABLES) == ([], 0)


def of(patient: Patient, name: str) -> Any:
    """The condition of one of the patient's jobs, in any table."""
    return lambda table: table.c.job == patient.job[name]


Harm = Callable[[Patient, Transaction], object]
EDITS: Mapping[str, tuple[str, Harm]] = {
    "why a job was refused": (
        "job_documents, code is 'no'; entry",
        lambda p, c: c.execute(update(job_documents).where(of(p, "refused")(job_documents)).values(code="no")),
    ),
    "why a job died": (
        "job_documents, code is 'no'; entry",
        lambda p, c: c.execute(update(job_documents).where(of(p, "dead")(job_documents)).values(code="no")),
    ),
    "why a job was cancelled": (
        "job_documents, reason is 'no'; entry",
        lambda p, c: c.execute(update(job_documents).where(of(p, "cancelled")(job_documents)).values(reason="no")),
    ),
    "an end in another state": (
        "ended_jobs, state is 'dead'; entry",
        lambda p, c: c.execute(update(ended_jobs).where(of(p, "expired")(ended_jobs)).values(state="dead")),
    ),
    "an end in no state": (
        "ended_jobs, state is 'well'; entry",
        lambda p, c: c.execute(update(ended_jobs).where(of(p, "refused")(ended_jobs)).values(state="well")),
    ),
    "whose lease ended": (
        "ended_jobs, node is None; entry",
        lambda p, c: c.execute(update(ended_jobs).where(of(p, "refused")(ended_jobs)).values(node=None)),
    ),
    "an open job's deadline": (
        "jobs, deadline is 7; its order",
        lambda p, c: c.execute(update(jobs).where(of(p, "leased")(jobs)).values(deadline=7)),
    ),
    "an attempt that was refused": (
        "attempts, outcome is 'lost'; entry",
        lambda p, c: c.execute(update(attempts).where(of(p, "refused")(attempts)).values(outcome="lost")),
    ),
    "an attempt that did not succeed": (
        "attempts, outcome is 'succeeded'; entry",
        lambda p, c: c.execute(update(attempts).where(of(p, "lost")(attempts)).values(outcome="succeeded")),
    ),
    "an attempt that is gone": (
        "has no row of attempts",
        lambda p, c: c.execute(delete(attempts).where(of(p, "again")(attempts), attempts.c.generation == 1)),
    ),
    "an attempt that never was": (
        "it has an attempt 9, and no event of the log tells of that lease",
        lambda p, c: c.execute(
            insert(attempts).values(
                job=p.job["again"], generation=9, node="node-1", outcome="lost", reason="", ended=now_ms()
            )
        ),
    ),
    "a suspended key in use": (
        "keys, state is 'active'; statement 2",
        lambda p, c: c.execute(update(keys).where(keys.c.digest == p.key).values(state="active")),
    ),
    "a destroyed key, kept": (
        "keys, state is 'active'; statement",
        lambda _, c: c.execute(update(keys).where(keys.c.state == "destroyed").values(state="active")),
    ),
    "a destruction, put off": (
        "keys, destroy_at is 9000000000000; statement",
        lambda _, c: c.execute(update(keys).where(keys.c.destroy_at.is_not(None)).values(destroy_at=9_000_000_000_000)),
    ),
    "a key's row, deleted": (
        "has statements about it, and no row of keys",
        lambda p, c: c.execute(delete(keys).where(keys.c.digest == p.key)),
    ),
    "a key nobody stated": (
        "has a row of keys for it, and made no statement",
        lambda _, c: c.execute(
            insert(keys).values(tenant="bank", digest="sha256:" + "0" * 64, state="active", sequence=1)
        ),
    ),
    "a statement's number": (
        "statement 2 of tenant bank does not stand in key_statements",
        lambda p, c: c.execute(
            update(key_statements)
            .where(key_statements.c.key == p.key, key_statements.c.sequence == 2)
            .values(sequence=5)
        ),
    ),
    "a model's version": (
        "manifests, version is 9; its manifest",
        lambda _, c: c.execute(update(manifests).where(manifests.c.version == 2).values(version=9)),
    ),
    "a model, deleted": (
        "has no row of manifests",
        lambda _, c: c.execute(delete(manifests).where(manifests.c.version == 2)),
    ),
}


@pytest.mark.sqlite
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_named_by_its_row_and_column(edit: str, patient: Patient) -> None:
    """And nothing else is accused in its row's table."""
    message, harm = EDITS[edit]
    with patient.damaged(lambda connection: harm(patient, connection)):
        found, _ = audit(patient.desk)
    assert any(message in one for one in found), found
    assert not [one for one in found if one.startswith("row") and message.split(",")[0] not in one], found


@dataclass(frozen=True)
class Shown:
    """What an auditor is shown of a gateway at rest."""

    events: list[tuple[int, Event]]
    rows: dict[TableName, list[dict[str, Any]]]
    records: Callable[[Records], None]

    def found(self) -> list[str]:
        """What is found in it."""
        found = Findings()
        records = Records(found)
        for index, event in self.events:
            records.tell(index, event)
        records.begin()
        for table, rows in self.rows.items():
            for row in rows:
                records.rows.row(table, row)
            records.rows.are_shown(table)
        self.records(records)
        records.finish()
        records.close()
        return [one.message for one in found if one.rule == "row"]


def look(desk: Desk) -> Shown:
    """Ask for everything once."""
    desk.parts.log.sequencer.advance()
    told = [one for page in pages(desk.auditor, "/v1/audit/events", LoggedPage) for one in page.events]
    kept: list[tuple[str, Any]] = []
    names: list[dict[str, str]] = []

    class Tape(Records):
        def __getattribute__(self, name: str) -> Any:
            if name in {"statement", "node", "job"}:
                return lambda one: kept.append((name, one))
            return names.append if name == "names" else super().__getattribute__(name)

    read_records(desk, Tape(Findings()))

    def play(records: Records) -> None:
        for name, one in kept:
            getattr(records, name)(one)
        records.names(names[0])

    return Shown(
        [(one.index, Event.from_bytes(one.event.encode())) for one in told if one.event is not None],
        {
            table: [row for page in pages(desk.auditor, f"/v1/audit/rows/{table}", TableRows) for row in page.rows]
            for table in TABLES
        },
        play,
    )


UNHELD = {(one.table, column) for one in NOT_HELD for column in one.columns}
AS_SHOWN = {("sessions", "name"): ("sessions", "token_hash")}
"""By what a row is shown, in place of a column that opens something."""


@pytest.mark.sqlite
def test_each_column_of_each_row_is_held(patient: Patient) -> None:
    """Changed by as little as may be: by one, or in its last character; or put in, or taken out. Of each kind of row one.

    Kinds are tables and states; in `make nightly` also which columns are empty.
    """
    shown, missed, count, kinds = look(patient.desk), [], 0, set()
    changed = set()
    assert shown.found() == []
    for table, rows in shown.rows.items():
        for place, row in enumerate(rows):
            kind: tuple[Any, ...] = (table, *map(row.get, ("state", "outcome")), row.get("data") == ELSEWHERE)
            kind += tuple(value is None for value in row.values()) if CAMPAIGN > 1 else ()
            if kind in kinds:  # one of each kind will do
                continue
            kinds.add(kind)
            for column, value in row.items():
                for other in others(value) if (table, column) not in UNHELD else ():
                    rows[place] = row | {column: other}
                    changed.add(AS_SHOWN.get((table, column), (table, column)))
                    count += 1
                    if not shown.found():
                        missed.append(f"{table}.{column}: {other} for {value}, in {row}")
            rows[place] = row
    assert not missed, "\n".join(missed)
    assert count > 300
    really_counted = {("stored_bytes", "really")}  # no column: what the gateway reckons
    assert changed - really_counted == {(table, column) for table, by in HELD.items() for column in by.get("row", ())}


def test_each_column_of_each_table_is_held_or_said_not_to_be() -> None:
    """Whoever adds a column decides on it: by which rule it is held, or why not. Each once."""
    decided = [(table, column) for table, by in HELD.items() for columns in by.values() for column in columns]
    decided += [(one.table, column) for one in NOT_HELD for column in one.columns]
    assert sorted(decided) == sorted(
        (table.name, column.name) for table in metadata.sorted_tables for column in table.columns
    )
    text = DOCUMENT.read_text(encoding="utf-8")
    for one in NOT_HELD:
        columns = ", ".join(f"`{column}`" for column in one.columns)
        assert one.why
        assert re.search(
            rf"^\| `{one.table}` \| [^|]* \| {re.escape(columns)} \| {re.escape(one.why)} \|$", text, re.MULTILINE
        )
    for table, by in HELD.items():
        (line,) = re.findall(rf"^\| `{table}` \| ([^|]*) \|", text, re.MULTILINE)
        assert re.findall("`([a-z_]+)`", line.replace("`record`", "")) == [
            name for names in by.values() for name in names
        ]


STATED = {
    "budget",
    "rows",
    "asked",
    "until",
    "unlogged-gateways",
    "budgets",
    "priority",
    "token",
    "ended",
    "words",
    "outcome",
    "attempt",
    "most",
    "received",
    "published",
    "acknowledged",
}
SHOWN = {"queue", "held", "rank", "spent", "token", "acknowledged", "salt"}
SINCE = {
    Action.JOB_RETURNED,
    Action.JOB_ACKNOWLEDGED,
    Action.BUDGET_COUNTED,
    Action.GATEWAY_ENTERED,
    Action.GATEWAY_FORGOTTEN,
}
TABLES_OF_BEFORE: tuple[TableName, ...] = (
    "manifests",
    "keys",
    "key_statements",
    "jobs",
    "ended_jobs",
    "job_documents",
    "attempts",
)


@pytest.mark.sqlite
def test_a_gateway_of_before_is_accused_of_nothing(patient: Patient) -> None:
    """Its events stated less, and it shows fewer columns and no queues."""
    shown = look(patient.desk)
    events = [
        (index, event.model_copy(update={"details": {k: v for k, v in event.details.items() if k not in STATED}}))
        for index, event in shown.events
        if event.action not in SINCE
    ]
    rows: dict[TableName, list[dict[str, Any]]] = {
        table: [{k: v for k, v in row.items() if k not in SHOWN} for row in shown.rows[table]]
        for table in TABLES_OF_BEFORE
    }
    assert Shown(events, rows, shown.records).found() == []


def others(value: Any) -> list[Any]:
    """Values that are nearly this one."""
    if value is None:
        return [1]
    return [None, value + 1 if isinstance(value, int) else value[:-1] + chr(ord(value[-1:] or "a") ^ 1)]


def test_records_that_were_deleted_in_time_are_not_missed(patient: Patient, tmp_path: Path) -> None:
    """Their rows are gone as they are. The last of these tests: it leaves no jobs that have ended."""
    desk = patient.desk
    desk.parts.settings.__dict__["records"] = 0
    try:
        assert sweep_records(desk.parts) > 0
    finally:
        desk.parts.settings.__dict__["records"] = 10**12
    assert audit(desk)[0] == []
