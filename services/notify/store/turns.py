"""The turns' SQL: what each state owes, how often it was told, and who said that it is seen to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import AT_LEISURE, Pool
from services.notify.domain.turns import TurnView

_WHAT = """
select t.turn_id, t.state, t.request_id, v.mode, v.card::json ->> 'title' as title,
    v.card::json ->> 'severity' as severity, t.kind, t.what, t.since, t.deadline, t.level, t.told_at,
    t.acknowledged_at, t.acknowledged_by, t.ended_at
"""
_SELECT = f"{_WHAT} from turn t join view v using (request_id)"

_DUE = f"""{_SELECT}
where t.ended_at is null and t.acknowledged_at is null and t.next_at <= now() order by t.next_at limit $1
"""

# Whoever comes second, of two replicas, finds another level and changes nothing: each word is said once.
_TELL = f"""
with {AT_LEISURE}, words as (
    select * from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::text[]) w (turn_id, level, next_at, body)
), told as (
    update turn t set level = w.level, next_at = w.next_at, told_at = t.told_at || now()
    from words w
    where t.turn_id = w.turn_id and t.level = w.level - 1 and t.ended_at is null and t.acknowledged_at is null
    returning w.body
)
insert into announcement (body) select body from told, at_leisure
"""

_ORDER = "order by t.ended_at is not null, t.deadline nulls last, t.since, t.turn_id"

# Chosen first: a card is JSON, and read for those alone that are shown.
_LISTED = f"""{_WHAT} from (
    select * from turn t
    where ($1::text is null or t.state = $1) and ($2::text is null or t.request_id = $2)
        and ($3::boolean is null or (t.ended_at is null) = $3)
    {_ORDER} limit $4
) t join view v using (request_id) {_ORDER}
"""

_ACKNOWLEDGE = """
update turn set acknowledged_at = now(), acknowledged_by = $2 where turn_id = $1 and acknowledged_at is null
"""


@dataclass(frozen=True, slots=True)
class Word:
    """That a turn is told: for which time (0: the first), when next, and the announcement (JSON)."""

    turn_id: UUID
    level: int
    next_at: datetime | None
    body: str


async def due(pool: Pool, limit: int) -> list[TurnView]:
    """Turns that are to be told (again) now."""
    return [TurnView(**row) for row in await pool.fetch(_DUE, limit)]


async def tell(pool: Pool, words: Sequence[Word]) -> None:
    """Announces turns, unless another replica has, or they have ended or been acknowledged."""
    columns = [[getattr(word, name) for word in words] for name in Word.__slots__]
    await pool.execute(_TELL, *columns)


async def listed(
    pool: Pool, state: str | None, request_id: str | None, is_open: bool | None, limit: int
) -> list[TurnView]:
    """Turns, those that have not ended first, and of them what is due first."""
    return [TurnView(**row) for row in await pool.fetch(_LISTED, state, request_id, is_open, limit)]


async def one(pool: Pool, turn_id: UUID) -> TurnView | None:
    """A turn."""
    row = await pool.fetchrow(f"{_SELECT} where t.turn_id = $1", turn_id)
    return None if row is None else TurnView(**row)


async def acknowledge(pool: Pool, turn_id: UUID, by: str) -> None:
    """Somebody sees to it: nobody is told of it again. Who said so first stands."""
    await pool.execute(_ACKNOWLEDGE, turn_id, by)
