"""Whether the columns of the gateway's tables say what documents and the log say.

Of models, keys and jobs (`model_rows`, `key_rows`, `job_rows`), of what is stored and what was asked (`blob_rows`, `budget_rows`),
of the gateways themselves (`gateway_rows`), and of those who get in: tenants, API keys, sessions at the auditors' console,
enrolment tokens (`tenant_rows`, `credential_rows`, `session_rows`, `enrolment_rows`).

Documents hold themselves by their signatures, and events by the tree. But the gateway finds and counts by columns that say the same
again: who edits one of them changes what it does, and no document. So the rows are shown to auditors as they are, by
`/v1/audit/rows/<table>`. What of them is not held, and why, says `held`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import get_args

from blindgate_audit.blob_rows import BlobRows
from blindgate_audit.budget_rows import BudgetRows
from blindgate_audit.columns import Columns
from blindgate_audit.credential_rows import CredentialRows
from blindgate_audit.enrolment_rows import EnrolmentRows
from blindgate_audit.findings import Findings
from blindgate_audit.gateway_rows import GatewayRows
from blindgate_audit.job_rows import JobRows
from blindgate_audit.key_rows import KeyRows
from blindgate_audit.model_rows import ModelRows
from blindgate_audit.session_rows import SessionRows
from blindgate_audit.tenant_rows import TenantRows
from blindgate_protocol.events import Event
from blindgate_protocol.keys import KeyStatement
from blindgate_protocol.order import Order
from blindgate_protocol.oversight import StatementRecord, TableName
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed

TABLES: tuple[TableName, ...] = get_args(TableName)
"""In the order in which they are to be read: a job is in `jobs` before it is in `ended_jobs`, and with it its last
attempt; its key is read before it, its queue and its blobs after it; and what counts blobs after those."""


class Rows:
    """Both sides, as they come in. To be closed.

    Attributes:
        count: how many rows were taken in; 0 where the gateway shows none, and then nothing is held.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._blobs, self._budgets, self._gateways = BlobRows(findings), BudgetRows(), GatewayRows()
        self._keys, self._jobs = KeyRows(findings), JobRows(findings)
        self._models = ModelRows(findings, read=self._blobs.model)
        self._tenants, self._credentials = TenantRows(), CredentialRows()
        self._sessions, self._enrolments = SessionRows(), EnrolmentRows()
        self._all = (
            self._models,
            self._keys,
            self._jobs,
            self._tenants,
            self._credentials,
            self._sessions,
            self._enrolments,
            self._blobs,
            self._budgets,
            self._gateways,
        )
        self._takers: dict[TableName, tuple[Callable[[Columns], object], ...]] = {
            "tenants": (self._tenants.row,),
            "api_keys": (self._credentials.row,),
            "sessions": (self._sessions.row,),
            "enrolment_tokens": (self._enrolments.row,),
            "gateways": (self._gateways.row, self._blobs.gateway),
            "manifests": (self._models.row,),
            "keys": (self._keys.key, self._jobs.key),
            "key_statements": (self._keys.row,),
            "jobs": (partial(self._jobs.row, "jobs"), partial(self._blobs.job, "jobs")),
            "ended_jobs": (partial(self._jobs.row, "ended_jobs"), partial(self._blobs.job, "ended_jobs")),
            "rows_asked": (self._budgets.row,),
            "blobs": (self._keys.blob, self._blobs.blob),
            "stored_bytes": (self._blobs.count,),
        }
        self._names: Mapping[str, str] = {}
        self._shown: set[TableName] = set()
        self.count = 0

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        for rows in self._all:
            rows.tell(index, event)

    def begin(self) -> None:
        """From now on rows are read, and then the records: what is told is later."""
        for rows in self._all:
            rows.begin()

    def row(self, table: TableName, row: Columns) -> None:
        """Take in a row."""
        self.count += 1
        if table in self._takers:
            for take in self._takers[table]:
                take(row)
        else:
            self._jobs.row(table, row)

    def are_shown(self, table: TableName) -> None:
        """A table was read. One that the gateway does not show is not held."""
        self._shown.add(table)

    @property
    def hidden(self) -> tuple[TableName, ...]:
        """The tables that the gateway does not show."""
        return tuple(table for table in TABLES if table not in self._shown)

    def statement(self, record: StatementRecord, signed: Signed[KeyStatement]) -> None:
        """Take in a statement on record that was verified."""
        self._keys.statement(record, signed)

    def job(self, order: Signed[Order], receipt: Signed[Receipt] | None) -> None:
        """Take in a job on record, by its order and its receipt, as far as they were verified."""
        self._jobs.job(order, receipt, self._models.families)
        self._blobs.documents(order, receipt)

    def names(self, listed: Mapping[str, str]) -> None:
        """Take in how the gateway translates all pseudonyms."""
        self._names = listed

    def unlogged(self, erased: int) -> bool:
        """Whether a row has no event yet, or says what none tells of yet, erased ones apart."""
        early = Findings(0)
        self._hold_who(early, erased=erased)
        return early.count > 0 or self._models.unlogged(erased) or self._jobs.unlogged(erased)

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other, once all was taken in; any event that is missing may be among the `erased`."""
        if "manifests" in self._shown:
            self._models.finish(erased=erased, names=self._names)
        if "keys" in self._shown:
            self._keys.finish(erased=erased, names=self._names, blobs="blobs" in self._shown)
        if "jobs" in self._shown:
            self._jobs.finish(erased=erased)
        if {"jobs", "ended_jobs", "blobs", "stored_bytes"} <= self._shown:
            self._blobs.finish(erased=erased)
        self._hold_who(self._findings, erased=erased)

    def _hold_who(self, findings: Findings, *, erased: int) -> None:
        """Hold the rows by which somebody gets in, and those of budgets and gateways."""
        if "tenants" in self._shown:
            self._tenants.finish(findings, erased=erased, names=self._names)
        if "api_keys" in self._shown:
            self._credentials.finish(findings, erased=erased, names=self._names)
        if "sessions" in self._shown:
            self._sessions.finish(findings, erased=erased, names=self._names)
        if "enrolment_tokens" in self._shown:
            self._enrolments.finish(findings, erased=erased)
        if "rows_asked" in self._shown:
            self._budgets.finish(findings, erased=erased, names=self._names)
        if "gateways" in self._shown:
            self._gateways.finish(findings, erased=erased)

    def close(self) -> None:
        """Delete both sides."""
        self._blobs.close()
        self._keys.close()
        self._jobs.close()
