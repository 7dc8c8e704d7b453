"""What the log costs the gateway: a job's time there with its events, proofs of a large log, and the room that an event takes.

- *job*: submit, lease, commit and acknowledgement of a small job, in the application itself (no sockets), by the time that it
  spends in answering; against the same with nothing told. One of either is done in turn, so that both meet the same database, disk
  and neighbours: in rounds of many, the machine's changes from round to round were as large as what is measured. A tenth more was
  allowed.
- *proof*: `GET /v1/jobs/<job>/proof` over a log of a million entries; 5 ms were asked.
- *room*: bytes of the database's file and of the static files for each event of those jobs, and of the static files alone.
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from bench.queueing import _databases
from bench.rows import Row, row
from sqlalchemy import func, select

from blindgate_gateway.logs import configure_logs
from blindgate_gateway.tables import events
from blindgate_protocol.tiles import WIDTH
from brokerage import blob_ref, random_bytes
from desk import Desk, open_desk

JOBS: Final = 600
WARM_UP: Final = 20
ENTRIES: Final = 1_000_000
PROOFS: Final = 200
JOB_BYTES: Final = 1024
ALLOWED: Final = 1.1
ASKED_MS: Final = 5.0
ASKED_BYTES: Final = 2048.0
_PLACES: Final[tuple[str, ...]] = (
    "blindgate_gateway.jobs.tell",
    "blindgate_gateway.transitions.tell",
    "blindgate_gateway.endings.tell",
)
_FILL: Final = (
    "INSERT INTO events (time, action, object, tenant, commitment) "
    "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {count}) "
    "SELECT i, 'log.read', 'log:' || i, NULL, randomblob(32) FROM s"
)


def rows() -> list[Row]:
    """Measure, on each database."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="blindgate-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        folder.chmod(0o711)
        configure_logs(file=folder / "gateway.log", level="info")
        with _databases(folder) as databases:
            for database, url in databases.items():
                with open_desk(folder / database, database=url(), rate=0, waiting=1 << 30, queue=1 << 30) as desk:
                    told, untold = _jobs(desk)
                    measured.append(
                        row(
                            f"log: a job's time in the gateway with its events, {database}, against without",
                            told,
                            untold,
                            target=1 / ALLOWED,
                            unit="ms",
                        )
                    )
                    if database == "SQLite":
                        measured += _large(desk)
    return measured


def _jobs(desk: Desk) -> tuple[list[float], list[float]]:
    """Milliseconds of each job, with and without, one of either in turn."""
    spent = _watched(desk)
    told: list[float] = []
    untold: list[float] = []
    drawn = random.Random(1)
    for count in range(WARM_UP + JOBS):
        for into, places in drawn.sample(((told, ()), (untold, _PLACES)), 2):
            with _silent(places):
                spent[0] = 0.0
                _job(desk)
            if count >= WARM_UP:
                into.append(spent[0] * 1000)
    return told, untold


def _job(desk: Desk) -> str:
    data = random_bytes(JOB_BYTES)
    job = desk.tenant.submit(desk.tenant.order(desk.manifest, blob_ref(data)), data).job
    lease = desk.worker.lease()
    assert lease is not None
    desk.worker.finish(lease, data[::-1], along=True)
    assert desk.tenant.ask("POST", f"/v1/jobs/{job}/acknowledge").status_code == HTTPStatus.NO_CONTENT
    return job


def _watched(desk: Desk) -> list[float]:
    """Let the application note how long it answers; gives where."""
    spent, answer = [0.0], desk.app.wsgi_app

    def watch(environ: Any, start: Any) -> Any:
        began = time.perf_counter()
        try:
            return answer(environ, start)
        finally:
            spent[0] += time.perf_counter() - began

    desk.app.wsgi_app = watch  # type: ignore[method-assign, assignment]
    return spent


@contextmanager
def _silent(places: tuple[str, ...]) -> Iterator[None]:
    if not places:
        yield
        return
    with patch(places[0], lambda *_given, **_named: None), _silent(places[1:]):
        yield


def _large(desk: Desk) -> list[Row]:
    settings, log = desk.parts.settings, desk.parts.log
    log.keep()
    with desk.parts.database.read() as connection:
        count = int(connection.execute(select(func.count().label("count")).select_from(events)).scalar())
    desk.parts.database.tidy()
    with desk.parts.database.migrating() as connection:
        pages = connection.exec_driver_sql(
            "SELECT SUM(pgsize) FROM dbstat WHERE name IN "
            "(SELECT name FROM sqlite_master WHERE tbl_name IN ('events', 'log_tiles'))"
        ).scalar()
        connection.exec_driver_sql(_FILL.format(count=ENTRIES - count - 3 * PROOFS))
    log.sequencer.advance()
    jobs = [_job(desk) for _ in range(PROOFS)]
    log.sequencer.advance()
    times = []
    for job in jobs:
        began = time.perf_counter()
        desk.tenant.ask("GET", f"/v1/jobs/{job}/proof")
        times.append(1000 * (time.perf_counter() - began))
    whole = count // WIDTH * WIDTH
    files = sum(
        path.stat().st_size
        for path in (settings.data / "log" / "tile").rglob("*")
        if path.is_file() and ".p" not in str(path)
    )
    return [
        row("log: an inclusion proof served, of 1,000,000 entries", times, ASKED_MS, target=1, unit="ms"),
        row(
            "log: room of an event in the database",
            float(pages or 0) / count,
            ASKED_BYTES,
            target=1,
            unit="bytes",
            runs=count,
        ),
        row(
            "log: room of an event in the static files",
            files / max(whole, 1),
            ASKED_BYTES,
            target=1,
            unit="bytes",
            runs=whole,
        ),
    ]
