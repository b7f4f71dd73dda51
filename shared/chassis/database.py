"""PostgreSQL: one pool a replica, and which failures pass by themselves."""

from typing import TypeAlias

import asyncpg

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


async def connect(url: str, replica: str) -> Pool:
    """A pool for one replica; lanes share it."""
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


async def _as_it_is(_: object) -> None:
    """Leaves a connection as it was used."""
