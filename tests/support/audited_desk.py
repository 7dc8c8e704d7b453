"""What `audit verify` finds of a desk's records and rows, without the log's tree: that is audited elsewhere."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from blindgate_audit.findings import Findings
from blindgate_audit.records import Records
from blindgate_audit.rows import TABLES
from blindgate_protocol.events import Event
from blindgate_protocol.logged import LoggedPage, PseudonymPage
from blindgate_protocol.oversight import JobRecords, NodeRecords, StatementRecords, TableName, TableRows
from brokerage import Caller
from desk import Desk


def pages(caller: Caller, path: str, kind: Any, *, most: int = 3) -> Iterator[Any]:
    """Every page."""
    after: str | None = None
    while True:
        asked = f"{path}?most={most}" + ("" if after is None else f"&after={after}")
        page = kind.model_validate_json(caller.ask("GET", asked).content)
        yield page
        if page.after is None or str(page.after) == after:
            return
        after = str(page.after)


def tell(
    desk: Desk, records: Records, behind: int = -1, tells: Callable[[Event], Event | None] = lambda event: event
) -> int:
    """Tell of all events behind this index, as `tells` makes them. Gives the last one's."""
    desk.parts.log.sequencer.advance()
    for page in pages(desk.auditor, "/v1/audit/events", LoggedPage, most=100):
        for one in page.events:
            if one.index > behind and one.event is not None:
                told = tells(Event.from_bytes(one.event.encode()))
                if told is not None:
                    records.tell(one.index, told)
                behind = one.index
    return behind


def audit(
    desk: Desk,
    *,
    between: Callable[[], object] = lambda: None,
    hidden: Collection[TableName] = (),
    erased: int = 0,
    tells: Callable[[Event], Event | None] = lambda event: event,
) -> tuple[list[str], int]:
    """What `audit verify` finds of a desk, and how many rows it read.

    Something may happen `between` its reading of rows and of records. Tables may be `hidden`. So many events may be `erased`, and
    each may be another than the gateway tells, or none, as `tells` has it.
    """
    found = Findings()
    records = Records(found)
    last = tell(desk, records, tells=tells)
    records.begin()
    read_rows(desk, records, hidden)
    between()
    read_records(desk, records)
    tell(desk, records, last, tells)
    records.finish(erased=erased)
    count = records.rows.count
    records.close()
    return [f"{one.rule}: {one.message}" for one in found], count


def read_rows(desk: Desk, records: Records, hidden: Collection[TableName]) -> None:
    """Every row of every table but those that are `hidden`."""
    for table in (table for table in TABLES if table not in hidden):
        for page in pages(desk.auditor, f"/v1/audit/rows/{table}", TableRows):
            for row in page.rows:
                records.rows.row(table, row)
        records.rows.are_shown(table)


def read_records(desk: Desk, records: Records) -> None:
    """All else that is on record."""
    for path, kind, take in (
        ("keys", StatementRecords, records.statement),
        ("nodes", NodeRecords, records.node),
        ("jobs", JobRecords, records.job),
    ):
        for page in pages(desk.auditor, f"/v1/audit/{path}", kind):
            for one in next(iter(dict(page).values())):
                take(one)
    names = PseudonymPage.model_validate_json(desk.auditor.ask("GET", "/v1/audit/pseudonyms").content)
    records.names({one.pseudonym: one.name for one in names.pseudonyms})
