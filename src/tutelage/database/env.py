"""Alembic runs a room's migrations over the connection that `store.Database` hands it."""

from __future__ import annotations

from alembic import context

given = context.config.attributes
context.configure(**given, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
