"""Whose turn it is: between tenants, and within one."""

import pytest
from sqlalchemy import select, update

from blindgate_gateway.database import clock
from blindgate_gateway.queues import choose
from blindgate_gateway.tables import ended_jobs, jobs, queues, tenants
from blindgate_gateway.transitions import claim
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import JobRequest
from brokerage import FAMILY, Tenant, random_bytes
from desk import Desk


def _submit(desk: Desk, tenant: Tenant, *, priority: int = 0) -> str:
    order = tenant.order(desk.manifest, tenant.upload(random_bytes(16)))
    tenant.ask("POST", "/v1/jobs", JobRequest(order=order.envelope, priority=priority))
    return order.document.job


def _take(desk: Desk) -> str:
    lease = desk.worker.lease()
    assert lease is not None
    return lease.job


def test_a_tenant_with_many_jobs_delays_anothers_first_by_one(desk: Desk) -> None:
    """It waits for the job that is running, and for no other."""
    for _ in range(30):
        _submit(desk, desk.tenant)
    first = desk.worker.lease()
    assert first is not None
    theirs = _submit(desk, desk.stranger)
    desk.worker.finish(first, b"done")
    assert _take(desk) == theirs


def test_tenants_take_turns_however_long_their_queues_are(desk: Desk) -> None:
    """One job at a time, with nothing leased in between: still each in turn."""
    mine = [_submit(desk, desk.tenant) for _ in range(6)]
    theirs = [_submit(desk, desk.stranger) for _ in range(3)]
    taken = []
    for _ in range(9):
        lease = desk.worker.lease()
        assert lease is not None
        taken.append(lease.job)
        desk.worker.finish(lease, b"done")
    assert taken[:6] in (
        [job for pair in zip(mine[:3], theirs, strict=True) for job in pair],
        [job for pair in zip(theirs, mine[:3], strict=True) for job in pair],
    )
    assert taken[6:] == mine[3:]


def test_a_tenant_that_was_served_in_a_time_that_was_set_back_has_its_turn(desk: Desk) -> None:
    """The clock was an hour ahead when it was served: it does not come last for an hour."""
    job = _submit(desk, desk.tenant)
    for _ in range(2):
        _submit(desk, desk.stranger)
    with desk.parts.database.write() as connection:
        connection.execute(update(tenants).where(tenants.c.name == "bank").values(served=clock() + 3_600_000))
    assert _take(desk) == job


def test_a_tenant_has_no_more_jobs_at_nodes_than_it_may(desk: Desk) -> None:
    """The rest waits until one has ended, and other tenants do not."""
    with desk.parts.database.write() as connection:
        connection.execute(update(tenants).where(tenants.c.name == "bank").values(in_flight=2))
    for _ in range(4):
        _submit(desk, desk.tenant)
    leases = [desk.worker.lease(), desk.worker.lease()]
    assert desk.worker.lease() is None
    theirs = _submit(desk, desk.stranger)
    assert _take(desk) == theirs
    assert leases[0] is not None
    desk.worker.finish(leases[0], b"done")
    assert desk.worker.lease() is not None
    assert desk.worker.lease() is None


def test_two_that_look_at_the_same_moment_cannot_pass_the_cap(desk: Desk) -> None:
    """The look is old by the time of the claim, which counts again."""
    with desk.parts.database.write() as connection:
        connection.execute(update(tenants).where(tenants.c.name == "bank").values(in_flight=1))
    for _ in range(2):
        _submit(desk, desk.tenant)
    turn = choose(
        desk.parts.database,
        node=desk.worker.key.id,
        operator=desk.brokerage.keys.operator.id,
        families=[FAMILY],
        in_flight=64,
    )
    for expected in (True, False):
        with desk.parts.database.write() as connection:
            taken = claim(connection, turn, node=desk.worker.key.id, under=(), duration=60_000)
        assert (taken is not None) == expected


def test_within_a_tenant_the_urgent_goes_first(desk: Desk) -> None:
    """By priority, then by age; a priority says nothing to another tenant's jobs."""
    usual, later, urgent, idle = (_submit(desk, desk.tenant, priority=priority) for priority in (0, 0, 5, -5))
    theirs = _submit(desk, desk.stranger)
    taken = [_take(desk) for _ in range(5)]
    assert [job for job in taken if job != theirs] == [urgent, usual, later, idle]
    assert taken.index(theirs) <= 1


def test_jobs_under_a_suspended_key_wait_and_go_on_when_it_is_resumed(desk: Desk) -> None:
    """They are not in the way of the tenant's other jobs."""
    model = desk.brokerage.manifest(name="keyed", evaluation_key=True)
    desk.publisher.publish(model)
    key = desk.tenant.upload(b"a key")
    active = desk.tenant.statement(key, KeyState.ACTIVE)
    desk.tenant.state(active)
    order = desk.tenant.order(model, desk.tenant.upload(b"input"), evaluation_key=key.digest)
    under = desk.tenant.submit(order).job
    suspended = desk.tenant.statement(key, KeyState.SUSPENDED, previous=active)
    desk.tenant.state(suspended)
    other = _submit(desk, desk.tenant)
    assert _take(desk) == other
    assert desk.worker.lease() is None
    desk.tenant.state(desk.tenant.statement(key, KeyState.ACTIVE, previous=suspended))
    assert _take(desk) == under


def test_ended_jobs_are_out_of_the_way(desk: Desk) -> None:
    """The table that leasing reads holds none of them, and they are shown as before."""
    lease = desk.leased()
    desk.worker.finish(lease, b"done")
    cancelled = _submit(desk, desk.tenant)
    desk.tenant.ask("POST", f"/v1/jobs/{cancelled}/cancel")
    with desk.parts.database.read() as connection:
        assert connection.execute(select(jobs.c.job)).all() == []
        assert set(connection.execute(select(ended_jobs.c.job)).scalars()) == {lease.job, cancelled}
        assert len(connection.execute(select(queues.c.id)).all()) == 1
    assert desk.state(lease.job) is JobState.SUCCEEDED
    assert desk.state(cancelled) is JobState.CANCELLED


@pytest.mark.parametrize("priority", [-10, 10, 1.5, "high"])
def test_a_priority_is_a_whole_number_from_minus_nine_to_nine(desk: Desk, priority: object) -> None:
    """Named when it is not."""
    order = desk.tenant.order(desk.manifest, desk.tenant.upload(b"x"))
    body = JobRequest(order=order.envelope).model_dump(mode="json") | {"priority": priority}
    refused = desk.http.post("/v1/jobs", json=body, headers=desk.tenant._headers)
    assert refused.status_code == 422
    assert "priority" in refused.json()["detail"]
