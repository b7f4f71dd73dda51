"""Each service's Alembic migrations, run by the database's owner (the services themselves cannot change a
table)."""

import asyncio
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from chassis.alembic_env import VERSION_TABLE
from deploy.local.errors import CannotStart
from deploy.local.roles import role_of


def migrations_of(service: str) -> Path:
    """Where the migrations of a service are. Raises CannotStart when this installation has none."""
    try:
        spec = find_spec(f"services.{service}")
    except ModuleNotFoundError:
        spec = None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "migrations" / "env.py").exists():
            return Path(place) / "migrations"
    raise CannotStart(f"The service {service} has no migrations here: install Qalqan whole, or start in its checkout.")


def migrate(database_url: str, service: str) -> None:
    """Bring the service's schema to its head revision; its role, which must exist, then has the rows but not
    the tables.

    `database_url`: the owner's. Blocks; call it from a thread where an event loop runs.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_of(service)).replace("%", "%%"))
    config.attributes.update(url=database_url, schema=service, role=role_of(service))
    command.upgrade(config, "head")


def migrate_all(database_url: str, services: Iterable[str]) -> None:
    """`migrate` for every service that is behind; nothing is imported or locked for the others."""
    services = list(services)
    at = asyncio.run(_revisions(database_url, services))
    for service in services:
        if at[service] != heads_of(service):
            migrate(database_url, service)


def is_current(database_url: str, service: str) -> bool:
    """Whether the service's schema is that of this version. `database_url`: of the owner, or of the service's role.
    OSError or asyncpg.PostgresError: the database does not say."""
    return asyncio.run(_revisions(database_url, [service]))[service] == heads_of(service)


def heads_of(service: str) -> set[str]:
    """The revisions that a service's schema must be at. Raises CannotStart when this installation has none."""
    from alembic.script import ScriptDirectory

    return set(ScriptDirectory(migrations_of(service)).get_heads())


async def _revisions(database_url: str, services: list[str]) -> dict[str, set[str]]:
    connection = await asyncpg.connect(database_url)
    try:
        return {service: await _revision(connection, f"{service}.{VERSION_TABLE}") for service in services}
    finally:
        await connection.close()


async def _revision(connection: "asyncpg.Connection[asyncpg.Record]", table: str) -> set[str]:
    if await connection.fetchval("select to_regclass($1)", table) is None:
        return set()
    return {row[0] for row in await connection.fetch(f"select version_num from {table}")}
