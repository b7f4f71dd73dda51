"""The database's inner walls: for each service a login role and a schema that only it may use."""

import asyncpg

from deploy.local.errors import CannotStart

SERVICES = ("request", "pledge", "consensus", "notify", "secretariat")


def role_of(service: str) -> str:
    """The login role of a service."""
    return f"qalqan_{service}"


async def prepare(admin_url: str, passwords: dict[str, str]) -> None:
    """Make schema and role of each service in `passwords` where they are missing, and set its password.

    `admin_url` may create roles and schemas. A role finds its own schema alone; all others answer "permission
    denied".
    """
    try:
        connection = await asyncpg.connect(admin_url, timeout=10)
    except (OSError, ValueError, asyncpg.PostgresError) as error:  # ValueError: no such URL
        place = admin_url.rpartition("@")[2]
        raise CannotStart(f"No database answers at {place} ({error}): start it, or correct DATABASE_URL.") from error
    try:
        async with connection.transaction():
            # Two runners on one database would otherwise race for the same names.
            await connection.execute("select pg_advisory_xact_lock(hashtext('qalqan.roles'))")
            known = {row[0] for row in await connection.fetch("select rolname from pg_roles")}
            for service, password in passwords.items():
                role = role_of(service)
                quoted = await connection.fetchval("select quote_literal($1)", password)
                verb = "alter" if role in known else "create"
                await connection.execute(
                    f"{verb} role {role} login password {quoted};"
                    f"alter role {role} set search_path = {service};"
                    f"create schema if not exists {service};"
                    f"grant usage on schema {service} to {role};"
                )
    except asyncpg.InsufficientPrivilegeError as error:
        raise CannotStart(
            f"DATABASE_URL may not make roles and schemas ({error}): give its user CREATEROLE, and CREATE on "
            "the database."
        ) from error
    finally:
        await connection.close()
