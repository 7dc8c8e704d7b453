"""What somebody signed: every document is verified again, and rows must say what their documents say.

Keys, models and nodes are few and always looked at. Orders and receipts are as many as jobs: they are read when every job is asked
for.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import bindparam, func, select

from blindgate_gateway.check.findings import Finding, Progress, fault, warning, well
from blindgate_gateway.check.server import RESTORE, whole_view
from blindgate_gateway.database import Database, Row, Transaction, clock, prepared
from blindgate_gateway.log.believed import differences, known_gateways
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import all_jobs, job_documents, key_statements, keys, manifests, nodes
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState, KeyStatement, check_statement
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import Millis

_PAGE: Final = 500
_NOW = prepared(select(clock()))
_STATEMENTS = select(key_statements).order_by(key_statements.c.tenant, key_statements.c.key, key_statements.c.sequence)
_JOBS = prepared(
    select(all_jobs, job_documents)
    .join(job_documents, job_documents.c.job == all_jobs.c.job)
    .with_only_columns(
        all_jobs.c.job,
        all_jobs.c.tenant,
        all_jobs.c.state,
        all_jobs.c.manifest,
        all_jobs.c.input_digest,
        all_jobs.c.evaluation_key,
        all_jobs.c.deadline,
        all_jobs.c.result_digest,
        all_jobs.c.result_size,
        all_jobs.c.node,
        job_documents.c.order,
        job_documents.c.order_digest,
        job_documents.c.receipt,
        job_documents.c.receipt_digest,
    )
    .where(all_jobs.c.job > bindparam("after"))
    .order_by(all_jobs.c.job)
    .limit(_PAGE)
)
_COUNT = prepared(select(func.count()).select_from(job_documents))


def look(settings: Settings, database: Database, *, every_job: bool, progress: Progress) -> Iterator[Finding]:
    """Verify what is signed."""
    with whole_view(database) as connection:
        yield _found("models", "manifests", connection.execute(select(manifests)).all(), _manifest)
        certified = connection.execute(select(nodes)).all()
        yield _found("nodes", "nodes' certificates", certified, _node)
        yield _expiring(settings, connection, certified)
        yield _believed(connection)
        yield _keys(connection)
    if every_job:
        yield _jobs(database, progress)


def _found(check: str, what: str, rows: list[Row], judge: Callable[[Row], str | None]) -> Finding:
    wrong = [told for row in rows if (told := _judged(judge, row)) is not None]
    if wrong:
        return fault(check, f"{len(wrong)} of {len(rows)} {what} are not what was signed", RESTORE, *wrong)
    return well(check, f"{len(rows)} {what} are what was signed")


def _judged(judge: Callable[[Row], str | None], row: Row) -> str | None:
    try:
        return judge(row)
    except BlindgateError as error:
        return f"{row[0]}: {error}"


def _manifest(row: Row) -> str | None:
    manifest = open_signed(row.envelope.encode(), Manifest)
    document = manifest.document
    client = "" if document.client is None else document.client.digest
    said = (manifest.digest, document.name, document.version, client, document.server.digest)
    return None if said == row[:3] + row[4:6] else f"{row.digest}: its row says otherwise"


def _node(row: Row) -> str | None:
    certificate = open_signed(row.certificate.encode(), NodeCertificate)
    document = certificate.document
    # A node that was dismissed has `expires` 0.
    is_same = (document.node, document.name, certificate.signer) == (row.key, row.name, row.operator)
    return None if is_same and row.expires in {0, document.expires} else f"{row.key}: its row says otherwise"


def _expiring(settings: Settings, connection: Transaction, rows: list[Row]) -> Finding:
    now = connection.execute(select(clock())).scalar()
    heard = [row for row in rows if row.expires > now and row.operator in settings.operators]
    strange = [row.key for row in rows if row.expires > now and row.operator not in settings.operators]
    detail = f"{len(heard)} nodes are heard, {len(rows) - len(heard)} are dismissed, expired or of another operator"
    if strange:
        return warning("nodes.heard", detail, "put their operator into `operators`, or dismiss them", *strange)
    if rows and not heard:
        return warning("nodes.heard", detail, "certify and enrol nodes again: nobody computes")
    return well("nodes.heard", detail)


def _believed(connection: Transaction) -> Finding:
    rows = known_gateways(connection)
    told = differences(rows)
    if told:
        detail = f"the {len(rows)} gateways of this database do not believe the same publishers and operators"
        remedy = "give all of them the same `publishers` and `operators`, and restart them one after the other"
        return warning("signers", detail, remedy, *told)
    return well("signers", f"all gateways of this database ({len(rows)}) believe the same publishers and operators")


def _keys(connection: Transaction) -> Finding:
    chains: dict[tuple[str, str], list[Row]] = {}
    for row in connection.execute(_STATEMENTS).all():
        chains.setdefault((row.tenant, row.key), []).append(row)
    wrong, rows, now = [], connection.execute(select(keys)).all(), connection.execute(_NOW).scalar()
    for row in rows:
        try:
            last = _chain(chains.pop((row.tenant, row.digest), []))
        except BlindgateError as error:
            wrong.append(f"{row.tenant} {row.digest}: {error}")
            continue
        if last is None or (row.state, row.sequence, row.destroy_at) not in _said(last.document, now):
            wrong.append(f"{row.tenant} {row.digest}: its row says otherwise than the last statement")
    wrong += [f"{tenant} {digest}: statements without a key" for tenant, digest in chains]
    if wrong:
        return fault("keys", f"{len(wrong)} of {len(rows)} keys are not what was stated", RESTORE, *wrong)
    return well("keys", f"{len(rows)} keys are what their chains of statements say")


def _said(last: KeyStatement, now: Millis) -> Iterator[tuple[str, int, Millis | None]]:
    """What a key's row may say after this statement: what it says, or that a scheduled destruction was carried out."""
    yield last.state.value, last.sequence, last.destroy_at
    if last.destroy_at is not None and last.destroy_at <= now:
        yield KeyState.DESTROYED.value, last.sequence, None


def _chain(rows: list[Row]) -> Signed[KeyStatement] | None:
    last, earlier = None, None
    for row in rows:
        statement = open_signed(row.envelope.encode(), KeyStatement)
        check_statement(statement, last, earlier)
        document = statement.document
        said = (document.tenant, document.key.digest, document.sequence, statement.digest)
        if said != (row.tenant, row.key, row.sequence, row.digest):
            message = f"statement {row.sequence} is not the one that was stored"
            raise BlindgateError(message)
        last, earlier = statement, last
    return last


def _jobs(database: Database, progress: Progress) -> Finding:
    wrong, seen, after = [], 0, ""
    with database.read() as connection:
        total = connection.execute(_COUNT).scalar()
    while True:
        with database.read() as connection:
            page = connection.execute(_JOBS, {"after": after}).all()
        if not page:
            break
        wrong += [told for row in page if (told := _judged(_job, row)) is not None]
        seen, after = seen + len(page), page[-1].job
        progress("orders and receipts", seen, total)
    if wrong:
        return fault("documents", f"of {seen} jobs {len(wrong)} are not what was signed", RESTORE, *wrong)
    return well("documents", f"the orders and receipts of {seen} jobs are what was signed")


def _job(row: Row) -> str | None:
    order = open_signed(row.order.encode(), Order)
    document = order.document
    said: tuple[Any, ...] = (
        order.digest,
        document.job,
        document.tenant,
        document.model.manifest,
        document.input.digest,
    )
    said += (document.evaluation_key, document.deadline)
    kept = (row.order_digest, row.job, row.tenant, row.manifest, row.input_digest, row.evaluation_key, row.deadline)
    if said != kept:
        return f"{row.job}: its row says otherwise than its order"
    if row.state != JobState.SUCCEEDED.value:
        return None
    receipt = open_signed(row.receipt.encode(), Receipt)
    output = receipt.document.output
    answers = (receipt.digest, receipt.document.order, receipt.signer, output.digest, output.size)
    if answers != (row.receipt_digest, order.digest, row.node, row.result_digest, row.result_size):
        return f"{row.job}: its receipt says otherwise"
    return None
