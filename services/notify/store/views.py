"""The views' SQL: what readers see of each request, and how far that reaches; with it what each state owes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from chassis.database import AT_LEISURE, Pool
from qalqan.events import Severity
from services.notify.domain.turns import Turn
from services.notify.domain.view import View

_SEVERITIES = get_args(Severity)
"""The most severe first."""

_GOES_ON = "turn.ended_at is null and excluded.next_at <= now()"
"""Else what had ended comes again, or what was late has a new time: all anew."""

# Two replicas fold the same events: whoever has read further writes, and nothing goes back. What is owed goes with the
# view that it follows from.
_KEEP = f"""
with {AT_LEISURE}, news as (
    select * from unnest(
        $1::text[], $2::bigint[], $3::boolean[], $4::smallint[], $5::timestamptz[],
        $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]
    ) r (request_id, seq, open, rank, at, mode, state, status, card, doc)
), written as (
    insert into view select * from news
    on conflict (request_id) do update set
        seq = excluded.seq, open = excluded.open, rank = excluded.rank, at = excluded.at,
        status = excluded.status, card = excluded.card, doc = excluded.doc
    where view.seq < excluded.seq
    returning request_id
), owed as (
    select r.* from unnest(
        $11::uuid[], $12::text[], $13::text[], $14::text[], $15::text[],
        $16::timestamptz[], $17::timestamptz[], $18::timestamptz[]
    ) r (turn_id, request_id, state, kind, what, since, deadline, next_at)
    join written using (request_id)
), begun as (
    insert into turn (turn_id, request_id, state, kind, what, since, deadline, next_at) select * from owed
    on conflict (turn_id) do update set
        deadline = excluded.deadline,
        next_at = case when {_GOES_ON} and turn.level >= 0 then turn.next_at else excluded.next_at end,
        level = case when {_GOES_ON} then turn.level else -1 end,
        acknowledged_at = case when {_GOES_ON} then turn.acknowledged_at end,
        acknowledged_by = case when {_GOES_ON} then turn.acknowledged_by end,
        ended_at = null
    where turn.ended_at is not null or turn.deadline is distinct from excluded.deadline
), ended as (
    update turn set ended_at = now()
    where ended_at is null and request_id in (select request_id from written)
    and not exists (select from owed where owed.turn_id = turn.turn_id)
)
update board set projected = greatest(projected, $19) from at_leisure
"""

_BOARD = """
select request_id, seq, state, mode, card from view
where ($1::text is null or state = $1) and ($2::text is null or mode = $2) and ($3::text is null or status = $3)
order by open desc, rank, at desc limit $4
"""


_CHANGED = "select request_id, seq, state, mode, card from view where seq > $1 order by seq limit $2"


Row = tuple[str, int, bool, int, datetime, str, str, str, str, str]
"""Request, number, whether it is open, rank, instant, mode, state, status, card, document: the columns of `view`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A card or a view as JSON text, and what readers choose by."""

    request_id: str
    seq: int
    state: str
    mode: str
    text: str


async def projected(pool: Pool) -> int:
    """The number of the stream up to which the views hold everything."""
    return int(await pool.fetchval("select projected from board"))


async def newest(pool: Pool) -> int:
    """The number of the newest event in any view; 0: there is no view."""
    return int(await pool.fetchval("select coalesce(max(seq), 0) from view"))


def row_of(view: View, card: str) -> Row:
    """A view as the store has it, with its card (JSON)."""
    return (
        view.request_id,
        view.seq,
        view.is_open,
        _rank(view),
        view.raised_at if view.is_open else view.changed_at,
        view.mode,
        view.state,
        view.status,
        card,
        view.model_dump_json(by_alias=True),
    )


async def keep(pool: Pool, rows: Sequence[Row], turns: Sequence[Turn], upto: int) -> None:
    """Keeps views and what is owed in them; `upto`: the views hold all up to there."""
    owed = [
        (turn.turn_id, turn.request_id, turn.state, turn.kind, turn.what, turn.since, turn.deadline, turn.next_at)
        for turn in turns
    ]
    async with pool.acquire() as connection, connection.transaction():
        # One replica at a time, and each sees all that the one before has written: of turns that began in the same
        # moment in which another replica read that they had ended, none is left open.
        await connection.execute("select from board for update")
        await connection.execute(_KEEP, *_columns(rows, 10), *_columns(owed, 8), upto)


async def load(pool: Pool, request_ids: Sequence[str]) -> dict[str, View]:
    """The views of these requests, as far as there are any."""
    rows = await pool.fetch("select doc from view where request_id = any($1::text[])", request_ids)
    found = [View.model_validate_json(row["doc"]) for row in rows]
    return {view.request_id: view for view in found}


async def text(pool: Pool, request_id: str) -> Kept | None:
    """The view of a request, as it was written."""
    row = await pool.fetchrow("select request_id, seq, state, mode, doc from view where request_id = $1", request_id)
    return None if row is None else Kept(*row)


async def board(pool: Pool, state: str | None, mode: str | None, status: str | None, limit: int) -> list[Kept]:
    """Cards: of what is open the most urgent first and the newest first, then of what has ended."""
    rows = await pool.fetch(_BOARD, state, mode, status, limit)
    return [Kept(*row) for row in rows]


async def changed(pool: Pool, after: int, limit: int) -> list[Kept]:
    """Cards that changed after a number of the stream, in order."""
    rows = await pool.fetch(_CHANGED, after, limit)
    return [Kept(*row) for row in rows]


def _rank(view: View) -> int:
    """How near to the top: what is real before exercises, what is severe before what is not."""
    return _SEVERITIES.index(view.emergency.severity) + (0 if view.mode == "actual" else 10)


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]
