"""The stream's store, on the real database: any number of replicas write; its numbers are one order without a gap."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import import_module

import asyncpg
import pytest_asyncio

from chassis.database import Pool, connect
from deploy.local.stack import Stack
from services.notify.store import events

SCHEMA = "two_streams"
REPLICAS = 4
RECORDS = 400
TABLES = import_module("services.notify.migrations.versions.0001_stream").STATEMENTS


@pytest_asyncio.fixture(scope="module")
async def pools(system: Stack) -> AsyncIterator[list[Pool]]:
    """Connections of several replicas to one store, nobody's but ours."""
    owner = await asyncpg.connect(system.database_url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(owner.close)
        await owner.execute(f"drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}")
        stack.push_async_callback(owner.execute, f"drop schema {SCHEMA} cascade")
        await owner.execute(f"set search_path = {SCHEMA}")
        for statement in TABLES:
            await owner.execute(statement)
        found = []
        for number in range(REPLICAS):
            pool = await connect(f"{system.database_url}?search_path={SCHEMA}", f"stream-{number}")
            stack.push_async_callback(pool.close)
            found.append(pool)
        yield found


async def test_replicas_that_write_the_same_at_once_leave_one_order_without_a_gap(pools: list[Pool]) -> None:
    """As after a rebalance: each believes that a partition is its own, and reads it from where the store ended."""
    chance = random.Random(6)

    async def write(pool: Pool) -> None:
        at = 0
        while at < RECORDS:
            end = min(RECORDS, at + chance.randint(1, 9))
            await events.append(
                pool, [("votes", 3, offset, "KZ-1", None, f"body {offset}") for offset in range(at, end)]
            )
            at = end

    await asyncio.gather(*(write(pool) for pool in pools))
    entries = await events.after(pools[0], 0, REPLICAS * RECORDS)
    assert [entry.seq for entry in entries] == list(range(1, RECORDS + 1))
    assert [entry.body for entry in entries] == [f"body {offset}" for offset in range(RECORDS)]
    assert await events.last_seq(pools[0]) == RECORDS
    assert await events.next_offsets(pools[0]) == {("votes", 3): RECORDS}
