"""What the gateway's own staff is shown: operators every tenant's jobs and the nodes, auditors the records of all.

Lists come in pages. Each page's `after` names its last entry: asked with it again, a list goes on behind that one. At the end a
page has no entries, and its `after` is the one that was asked with, so a list that grows can be taken up later. Section 10 of
docs/protocol.md has the routes.
"""

from typing import Final, Literal

from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import Attempt, JobRecord
from blindgate_protocol.signing import Envelope
from blindgate_protocol.values import JobId, KeyId, Millis, Name, Value


class OverseenJob(Value):
    """A tenant's job as the gateway's operator sees it: how it went, and nothing that was sent or computed.

    Attributes:
        code: why it ended without a result, by name.
        reason: the same in words: what a node said, or the gateway.
    """

    job: JobId
    tenant: Name
    state: JobState
    submitted: Millis
    ended: Millis | None
    code: str | None
    reason: str | None
    attempts: tuple[Attempt, ...]


class OverseenJobs(Value):
    """A page of all tenants' jobs, latest first."""

    jobs: tuple[OverseenJob, ...]
    after: str | None


class NodeRecord(Value):
    """A node that was taken in. `expires` has passed when it was dismissed."""

    key: KeyId
    name: Name
    operator: KeyId
    enrolled: Millis
    expires: Millis
    certificate: Envelope


class NodeRecords(Value):
    """A page of nodes, by key."""

    nodes: tuple[NodeRecord, ...]
    after: str | None


class JobRecords(Value):
    """A page of what is stored about all tenants' jobs, in the order in which they were submitted."""

    records: tuple[JobRecord, ...]
    after: str | None


class StatementRecord(Value):
    """A signed statement about an evaluation key, and when it came."""

    tenant: Name
    received: Millis
    statement: Envelope


class StatementRecords(Value):
    """A page of statements, by tenant, key and sequence number."""

    statements: tuple[StatementRecord, ...]
    after: str | None


TableName = Literal[
    "tenants",
    "api_keys",
    "sessions",
    "enrolment_tokens",
    "gateways",
    "manifests",
    "keys",
    "key_statements",
    "jobs",
    "ended_jobs",
    "job_documents",
    "attempts",
    "queues",
    "queue_operators",
    "rows_asked",
    "blobs",
    "stored_bytes",
]
"""The tables of a gateway whose rows say again what documents and the log say, in the order in which they are to be read."""


NAMELESS: Final = "nameless"
ELSEWHERE: Final = "elsewhere"
"""What a row of `blobs` has for its `data` where the bytes lie in the store of objects."""


class TableRows(Value):
    """A page of a table's rows as the database has them, by primary key: each column's value by its name, whatever it is.

    Staff and people are shown by their pseudonyms, `NAMELESS` where they have none any more.
    A blob's bytes are shown by their digest, or as `ELSEWHERE`. A row of `stored_bytes` also says what there `really` is.
    """

    rows: tuple[dict[str, str | int | None], ...]
    after: str | None
