"""Faults to be planted in the product: each is a line that somebody might leave out one day, and the simulation has to notice.

`PLANTED` has them by name. Some take a moment that is rare: they need more seeds than others.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from sqlalchemy import bindparam, delete, literal, select, update

from blindgate_gateway import database, endings, leases, quotas, stored, sweep, transitions, uploads
from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.endings import KEPT_ROW
from blindgate_gateway.jobs import opened_order
from blindgate_gateway.queues import LEASED
from blindgate_gateway.tables import ended_jobs, jobs
from blindgate_gateway.tables import uploads as upload_rows
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobView
from simulation import gateways
from simulation.database import Disk
from simulation.documents import EPOCH
from simulation.store import SimulatedBlobs

_JOB = jobs.c.job == bindparam("held_job")
_NODE = jobs.c.node == bindparam("held_node")
_BACK = {"state": JobState.QUEUED.value}


@dataclass(frozen=True)
class Planted:
    """A fault: how it is planted, what is said when it is found, and how many seeds from 0 on it takes at most."""

    plant: Callable[[], AbstractContextManager[Any]]
    found: str
    within: int


def _attribute(module: Any, **changes: Any) -> Callable[[], AbstractContextManager[Any]]:
    return partial(_patched, module, changes)


@contextmanager
def _patched(module: Any, changes: Mapping[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(patch.object(module, name, value))
        yield


def _ending(*conditions: Any) -> Any:
    return prepared(delete(jobs).where(*conditions).returning(*(jobs.c[name] for name in KEPT_ROW)))


@contextmanager
def _answered_before_it_is_written() -> Iterator[None]:
    route = gateways._BY_NAME["jobs.submit"]

    def submit(call: Any) -> Any:
        try:
            return route.handler(call)
        except Exception as error:
            if not database.is_busy(error):
                raise
            job = opened_order(call.body.order.model_dump_json()).document.job
            return JobView(job=job, state=JobState.QUEUED, submitted=EPOCH)

    with patch.dict(gateways._BY_NAME, {"jobs.submit": replace(route, handler=submit)}):
        yield


_written = Disk.write


def _write_without_waiting(disk: Disk, process: Any, *, durable: bool) -> Any:
    return _written(disk, process, durable=False)


_strays = SimulatedBlobs.strays


def _strays_of_any_age(blobs: SimulatedBlobs, *, grace: int) -> Any:
    return _strays(blobs, grace=0)


def _resend_and_keep(connection: Transaction, job: str, *, queue: str) -> bool:
    kept = select(*(ended_jobs.c[name] for name in KEPT_ROW)).where(ended_jobs.c.job == job)
    row = connection.execute(kept).first()
    again = {**row._asdict(), "state": JobState.QUEUED.value, "queue": queue, "spent": row.generation}
    connection.execute(transitions._AGAIN, again)
    return True


_LOST_BY = prepared(transitions._OPEN.where(LEASED, jobs.c.leased_until <= bindparam("mine")))
_LOSE_ANY = prepared(update(jobs).where(jobs.c.job == bindparam("of_job"), LEASED).values(**_BACK))


def _lose_leases_by_own_clock(connection: Transaction, *, most: int) -> list[str]:
    mine = vars(leases)["time"].time_ns() // 1_000_000
    rows = connection.execute(_LOST_BY, {"mine": mine}).all()
    for row in rows:
        connection.execute(_LOSE_ANY, {"of_job": row.job})
        attempt = endings.Attempt(row.job, row.generation, row.node, row.name)
        endings._end_attempt(connection, attempt, "lost", endings.gateway_said("by my clock"), mine)
    return [row.job for row in rows]


def _delete_object_first(parts: Any, tenant: str, digest: str) -> bool:
    row = parts.database.look(stored._FIND, {"of_tenant": tenant, "of_digest": digest})
    if row is not None and row.object is not None:
        parts.blobs.remove(tenant, row.object)
    this = {"of_tenant": tenant, "of_digest": digest, "retention": parts.settings.retention}
    with parts.database.write() as connection:
        gone: Row = connection.execute(sweep._FORGET, this).first()
        if gone is not None:
            quotas.count(connection, tenant, -gone.size)
    return gone is not None


@contextmanager
def _destroyed_keys_are_taken() -> Iterator[None]:
    with (
        patch.object(stored, "check_not_destroyed", lambda *_: None),
        patch.object(uploads, "check_not_destroyed", lambda *_: None),
    ):
        yield


PLANTED: Final[Mapping[str, Planted]] = {
    "a release that names no generation and no token": Planted(
        _attribute(transitions, _RELEASE=prepared(update(jobs).where(_JOB, LEASED).values(**_BACK))),
        "released after its lease had run out|and it was leased in generation|fault of the gateway",
        within=2000,
    ),
    "a heartbeat that revives": Planted(
        _attribute(
            transitions,
            _HEARTBEAT=prepared(
                update(jobs)
                .where(_JOB, _NODE, LEASED, jobs.c.generation == bindparam("held_generation"))
                .values(leased_until=clock() + bindparam("duration"))
            ),
        ),
        "a lease that had run out was prolonged",
        within=1000,
    ),
    "a commit that asks only for the job": Planted(
        _attribute(transitions, _END_HELD=_ending(_JOB), _END_WITH_RESULT=_ending(_JOB)),
        "after its lease had run out|and it was leased in generation|fault of the gateway",
        within=2000,
    ),
    "an order that is answered before it is written": Planted(
        _answered_before_it_is_written, "accepted and is lost|nothing explains", within=150
    ),
    "a commit that does not wait for the disk": Planted(
        _attribute(Disk, write=_write_without_waiting),
        "is lost|nothing explains|is not what its row names|are counted|at nodes, and may have",
        within=100,
    ),
    "strays that are collected at once": Planted(
        _attribute(SimulatedBlobs, strays=_strays_of_any_age), "is not what its row names", within=4000
    ),
    "a last part that counts twice": Planted(
        _attribute(uploads, _COMPLETE=prepared(update(upload_rows).where(uploads._THIS).values(status="complete"))),
        "are counted",
        within=150,
    ),
    "a dead letter that stays when it is sent again": Planted(
        _attribute(transitions, resend=_resend_and_keep), "fault of the gateway|a sweep failed|ended", within=150
    ),
    "a lease that ends by a process's clock": Planted(
        _attribute(sweep, lose_leases=_lose_leases_by_own_clock, _OVER=prepared(select(literal(1).label("over")))),
        "ms early",
        within=100,
    ),
    "an object that goes before its row": Planted(
        _attribute(sweep, _delete=_delete_object_first), "is not what its row names", within=4000
    ),
    "a destroyed key that is taken in again": Planted(
        _destroyed_keys_are_taken, "was destroyed, and its bytes are still there", within=150
    ),
}
