"""Whether the columns of the gateway's tables say what documents and the log say (`model_rows`, `key_rows`, `job_rows`).

Documents hold themselves by their signatures, and events by the tree. But the gateway finds and counts by columns that say the same
again: who edits one of them changes what it does, and no document. So the rows are shown to auditors as they are, by
`/v1/audit/rows/<table>`.
"""

from collections.abc import Mapping
from typing import get_args

from blindgate_audit.columns import Columns
from blindgate_audit.findings import Findings
from blindgate_audit.job_rows import JobRows
from blindgate_audit.key_rows import KeyRows
from blindgate_audit.model_rows import ModelRows
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
        self._models, self._keys, self._jobs = ModelRows(findings), KeyRows(findings), JobRows(findings)
        self._names: Mapping[str, str] = {}
        self._are_shown = False
        self.count = 0

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        for rows in (self._models, self._keys, self._jobs):
            rows.tell(index, event)

    def begin(self) -> None:
        """From now on rows are read, and then the records: what is told is later."""
        for rows in (self._models, self._keys, self._jobs):
            rows.begin()

    def row(self, table: TableName, row: Columns) -> None:
        """Take in a row."""
        self.count += 1
        match table:
            case "manifests":
                self._models.row(row)
            case "keys":
                self._keys.key(row)
                self._jobs.key(row)
            case "key_statements":
                self._keys.row(row)
            case _:
                self._jobs.row(table, row)

    def are_shown(self) -> None:
        """All tables were read."""
        self._are_shown = True

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
        """Whether a row has no event yet, erased ones apart."""
        return self._models.unlogged(erased) or self._jobs.unlogged(erased)

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other, once all was taken in; any event that is missing may be among the `erased`."""
        if not self._are_shown:
            return
        self._models.finish(erased=erased, names=self._names)
        self._keys.finish(erased=erased, names=self._names)
        self._jobs.finish(erased=erased)

    def close(self) -> None:
        """Delete both sides."""
        self._keys.close()
        self._jobs.close()
