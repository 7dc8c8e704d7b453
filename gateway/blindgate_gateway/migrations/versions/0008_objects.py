"""Objects with names of their own, uploads that their store keeps, and how many bytes a tenant has.

Revision: 0008, from 0007. Uploads that were under way begin anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.drop_table("upload_parts")
    op.execute("DELETE FROM uploads")
    op.add_column("uploads", sa.Column("object", sa.String(), nullable=True))
    op.add_column("uploads", sa.Column("multipart", sa.String(), nullable=True))
    op.create_index("ix_uploads_object", "uploads", ["object"])
    if op.get_bind().dialect.name == "sqlite":
        # The column of bytes stays the last: a table is read from its first.
        with op.batch_alter_table("blobs", recreate="always") as batch:
            batch.add_column(sa.Column("object", sa.String(), nullable=True), insert_before="data")
    else:
        op.add_column("blobs", sa.Column("object", sa.String(), nullable=True))
    # Files were named by their digest alone, after its first seven characters.
    op.execute("UPDATE blobs SET object = substr(digest, 8) WHERE data IS NULL")
    op.create_index("ix_blobs_object", "blobs", ["object"])
    op.add_column("tenants", sa.Column("quota", sa.BigInteger(), nullable=True))
    op.create_table(
        "stored_bytes",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_stored_bytes_tenant")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_stored_bytes")),
    )
    op.execute("INSERT INTO stored_bytes (tenant, bytes) SELECT tenant, sum(size) FROM blobs GROUP BY tenant")
