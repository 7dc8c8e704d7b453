"""A report's formats: what a script, a spreadsheet, a SIEM and a data frame read back is what the log said."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow.parquet as pq
import pytest
from py_ocsf_models.events.base_event import BaseEvent
from py_ocsf_models.objects.api import API
from py_ocsf_models.objects.resource_details import ResourceDetails
from py_ocsf_models.objects.user import User
from pydantic import BaseModel, ConfigDict, Field

from blindgate_audit.formats.columns import COLUMNS
from blindgate_audit.formats.lines import write_lines
from blindgate_audit.formats.ocsf import write_ocsf
from blindgate_audit.formats.parquet import ROWS_IN_A_GROUP, require_parquet, write_parquet
from blindgate_audit.formats.reports import Format, write_report
from blindgate_audit.formats.spreadsheets import write_csv
from blindgate_audit.formats.tables import ROWS_IN_A_BLOCK, write_table
from blindgate_audit.report import Proof, Row
from blindgate_protocol.errors import InputError
from blindgate_protocol.events import Action
from exports import CLIENT, KEY, NODE, START, TENANT, life, stated, statement, told
from static_logs import ORIGIN

OBJECTS = {
    "key": f"key:{KEY}",
    "job": f"job:{'1' * 32}",
    "model": "model:triage/3",
    "node": f"node:{NODE}",
    "tenant": f"tenant:{TENANT}",
    "signer": f"signer:{NODE}",
    "event": "event:3",
    "log": f"log:{ORIGIN}",
}


def rows_of(events: Iterable[Any]) -> list[Row]:
    """Each event at its index, proven."""
    return [Row(index, Proof.IN_LOG, event) for index, event in enumerate(events)]


def everything() -> list[Row]:
    """Every action there is, by all roles, well and ill; and a row of each kind that has no body to trust."""
    roles = ("tenant", "auditor", "administrator", "gateway", "node", "unknown")
    rows = rows_of(
        told(
            action,
            OBJECTS.get(action.value.partition(".")[0], "credential:7"),
            index,
            role=roles[index % 6],
            outcome="failure" if index % 4 == 3 else "success",
            reason="for want of memory" if index % 4 == 3 else None,
            tenant=None if index % 5 == 4 else TENANT,
            details={"job": "1" * 32} if index % 2 else {},
        )
        for index, action in enumerate(Action)
    )
    last = len(rows)
    return [*rows, Row(last, Proof.ERASED), Row(last + 1, Proof.MISSING), Row(last + 2, Proof.ALTERED, rows[0].event)]


def written(write: Callable[..., None], rows: Iterable[Row], **given: Any) -> bytes:
    """What a format writes."""
    out = io.BytesIO()
    write(rows, out, **given)
    return out.getvalue()


def test_a_script_reads_a_row_a_line() -> None:
    """Every column, with numbers as numbers, and null for what an event does not have."""
    second = json.loads(written(write_lines, rows_of(life())).splitlines()[1])
    assert tuple(second) == COLUMNS
    assert second == dict.fromkeys(COLUMNS) | {
        "index": 1,
        "time": "2026-01-01T00:00:02.000Z",
        "proof": "in log",
        "action": "key.activated",
        "object": f"key:{KEY}",
        "before": "registered",
        "after": "active",
        "actor": TENANT,
        "role": "tenant",
        "tenant": TENANT,
        "outcome": "success",
        "digest": statement(KEY, 2),
        "request": "req-1",
        "statement": 2,
        "previous": statement(KEY, 1),
        "details": {"client": CLIENT},
        "software": "0.1.0",
    }


def test_a_line_stays_one_line_whatever_was_written_into_it() -> None:
    """Line ends inside a reason are escaped; a body that cannot be read is null, and the note says why."""
    rows = [
        *rows_of([told(Action.JOB_FAILED, "job:1", 0, reason="a\nb\u2028c")]),
        Row(1, Proof.ALTERED, note="not JSON"),
    ]
    first, second = written(write_lines, rows).decode().removesuffix("\n").split("\n")
    assert json.loads(first)["reason"] == "a\nb\u2028c"
    assert json.loads(second) == dict.fromkeys(COLUMNS) | {"index": 1, "proof": "body altered", "note": "not JSON"}


def test_csv_is_read_back_as_it_was() -> None:
    """By a reader that is strict about RFC 4180: commas, quotes and line ends inside a cell, CR LF behind each record."""
    reason = 'late, said "node"\r\nagain'
    data = written(write_csv, rows_of([told(Action.JOB_FAILED, "job:1", 5, reason=reason, outcome="failure")])).decode()
    header, record = csv.reader(io.StringIO(data, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    assert data.endswith("\r\n")
    read = dict(zip(header, record, strict=True))
    assert (read["time"], read["reason"], read["statement"]) == ("2026-01-01T00:00:00.005Z", reason, "")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "  =", "\t@"])
def test_what_a_stranger_wrote_is_no_formula(begin: str) -> None:
    """A spreadsheet takes such a cell for one; the apostrophe tells it that this is text."""
    reason = f'{begin}HYPERLINK("https://elsewhere.example")'
    data = written(write_csv, rows_of([told(Action.JOB_FAILED, "job:1", 0, reason=reason)])).decode()
    _, record = csv.reader(io.StringIO(data, newline=""), strict=True)
    assert record[COLUMNS.index("reason")] == f"'{reason}"


def test_parquet_has_types(tmp_path: Path) -> None:
    """What a data frame asks about: points in time, numbers, and text that is absent rather than empty."""
    count = ROWS_IN_A_GROUP + 3
    with (tmp_path / "life.parquet").open("wb") as out:
        write_parquet(
            (Row(index, Proof.IN_LOG, stated(Action.KEY_ACTIVATED, 1, None, "active")) for index in range(count)), out
        )
    file = pq.ParquetFile(tmp_path / "life.parquet")
    assert [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] == [ROWS_IN_A_GROUP, 3]
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert tuple(types) == COLUMNS
    assert types == dict.fromkeys(COLUMNS, "string") | {
        "index": "int64",
        "time": "timestamp[ms, tz=UTC]",
        "statement": "int64",
    }
    last = file.read().to_pylist()[-1]
    assert last["index"] == count - 1
    assert last["time"] == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (last["statement"], last["before"], json.loads(last["details"])) == (1, None, {"client": CLIENT})


def test_without_pyarrow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra of 55 MB."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'blindgate\[audit,parquet\]'"):
        require_parquet()


def test_other_formats_load_no_pyarrow() -> None:
    """An auditor without the extra has all the others."""
    script = "import sys, blindgate_audit.commands; raise SystemExit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


class OcsfEvent(BaseEvent):
    """What OCSF 1.5.0 asks of both classes beside the base event: py-ocsf-models has the classes of findings alone."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    time: int
    activity_name: str
    category_name: str
    class_name: str
    type_uid: int
    type_name: str


class Actor(BaseModel):
    """Who did it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    user: User


class Endpoint(BaseModel):
    """From where."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    uid: str
    name: str


class EntityManagement(OcsfEvent):
    """Class 3004."""

    category_uid: Literal[3]
    class_uid: Literal[3004]
    activity_id: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99]
    actor: Actor
    entity: ResourceDetails


class ApiActivity(OcsfEvent):
    """Class 6003."""

    category_uid: Literal[6]
    class_uid: Literal[6003]
    activity_id: Literal[0, 1, 2, 3, 4, 99]
    actor: Actor
    api: API
    src_endpoint: Endpoint
    resources: list[ResourceDetails] = Field(default_factory=list)


def test_a_siem_reads_every_action() -> None:
    """Each line is an event of its class; its identifiers fit together, and its user's type is one that 1.5.0 has."""
    rows = everything()
    lines = written(write_ocsf, rows, origin=ORIGIN).splitlines()
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        raw = json.loads(line)
        event: Any = (EntityManagement if raw["class_uid"] == 3004 else ApiActivity).model_validate(raw)
        assert event.type_uid == event.class_uid * 100 + event.activity_id
        assert event.metadata.version == "1.5.0"
        assert event.metadata.sequence == row.index
        assert event.actor.user.type_id in {0, 1, 2, 3, 99}
        assert event.status_id in {0, 1, 2}
        assert b"null" not in line


def test_a_siem_sees_what_happened_to_a_key() -> None:
    """The mapping that the module documents, by class and activity."""
    events = [json.loads(line) for line in written(write_ocsf, everything(), origin=ORIGIN).splitlines()]
    mapped = {one["metadata"].get("event_code"): (one["type_uid"], one["severity"]) for one in events[: len(Action)]}
    assert mapped["key.registered"] == (300401, "Informational")
    assert mapped["key.suspended"] == (300412, "Informational")
    assert mapped["key.resumed"] == (300413, "Medium")  # it failed here
    assert mapped["key.compromised"] == (300409, "High")
    assert mapped["key.destroyed"] == (300404, "Informational")
    assert mapped["node.dismissed"][0] == 300407
    assert mapped["job.submitted"][0] == 600301
    assert mapped["login.failed"][0] == 600399
    destroyed = next(one for one in events if one["metadata"].get("event_code") == "key.destroyed")
    assert (destroyed["time"], destroyed["entity"]["uid"]) == (START + 8, f"key:{KEY}")


def test_a_siem_is_alarmed_by_what_the_log_does_not_prove() -> None:
    """And told that a body which is gone has no time of its own."""
    erased, missing, altered = (
        json.loads(line) for line in written(write_ocsf, everything(), origin=ORIGIN).splitlines()[-3:]
    )
    assert [one["severity_id"] for one in (erased, missing, altered)] == [1, 4, 4]
    assert [one["unmapped"]["proof"] for one in (erased, missing, altered)] == ["erased", "missing", "body altered"]
    assert missing["unmapped"]["time_unknown"] is True
    assert missing["time"] == START + len(Action) - 1


def test_people_read_short_ids_and_no_empty_column() -> None:
    """In lines as long as they need to be; the object that was asked for is not repeated."""
    header, *lines = written(write_table, rows_of(life()), about=f"key:{KEY}").decode().splitlines()
    assert header.split()[:5] == ["index", "time", "(UTC)", "proof", "action"]
    assert "note" not in header
    assert [line.split()[0] for line in lines] == list("01234567")
    assert "registered → active" in lines[1]
    assert f"{statement(KEY, 2)[:19]}…" in lines[1]
    assert (KEY[:15] in lines[1], "job:000000000000…" in lines[2]) == (False, True)


def test_a_narrow_terminal_folds_cells_and_no_stranger_steers_it() -> None:
    """Whatever a node wrote as its reason."""
    hostile = told(Action.JOB_FAILED, "job:1", 0, reason="[red]\x1b]0;gone\x07", outcome="failure")
    for width in (60, None):
        shown = written(write_table, rows_of([hostile]), width=width).decode()
        assert "\x1b" not in shown
        assert max(map(len, shown.splitlines())) <= (width or 200)
    assert "[red]�]0;gone�" in shown


def test_a_long_table_comes_in_blocks() -> None:
    """Each with its header, so that none has to be kept for the next."""
    rows = rows_of(told(Action.JOB_LEASED, "job:1", index) for index in range(ROWS_IN_A_BLOCK + 1))
    lines = written(write_table, rows).decode().splitlines()
    assert [at for at, line in enumerate(lines) if line.startswith("index")] == [0, ROWS_IN_A_BLOCK + 1]


def test_a_report_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    """Nor destroys the one that was there."""
    place = tmp_path / "life.csv"
    place.write_text("the last one")

    def rows() -> Iterable[Row]:
        yield from rows_of(life())
        raise OSError

    with pytest.raises(OSError):
        write_report(rows(), Format.CSV, place, origin=ORIGIN)
    assert [file.name for file in tmp_path.iterdir()] == ["life.csv"]
    assert place.read_text() == "the last one"
