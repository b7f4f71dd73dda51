"""What every service's `migrations/env.py` is: `from chassis import alembic_env`, `alembic_env.run()`.

The runner passes, in `config.attributes`: `url` (the database's owner), `schema` (the service's, which also
holds the version table), and `role` (who then may read and write the schema's tables, but not change them).
"""

import asyncio

from alembic import context, op
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

VERSION_TABLE = "alembic_version"


def run() -> None:
    """Bring the schema to the wanted revision in one transaction. Not to be called from a running event
    loop."""
    attributes = context.config.attributes
    asyncio.run(_migrate(attributes["url"], attributes["schema"], attributes.get("role")))


def sql(script: str) -> None:
    """Execute a script of several statements inside a migration (`op.execute` takes one at a time under
    asyncpg)."""
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None
    adapted.run_async(lambda driver: driver.execute(script))


async def _migrate(url: str, schema: str, role: str | None) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://" + url.split("://", 1)[1],
        poolclass=NullPool,
        connect_args={"server_settings": {"search_path": schema}},
    )
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, schema, role)
    await engine.dispose()


def _upgrade(connection: Connection, schema: str, role: str | None) -> None:
    # Two runners on one database take turns.
    connection.execute(
        text("select pg_advisory_xact_lock(hashtext('qalqan.migrations.' || :schema))"), {"schema": schema}
    )
    connection.execute(text(f"create schema if not exists {schema}"))
    context.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        version_table_schema=schema,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    if role is not None:
        for statement in (
            f"grant usage on schema {schema} to {role}",
            f"grant select, insert, update, delete, truncate on all tables in schema {schema} to {role}",
            f"grant usage, select, update on all sequences in schema {schema} to {role}",
            f"revoke insert, update, delete, truncate on {schema}.{VERSION_TABLE} from {role}",
        ):
            connection.execute(text(statement))
