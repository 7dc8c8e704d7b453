"""Dead jobs are taken up again by the gateway's operator, and old records are forgotten."""

import json
import time
from typing import Any

import pytest
from sqlalchemy import func, select, update
from typer.testing import CliRunner

from blindgate_gateway.commands import app
from blindgate_gateway.sweep import sweep_records
from blindgate_gateway.tables import attempts, ended_jobs, job_documents
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import Release
from brokerage import now_ms
from desk import Desk


def _bury(desk: Desk, **changes: Any) -> str:
    job = desk.submit(**changes).job
    for _ in range(2):
        _give_back(desk, job)
    assert desk.state(job) is JobState.DEAD
    return job


def _give_back(desk: Desk, job: str) -> None:
    lease = desk.worker.lease()
    assert lease is not None
    assert lease.job == job
    released = desk.worker.command(lease, "POST", "release", Release(code="worker-ended", reason="no disk"))
    assert released.status_code == 200


@pytest.fixture(autouse=True)
def _environment(desk: Desk, database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = desk.brokerage.settings
    monkeypatch.setenv("BLINDGATE_GATEWAY_DATA", str(settings.data))
    monkeypatch.setenv("BLINDGATE_GATEWAY_OPERATORS", ",".join(settings.operators))
    if database_url is not None:
        monkeypatch.setenv("BLINDGATE_GATEWAY_DATABASE", database_url)


def _resend(*jobs: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["jobs", "resend", *jobs, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_a_dead_job_is_sent_again_with_fresh_attempts(desk: Desk) -> None:
    """It ends as any other, and what was tried before stays on record."""
    job = _bury(desk)
    assert _resend(job) == (0, {"sent": [job], "refused": {}})
    assert desk.tenant.job(job).code is None
    _give_back(desk, job)
    assert desk.state(job) is JobState.QUEUED
    lease = desk.worker.lease()
    assert lease is not None
    assert desk.worker.finish(lease, b"result").state is JobState.SUCCEEDED
    assert [attempt.outcome for attempt in desk.tenant.job(job).attempts] == ["released"] * 3 + ["succeeded"]


def test_what_cannot_be_sent_again_says_why_and_stops_no_other(desk: Desk) -> None:
    """A job that waits, one that never was, one whose deadline has passed."""
    deadline = now_ms() + 2500
    late, dead = _bury(desk, deadline=deadline), _bury(desk)
    waiting = desk.submit().job
    time.sleep(max(0.0, (deadline - now_ms()) / 1000))
    code, told = _resend(waiting, "0" * 32, late, dead)
    assert (code, told["sent"]) == (1, [dead])
    assert "is queued: only a dead job" in told["refused"][waiting]
    assert "no such job" in told["refused"]["0" * 32]
    assert "deadline" in told["refused"][late]
    assert desk.state(late) is JobState.DEAD


def test_records_are_forgotten_by_age(desk: Desk) -> None:
    """Every text of a job with it; one that ended later stays, and one that waits."""
    old, recent, waiting = _bury(desk), _bury(desk), desk.submit().job
    with desk.parts.database.write() as connection:
        connection.execute(update(ended_jobs).where(ended_jobs.c.job == old).values(ended=1))
    assert sweep_records(desk.parts) == 1
    assert sweep_records(desk.parts) == 0
    assert desk.tenant.send("GET", f"/v1/jobs/{old}").status_code == 404
    assert (desk.state(recent), desk.state(waiting)) == (JobState.DEAD, JobState.QUEUED)
    with desk.parts.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(job_documents)).scalar() == 2
        assert connection.execute(select(func.count()).select_from(attempts)).scalar() == 2
