"""Whether the columns of the gateway's tables say what documents and the log say.

Of models, keys and jobs (`model_rows`, `key_rows`, `job_rows`), and of those who get in: tenants, API keys, sessions at the
auditors' console, enrolment tokens (`tenant_rows`, `credential_rows`, `session_rows`, `enrolment_rows`).

Documents hold themselves by their signatures, and events by the tree. But the gateway finds and counts by columns that say the same
again: who edits one of them changes what it does, and no document. So the rows are shown to auditors as they are, by
`/v1/audit/rows/<table>`.
"""

from collections.abc import Mapping
from typing import get_args

from blindgate_audit.columns import Columns
from blindgate_audit.credential_rows import CredentialRows
from blindgate_audit.enrolment_rows import EnrolmentRows
from blindgate_audit.findings import Findings
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
attempt; its key is read before it, its queue after it."""


class Rows:
    """Both sides, as they come in. To be closed.

    Attributes:
        count: how many rows were taken in; 0 where the gateway shows none, and then nothing is held.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._models, self._keys, self._jobs = ModelRows(findings), KeyRows(findings), JobRows(findings)
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
        )
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
        match table:
            case "tenants":
                self._tenants.row(row)
            case "api_keys":
                self._credentials.row(row)
            case "sessions":
                self._sessions.row(row)
            case "enrolment_tokens":
                self._enrolments.row(row)
            case "blobs":
                self._keys.blob(row)
            case "manifests":
                self._models.row(row)
            case "keys":
                self._keys.key(row)
                self._jobs.key(row)
            case "key_statements":
                self._keys.row(row)
            case _:
                self._jobs.row(table, row)

    def are_shown(self, table: TableName) -> None:
        """A table was read. One that the gateway does not show is not held."""
        self._shown.add(table)

    def statement(self, record: StatementRecord, signed: Signed[KeyStatement]) -> None:
        """Take in a statement on record that was verified."""
        self._keys.statement(record, signed)

    def job(self, order: Signed[Order], receipt: Signed[Receipt] | None) -> None:
        """Take in a job on record, by its order and its receipt, as far as they were verified."""
        self._jobs.job(order, receipt, self._models.families)

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
        self._hold_who(self._findings, erased=erased)

    def _hold_who(self, findings: Findings, *, erased: int) -> None:
        """Hold the rows by which somebody gets in."""
        if "tenants" in self._shown:
            self._tenants.finish(findings, erased=erased, names=self._names)
        if "api_keys" in self._shown:
            self._credentials.finish(findings, erased=erased, names=self._names)
        if "sessions" in self._shown:
            self._sessions.finish(findings, erased=erased, names=self._names)
        if "enrolment_tokens" in self._shown:
            self._enrolments.finish(findings, erased=erased)

    def close(self) -> None:
        """Delete both sides."""
        self._keys.close()
        self._jobs.close()
