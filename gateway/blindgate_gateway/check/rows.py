"""What must hold between the rows of the database, as rules that each name who breaks them.

A rule is a query for what breaks it, judged with all others in one consistent view: what a gateway does meanwhile is seen whole or
not at all. So a rule that is broken here was broken by something else: a database put together by hand, an interrupted restore, a
fault of this program.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, exists, func, literal, literal_column, or_, select

from blindgate_gateway.check.findings import MOST_EXAMPLES, Finding, State, fault, warning, well
from blindgate_gateway.check.server import RESTORE, whole_view
from blindgate_gateway.database import Database, Transaction, clock
from blindgate_gateway.quotas import really_stored
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import (
    attempts,
    blobs,
    corpus_blobs,
    ended_jobs,
    job_documents,
    jobs,
    keys,
    manifests,
    queue_operators,
    queues,
    stored_bytes,
    tenants,
)
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import HOLDING, KeyState

OVERDUE_MS: Final = 60_000
"""A lease or a deadline that ended so long ago is not looked at by anybody: gateways look every second."""
REPAIR: Final = "run `blindgate gateway check --repair`"


@dataclass(frozen=True)
class Rule:
    """What holds, and the query for what breaks it: ids in one column."""

    check: str
    holds: str
    broken: Select[Any]
    remedy: str
    state: State = State.FAULT


def _either(left: ColumnElement[Any], right: ColumnElement[Any]) -> ColumnElement[Any]:
    return left + literal_column("' '") + right


_LEASED = jobs.c.state == JobState.LEASED.value
_ENDS = [state.value for state in JobState if state.ended]
_SUCCEEDED = ended_jobs.c.state == JobState.SUCCEEDED.value
_TRIED = select(func.count()).where(attempts.c.job == jobs.c.job).scalar_subquery()
_TRIED_ENDED = select(func.count()).where(attempts.c.job == ended_jobs.c.job).scalar_subquery()
_KEY_OF_JOB = and_(keys.c.tenant == jobs.c.tenant, keys.c.digest == jobs.c.evaluation_key)
_IS_HELD = exists().where(_KEY_OF_JOB, keys.c.state.in_(sorted(HOLDING)))
_GIVEN_UP = keys.c.state.in_([KeyState.COMPROMISED.value, KeyState.DESTROYED.value])
_DESTROYED = keys.c.state == KeyState.DESTROYED.value


def _has_blob(tenant: ColumnElement[Any], digest: ColumnElement[Any]) -> ColumnElement[bool]:
    return exists().where(blobs.c.tenant == tenant, blobs.c.digest == digest)


_RULES: Final = (
    Rule(
        "jobs.lease",
        "every leased job has a node, a token and an end of its lease, and every other state is one that a job can be in",
        select(jobs.c.job).where(
            or_(
                jobs.c.state.not_in([JobState.QUEUED.value, JobState.LEASED.value]),
                and_(
                    _LEASED,
                    or_(
                        jobs.c.node.is_(None),
                        jobs.c.token.is_(None),
                        jobs.c.leased_until.is_(None),
                        jobs.c.generation <= jobs.c.spent,
                    ),
                ),
                jobs.c.spent > jobs.c.generation,
            )
        ),
        RESTORE,
    ),
    Rule(
        "jobs.end",
        "every job that succeeded has a result, a node and a receipt, and every other end a reason",
        select(ended_jobs.c.job)
        .outerjoin(job_documents, job_documents.c.job == ended_jobs.c.job)
        .where(
            or_(
                ended_jobs.c.state.not_in(_ENDS),
                and_(
                    _SUCCEEDED,
                    or_(
                        ended_jobs.c.result_digest.is_(None),
                        ended_jobs.c.result_size.is_(None),
                        ended_jobs.c.node.is_(None),
                        job_documents.c.receipt.is_(None),
                        job_documents.c.receipt_digest.is_(None),
                    ),
                ),
                and_(~_SUCCEEDED, job_documents.c.code.is_(None)),
            )
        ),
        RESTORE,
    ),
    Rule(
        "jobs.attempts",
        "every lease that is over is on record as an attempt, and no other is",
        select(jobs.c.job)
        .where(jobs.c.generation - case((_LEASED, 1), else_=0) != _TRIED)
        .union_all(select(ended_jobs.c.job).where(ended_jobs.c.generation != _TRIED_ENDED)),  # type: ignore[arg-type]
        RESTORE,
    ),
    Rule(
        "jobs.twice",
        "no job is both open and ended",
        select(jobs.c.job).join(ended_jobs, ended_jobs.c.job == jobs.c.job),
        RESTORE,
    ),
    Rule(
        "jobs.documents",
        "every job has its order, and no document or attempt is left of a job that is not there",
        select(jobs.c.job)
        .where(~exists().where(job_documents.c.job == jobs.c.job))
        .union_all(  # type: ignore[arg-type]
            select(ended_jobs.c.job).where(~exists().where(job_documents.c.job == ended_jobs.c.job)),
            *(
                select(table.c.job).where(
                    ~exists().where(jobs.c.job == table.c.job), ~exists().where(ended_jobs.c.job == table.c.job)
                )
                for table in (job_documents, attempts)
            ),
        ),
        RESTORE,
    ),
    Rule(
        "jobs.queue",
        "every open job stands in a queue of its tenant that some operator serves",
        select(jobs.c.job)
        .join(queues, queues.c.id == jobs.c.queue)
        .where(
            or_(queues.c.tenant != jobs.c.tenant, ~exists().where(queue_operators.c.queue == queues.c.id)),
        ),
        RESTORE,
    ),
    Rule(
        "jobs.operators",
        "every open job may be computed by a node of an operator in the settings",
        select(jobs.c.job).where(
            ~exists().where(
                queue_operators.c.queue == jobs.c.queue,
                queue_operators.c.operator.in_(bindparam("operators", expanding=True)),
            )
        ),
        "these jobs wait until their deadline: put the operator back into `operators`, or tell the tenants",
        State.WARNING,
    ),
    Rule(
        "jobs.keys",
        "every open job's evaluation key is there and not compromised, and the job is held back exactly while that key is "
        "suspended or its destruction scheduled",
        select(jobs.c.job).where(
            jobs.c.evaluation_key.is_not(None),
            or_(
                ~exists().where(_KEY_OF_JOB, ~_GIVEN_UP),
                jobs.c.held != case((_IS_HELD, 1), else_=0),
            ),
        ),
        f"{REPAIR}: it sets what is held back right; a job whose key is not there ends at its deadline",
    ),
    Rule(
        "jobs.overdue",
        "no lease and no deadline is long over without being ended",
        select(jobs.c.job).where(
            or_(and_(_LEASED, jobs.c.leased_until <= clock() - OVERDUE_MS), jobs.c.deadline <= clock() - OVERDUE_MS)
        ),
        "no gateway is working on this database, or its sweep fails: start one, and look for sweep.failed in its log",
        State.WARNING,
    ),
    Rule(
        "blobs.referenced",
        "every blob that an open job, a manifest, a key, a corpus or a result within its retention needs has its row",
        select(_either(jobs.c.tenant, jobs.c.input_digest))
        .where(~_has_blob(jobs.c.tenant, jobs.c.input_digest))
        .union_all(  # type: ignore[arg-type]
            select(_either(jobs.c.tenant, jobs.c.result_digest)).where(
                _LEASED, jobs.c.result_digest.is_not(None), ~_has_blob(jobs.c.tenant, jobs.c.result_digest)
            ),
            *(
                select(_either(manifests.c.tenant, part)).where(~_has_blob(manifests.c.tenant, part))
                for part in (manifests.c.client_digest, manifests.c.server_digest)
            ),
            select(_either(keys.c.tenant, keys.c.digest)).where(~_DESTROYED, ~_has_blob(keys.c.tenant, keys.c.digest)),
            select(_either(corpus_blobs.c.tenant, corpus_blobs.c.digest)).where(
                ~_has_blob(corpus_blobs.c.tenant, corpus_blobs.c.digest)
            ),
            select(_either(ended_jobs.c.tenant, ended_jobs.c.result_digest)).where(
                _SUCCEEDED,
                ended_jobs.c.result_digest.is_not(None),
                ended_jobs.c.ended > clock() - bindparam("retention"),
                ~_has_blob(ended_jobs.c.tenant, ended_jobs.c.result_digest),
            ),
        ),
        "whoever has the bytes uploads them again under the same digest (a model: publish it again); results are lost, unless "
        "the retention was raised since they ended",
    ),
    Rule(
        "blobs.rows",
        "every blob lies in its row with its size, or names its object; none of a destroyed key is left",
        select(_either(blobs.c.tenant, blobs.c.digest)).where(
            or_(
                and_(blobs.c.object.is_(None), blobs.c.data.is_(None)),
                func.length(blobs.c.data) != blobs.c.size,
                exists().where(keys.c.tenant == blobs.c.tenant, keys.c.digest == blobs.c.digest, _DESTROYED),
            )
        ),
        RESTORE,
    ),
)

REALLY_STORED: Final = really_stored(tenants.c.name)
"""How many bytes the tenant of an enclosing query has stored and reserved."""
_COUNTED = func.coalesce(
    select(stored_bytes.c.bytes).where(stored_bytes.c.tenant == tenants.c.name).scalar_subquery(), 0
)
_MISCOUNTED = select(tenants.c.name, _COUNTED.label("counted"), REALLY_STORED.label("really")).where(
    _COUNTED != REALLY_STORED
)


def look(settings: Settings, database: Database) -> Iterator[Finding]:
    """Judge every rule within one view."""
    given = {"operators": list(settings.operators), "retention": settings.retention}
    with whole_view(database) as connection:
        for rule in _RULES:
            yield _judge(connection, rule, given)
        yield _counts(connection)
        yield _dead_letters(connection)


def _judge(connection: Transaction, rule: Rule, given: dict[str, Any]) -> Finding:
    broken = rule.broken.subquery()
    count = connection.execute(select(func.count()).select_from(broken), given).scalar()
    if not count:
        return well(rule.check, rule.holds)
    examples = connection.execute(select(broken).limit(MOST_EXAMPLES), given).scalars()
    say = warning if rule.state is State.WARNING else fault
    return say(rule.check, f"{count} break the rule that {rule.holds}", rule.remedy, *map(str, examples))


def _counts(connection: Transaction) -> Finding:
    wrong = connection.execute(_MISCOUNTED).all()
    if not wrong:
        return well("counts", "what is counted against each tenant's quota is what is stored")
    told = [f"{row.name}: counted {row.counted}, really {row.really}" for row in wrong]
    return fault("counts", f"the bytes of {len(wrong)} tenants are counted wrongly", REPAIR, *told)


def _dead_letters(connection: Transaction) -> Finding:
    dead = select(func.count(literal(1))).where(ended_jobs.c.state == JobState.DEAD.value)
    count = connection.execute(dead).scalar()
    if count:
        remedy = "see why: `blindgate gateway jobs list --state dead`, then `jobs resend`"
        return warning("jobs.dead", f"{count} jobs lost every attempt", remedy)
    return well("jobs.dead", "no job lost every attempt")
