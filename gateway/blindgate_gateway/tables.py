"""What the gateway remembers: its tables, and nothing about how they are used.

Times are milliseconds since 1970, as everywhere. Envelopes are kept as the text that came in, so that what is served again is
what was signed. `jobs` holds what leasing reads and writes, in short columns; the long texts of a job lie in `job_documents`.
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
    text,
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
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("secret_hash", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger),
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
    Column("token", String, nullable=False, unique=True),
    Column("secret_hash", String, nullable=False),
    Column("enrolled", BigInteger, nullable=False),
)

# Blobs

blobs = Table(
    "blobs",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    Column("digest", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
    # Last, so that whoever asks for the other columns does not read over it.
    Column("data", LargeBinary),
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
    Index(None, "tenant", "digest", unique=True),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload", String, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
)

# Models and keys

manifests = Table(
    "manifests",
    metadata,
    Column("digest", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
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

keys = Table(
    "keys",
    metadata,
    Column("tenant", String, ForeignKey("tenants.name"), primary_key=True),
    Column("digest", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("sequence", Integer, nullable=False),
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

jobs = Table(
    "jobs",
    metadata,
    Column("job", String, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.name"), nullable=False),
    Column("state", String, nullable=False),
    Column("manifest", String, ForeignKey("manifests.digest"), nullable=False),
    Column("family", String, nullable=False),
    Column("input_digest", String, nullable=False),
    Column("evaluation_key", String),
    Column("submitted", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("ended", BigInteger),
    # The lease. The token stays after the end, so that a commit can be repeated.
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("token", String),
    Column("node", String, ForeignKey("nodes.key")),
    Column("leased_until", BigInteger),
    # What the current lease stored, or the winning one.
    Column("result_digest", String),
    Column("result_size", BigInteger),
    Index(
        "ix_jobs_queue",
        "submitted",
        "job",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_jobs_leased",
        "leased_until",
        sqlite_where=text("state = 'leased'"),
        postgresql_where=text("state = 'leased'"),
    ),
    Index("ix_jobs_open", "deadline", sqlite_where=text("ended IS NULL"), postgresql_where=text("ended IS NULL")),
    Index(None, "tenant", "submitted"),
    Index(None, "ended"),
)

job_operators = Table(
    "job_operators",
    metadata,
    Column("job", String, ForeignKey("jobs.job", ondelete="CASCADE"), primary_key=True),
    Column("operator", String, primary_key=True),
)

job_documents = Table(
    "job_documents",
    metadata,
    Column("job", String, ForeignKey("jobs.job", ondelete="CASCADE"), primary_key=True),
    Column("order_digest", String, nullable=False),
    Column("order", Text, nullable=False),
    Column("receipt_digest", String),
    Column("receipt", Text),
    Column("code", String),
    Column("reason", Text),
    Column("acknowledged", BigInteger),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", String, ForeignKey("jobs.job", ondelete="CASCADE"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("node", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended", BigInteger, nullable=False),
)
