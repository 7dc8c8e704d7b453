"""What tenants asked for, what is stored, who is signed in and which gateways there are: rows against the log.

Each edit is named by its row, its column and who says otherwise; a gateway at work, and one of before, is accused of nothing.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import Table, delete, insert, select, update

from audited_desk import audit
from blindgate_audit.blob_rows import BlobRows
from blindgate_audit.findings import Findings
from blindgate_gateway.console.sessions import IDLE, WHOLE, begin_session, sweep_sessions
from blindgate_gateway.database import Transaction
from blindgate_gateway.identity import Grounds, Role, Staff, StaffRole, add_staff
from blindgate_gateway.log.believed import show
from blindgate_gateway.log.erasing import erase_name
from blindgate_gateway.log.starting import tell_start, tell_stop
from blindgate_gateway.sweep import sweep_bytes
from blindgate_gateway.tables import blobs, events, gateways, rows_asked, sessions, stored_bytes
from blindgate_protocol.events import Action, Event
from blindgate_protocol.receipts import CLOCK_SKEW
from brokerage import blob_ref, now_ms, random_bytes
from desk import Desk, open_desk
from patient import Patient

Harm = Callable[[Patient, Transaction], object]
AUDITOR = frozenset({Role.AUDITOR})
OTHER = "0" * 32


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def patient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """A gateway that has taken orders of two tenants, on each database. The patient keeps digests by what they are of."""
    url = request.getfixturevalue("postgresql_server").new_database() if request.param == "postgresql" else None
    with open_desk(tmp_path_factory.mktemp("budgets"), database=url) as desk:
        tell_start(desk.brokerage.settings)
        made = Patient(desk, {}, None, {}, "", "")
        for rows in (3, 4, 1):
            desk.submit(rows=rows)
        lease = desk.worker.lease()
        assert lease is not None
        result = random_bytes(40)
        desk.worker.finish(lease, result)
        small = random_bytes(50)
        desk.tenant.submit(desk.tenant.order(desk.manifest, blob_ref(small)), small)
        made.job |= {"result": blob_ref(result).digest, "small": blob_ref(small).digest}
        ann = add_staff(desk.parts.database, "ann", StaffRole.AUDITOR)
        begin_session(desk.parts.database, Staff("ann", AUDITOR, ann.id))
        yield made


def set_to(table: Table, **values: object) -> Harm:
    """The rows of a table, edited: those of the bank where they are of tenants."""

    def harm(_: Patient, connection: Transaction) -> object:
        statement = update(table)
        if "tenant" in table.c:
            statement = statement.where(table.c.tenant == "bank")
        return connection.execute(statement.values(**values))

    return harm


def of_blob(name: str, **values: object) -> Harm:
    """One blob's row, edited, or deleted."""

    def harm(patient: Patient, connection: Transaction) -> None:
        this = blobs.c.digest == patient.job[name]
        connection.execute(update(blobs).where(this).values(**values) if values else delete(blobs).where(this))

    return harm


BUDGET = "budget of tenant bank for model echo of KEY"
COUNTED = "tenant bank: in its row of stored_bytes, bytes is N; what it has stored, added up, has N"
EDITS: Mapping[str, tuple[list[str], Harm]] = {
    "a budget, lowered by one": (
        [f"{BUDGET}: in its row of rows_asked, rows is 8; entry N has 9"],
        set_to(rows_asked, rows=8),
    ),
    "a budget, raised by one": (
        [f"{BUDGET}: in its row of rows_asked, rows is 10; entry N has 9"],
        set_to(rows_asked, rows=10),
    ),
    "a budget, deleted": (
        [f"{BUDGET}: the budget that entry N tells of has no row of rows_asked"],
        lambda _, c: c.execute(delete(rows_asked).where(rows_asked.c.tenant == "bank")),
    ),
    "a budget, put in": (
        [
            "budget of tenant clinic for model echo of x: it has a row of rows_asked, and no event of the log tells of it"
        ],
        lambda _, c: c.execute(insert(rows_asked).values(tenant="clinic", publisher="x", model="echo", rows=5)),
    ),
    "what is stored, counted as less": ([COUNTED], set_to(stored_bytes, bytes=stored_bytes.c.bytes - 1)),
    "what is stored, not counted": (
        ["tenant bank: it has blobs, and no row of stored_bytes"],
        lambda _, c: c.execute(delete(stored_bytes).where(stored_bytes.c.tenant == "bank")),
    ),
    "a waiting job's input, deleted": (
        ["job:JOB: its input DIGEST has no row of blobs at tenant bank", COUNTED],
        of_blob("small"),
    ),
    "a result, deleted": (
        ["job:JOB: its result DIGEST has no row of blobs at tenant bank", COUNTED],
        of_blob("result"),
    ),
    "an input's bytes": (
        ["blob DIGEST of tenant bank: in its row of blobs, data is 'DIGEST'; the digest of its bytes is another"],
        of_blob("small", data=b"other"),
    ),
    "an input's bytes, gone": (
        ["blob DIGEST of tenant bank: in its row of blobs, data is None; the digest of its bytes is another"],
        of_blob("small", data=None),
    ),
    "an input's size": (
        ["blob DIGEST of tenant bank: in its row of blobs, size is 7; the order of job:JOB has 50", COUNTED],
        of_blob("small", size=7),
    ),
    "a session, deleted": (
        ["session:OTHER: the session that entry N tells of has no row of sessions, and nothing tells of its end"],
        lambda _, c: c.execute(delete(sessions)),
    ),
    "whom a gateway believes": (
        ["gateway:OTHER: in its row of gateways, publishers is 'x'; entry N has other ones"],
        set_to(gateways, publishers="x"),
    ),
    "for how long a gateway keeps things": (
        ["gateway:OTHER: in its row of gateways, kept is '{}'; entry N has other ones"],
        set_to(gateways, kept="{}"),
    ),
    "a gateway, deleted": (
        ["gateway:OTHER: the gateway that entry N tells of has no row of gateways"],
        lambda _, c: c.execute(delete(gateways)),
    ),
    "a gateway, put in": (
        ["gateway:OTHER: it has a row of gateways, and no event of the log tells of it"],
        lambda _, c: c.execute(
            insert(gateways).values(id=OTHER, since=1, seen=1, publishers="", operators="", kept="{}")
        ),
    ),
}


def plain(found: str) -> str:
    """A finding without what is another in each run."""
    found = re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", re.sub(r"entry \d+", "entry N", found))
    found = re.sub(r"(session|gateway):[0-9a-f]{32}", r"\1:OTHER", re.sub(r"job:[0-9a-f]{32}", "job:JOB", found))
    found = re.sub(r"bytes is \d+; (.*) has \d+$", r"bytes is N; \1 has N", found)
    return re.sub(r"ed25519:[A-Za-z0-9_-]{43}", "KEY", found).removeprefix("row: ")


@pytest.mark.sqlite
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_named_by_its_row_and_column(edit: str, patient: Patient) -> None:
    """And nothing else is accused."""
    messages, harm = EDITS[edit]
    assert audit(patient.desk)[0] == []
    with patient.damaged(lambda connection: harm(patient, connection)):
        found = [plain(one) for one in audit(patient.desk)[0]]
    assert found == messages


def ask(desk: Desk, rows: int) -> None:
    """Another order."""
    desk.submit(rows=rows)


def put(desk: Desk, rows: int) -> None:
    """Edit how many rows were asked."""
    with desk.parts.database.write() as connection:
        connection.execute(update(rows_asked).values(rows=rows))


def test_a_budget_that_was_lowered_and_put_back_is_named_by_the_order_that_found_it_so(tmp_path: Path) -> None:
    """The row is as it would be; the events are not."""
    with open_desk(tmp_path) as desk:
        tell_start(desk.brokerage.settings)
        ask(desk, 90)
        put(desk, 0)
        ask(desk, 50)
        put(desk, 140)
        ask(desk, 1)
        found = [plain(one) for one in audit(desk)[0]]
    assert found == [
        f"{BUDGET}: entry N found 0 rows asked before it; since entry N it was 90",
        f"{BUDGET}: entry N found 140 rows asked before it; since entry N it was 50",
    ]


def test_a_budget_that_is_older_than_what_the_log_tells_is_told_once(tmp_path: Path) -> None:
    """From then on it is held, as all that come later."""
    with open_desk(tmp_path) as desk:
        ask(desk, 5)
        put(desk, 7)
        assert audit(desk, tells=of_before)[0] == []
        for _ in range(2):
            tell_start(desk.brokerage.settings)
        with desk.parts.database.read() as connection:
            told = connection.execute(select(events.c.body).where(events.c.action == "budget.counted")).scalars()
        assert [json.loads(body)["details"]["asked"] for body in told] == ["7"]
        assert audit(desk, tells=silent)[0] == []
        put(desk, 6)
        found = [plain(one) for one in audit(desk, tells=silent)[0]]
    assert found == [f"{BUDGET}: in its row of rows_asked, rows is 6; entry N has 7"]


def test_orders_that_a_gateway_of_before_took_in_between_may_have_asked_for_more(tmp_path: Path) -> None:
    """And for no less."""
    with open_desk(tmp_path) as desk:
        tell_start(desk.brokerage.settings)
        for rows in (5, 6, 7):
            ask(desk, rows)
        assert audit(desk, tells=lambda event: silent(event, asked="11"))[0] == []
        assert audit(desk, tells=lambda event: silent(event, asked="18"))[0] == []
        put(desk, 10)
        found = [plain(one) for one in audit(desk, tells=lambda event: silent(event, asked="18"))[0]]
    assert found == [f"{BUDGET}: in its row of rows_asked, rows is 10; entry N has 11"]


def silent(event: Event, asked: str | None = None) -> Event:
    """The order that brought its budget to `asked`, or any, as a gateway of before tells of it."""
    if event.action is not Action.JOB_SUBMITTED or asked not in {None, event.details["asked"]}:
        return event
    kept = {name: text for name, text in event.details.items() if name not in {"budget", "rows", "asked"}}
    return event.model_copy(update={"details": kept})


def of_before(event: Event) -> Event | None:
    """An event as gateways of before wrote it, or none where they wrote none."""
    if event.action in {Action.GATEWAY_ENTERED, Action.BUDGET_COUNTED}:
        return None
    new = {"budget", "rows", "asked", "until", "budgets", "unlogged-gateways"}
    return event.model_copy(update={"details": {name: text for name, text in event.details.items() if name not in new}})


def test_a_budget_of_a_tenant_whose_name_was_erased_accuses_nobody(tmp_path: Path) -> None:
    """Also where that comes back, under another pseudonym."""
    with open_desk(tmp_path) as desk:
        tell_start(desk.brokerage.settings)
        ask(desk, 5)
        erase_name(desk.parts.database, "tenant", "bank", reason="asked")
        assert [one for one in audit(desk)[0] if "budget" in one] == []
        ask(desk, 2)
        assert [one for one in audit(desk)[0] if "budget" in one] == []


def test_what_happens_while_the_audit_reads_is_no_contradiction(patient: Patient) -> None:
    """New orders and blobs, and a gateway that starts."""
    desk = patient.desk

    def go_on() -> None:
        ask(desk, 11)
        ref = desk.stranger.upload(random_bytes(70))
        desk.stranger.submit(desk.stranger.order(desk.manifest, ref))
        lease = desk.worker.lease()
        assert lease is not None
        desk.worker.finish(lease, random_bytes(40))
        tell_start(desk.brokerage.settings)

    assert audit(desk, between=go_on)[0] == []
    assert audit(desk)[0] == []


def test_a_session_that_ends_by_itself_has_its_event_where_its_end_has_not_come(tmp_path: Path) -> None:
    """One that nobody used, and one that was withdrawn and signed out; one that is over by its time has none, and is not missed."""
    with open_desk(tmp_path) as desk:
        database = desk.parts.database
        ann = add_staff(database, "ann", StaffRole.AUDITOR)
        for _ in range(2):
            begin_session(database, Staff("ann", AUDITOR, ann.id))
        begin_session(database, Staff("eva", AUDITOR, "eva", Grounds("[]", now_ms() + 300)))
        time.sleep(0.4)
        with database.write() as connection:
            first = connection.execute(select(sessions.c.token_hash).where(sessions.c.api_key == ann.id)).scalars()[0]
            connection.execute(
                update(sessions).where(sessions.c.token_hash == first).values(used=sessions.c.used - IDLE)
            )
        sweep_sessions(database)
        found, _ = audit(desk)
        with database.read() as connection:
            ended = connection.execute(select(events.c.object).where(events.c.action == "session.ended")).scalars()
            assert len(connection.execute(select(sessions)).all()) == 1
    assert found == []
    assert ended == [f"session:{first[:32]}"]
    assert IDLE < WHOLE


def test_gateways_that_were_forgotten_are_not_missed(tmp_path: Path) -> None:
    """One that will not come back, and one that was lost; both say so in the log, and one that comes back enters anew."""
    with open_desk(tmp_path) as desk:
        settings, database = desk.brokerage.settings, desk.parts.database
        own = settings.data / "gateway.id"
        tell_start(settings)
        first = own.read_text()
        for number in (1, 2):  # two others, of which one stops in order
            own.write_text(f"{number:032x}")
            tell_start(settings.model_copy(update={"leaves": True}))
        tell_stop(settings.model_copy(update={"leaves": True}))
        own.write_text(first)
        assert audit(desk)[0] == []
        hours = 10 * 3_600_000
        with database.write() as connection:
            connection.execute(update(gateways).values(since=gateways.c.since - hours))
            connection.execute(
                update(gateways).where(gateways.c.id == f"{1:032x}").values(seen=gateways.c.seen - hours)
            )
        show(database, settings)
        assert audit(desk)[0] == []
        own.write_text(f"{1:032x}")
        show(database, settings)  # it was forgotten, and says anew who it is
        assert audit(desk)[0] == []
        with database.read() as connection:
            told = select(events.c.action).where(events.c.object.like("gateway:%")).order_by(events.c.id)
            actions = connection.execute(told).scalars()
    entered, forgotten = "gateway.entered", "gateway.forgotten"
    assert actions == [entered, entered, entered, forgotten, forgotten, entered]


def test_blobs_that_were_kept_for_as_long_as_was_said_are_not_missed(tmp_path: Path) -> None:
    """Swept away in time; and until the auditor's clock is surely past it, they are missed if they are gone."""
    with open_desk(tmp_path, retention=1000) as desk:
        tell_start(desk.brokerage.settings)
        desk.worker.finish(desk.leased(), random_bytes(30))
        time.sleep(1.2)
        assert sweep_bytes(desk.parts) >= 1
        assert audit(desk)[0] == []
    ended, kept = 10**12, 10**7
    for now, missed in ((ended + kept - CLOCK_SKEW - 1, 2), (ended + kept - CLOCK_SKEW, 0)):
        found = Findings()
        rows = BlobRows(found, clock=lambda now=now: now)  # type: ignore[misc]
        rows.gateway({"kept": json.dumps({"retention": str(kept)})})
        row: dict[str, str | int | None] = {
            "job": "1",
            "tenant": "bank",
            "input_digest": "a",
            "result_digest": "b",
            "ended": ended,
        }
        rows.job("ended_jobs", row)
        rows.finish(erased=0)
        rows.close()
        assert found.count == missed
