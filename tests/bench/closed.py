"""1,000,000 closed requests in the databases beside 1,000: votes a second, memory, time of start."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncpg

from deploy.local.infrastructure import Infrastructure
from deploy.local.roles import SERVICES
from qalqan.events import type_of
from tests.bench.figures import Figure, Side
from tests.bench.ground import Ground, Reader, new_request_ids, one_vote_short, opened, progress, standing
from tests.bench.memory import memory_mb
from tests.bench.votes import signed_votes, through_the_service

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

FEW, MANY = 1_000, 1_000_000
_ROUNDS = 6
_STARTS = 3
_REST_S = 5.0
_SAMPLES = 5
_PATIENCE_S = 60.0

_EVENTS = 13
"""Of a request: raised, ballot, offer, acceptance, 4 votes, decision, mobilisation, closed, mandate's end, revision."""
_BODY = 100
"""Characters kept of the body of an event in the stream: whole, a million requests would have 50 GB of them."""

# How a row of the real request (`r`) becomes one of its copy number `n`; `$1` is its key.
_KEY = "$1 || '-' || lpad(n::text, 7, '0')"
_LANE_COPIES = {
    "subject": f"select {_KEY}, n % 12, r.open, r.positions, r.folded, r.doc",
    # A ballot's id is in the name: an index holds each once. Its signed events would be 10 GB: nobody reads them here.
    "part": f"""select {_KEY},
        regexp_replace(r.name, 'sha256:[0-9a-f]+', 'sha256:' || encode(sha256(n::text::bytea), 'hex')),
        '{{}}'::jsonb""",
    # Clients choose random ids: they lie all over the index.
    "inbox": "select n % 12, r.source, gen_random_uuid()::text, sha256((n::text || r.id)::bytea), -1, r.outcome",
}
# Numbers and offsets go down from the real ones, as those of older events do.
_STREAM_COPIES = {
    "event": f"""select r.seq - 100 * n, r.topic, r.partition, r."offset" - 100 * n, left(r.body, {_BODY})""",
}
_COPIES = dict.fromkeys(("request", "pledge", "consensus"), _LANE_COPIES) | {"notify": _STREAM_COPIES}
_IN_THE_STREAM = "select count(*) from notify.event where position($1 in body) > 0"

# While the tables are filled: what goes into a table made in the same transaction is written once, not twice.
_FILLING = {"wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "4GB", "autovacuum": "off"}

# Of a table, how each index is dropped and made: one that is made over the rows takes a fraction of the time.
_INDEXES = """
select format('alter table %s ', x.indrelid::regclass) || 'drop constraint ' || quote_ident(c.conname) as drop,
       format('alter table %s ', x.indrelid::regclass) || 'add constraint ' || quote_ident(c.conname) || ' '
       || pg_get_constraintdef(c.oid) as make,
       format('drop index %s', x.indexrelid::regclass) as drop_index, pg_get_indexdef(x.indexrelid) as make_index
from pg_index x left join pg_constraint c on c.conindid = x.indexrelid where x.indrelid = $1::text::regclass
"""


async def closed_requests() -> list[Figure]:
    """What a closed request leaves behind must not be felt by those that come after: ours alone, two systems at a time.

    In each, a request is lived through (raised, pledged, accepted, four votes, consensus, mobilisation, closed), then
    all that it left is copied: in the schemas of request, pledge and consensus its state (`subject`), its parts
    (contents; pledge, plan; ballot, votes: their names, without the documents) and its submissions' identities
    (`inbox`), and its 13 events in the stream, their bodies cut to 100 characters: some 10 GB of disk. Its outbox rows
    are deleted, as they are after seven days. The tables are vacuumed and analysed, as autovacuum does in time; then
    everything is started anew. Both systems stand while the votes of each are counted in turn, so that what else the
    machine does meets both.
    """
    async with contextlib.AsyncExitStack() as stack:
        few, many = sides = [await stack.enter_async_context(_filled(closed)) for closed in (FEW, MANY)]
        for side in sides:
            side.ground = await stack.enter_async_context(standing(side.home, 0, 0))
        await asyncio.sleep(_REST_S)
        for side in sides:
            side.at_start_mb = side.memory_now_mb()
        for number in range(_ROUNDS):
            for side in sides if number % 2 else reversed(sides):
                votes = await signed_votes(side.ground, f"{side.closed:,} requests closed, {number + 1}")
                side.votes.append(await through_the_service(side.ground, votes))
        for _ in range(_SAMPLES):
            await asyncio.sleep(1.0)
            for side in sides:
                side.memory_mb.append(side.memory_now_mb())
    return [
        Figure(
            "closed_requests",
            "1/s",
            Side(many.votes, f"votes a second (votes_per_second, one replica), {MANY:,} requests closed", True),
            Side(few.votes, f"the same, {FEW:,} requests closed", True),
            goal=">= 0.9",
            more={"database_gb": round(many.database_gb, 1), "filled_s": round(many.filled_s)},
        ),
        Figure(
            "closed_requests_memory_mb",
            "MB",
            Side(many.memory_mb, f"PSS of the five services together after these votes, {MANY:,} requests closed"),
            Side(few.memory_mb, f"the same, {FEW:,} requests closed"),
            goal="<= 1.1",
            more={"at_start": round(many.at_start_mb, 1), "baseline_at_start": round(few.at_start_mb, 1)},
        ),
        Figure(
            "closed_requests_start_s",
            "s",
            Side(many.starts_s, f"broker, database, services started -> all ready, {MANY:,} requests closed"),
            Side(few.starts_s, f"the same, {FEW:,} requests closed"),
        ),
    ]


@dataclass(slots=True)
class _System:
    """A system with so many closed requests, and what was measured of it. `ground`: once it stands."""

    home: Path
    closed: int
    filled_s: float
    database_gb: float
    starts_s: list[float]
    ground: Ground = field(init=False)
    at_start_mb: float = 0.0
    votes: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def memory_now_mb(self) -> float:
        return memory_mb([self.ground.stack.run()["pids"][name] for name in SERVICES])["Pss"]


@contextlib.asynccontextmanager
async def _filled(closed: int) -> AsyncIterator[_System]:
    """A home whose databases are filled, started some times with nothing beside it; it does not stand yet."""
    with tempfile.TemporaryDirectory(prefix="qalqan-bench-") as place:
        home = Path(place)
        async with standing(home, 0, 0) as ground:
            key = await _close_one(ground)
            await _on_database(ground.stack, *(f"alter system set {name} = '{v}'" for name, v in _FILLING.items()))
        progress.print(f"Filling in {closed:,} closed requests ...")
        filled_s, database_gb = await _fill_all(home, key, closed)
        starts_s = []
        for _ in range(_STARTS):
            began = time.perf_counter()
            async with standing(home, 0, 0):
                starts_s.append(time.perf_counter() - began)
        yield _System(home, closed, filled_s, database_gb, starts_s)


async def _close_one(ground: Ground) -> str:
    """Lives one request through; gives its key once every service has it behind it."""
    [vote] = await one_vote_short(ground, await opened(ground, new_request_ids(1)))
    key = vote.key.decode()
    async with Reader(ground.run.kafka, ["mobilizations"]) as reader:
        authorized = reader.expect("mobilizations", vote.key, type_of("MobilizationAuthorized"))
        ended = reader.expect("mobilizations", vote.key, type_of("MobilizationRevised"))
        await ground.send(vote)
        await asyncio.wait_for(authorized, _PATIENCE_S)
        await ground.send(ground.signed("TR", "RequestClosed", {"request_id": key, "reason": "It is over."}))
        await asyncio.wait_for(ended, _PATIENCE_S)
    async with _connected(ground.stack.database_url) as connection, asyncio.timeout(_PATIENCE_S):
        while await connection.fetchval(_IN_THE_STREAM, key) < _EVENTS:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)
    return key


# --- filling ---------------------------------------------------------------------------------------------------------


async def _fill_all(home: Path, key: str, closed: int) -> tuple[float, float]:
    """Fills the databases of a home, with no service running: how long that took (s), and how large they are (GB)."""
    ground = Infrastructure(home)
    await asyncio.to_thread(ground.start)
    try:
        began = time.perf_counter()
        await asyncio.gather(*(_fill(ground.database_url, service, key, closed) for service in _COPIES))
        filled_s = time.perf_counter() - began
        await _on_database(ground, "alter system reset all", "checkpoint")
        async with _connected(ground.database_url) as connection:
            return filled_s, await connection.fetchval("select pg_database_size(current_database())") / 1e9
    finally:
        await asyncio.to_thread(ground.stop)


async def _fill(url: str, service: str, key: str, closed: int) -> None:
    async with _connected(url, service) as connection:
        for table, copy in _COPIES[service].items():
            async with connection.transaction():
                await _copy(connection, table, copy, key, closed)
            await connection.execute(f"vacuum (analyze) {table}")
        if service != "notify":
            await connection.execute("truncate outbox")


async def _copy(connection: Connection, table: str, copy: str, key: str, closed: int) -> None:
    """Adds so many copies of the request's rows to a table, which holds no other request."""
    indexes = await connection.fetch(_INDEXES, table)
    await connection.execute(f"create temp table kept on commit drop as select * from {table}")
    await connection.execute(f"truncate {table}")
    for index in indexes:
        await connection.execute(index["drop"] or index["drop_index"])
    await connection.execute(f"insert into {table} select * from kept")
    ours = "position($1 in body) > 0" if table == "event" else "$1 <> ''"
    copies = f"insert into {table} {copy} from generate_series(1, {closed}) n, kept r where {ours}"
    await connection.execute(copies, key)
    for index in indexes:
        await connection.execute(index["make"] or index["make_index"])


async def _on_database(ground: Infrastructure, *statements: str) -> None:
    async with _connected(ground.database_url) as connection:
        for statement in statements:
            await connection.execute(statement)


@contextlib.asynccontextmanager
async def _connected(url: str, schema: str = "public") -> AsyncIterator[Connection]:
    settings = {"search_path": schema, "maintenance_work_mem": "512MB"}
    connection: Connection = await asyncpg.connect(url, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()
