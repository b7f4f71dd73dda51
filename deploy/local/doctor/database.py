"""PostgreSQL: whether it answers, whether the schemas are those of this installation, whether its clock is ours."""

import time

import asyncpg

from chassis.alembic_env import VERSION_TABLE
from deploy.local.doctor.finding import Finding, look, well, wrong
from deploy.local.doctor.system import System
from deploy.local.migrate import heads_of
from deploy.local.roles import SERVICES

_APART_S = 2.0
_PATIENCE_S = 3.0


async def database(system: System) -> list[Finding]:
    """Whether it answers, its clock, and every service's migrations. Raises what asyncpg raises when it does not."""
    if system.database is None:
        return [look("database", "nobody says where it is", "set DATABASE_URL")]
    connection = await asyncpg.connect(system.database, timeout=_PATIENCE_S, command_timeout=_PATIENCE_S)
    try:
        before = time.time()
        now = float(await connection.fetchval("select extract(epoch from clock_timestamp())"))
        after = time.time()
        version = await connection.fetchval("show server_version")
        place = system.database.rpartition("@")[2].split("?")[0]
        found = [well("database", f"PostgreSQL {version} at {place}"), clock(now, before, after)]
        return [*found, *[await _migrations(connection, service) for service in SERVICES]]
    finally:
        await connection.close()


def clock(theirs: float, before: float, after: float) -> Finding:
    """How far its clock is from ours, by what it said between two moments of ours; seconds since 1970."""
    apart = max(before - theirs, theirs - after, 0.0)
    what, remedy = "clock of the database", "set both by NTP"
    if apart > _APART_S:
        return wrong(what, f"{apart:.1f} s {'ahead of' if theirs > after else 'behind'} ours", remedy)
    return well(what, f"within {_APART_S:.0f} s of ours")


async def _migrations(connection: "asyncpg.Connection[asyncpg.Record]", service: str) -> Finding:
    what = f"schema {service}"
    table = f"{service}.{VERSION_TABLE}"
    try:
        if await connection.fetchval("select to_regclass($1)", table) is None:
            return wrong(what, "is not there", "`qalqan up` makes it")
        at = {row[0] for row in await connection.fetch(f"select version_num from {table}")}
    except asyncpg.InsufficientPrivilegeError:
        return look(what, "this user of the database may not see it", "ask with the owner's DATABASE_URL")
    heads = heads_of(service)
    if at == heads:
        return well(what, f"at {', '.join(sorted(at))}")
    seen = f"at {', '.join(sorted(at)) or 'nothing'}, and this installation needs {', '.join(sorted(heads))}"
    return wrong(what, seen, "`qalqan up` migrates it; an older installation beside it must end first")
