"""PostgreSQL: one pool a replica, which failures pass by themselves, and the patience to wait for that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import asyncpg
import structlog

log = structlog.get_logger()

T = TypeVar("T")

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg meets in a connection that was cut at a bad moment
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,  # serialization failures and deadlocks
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.OperatorInterventionError,  # shutting down, starting up
)
"""The database may answer later: try again, after reading what became of the last attempt."""

AT_LEISURE = "at_leisure as materialized (select set_config('synchronous_commit', 'off', true))"
"""For a statement that reads from it: its commit waits for no disk, and delays nobody's that does. For what can be made
again: a database that crashes may lose the last half second of it, never a part of a statement, never out of order."""

RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""The pauses between attempts; the last one is kept."""


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Asks the database until it answers: for what may be asked twice. A full disk may take hours, and is said each
    time."""
    tries = 0
    while True:
        try:
            return await attempt()
        except TRANSIENT as error:
            log.warning("database.waiting", error=repr(error))
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1


async def connect(url: str, replica: str) -> Pool:
    """A pool for one replica; lanes share it. Waits for a database that does not answer yet."""

    async def attempt() -> Pool:
        return await asyncpg.create_pool(
            url,
            min_size=2,
            max_size=8,
            command_timeout=30,
            # No statement of ours changes its session: asyncpg's own reset would be one more round trip after
            # each.
            reset=_as_it_is,
            server_settings={
                "application_name": replica,
                # A frozen process must not hold a row for longer than this.
                "idle_in_transaction_session_timeout": "5000",
                # One statement is one transaction here; planning it each time would cost more than running it.
                "plan_cache_mode": "force_generic_plan",
                "jit": "off",
            },
        )

    return await patiently(attempt)


async def _as_it_is(_: object) -> None:
    """Leaves a connection as it was used."""
