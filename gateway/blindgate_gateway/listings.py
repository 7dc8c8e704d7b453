"""Jobs in the order in which they were submitted, a page at a time.

Jobs lie in two tables, those that have ended apart. Each gives its own first rows of what is asked for, by an index, and the page
is the first of both together: however many jobs there are, no more are read than twice the page. A page goes on behind a place,
a job's time and id, which does not change when the job ends.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    cast,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
)

from blindgate_gateway.tables import KEPT, all_jobs, ended_jobs, job_documents, jobs
from blindgate_protocol.jobs import JobState

Place: TypeAlias = tuple[int, str]
Order: TypeAlias = Literal["first", "latest"]
Condition: TypeAlias = Callable[[FromClause], ColumnElement[bool]]


def view_of(source: FromClause) -> Select[Any]:
    """What is told of the jobs in `source`: `all_jobs`, or a part of it."""
    given = source.c
    return select(
        given.job,
        given.tenant,
        given.state,
        given.submitted,
        given.ended,
        given.generation,
        given.input_digest,
        given.evaluation_key,
        given.result_digest,
        given.result_size,
        job_documents.c.code,
        job_documents.c.reason,
        job_documents.c.receipt,
        job_documents.c.order,
    ).join(job_documents, job_documents.c.job == given.job)


VIEW = view_of(all_jobs)


def page(order: Order, most: Any, *conditions: Condition, state: JobState | None = None) -> Select[Any]:
    """The columns of `VIEW` for the first, or latest, `most` jobs that meet the `conditions`, each of one table."""
    halves = []
    for table in (jobs, ended_jobs) if state is None else (ended_jobs,) if state.ended else (jobs,):
        if state is not None:
            conditions = (*conditions, _in_state(state))
        ended = table.c.ended if table is ended_jobs else cast(null(), BigInteger)
        half = select(*(table.c[name] for name in KEPT), ended.label("ended"))
        half = half.where(*(condition(table) for condition in conditions))
        halves.append(select(half.order_by(*_sorted(table, order, state)).limit(most).subquery()))
    both = union_all(*halves).subquery("page")
    return view_of(both).order_by(*_sorted(both, order)).limit(most)


def behind(order: Order, place: Place) -> Condition:
    """The condition of what comes behind `place`."""

    def condition(table: FromClause) -> ColumnElement[bool]:
        at = tuple_(table.c.submitted, table.c.job)
        return at > tuple_(*place) if order == "first" else at < tuple_(*place)

    return condition


def _in_state(state: JobState) -> Condition:
    # A literal, not a parameter: a partial index is used only for a condition that the planner can read.
    return lambda table: table.c.state == literal_column(f"'{state.value}'")


def _sorted(
    source: FromClause, order: Order, state: JobState | None = None
) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    submitted: ColumnElement[Any] = source.c.submitted
    job = source.c.job
    if (
        state is JobState.LEASED
    ):  # they are few, and have an index of their own: SQLite would read all jobs in their order
        submitted = submitted + 0
    return (submitted, job) if order == "first" else (submitted.desc(), job.desc())
