"""Alembic's way in: the caller (`opening.migrate`) brings the connection and its transaction."""

from alembic import context

from blindgate_gateway.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
