"""Run by Alembic; the connection comes from `heritage.store.database`, or for `alembic` itself
from `HERITAGE_DATABASE_URL`."""

from alembic import context

from heritage.store.database import connect
from heritage.store.tables import Base


def _migrate(connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    with connect(migrate=False).begin() as own:
        _migrate(own)
