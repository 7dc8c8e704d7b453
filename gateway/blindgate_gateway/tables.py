"""What the gateway remembers: its tables, and nothing about how they are used.

Times are milliseconds since 1970, as everywhere. Envelopes are kept as the text that came in, so that what is served again is
what was signed. `jobs` holds what leasing reads and writes, in short columns, of jobs that have not ended: those that have
move to `ended_jobs`. The long texts of both lie in `job_documents`. `queues` says what a queue is.
A table changes only together with a new file in `migrations/versions`; a test holds the two against each other.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    cast,
    null,
    select,
    text,
    union_all,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# Who

tenants = Table(
    "tenants",
    metadata,
    Column("name", String, primary_key=True),
    Column("created", BigInteger, nullable=False),
    # When it was last given a node, and how many it may have at once, if that is not the setting.
    Column("served", BigInteger, nullable=False, server_default="0"),
    Column("in_flight", Integer),
    # How many bytes it may have stored, if that is not the setting.
    Column("quota", BigInteger),
    # The signing keys of its clients that it revoked, between spaces.
    Column("revoked_signers", Text),
)

stored_bytes = Table(
    "stored_bytes",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    # Of its blobs, and of the uploads that are not complete as they were announced.
    Column("bytes", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    # Whose it is: one of the two.
    Column("tenant", String, ForeignKey("tenants.name")),
    Column("staff", String),
    Column("secret_hash", String, nullable=False),
    # A tenant's scopes, with spaces between; or the one role of somebody of the staff.
    Column("scopes", String, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
    # The beginning of the day on which it was last used.
    Column("used", BigInteger),
)

sessions = Table(
    "sessions",
    metadata,
    # SHA-256 of the token in the auditor's cookie, and what was shown for it: an API key, or a person's token from elsewhere.
    Column("token_hash", String, primary_key=True),
    Column("api_key", String, ForeignKey("api_keys.id")),
    Column("person", String),
    # Of a person: what in the token gave the role, and when the token ends.
    Column("grounds", Text),
    Column("expires", BigInteger),
    Column("created", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Index(None, "api_key"),
    Index(None, "person"),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("secret_hash", String, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("node", String),
)

nodes = Table(
    "nodes",
    metadata,
    Column("key", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("operator", String, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("enrolled", BigInteger, nullable=False),
)

gateways = Table(
    "gateways",
    metadata,
    # What the file `gateway.id` in its data folder says.
    Column("id", String, primary_key=True),
    # From when on it showed itself without a gap, and when it last did.
    Column("since", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    # Whom it believes, by its settings: key ids, between spaces.
    Column("publishers", Text, nullable=False),
    Column("operators", Text, nullable=False),
    # For how long it keeps things, by its settings, as JSON.
    Column("kept", Text, nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("node", String, primary_key=True),
    Column("nonce", String, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Index(None, "until"),
)

# Blobs

blobs = Table(
    "blobs",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    Column("digest", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
    # Where its bytes lie, unless they lie here.
    Column("object", String),
    # Last, so that whoever asks for the other columns does not read over it.
    Column("data", LargeBinary),
    Index(None, "object"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("digest", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("part", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("created", BigInteger, nullable=False),
    # The object that its parts become, and the store's own id of it. An upload of one part has none before that came.
    Column("object", String),
    Column("multipart", String),
    Index(None, "tenant", "digest", unique=True),
    Index(None, "object"),
)

# Corpora

corpora = Table(
    "corpora",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    Column("name", String, primary_key=True),
    # What the log calls it: random, where a name may say something.
    Column("id", String, nullable=False),
    # The blob that names the others, to its owner alone.
    Column("head", String, nullable=False),
    # Of all its blobs.
    Column("blobs", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
)

corpus_blobs = Table(
    "corpus_blobs",
    metadata,
    # What the present head needs, itself among it.
    Column("tenant", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant", "name"], ["corpora.tenant", "corpora.name"]),
    Index(None, "tenant", "digest"),
)

# Requests

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("request", String, nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("status", Integer),
    Column("answer", Text),
    Index(None, "began"),
)

# Models and keys

manifests = Table(
    "manifests",
    metadata,
    Column("digest", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    # Empty where the model has no client part.
    Column("client_digest", String, nullable=False),
    Column("server_digest", String, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("published", BigInteger, nullable=False),
    Index(None, "name", "version", unique=True),
)

rows_asked = Table(
    "rows_asked",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    Column("publisher", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("rows", BigInteger, nullable=False),
)

_SCHEDULED = text("destroy_at IS NOT NULL")

keys = Table(
    "keys",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    Column("digest", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    # While its destruction is scheduled, and not carried out.
    Column("destroy_at", BigInteger),
    Index("ix_keys_destroy_at", "destroy_at", sqlite_where=_SCHEDULED, postgresql_where=_SCHEDULED),
)

key_statements = Table(
    "key_statements",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("digest", String, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("received", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant", "key"], ["keys.tenant", "keys.digest"]),
)

# Jobs

queues = Table(
    "queues",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("family", String, nullable=False),
)

queue_operators = Table(
    "queue_operators",
    metadata,
    # Who may take from it: operators, or, of sealed requests, single nodes. Both are key ids.
    Column("queue", String, ForeignKey("queues.id", ondelete="CASCADE"), primary_key=True),
    Column("operator", String, primary_key=True),
)

_QUEUED = text("state = 'queued' AND held = 0")
_LEASED = text("state = 'leased'")
_KEYED = text("evaluation_key IS NOT NULL")

jobs = Table(
    "jobs",
    metadata,
    Column("job", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("queue", String, ForeignKey("queues.id"), nullable=False),
    Column("state", String, nullable=False),
    # 1 while its key is suspended, or its destruction scheduled.
    Column("held", Integer, nullable=False, server_default="0"),
    # Which goes first: the lowest. It is the order's priority, the other way round.
    Column("rank", Integer, nullable=False, server_default="0"),
    Column("manifest", String, ForeignKey("manifests.digest"), nullable=False),
    Column("input_digest", String, nullable=False),
    Column("evaluation_key", String),
    Column("submitted", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    # The lease. `spent` is the generation that attempts are counted from.
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("spent", Integer, nullable=False, server_default="0"),
    Column("token", String),
    Column("node", String, ForeignKey("nodes.key")),
    Column("leased_until", BigInteger),
    # What the current lease stored.
    Column("result_digest", String),
    Column("result_size", BigInteger),
    Index(
        "ix_jobs_queue",
        "queue",
        "rank",
        "submitted",
        "job",
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    ),
    Index(
        "ix_jobs_evaluation_key",
        "evaluation_key",
        "queue",
        "rank",
        "submitted",
        sqlite_where=_KEYED,
        postgresql_where=_KEYED,
    ),
    Index("ix_jobs_leased", "tenant", "leased_until", sqlite_where=_LEASED, postgresql_where=_LEASED),
    Index(None, "deadline"),
    Index(None, "submitted", "job"),
    Index(None, "tenant", "submitted"),
    Index(None, "input_digest"),
)

ended_jobs = Table(
    "ended_jobs",
    metadata,
    Column("job", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("state", String, nullable=False),
    # Which goes first: the lowest. It is the order's priority, the other way round.
    Column("rank", Integer, nullable=False, server_default="0"),
    Column("manifest", String, ForeignKey("manifests.digest"), nullable=False),
    Column("input_digest", String, nullable=False),
    Column("evaluation_key", String),
    Column("submitted", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    # The last lease, so that a commit can be repeated.
    Column("generation", Integer, nullable=False),
    Column("token", String),
    Column("node", String, ForeignKey("nodes.key")),
    Column("result_digest", String),
    Column("result_size", BigInteger),
    Index(None, "submitted", "job"),
    Index(None, "tenant", "submitted"),
    Index(None, "state", "submitted"),
    Index(None, "ended"),
)

KEPT = tuple(column.name for column in ended_jobs.columns if column.name in jobs.columns)
"""What of a job's row outlives its end."""
all_jobs = union_all(
    select(*(jobs.c[name] for name in KEPT), cast(null(), BigInteger).label("ended")),
    select(*(ended_jobs.c[name] for name in KEPT), ended_jobs.c.ended),
).subquery("all_jobs")
"""Jobs wherever they are."""

job_documents = Table(
    "job_documents",
    metadata,
    Column("job", String, primary_key=True),
    Column("order_digest", String, nullable=False),
    Column("order", Text, nullable=False),
    Column("receipt_digest", String),
    Column("receipt", Text),
    Column("code", String),
    Column("reason", Text),
    Column("acknowledged", BigInteger),
    # What a sealed request's key is wrapped in, for its nodes, unread: in base64url.
    Column("seal", Text),
)

answer_parts = Table(
    "answer_parts",
    metadata,
    # What a lease stored of its answer while that is written; the whole of it is a blob like every result.
    Column("job", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("begin", BigInteger, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Index(None, "stored"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("node", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", Text, nullable=False),
    # With it the log's commitment to the reason opens, where that has a node's words.
    Column("salt", String),
    Column("ended", BigInteger, nullable=False),
)

# Questions for evidence

attestations = Table(
    "attestations",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("model", String, ForeignKey("manifests.digest"), nullable=False),
    Column("policy", String, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    # The one node that is asked, if it is one.
    Column("node", String),
    Column("asked", BigInteger, nullable=False),
    # From when on nobody waits for it.
    Column("until", BigInteger, nullable=False),
    Index(None, "tenant", "asked"),
    Index(None, "asked"),
)

attestation_answers = Table(
    "attestation_answers",
    metadata,
    # A row is there from when the node took the question. It goes with the question.
    Column("attestation", String, primary_key=True),
    Column("node", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("taken", BigInteger, nullable=False),
    # How many had answered, this node included, once it has.
    Column("place", Integer),
    # What it answered, unread; or why it does not.
    Column("recipient", Text),
    Column("evidence", LargeBinary),
    Column("code", String),
    Column("reason", Text),
    Index(None, "node", "tenant"),
)

# The log

pseudonyms = Table(
    "pseudonyms",
    metadata,
    # `tenant`, `staff` or `person`.
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("pseudonym", String, nullable=False),
    Column("created", BigInteger, nullable=False),
    Index(None, "pseudonym", unique=True),
)

_PENDING = text("position IS NULL")
_PLACED = text("position IS NOT NULL")

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # Where it stands in the tree, once that is decided.
    Column("position", BigInteger),
    Column("time", BigInteger, nullable=False),
    Column("action", String, nullable=False),
    Column("object", String, nullable=False),
    # Whose it is, by pseudonym.
    Column("tenant", String),
    Column("commitment", LargeBinary, nullable=False),
    # What was committed to. Both are missing once they were erased.
    Column("body", Text),
    Column("salt", LargeBinary),
    Index("ix_events_position", "position", unique=True, sqlite_where=_PLACED, postgresql_where=_PLACED),
    Index("ix_events_pending", "id", sqlite_where=_PENDING, postgresql_where=_PENDING),
    # Only of those with a place: telling an event, in a job's transaction, costs no entry here; the sequencer makes it.
    Index("ix_events_action_position", "action", "position", sqlite_where=_PLACED, postgresql_where=_PLACED),
    Index("ix_events_object_position", "object", "position", sqlite_where=_PLACED, postgresql_where=_PLACED),
    Index("ix_events_tenant_position", "tenant", "position", sqlite_where=_PLACED, postgresql_where=_PLACED),
)

log_head = Table(
    "log_head",
    metadata,
    # There is one row.
    Column("id", Integer, primary_key=True),
    # The log's verifier key, as C2SP writes it.
    Column("key", Text, nullable=False),
    # Its second one, by ML-DSA-44, where the gateway that began it could make one.
    Column("second", Text),
    Column("size", BigInteger, nullable=False),
    # The roots of its complete subtrees, the largest first.
    Column("hashes", LargeBinary, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("signed", BigInteger, nullable=False),
)

log_tiles = Table(
    "log_tiles",
    metadata,
    # The root of the complete subtree of 256**level entries: what tiles of that level are made of.
    Column("level", Integer, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    # Of a full tile of entries (level 1): between which times its events are.
    Column("earliest", BigInteger),
    Column("latest", BigInteger),
)

cosignatures = Table(
    "cosignatures",
    metadata,
    Column("size", BigInteger, primary_key=True),
    Column("witness", String, primary_key=True),
    Column("checkpoint", Text, nullable=False),
    Column("line", Text, nullable=False),
)
