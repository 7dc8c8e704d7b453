"""The bodies of the HTTP API, shared by both ends, so that the SDK, the node and the gateway cannot drift apart.

Signed documents travel inside as envelopes. Blobs travel as raw bytes beside, but small ones inside the message that would
otherwise only name them: a request of its own costs both ends more than that. Section 10 of docs/protocol.md lists the routes.
"""

from typing import Annotated, Literal

from pydantic import Field

from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.signing import Envelope
from blindgate_protocol.values import (
    WITHOUT_NUL,
    BlobRef,
    Digest,
    JobId,
    KeyId,
    Millis,
    Name,
    Reason,
    Size,
    SmallBlob,
    Text,
    Value,
)

LEASE_HEADER = "Blindgate-Lease"
"""Carries `<generation>.<token>` on every command of a node that holds a lease."""

MOST_URLS = 64
"""How many parts an upload's view has URLs for at most; when they are sent, it has more."""

DIGEST_HEADER = "Blindgate-Digest"
"""Carries the digest of a blob that is sent out."""

REQUEST_HEADER = "Blindgate-Request"
"""Carries, on every answer, the name under which the gateway's log has the request."""


# Tenants


class TenantView(Value):
    """Who the caller is, by its API key."""

    tenant: Name
    scopes: tuple[Name, ...]


# Models


class ModelOffer(Value):
    """A model that the gateway brokers."""

    manifest: Envelope


class BudgetView(Value):
    """How many rows of a model the asking tenant has asked for.

    Attributes:
        rows_per_tenant: how many it may, as the latest manifest says; `None` for as many as it likes.
        rows_asked: how many it has, of all versions of the model.
    """

    rows_per_tenant: Annotated[int, Field(ge=1)] | None
    rows_asked: Annotated[int, Field(ge=0)]


class ModelList(Value):
    """Every model, in its latest version."""

    models: tuple[ModelOffer, ...]


# Uploads


class UploadRequest(Value):
    """Asks to store a blob under the caller's tenant."""

    size: Annotated[int, Field(ge=1, lt=2**53)]
    sha256: Digest


class Upload(Value):
    """How an upload stands.

    Attributes:
        status: `exists` when the tenant has this blob already, `parts` while parts are missing, `complete` when the last
            one came and the digest was right.
        upload: the upload's id; `None` when nothing has to be sent.
        part_size: every part but the last has this many bytes.
        missing: the numbers, from 1, of the parts that have not arrived.
        urls: where to PUT the first of `missing`, one for each and at most `MOST_URLS`, straight to the store; empty when parts
            go through the gateway. Whoever has such a URL may send that part: it is a secret, and good for some minutes.
    """

    status: Literal["exists", "parts", "complete"]
    upload: str | None = None
    part_size: Size = 0
    missing: tuple[int, ...] = ()
    urls: tuple[str, ...] = ()


# Corpora

MOST_SHARDS = 16_384
"""How many blobs a corpus has at most, its head apart."""


class CorpusRequest(Value):
    """Puts a head to a corpus, by its tenant's word alone: what is in head and shards nobody but the tenant can read.

    Attributes:
        head: the blob that says which shards there are, and much else; sealed.
        shards: the blobs that it needs. All of them, and the head, were uploaded before.
        instead_of: the digest of the head that is to be replaced; `None` where there is no corpus of this name yet.
    """

    head: BlobRef
    shards: Annotated[tuple[BlobRef, ...], Field(max_length=MOST_SHARDS)]
    instead_of: Digest | None


class CorpusView(Value):
    """A corpus as the gateway knows it.

    Attributes:
        shards: how many there are.
        size: of head and shards, in bytes.
        changed: when this head came.
    """

    name: Name
    head: BlobRef
    shards: Annotated[int, Field(ge=0)]
    size: Size
    changed: Millis


class CorpusList(Value):
    """The tenant's corpora, by name."""

    corpora: tuple[CorpusView, ...]


# Evaluation keys


class KeyRequest(Value):
    """Registers a key, or tells of its next state."""

    statement: Envelope


class KeyView(Value):
    """A key as the gateway knows it.

    Attributes:
        state: what the last statement says; or `destroyed`, where that one schedules the destruction and it was carried out.
        statement: the last one.
    """

    key: BlobRef
    parameters: Digest
    state: KeyState
    statement: Envelope


class KeyList(Value):
    """The tenant's keys."""

    keys: tuple[KeyView, ...]


# Jobs


class JobRequest(Value):
    """Submits a signed order.

    Attributes:
        input_data: the input's bytes, where they are few; otherwise they were uploaded before.
        priority: which of the tenant's jobs go first, the highest before others. It says nothing to other tenants' jobs.
        seal: a `Seal`'s canonical bytes, unread, where the input is a sealed request: exactly where the order names nodes.
    """

    order: Envelope
    input_data: SmallBlob | None = None
    priority: Annotated[int, Field(ge=-9, le=9)] = 0
    seal: SmallBlob | None = None


class Attempt(Value):
    """One lease of a job that has ended, and how."""

    generation: int
    node: Name | None
    outcome: Name
    reason: Text


class JobView(Value):
    """A job as its tenant sees it.

    Attributes:
        reason: why the job ended without a result, in the words of whoever ended it. Unsigned: it proves nothing.
        receipt: the node's receipt, once the job succeeded.
        result: the result's blob, once the job succeeded.
        result_data: the result's bytes, where the asker wanted them along and they are few.
    """

    job: JobId
    state: JobState
    submitted: Millis
    ended: Millis | None = None
    attempts: tuple[Attempt, ...] = ()
    code: Name | None = None
    reason: Text | None = None
    receipt: Envelope | None = None
    result: BlobRef | None = None
    result_data: SmallBlob | None = None


class AnswerView(Value):
    """A part of a sealed answer that a node writes now.

    Attributes:
        state: how the job stands.
        generation: which lease of the job wrote this; 0 while none has.
        node: who holds that lease, by the gateway's word.
        begin: where `data` stands in the answer, in bytes.
        data: what there is from there on; empty where nothing came in time.
    """

    job: JobId
    state: JobState
    generation: Annotated[int, Field(ge=0)] = 0
    node: KeyId | None = None
    begin: Size = 0
    data: SmallBlob = b""


class JobList(Value):
    """The tenant's jobs, latest first."""

    jobs: tuple[JobView, ...]


class StoredBlob(Value):
    """One blob that the gateway holds for a job: what it can say of it."""

    role: Literal["input", "result", "evaluation key"]
    digest: Digest
    size: Size
    stored: Millis


class JobRecord(Value):
    """Everything that the gateway stored about one job."""

    job: JobId
    tenant: Name
    state: JobState
    order: Envelope
    receipt: Envelope | None
    blobs: tuple[StoredBlob, ...]
    attempts: tuple[Attempt, ...]


# Nodes and leases


class EnrolmentBody(Value):
    """A node's request to be taken in.

    Attributes:
        token: the one-time enrolment token that the gateway's operator gave out.
        certificate: the operator's `NodeCertificate`.
        request: the node's `EnrolmentRequest`.
    """

    token: Annotated[str, Field(min_length=16, max_length=200, pattern=WITHOUT_NUL)]
    certificate: Envelope
    request: Envelope


class EnrolmentAnswer(Value):
    """The gateway has taken this node in, under this name: from now on it hears what the node signs."""

    node: KeyId
    name: Name


class EvictionReport(Value):
    """A node hands in what it signed about keys that it forgot: `Eviction` documents."""

    evictions: Annotated[tuple[Envelope, ...], Field(min_length=1, max_length=64)]


class LeaseRequest(Value):
    """A node asks for work.

    Attributes:
        families: what the node can compute.
        keys: digests of the evaluation keys that it has in memory: the gateway prefers jobs under those.
        wait: how long to hold the request open when there is nothing, in milliseconds.
    """

    families: Annotated[tuple[Name, ...], Field(min_length=1, max_length=64)]
    keys: Annotated[tuple[Digest, ...], Field(max_length=256)] = ()
    wait: Annotated[int, Field(ge=0, le=60_000)] = 0


class Lease(Value):
    """Work for a node, for a time.

    Attributes:
        generation: how often this job has been leased, this time included.
        token: 128 random bits that every command about this lease carries.
        duration: how long the lease lasts without a heartbeat, in milliseconds.
        input_data: the input's bytes, where they came with the order; otherwise the node fetches them.
        seal: what the key of a sealed request is wrapped in, by the gateway's word.
    """

    job: JobId
    generation: Annotated[int, Field(ge=1)]
    token: Annotated[str, Field(min_length=32, max_length=32)]
    duration: Millis
    order: Envelope
    manifest: Envelope
    input_data: SmallBlob | None = None
    seal: SmallBlob | None = None


class AnswerPart(Value):
    """The next bytes of a sealed answer, while it is written.

    Attributes:
        begin: where they stand in the answer: where what was sent so far ends.
    """

    begin: Size
    data: Annotated[SmallBlob, Field(min_length=1)]


class Heartbeat(Value):
    """The lease goes on for so long from now."""

    duration: Millis


class Commit(Value):
    """The node has a result and says so, signed.

    Attributes:
        result_data: the result's bytes, where they are few; otherwise the node stored them before.
    """

    receipt: Envelope
    result_data: SmallBlob | None = None


class Refusal(Value):
    """The node says that this job can never be computed: it will not be tried again."""

    code: Name
    reason: Reason


class Release(Value):
    """The node gives the job back without having finished it; another attempt may."""

    code: Name
    reason: Reason


# Errors


class Problem(Value):
    """RFC 9457. `code` is the name in the error tree."""

    type: str
    title: str
    status: int
    detail: str
    code: Name
    request: str
