"""The fence, on the real database: who is no lane's owner, or not where it thinks it is, writes nothing."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import ledger
from chassis.bus import Outgoing
from chassis.database import Pool, connect
from chassis.lane import FenceLost, Lane
from chassis.ledger import LaneRow, Parked, SubjectRow, Transaction
from chassis.publication import Publisher
from chassis.schema import LANE_TABLES
from chassis.service import Parts
from chassis.settings import Settings
from deploy.local.stack import Stack
from qalqan.access import Access
from qalqan.topics import INBOX_REQUESTS, REQUESTS
from services.request.domain import Request
from services.request.handlers import RequestHandlers
from services.request.main import build

SCHEMA = "fence"
TABLES = ("inbox", "outbox", "subject", "part", "parked")
NOW = datetime(2023, 2, 6, 1, 17, 34, tzinfo=UTC)
INBOX = INBOX_REQUESTS.name
END_ONE = """select count(pg_terminate_backend(pid)) from (
    select pid from pg_stat_activity where application_name = 'fence-1' and state = 'active'
    order by random() limit 1
) busy"""


@pytest_asyncio.fixture(scope="module")
async def schema(system: Stack) -> AsyncIterator[str]:
    """The URL of a schema with the tables of a lane, nobody's but ours."""
    owner = await asyncpg.connect(system.database_url)
    try:
        await owner.execute(f"drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}")
        await owner.execute(f"set search_path = {SCHEMA}")
        for statement in LANE_TABLES:
            await owner.execute(statement)
        yield f"{system.database_url}?search_path={SCHEMA}"
        await owner.execute(f"drop schema {SCHEMA} cascade")
    finally:
        await owner.close()


@pytest_asyncio.fixture
async def pool(schema: str) -> AsyncIterator[Pool]:
    """Connections as a service has them; the tables are empty."""
    pool = await connect(schema, "fence-1")
    await pool.execute(f"truncate lane, {', '.join(TABLES)}")
    yield pool
    await pool.close()


def transaction(row: LaneRow, offset: int, partition: int = 0) -> Transaction:
    """A transaction that writes to every table: the record at `offset` of the inbox, handled."""
    key = f"TR-2023-{partition}-{offset}"
    out = Outgoing(REQUESTS.name, partition, key.encode(), b"{}", [("ce_id", b"x")])
    return Transaction(
        partition,
        row.epoch,
        row.next_offsets,
        {INBOX: offset + 1},
        row.step + 1,
        NOW,
        {"serial": offset},
        row.published,
        identities=[("qalqan://t/states/TR", f"event-{partition}-{offset}", b"core", offset, None)],
        subjects=[SubjectRow(key, True, True, {REQUESTS.name: 1}, [], {"status": "open"})],
        parts=[(key, "vote", {})],
        parked=[Parked(offset, key, "AZ-1", "qalqan://t/states/AZ", b"{}", NOW, 3)],
        outgoing=[(out, 1), (replace(out, topic="rejections"), None)],
    )


async def rows(pool: Pool) -> dict[str, int]:
    """How many rows each table has."""
    return {table: await pool.fetchval(f"select count(*) from {table}") for table in TABLES}


async def everything(pool: Pool) -> list[Any]:
    """All there is, to be compared with later."""
    return [await pool.fetch(f"select * from {table} order by 1, 2, 3") for table in ("lane", *TABLES)]


async def test_a_lane_is_the_last_ones_who_took_it(pool: Pool) -> None:
    """Its epoch counts up; everything else is as it was left."""
    first = await ledger.take_lane(pool, 0, "one")
    assert await ledger.commit(pool, transaction(first, 7))
    second = await ledger.take_lane(pool, 0, "two")
    assert (first.epoch, second.epoch) == (1, 2)
    assert (second.next_offsets, second.step, second.log_time) == ({INBOX: 8}, 1, NOW)
    assert await rows(pool) == {"inbox": 1, "outbox": 2, "subject": 1, "part": 1, "parked": 1}


async def test_a_former_owner_writes_nothing_at_all(pool: Pool) -> None:
    """Not a row in any table, though every offset is as it believes."""
    former = await ledger.take_lane(pool, 0, "one")
    owner = await ledger.take_lane(pool, 0, "two")
    before = await everything(pool)
    assert not await ledger.commit(pool, transaction(former, 0))
    await ledger.mark_published(pool, 0, former.epoch, 99)
    assert await everything(pool) == before
    assert await ledger.commit(pool, transaction(owner, 0))


async def test_an_owner_who_is_elsewhere_writes_nothing_at_all(pool: Pool) -> None:
    """The same transaction twice, one behind, one ahead: only what follows on the lane's offsets stands."""
    row = await ledger.take_lane(pool, 0, "one")
    handled = transaction(row, 0)
    assert await ledger.commit(pool, handled)
    before = await everything(pool)
    assert not await ledger.commit(pool, handled)
    assert not await ledger.commit(pool, transaction(replace(row, next_offsets={INBOX: 5}), 5))
    more = {INBOX: 1, REQUESTS.name: 0}
    assert not await ledger.commit(pool, transaction(replace(row, next_offsets=more), 1))
    assert await everything(pool) == before
    assert await ledger.commit(pool, transaction(replace(row, next_offsets={INBOX: 1}), 1))


async def test_a_place_in_a_keys_order_is_taken_once(pool: Pool) -> None:
    """The backstop: a second event at a position is refused by the database, and its transaction with it."""
    row = await ledger.take_lane(pool, 0, "one")
    first = transaction(row, 0)
    assert await ledger.commit(pool, first)
    before = await everything(pool)
    second = transaction(replace(row, next_offsets={INBOX: 1}), 1)
    second.outgoing = first.outgoing
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await ledger.commit(pool, second)
    assert refused.value.constraint_name == "outbox_position"
    assert await everything(pool) == before


async def test_a_request_begins_once(pool: Pool) -> None:
    """What is taken for a new request but is none is refused, and its state is as it was."""
    row = await ledger.take_lane(pool, 0, "one")
    first = transaction(row, 0)
    assert await ledger.commit(pool, first)
    before = await everything(pool)
    again = transaction(replace(row, next_offsets={INBOX: 1}), 1)
    again.subjects, again.parts = [replace(first.subjects[0], positions={}, doc={})], []
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await ledger.commit(pool, again)
    assert refused.value.constraint_name == "subject_pkey"
    assert await everything(pool) == before


def lane_on(pool: Pool, system: Stack, partition: int) -> Lane[Request]:
    """A lane of the request service on our tables, connected to nothing else."""
    settings = Settings(
        kafka=Access(bootstrap_servers=system.kafka),
        DATABASE_URL="unused",
        QALQAN_ROOT=Path(system.identity.root),
        QALQAN_KEY=Path(system.identity.service_key("request")),
        QALQAN_REPLICA="fence-1",
    )
    parts = Parts.of("request", settings)
    return Lane(
        partition,
        handlers=RequestHandlers(),
        pool=pool,
        bus=parts.bus,
        follower=parts.follower,
        publisher=Publisher(parts.source, parts.key),
        admission=build(settings).admission,
        key_id=parts.key.key_id,
        replica="fence-1",
        on_alarm=lambda: None,
        pause=lambda partition, paused: None,
    )


async def test_a_commit_whose_answer_is_lost_is_looked_up(pool: Pool, schema: str, system: Stack) -> None:
    """Backends are ended at any moment under load: each transaction stands once, and no fence is lost."""
    lanes, to_end = 4, 10
    chance = random.Random(5)
    done = asyncio.Event()

    async def work(partition: int, row: LaneRow) -> int:
        lane = lane_on(pool, system, partition)
        while not done.is_set():
            offset = row.step
            await lane._commit(transaction(row, offset, partition))
            row = replace(row, next_offsets={INBOX: offset + 1}, step=offset + 1)
        return row.step

    async def end_backends() -> None:
        ended = 0
        killer = await asyncpg.connect(schema)
        try:
            while ended < to_end:
                await asyncio.sleep(chance.uniform(0, 0.02))
                ended += await killer.fetchval(END_ONE)
        finally:
            await killer.close()
            done.set()

    async with asyncio.timeout(60):
        taken = [await ledger.take_lane(pool, partition, "fence-1") for partition in range(lanes)]
        _, *commits = await asyncio.gather(end_backends(), *(work(number, row) for number, row in enumerate(taken)))
    n = sum(commits)
    assert await rows(pool) == {"inbox": n, "outbox": 2 * n, "subject": n, "part": n, "parked": n}
    steps = await pool.fetch("select partition, step, next_offsets from lane order by partition")
    assert [(row["step"], row["next_offsets"]) for row in steps] == [(k, f'{{"{INBOX}": {k}}}') for k in commits]


async def test_what_stands_is_recognised_and_a_lane_taken_away_is_lost(pool: Pool, system: Stack) -> None:
    """FenceLost, also when the owner finds itself elsewhere than it believes."""
    lane = lane_on(pool, system, 0)
    row = await ledger.take_lane(pool, 0, "fence-1")
    handled = transaction(row, 0)
    assert await ledger.commit(pool, handled)
    await lane._commit(handled)  # it stands already, as after a lost answer
    with pytest.raises(FenceLost):
        await lane._commit(transaction(replace(row, next_offsets={INBOX: 9}), 9))
    await ledger.take_lane(pool, 0, "another")
    with pytest.raises(FenceLost):
        await lane._commit(transaction(replace(row, next_offsets={INBOX: 1}, step=1), 1))
