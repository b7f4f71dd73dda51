"""The SQL of a lane: taking it, loading it, and the one statement that is a transaction.

The statement is one round trip and one commit: the fence, the identities, the state, the outbox. Every part of it reads
from `fence`, so that nothing at all is written by an owner that is none any more.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chassis.bus import Outgoing
from chassis.database import Pool

_COMMIT = """
with fence as (
    update lane set next_offsets = $4::jsonb, step = step + 1, log_time = $5, doc = $6::jsonb,
                    published = greatest(published, $7)
    where partition = $1 and epoch = $2 and next_offsets = $3::jsonb
    returning step
), identities as (
    insert into inbox (partition, source, id, core, "offset", outcome)
    select $1, r.* from fence, unnest($8::text[], $9::text[], $10::bytea[], $11::bigint[], $12::text[]) r
), given as (
    select r.key, r.is_new, r.open, r.positions::jsonb as positions, r.doc::jsonb as doc
    from fence, unnest($13::text[], $34::boolean[], $14::boolean[], $15::text[], $16::text[])
        r (key, is_new, open, positions, doc)
), newborn as (
    insert into subject (key, partition, open, positions, doc)
    select key, $1, open, positions, doc from given where is_new
), subjects as (
    insert into subject (key, partition, open, positions, doc)
    select key, $1, open, positions, doc from given where not is_new
    on conflict (key) do update set open = excluded.open, positions = excluded.positions, doc = excluded.doc
), parts as (
    insert into part (key, name, doc)
    select r.key, r.name, r.doc::jsonb from fence, unnest($17::text[], $18::text[], $19::text[]) r (key, name, doc)
    on conflict (key, name) do update set doc = excluded.doc
), parking as (
    insert into parked (partition, "offset", key, queue, source, record, parked_at, members_offset)
    select $1, r.* from fence,
        unnest($20::bigint[], $21::text[], $22::text[], $23::text[], $24::bytea[], $25::timestamptz[],
            $35::bigint[]) r
), unparking as (
    delete from parked using fence where partition = $1 and "offset" = any($26::bigint[])
), outgoing as (
    insert into outbox (partition, step, ordinal, topic, to_partition, key, position, value, headers)
    select $1, fence.step, r.* from fence,
        unnest($27::int[], $28::text[], $29::int[], $30::text[], $31::bigint[], $32::bytea[], $33::bytea[]) r
)
select step from fence
"""


@dataclass(slots=True)
class Parked:
    """A submission that waits, as it came (`record`: JSON, see `chassis.parking`)."""

    offset: int
    key: str
    queue: str
    source: str
    record: bytes
    parked_at: datetime
    members_offset: int
    """The next offset of `members` when it was judged."""


@dataclass(slots=True)
class Stored:
    """A request as the database has it."""

    key: str
    positions: dict[str, int]
    doc: dict[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class LaneRow:
    """A lane as it was taken: the offsets that rule, and this owner's epoch."""

    epoch: int
    next_offsets: dict[str, int]
    step: int
    published: int
    log_time: datetime | None
    doc: dict[str, Any]


@dataclass(slots=True)
class Transaction:
    """All that one transaction writes. `next_offsets_before` is the fence: what this owner believes it had read."""

    partition: int
    epoch: int
    next_offsets_before: dict[str, int]
    next_offsets: dict[str, int]
    step: int
    log_time: datetime
    doc: dict[str, Any]
    published: int
    identities: list[tuple[str, str, bytes, int, str | None]] = field(default_factory=list)
    subjects: list[tuple[str, bool, bool, dict[str, int], dict[str, Any]]] = field(default_factory=list)
    """Key, whether it is new (should it not be, nothing is written: `subject_pkey`), open, positions, doc."""
    parts: list[tuple[str, str, Any]] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    unparked: list[int] = field(default_factory=list)
    outgoing: list[tuple[Outgoing, int | None]] = field(default_factory=list)


async def commit(pool: Pool, tx: Transaction) -> bool:
    """Runs the transaction. False: the fence does not hold, and nothing was written."""
    sources, ids, cores, offsets, outcomes = _columns(tx.identities, 5)
    return (
        await pool.fetchval(
            _COMMIT,
            tx.partition,
            tx.epoch,
            json.dumps(tx.next_offsets_before),
            json.dumps(tx.next_offsets),
            tx.log_time,
            json.dumps(tx.doc),
            tx.published,
            sources,
            ids,
            cores,
            offsets,
            outcomes,
            [key for key, _, _, _, _ in tx.subjects],
            [is_open for _, _, is_open, _, _ in tx.subjects],
            [json.dumps(positions) for _, _, _, positions, _ in tx.subjects],
            [json.dumps(doc) for _, _, _, _, doc in tx.subjects],
            [key for key, _, _ in tx.parts],
            [name for _, name, _ in tx.parts],
            [json.dumps(doc) for _, _, doc in tx.parts],
            [parked.offset for parked in tx.parked],
            [parked.key for parked in tx.parked],
            [parked.queue for parked in tx.parked],
            [parked.source for parked in tx.parked],
            [parked.record for parked in tx.parked],
            [parked.parked_at for parked in tx.parked],
            tx.unparked,
            list(range(len(tx.outgoing))),
            [out.topic for out, _ in tx.outgoing],
            [out.partition for out, _ in tx.outgoing],
            [out.key.decode() for out, _ in tx.outgoing],
            [position for _, position in tx.outgoing],
            [out.value for out, _ in tx.outgoing],
            [_dump_headers(out.headers) for out, _ in tx.outgoing],
            [is_new for _, is_new, _, _, _ in tx.subjects],
            [parked.members_offset for parked in tx.parked],
        )
        is not None
    )


def _columns(rows: Collection[tuple[Any, ...]], width: int) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True)) if rows else tuple([] for _ in range(width))


def _dump_headers(headers: list[tuple[str, bytes]]) -> bytes:
    return json.dumps([[name, value.decode()] for name, value in headers]).encode()


def _load_headers(blob: bytes) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in json.loads(blob)]


async def take_lane(pool: Pool, partition: int, owner: str) -> LaneRow:
    """Makes `owner` the owner of a lane: its epoch counts up, and whoever had it before can change nothing more."""
    await pool.execute("insert into lane (partition) values ($1) on conflict do nothing", partition)
    row = await pool.fetchrow(
        """update lane set epoch = epoch + 1, owner = $2 where partition = $1
           returning epoch, next_offsets, step, published, nullif(log_time, '-infinity') as log_time, doc""",
        partition,
        owner,
    )
    assert row is not None
    return _lane_row(row)


async def read_lane(pool: Pool, partition: int) -> LaneRow:
    """A lane as it stands: what became of a transaction whose answer was lost."""
    row = await pool.fetchrow(
        """select epoch, next_offsets, step, published, nullif(log_time, '-infinity') as log_time, doc
           from lane where partition = $1""",
        partition,
    )
    assert row is not None
    return _lane_row(row)


def _lane_row(row: Any) -> LaneRow:
    return LaneRow(
        row["epoch"],
        json.loads(row["next_offsets"]),
        row["step"],
        row["published"],
        row["log_time"],
        json.loads(row["doc"]),
    )


async def load_open(pool: Pool, partition: int) -> list[Stored]:
    """The hot state of a lane: every request that is not closed."""
    rows = await pool.fetch("select key, positions, doc from subject where partition = $1 and open", partition)
    return await _with_parts(pool, rows)


async def load_keys(pool: Pool, keys: Collection[str]) -> list[Stored]:
    """Requests by key, closed ones too."""
    rows = await pool.fetch("select key, positions, doc from subject where key = any($1::text[])", list(keys))
    return await _with_parts(pool, rows)


async def _with_parts(pool: Pool, rows: list[Any]) -> list[Stored]:
    stored = {row["key"]: Stored(row["key"], json.loads(row["positions"]), json.loads(row["doc"])) for row in rows}
    for row in await pool.fetch("select key, name, doc from part where key = any($1::text[])", list(stored)):
        stored[row["key"]].parts[row["name"]] = json.loads(row["doc"])
    return list(stored.values())


async def load_parked(pool: Pool, partition: int) -> list[Parked]:
    """What waits in a lane, in the order it came."""
    rows = await pool.fetch(
        """select "offset", key, queue, source, record, parked_at, members_offset from parked
           where partition = $1 order by "offset" """,
        partition,
    )
    return [Parked(*row) for row in rows]


async def load_identities(
    pool: Pool, partition: int, names: Collection[tuple[str, str]]
) -> dict[tuple[str, str], bytes]:
    """The core digest of each (source, id) that was seen before."""
    rows = await pool.fetch(
        """select source, id, core from inbox join unnest($2::text[], $3::text[]) r (source, id) using (source, id)
           where partition = $1""",
        partition,
        [source for source, _ in names],
        [id for _, id in names],
    )
    return {(row["source"], row["id"]): row["core"] for row in rows}


async def load_outbox(pool: Pool, partition: int, after_step: int) -> list[Outgoing]:
    """What was committed and is not known to be out, in order."""
    rows = await pool.fetch(
        """select topic, to_partition, key, value, headers from outbox
           where partition = $1 and step > $2 order by step, ordinal""",
        partition,
        after_step,
    )
    return [
        Outgoing(
            row["topic"],
            row["to_partition"],
            row["key"].encode(),
            row["value"],
            _load_headers(row["headers"]),
        )
        for row in rows
    ]


async def mark_published(pool: Pool, partition: int, epoch: int, step: int) -> None:
    """Notes, off the path, that the outbox is out up to `step`; sent rows are kept for seven days."""
    await pool.execute(
        "update lane set published = greatest(published, $3) where partition = $1 and epoch = $2",
        partition,
        epoch,
        step,
    )


async def prune_outbox(pool: Pool, partition: int) -> None:
    """Deletes outbox rows that are out and older than seven days."""
    await pool.execute(
        """delete from outbox o using lane l where l.partition = $1 and o.partition = $1
           and o.step <= l.published and o.created_at < now() - interval '7 days'""",
        partition,
    )
