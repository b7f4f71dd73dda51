"""The SQL of a lane: taking it, loading it, and the one statement that is a transaction.

The statement is one round trip and one commit: the fence, the identities, the state, the outbox. Every part of it reads
from `fence`, so that nothing at all is written by an owner that is none any more.
"""

import itertools
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias

import asyncpg

from chassis.bus import Outgoing
from chassis.database import Pool

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Database: TypeAlias = "asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"
"""A pool, or a connection with a transaction of its own."""

_FENCE = """fence as (
    update lane set next_offsets = $4::jsonb, step = step + 1, log_time = $5, doc = $6::jsonb,
                    published = greatest(published, $7)
    where partition = $1 and epoch = $2 and next_offsets = $3::jsonb
    returning step
)"""
_FENCE_PARAMETERS = 7


@dataclass(frozen=True, slots=True)
class Write:
    """One kind of rows that a transaction may write: its SQL (`{}`: an array, a column of them), reading from `fence`.

    A transaction's statement has only the kinds that it has rows of: each that is there costs, rows or none.
    """

    name: str
    sql: str


_IDENTITIES = Write(
    "identities",
    """insert into inbox (partition, source, id, core, "offset", outcome)
    select $1, r.* from fence, unnest({}::text[], {}::text[], {}::bytea[], {}::bigint[], {}::text[]) r""",
)
_OUTCOMES = Write(
    "outcomes",
    """update inbox i set outcome = r.outcome
    from fence, unnest({}::text[], {}::text[], {}::text[]) r (source, id, outcome)
    where i.partition = $1 and i.source = r.source and i.id = r.id""",
)
_NEW_SUBJECTS = Write(
    # No conflict clause: should the key be taken, nothing is written at all (`subject_pkey`).
    "new_subjects",
    """insert into subject (key, partition, open, positions, folded, doc)
    select r.key, $1, r.open, r.positions::jsonb, r.folded::jsonb, r.doc::jsonb
    from fence, unnest({}::text[], {}::boolean[], {}::text[], {}::text[], {}::text[])
        r (key, open, positions, folded, doc)""",
)
_SUBJECTS = Write(
    "subjects",
    """update subject s set open = r.open, positions = r.positions::jsonb, folded = r.folded::jsonb, doc = r.doc::jsonb
    from fence, unnest({}::text[], {}::boolean[], {}::text[], {}::text[], {}::text[])
        r (key, open, positions, folded, doc)
    where s.key = r.key""",
)
_PARTS = Write(
    "parts",
    """insert into part (key, name, doc)
    select r.key, r.name, r.doc::jsonb from fence, unnest({}::text[], {}::text[], {}::text[]) r (key, name, doc)
    on conflict (key, name) do update set doc = excluded.doc""",
)
_PARKED = Write(
    "parked_rows",
    """insert into parked (partition, "offset", key, queue, source, record, parked_at, members_offset)
    select $1, r.* from fence, unnest({}::bigint[], {}::text[], {}::text[], {}::text[], {}::bytea[], {}::timestamptz[],
        {}::bigint[]) r""",
)
_UNPARKED = Write(
    "unparked_rows",
    """delete from parked using fence where partition = $1 and "offset" in (select unnest({}::bigint[]))""",
)
_OUTGOING = Write(
    "outgoing",
    """insert into outbox (partition, step, ordinal, topic, to_partition, key, position, value, headers)
    select $1, fence.step, r.* from fence,
        unnest({}::int[], {}::text[], {}::int[], {}::text[], {}::bigint[], {}::bytea[], {}::bytea[]) r""",
)


@lru_cache
def _statement(kinds: tuple[Write, ...]) -> str:
    """The one statement that writes these kinds of rows behind the fence."""
    number = itertools.count(_FENCE_PARAMETERS + 1)
    writes = [
        f"{kind.name} as (\n    {re.sub(re.escape('{}'), lambda _: f'${next(number)}', kind.sql)}\n)" for kind in kinds
    ]
    return f"with {', '.join([_FENCE, *writes])} select step from fence"


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
    folded: list[str]
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
    handled: frozenset[int] = frozenset()


@dataclass(slots=True)
class SubjectRow:
    """A request as it is written. `is_new`: should its key be taken, nothing is written at all (`subject_pkey`)."""

    key: str
    is_new: bool
    is_open: bool
    positions: dict[str, int]
    folded: list[str]
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
    outcomes: list[tuple[str, str, str]] = field(default_factory=list)
    """Source, id and reason of submissions that waited since an earlier transaction, and are refused in this one."""
    subjects: list[SubjectRow] = field(default_factory=list)
    parts: list[tuple[str, str, Any]] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    unparked: list[int] = field(default_factory=list)
    outgoing: list[tuple[Outgoing, int | None]] = field(default_factory=list)


async def commit(pool: Pool, tx: Transaction) -> bool:
    """Runs the transaction. False: the fence does not hold, and nothing was written."""
    rows = {kind: found for kind, found in _rows(tx).items() if found}
    columns = [list(column) for found in rows.values() for column in zip(*found, strict=True)]
    step = await pool.fetchval(
        _statement(tuple(rows)),
        tx.partition,
        tx.epoch,
        json.dumps(tx.next_offsets_before),
        json.dumps(tx.next_offsets),
        tx.log_time,
        json.dumps(tx.doc),
        tx.published,
        *columns,
    )
    return step is not None


def _rows(tx: Transaction) -> dict[Write, list[tuple[Any, ...]]]:
    """What a transaction writes, by kind, each row in the order of its kind's columns."""
    subjects: dict[bool, list[tuple[Any, ...]]] = {True: [], False: []}
    for row in tx.subjects:
        subjects[row.is_new].append(
            (row.key, row.is_open, json.dumps(row.positions), json.dumps(row.folded), json.dumps(row.doc))
        )
    return {
        _IDENTITIES: list(tx.identities),
        _OUTCOMES: list(tx.outcomes),
        _NEW_SUBJECTS: subjects[True],
        _SUBJECTS: subjects[False],
        _PARTS: [(key, name, json.dumps(doc)) for key, name, doc in tx.parts],
        _PARKED: [
            (row.offset, row.key, row.queue, row.source, row.record, row.parked_at, row.members_offset)
            for row in tx.parked
        ],
        _UNPARKED: [(offset,) for offset in tx.unparked],
        _OUTGOING: [
            (
                ordinal,
                out.topic,
                out.partition,
                out.key.decode(),
                position,
                out.value,
                dump_headers(out.headers),
            )
            for ordinal, (out, position) in enumerate(tx.outgoing)
        ],
    }


def dump_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """A line each, `name:value`: no name has a colon, and no value a control character (`qalqan.envelope`)."""
    return b"\n".join([b"%b:%b" % (name.encode(), value) for name, value in headers])


def load_headers(lines: bytes) -> list[tuple[str, bytes]]:
    """What `dump_headers` made."""
    parts = (line.partition(b":") for line in lines.split(b"\n"))
    return [(name.decode(), value) for name, _, value in parts]


async def take_lane(pool: Pool, partition: int, owner: str) -> LaneRow:
    """Makes `owner` the owner of a lane: its epoch counts up, and whoever had it before can change nothing more."""
    await pool.execute("insert into lane (partition) values ($1) on conflict do nothing", partition)
    row = await pool.fetchrow(
        """update lane set epoch = epoch + 1, owner = $2 where partition = $1
           returning epoch, next_offsets, step, published, nullif(log_time, '-infinity') as log_time, doc, handled""",
        partition,
        owner,
    )
    assert row is not None
    return _lane_row(row)


async def read_lane(pool: Pool, partition: int) -> LaneRow:
    """A lane as it stands: what became of a transaction whose answer was lost."""
    row = await pool.fetchrow(
        """select epoch, next_offsets, step, published, nullif(log_time, '-infinity') as log_time, doc, handled
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
        frozenset(row["handled"]),
    )


async def load_open(pool: Pool, partition: int) -> list[Stored]:
    """The hot state of a lane: every request that is not closed."""
    rows = await pool.fetch("select key, positions, folded, doc from subject where partition = $1 and open", partition)
    return await _with_parts(pool, rows)


async def load_keys(pool: Database, keys: Collection[str]) -> list[Stored]:
    """Requests by key, closed ones too."""
    rows = await pool.fetch("select key, positions, folded, doc from subject where key = any($1::text[])", list(keys))
    return await _with_parts(pool, rows)


async def _with_parts(pool: Database, rows: list[Any]) -> list[Stored]:
    stored = {
        row["key"]: Stored(row["key"], json.loads(row["positions"]), json.loads(row["folded"]), json.loads(row["doc"]))
        for row in rows
    }
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
            load_headers(row["headers"]),
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


# --- a rebuild (chassis.rebuild) has the database to itself: no fence -------------------------------------------------


async def rewrite_subjects(
    connection: Connection, partition: int, rows: Collection[SubjectRow], parts: Collection[tuple[str, str, Any]]
) -> None:
    """Writes requests and their parts, over those that are there."""
    await connection.executemany(
        """insert into subject (key, partition, open, positions, folded, doc)
           values ($1, $2, $3, $4::jsonb, $5::jsonb, $6::jsonb)
           on conflict (key) do update set open = excluded.open, positions = excluded.positions,
               folded = excluded.folded, doc = excluded.doc""",
        [
            (row.key, partition, row.is_open, json.dumps(row.positions), json.dumps(row.folded), json.dumps(row.doc))
            for row in rows
        ],
    )
    await connection.executemany(
        """insert into part (key, name, doc) values ($1, $2, $3::jsonb)
           on conflict (key, name) do update set doc = excluded.doc""",
        [(key, name, json.dumps(doc)) for key, name, doc in parts],
    )


async def rewrite_identities(
    connection: Connection, rows: Collection[tuple[int, str, str, bytes, int, str | None]]
) -> None:
    """Writes identities: partition, source, id, core, offset (-1: no longer in the inbox), outcome."""
    columns = ("partition", "source", "id", "core", "offset", "outcome")
    await connection.copy_records_to_table("inbox", records=rows, columns=columns)


async def rewrite_lane(
    connection: Connection,
    partition: int,
    *,
    epoch: int,
    next_offsets: dict[str, int],
    step: int,
    log_time: datetime | None,
    doc: dict[str, Any],
    handled: Collection[int],
) -> None:
    """Writes a lane that has published everything."""
    await connection.execute(
        """insert into lane (partition, epoch, owner, next_offsets, step, published, log_time, doc, handled)
           values ($1, $2, 'rebuild', $3::jsonb, $4, $4, coalesce($5::timestamptz, '-infinity'), $6::jsonb, $7)""",
        partition,
        epoch,
        json.dumps(next_offsets),
        step,
        log_time,
        json.dumps(doc),
        list(handled),
    )
