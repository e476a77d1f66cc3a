"""How `flask db ...` reaches the database: through the app's own engine and models."""

from alembic import context
from flask import current_app

# A migration that has to wait for a lock makes every visitor wait behind it: give up early instead.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

db = current_app.extensions["migrate"].db


def migrate() -> None:
    with context.begin_transaction():
        if context.get_context().dialect.name == "postgresql":
            context.execute(LOCK_TIMEOUT)
        context.run_migrations()


if context.is_offline_mode():
    context.configure(url=db.engine.url, target_metadata=db.metadata, literal_binds=True)
    migrate()
else:
    with db.engine.connect() as connection:
        context.configure(connection=connection, target_metadata=db.metadata)
        migrate()
