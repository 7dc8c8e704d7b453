"""Counts for Prometheus, right under several workers.

What happens in a request is counted in the process that served it; under gunicorn the processes share a folder
(`PROMETHEUS_MULTIPROC_DIR`, set by `server` before this module is imported) and any of them can answer for all. How many jobs
and bytes there are is asked of the database at the moment of the scrape.

The shared files are mapped into memory, where a full disk shows itself as SIGBUS at the next count. So a process reserves the
room for its counts when it begins, and counts nothing where there is none.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from sqlalchemy import func, select, union_all

from blindgate_gateway.database import Database, prepared
from blindgate_gateway.tables import blobs, ended_jobs, jobs, nodes
from blindgate_protocol.jobs import JobState

RESERVED_BYTES = 1 << 18
"""The room of one of a process's two files: more than twice what all routes and statuses take up."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OWN = CollectorRegistry()
_JOBS = prepared(
    union_all(
        select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state),
        select(ended_jobs.c.state, func.count().label("jobs")).group_by(ended_jobs.c.state),
    )
)
_BLOBS = prepared(select(func.count().label("blobs"), func.coalesce(func.sum(blobs.c.size), 0).label("bytes")))
_NODES = prepared(select(func.count().label("nodes")).select_from(nodes))
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_requests = Counter("blindgate_requests", "Requests.", ["method", "route", "status"], registry=_OWN)
_seconds = Histogram("blindgate_request_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=_OWN)


class _Room:
    """Whether this process may count."""

    there = True


def reserve() -> None:
    """Take the room for this process's counts, before the first one. Where there is no room, nothing is counted."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    files = [folder / f"{kind}_{os.getpid()}.db" for kind in ("counter", "histogram")]
    try:
        for path in files:
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)
    except OSError:
        _Room.there = False
        for path in files:
            path.unlink(missing_ok=True)


def observe(*, method: str, route: str, status: int, seconds: float) -> None:
    """Count one request. `route` is the rule, never the path: it has no ids in it, and strangers cannot make up new ones."""
    if not _Room.there:
        return
    _count(method if method in _METHODS else "other", route, status).inc()
    _time(route).observe(seconds)


@lru_cache(maxsize=4096)
def _count(method: str, route: str, status: int) -> Counter:
    return _requests.labels(method, route, str(status))


@lru_cache(maxsize=256)
def _time(route: str) -> Histogram:
    return _seconds.labels(route)


def exposition(database: Database) -> bytes:
    """Everything, in Prometheus's text format."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_Stored(database))
    own = b"" if "PROMETHEUS_MULTIPROC_DIR" in os.environ else generate_latest(_OWN)
    return own + generate_latest(registry)


def forget_process(process: int) -> None:
    """Tell the shared folder that a worker has ended."""
    mark_process_dead(process)  # type: ignore[no-untyped-call]


class _Stored(Collector):
    """What the database holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self._database.read() as connection:
            by_state = dict(connection.execute(_JOBS).all())
            count, size = connection.execute(_BLOBS).one()
            enrolled = connection.execute(_NODES).scalar()
        states = GaugeMetricFamily("blindgate_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:
            states.add_metric([state.value], by_state.get(state.value, 0))
        yield states
        yield GaugeMetricFamily("blindgate_blobs", "Stored blobs.", value=count)
        yield GaugeMetricFamily("blindgate_blob_bytes", "Bytes of stored blobs.", value=float(size))
        yield GaugeMetricFamily("blindgate_nodes", "Enrolled nodes.", value=enrolled)
