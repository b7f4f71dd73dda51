"""The SQL of subscriptions: what is wanted, how far each has been told, what waits. The clock is the database's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import asyncpg

from chassis.database import AT_LEISURE, Pool
from chassis.ledger import Database
from services.notify.domain.entry import Entry
from services.notify.domain.subscription import Filter

CHANNEL = "subscription"
"""Told whenever subscriptions change or something becomes due."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription as it stands; `secrets` sign, the newest first."""

    subscription_id: str
    owner: str
    kind: str
    target: str
    name: str
    filter: Filter
    digest_minutes: int
    status: str
    why: str | None
    created_at: datetime
    created_by: str
    secrets: tuple[str, ...] = field(repr=False)  # no log shows them
    seq: int
    """Every event up to it has been seen to."""

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """From a row of `_SELECT`."""
        return cls(
            **{name: row[name] for name in cls.__slots__ if name not in ("filter", "secrets")},
            filter=Filter.model_validate_json(row["filter"]),
            secrets=tuple(secret for secret in (row["secret"], row["old"]) if secret),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt, or that a delivery is to wait."""

    subscription_id: str
    kind: str
    number: int
    state: str
    attempts: int
    due_in_s: float = 0.0
    status: int | None = None
    error: str | None = None
    took_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come."""

    subscription_id: str
    kind: str
    number: int
    attempts: int
    entry: Entry


_SELECT = """
select s.*, p.seq, case when s.old_secret_until > now() then s.old_secret end as old
from subscription s join place p using (subscription_id)
"""


async def active(pool: Database) -> list[Subscription]:
    """Those that are told."""
    return [Subscription.of(row) for row in await pool.fetch(f"{_SELECT} where s.status = 'active'")]


async def one(pool: Database, subscription_id: str) -> Subscription | None:
    """A subscription by its id."""
    row = await pool.fetchrow(f"{_SELECT} where s.subscription_id = $1", subscription_id)
    return None if row is None else Subscription.of(row)


async def listed(pool: Database, owner: str | None, after: str, limit: int) -> list[Subscription]:
    """Subscriptions of an owner (None: all), in the order of their ids."""
    rows = await pool.fetch(
        f"{_SELECT} where ($1::text is null or s.owner = $1) and s.subscription_id > $2 "
        "order by s.subscription_id limit $3",
        owner,
        after,
        limit,
    )
    return [Subscription.of(row) for row in rows]


_ADD = """
with made as (
    insert into subscription (subscription_id, owner, kind, target, name, filter, digest_minutes, secret, created_by)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9
    where (select count(*) from subscription where owner = $2) < $10 and (select count(*) from subscription) < $11
    returning subscription_id
), placed as (
    insert into place select subscription_id, last_seq from made, stream
)
select pg_notify('subscription', subscription_id) is not null from made
"""


async def add(pool: Pool, made: Subscription, an_owner: int, in_all: int) -> bool:
    """A new subscription, told from now on. False: the owner has `an_owner` of them, or there are `in_all`."""
    return bool(
        await pool.fetchval(
            _ADD,
            made.subscription_id,
            made.owner,
            made.kind,
            made.target,
            made.name,
            made.filter.model_dump_json(),
            made.digest_minutes,
            made.secrets[0] if made.secrets else None,
            made.created_by,
            an_owner,
            in_all,
        )
    )


async def change(pool: Database, subscription_id: str, fields: Mapping[str, Any]) -> None:
    """Sets columns, all of them named by us, and has the dispatcher look again."""
    names = ", ".join(f"{name} = ${number}" for number, name in enumerate(fields, 2))
    values = [json.dumps(value) if isinstance(value, dict) else value for value in fields.values()]
    await pool.execute(f"update subscription set {names} where subscription_id = $1", subscription_id, *values)
    await tell(pool)


async def disable(pool: Database, subscription_id: str, target: str, why: str) -> None:
    """Tells it nothing more, unless its target was changed meanwhile."""
    await pool.execute(
        "update subscription set status = 'disabled', why = $3 where subscription_id = $1 and target = $2",
        subscription_id,
        target,
        why,
    )
    await tell(pool)


async def rotate(pool: Database, subscription_id: str, secret: str) -> None:
    """A new secret; the one before signs too for a day."""
    await pool.execute(
        """update subscription set old_secret = secret, old_secret_until = now() + interval '1 day', secret = $2
           where subscription_id = $1""",
        subscription_id,
        secret,
    )
    await tell(pool)


async def remove(pool: Database, subscription_id: str) -> None:
    """Takes a subscription away, with all that waits for it."""
    await pool.execute("delete from subscription where subscription_id = $1", subscription_id)
    await tell(pool)


async def tell(pool: Database) -> None:
    """Has the dispatcher look again, whichever replica it is on."""
    await pool.execute(f"select pg_notify('{CHANNEL}', '')")


_RECORD = """
with outcome as (
    select o.* from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::int[], $6::float8[], $7::int[],
        $8::text[], $9::int[]) o (subscription_id, kind, number, state, attempts, due_in_s, status, error, took_ms)
    join subscription using (subscription_id)       -- unless it was taken away meanwhile
), recorded as (
    insert into delivery as d
        (subscription_id, kind, number, state, attempts, due_at, due_since, status, error, took_ms)
    select o.subscription_id, o.kind, o.number, o.state, o.attempts, now() + o.due_in_s * interval '1 second',
        now() + case when o.attempts = 0 then o.due_in_s else 0 end * interval '1 second',
        o.status, o.error, o.took_ms
    from outcome o
    on conflict (subscription_id, kind, number) do update set
        state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, changed_at = now(),
        status = excluded.status, error = excluded.error, took_ms = excluded.took_ms
        where d.state = 'waiting' or excluded.state = 'delivered'     -- who was frozen takes nothing back
)
update place p set seq = n.seq from unnest($10::text[], $11::bigint[]) n (subscription_id, seq)
where p.subscription_id = n.subscription_id and p.seq < n.seq
"""

# What was delivered need not wait for the disk. What waits must: the dispatcher relies on it, and goes on.
_RECORD_DELIVERED = _RECORD.replace("with ", f"with {AT_LEISURE}, ", 1).replace(
    "from unnest($10", "from at_leisure, unnest($10"
)


async def record(pool: Database, outcomes: Sequence[Outcome], places: Mapping[str, int]) -> None:
    """Writes what became of deliveries, and how far subscriptions have been told: both or nothing.

    A database that crashes may forget the last deliveries that succeeded, never one that waits or is dead.
    """
    # One statement must not meet the same row twice: the last word counts.
    last = {(o.subscription_id, o.kind, o.number): o for o in outcomes}.values()
    columns = [[getattr(outcome, name) for outcome in last] for name in Outcome.__slots__]
    statement = _RECORD_DELIVERED if all(outcome.state == "delivered" for outcome in last) else _RECORD
    await pool.execute(statement, *columns, list(places), list(places.values()))


_DUE = """
select d.subscription_id, d.kind, d.number, d.attempts, coalesce(e.body, a.body) as body
from unnest($1::text[], $2::int[]) s (subscription_id, room), lateral (
    select * from delivery d where d.subscription_id = s.subscription_id and state = 'waiting' and due_at <= now()
    order by due_at limit s.room
) d
left join event e on d.kind = 'event' and e.seq = d.number
left join announcement a on d.kind = 'announcement' and a.number = d.number
"""


async def due(pool: Database, room: Mapping[str, int]) -> list[Due]:
    """What is due, at most so many of each subscription, the longest due first."""
    rows = await pool.fetch(_DUE, list(room), list(room.values()))
    return [
        Due(row["subscription_id"], row["kind"], row["number"], row["attempts"], Entry(row["number"], row["body"]))
        for row in rows
        if row["body"] is not None
    ]


async def lease(pool: Database, holder: str, for_s: float) -> bool:
    """Whether this replica dispatches for the next so many seconds, unless it asks again before."""
    return bool(
        await pool.fetchval(
            f"""with {AT_LEISURE}
               insert into dispatcher as d (holder, until)
               select $1, now() + $2 * interval '1 second' from at_leisure
               on conflict (one) do update set holder = excluded.holder, until = excluded.until
                   where d.holder = excluded.holder or d.until < now()
               returning true""",
            holder,
            for_s,
        )
    )


async def release(pool: Database, holder: str) -> None:
    """Gives the lease back, so that another replica need not wait."""
    await pool.execute("update dispatcher set until = now() where holder = $1", holder)


async def unspread(pool: Database, limit: int) -> list[Entry]:
    """Announcements of which no delivery stands yet, the oldest first."""
    rows = await pool.fetch("select number, body from announcement where not spread order by number limit $1", limit)
    return [Entry(row["number"], row["body"]) for row in rows]


_SPREAD = f"""
with {AT_LEISURE}, said as (
    update announcement set spread = true from at_leisure
    where number = any($1::bigint[]) and not spread returning number
)
insert into delivery (subscription_id, kind, number, state, attempts, due_at, due_since)
select w.subscription_id, 'announcement', w.number, 'waiting', 0,
    now() + w.due_in_s * interval '1 second', now() + w.due_in_s * interval '1 second'
from unnest($2::text[], $3::bigint[], $4::float8[]) w (subscription_id, number, due_in_s)
join said using (number) join subscription using (subscription_id)
on conflict do nothing
"""


async def spread(pool: Database, numbers: Sequence[int], wanted: Sequence[tuple[str, int, float]]) -> None:
    """Announcements become deliveries: to which subscription, which of them, in how many seconds."""
    columns = [list(column) for column in zip(*wanted, strict=True)] if wanted else [[], [], []]
    await pool.execute(_SPREAD, list(numbers), *columns)


_DELIVERIES = """
select kind, number, state, attempts, due_at, due_since, changed_at, status, error, took_ms
from delivery
where subscription_id = $1 and ($2::text is null or state = $2) and (kind, number) < ($3, $4)
order by kind desc, number desc limit $5
"""


async def deliveries(
    pool: Database, subscription_id: str, state: str | None, before: tuple[str, int], limit: int
) -> list[dict[str, Any]]:
    """What became of a subscription's deliveries, events first, the newest first."""
    return [dict(row) for row in await pool.fetch(_DELIVERIES, subscription_id, state, *before, limit)]


async def counts(pool: Database, subscription_id: str) -> dict[str, int]:
    """How many of a subscription's deliveries are in which state; of those delivered, of late."""
    rows = await pool.fetch(
        "select state, count(*) as n from delivery where subscription_id = $1 group by state", subscription_id
    )
    return {row["state"]: row["n"] for row in rows}


async def replay_dead(pool: Database, subscription_id: str) -> int:
    """Has all dead deliveries tried again, now; how many there are."""
    done = await pool.execute(
        """update delivery set state = 'waiting', attempts = 0, due_at = now(), due_since = now(), changed_at = now()
           where subscription_id = $1 and state = 'dead'""",
        subscription_id,
    )
    await tell(pool)
    return int(done.rpartition(" ")[2])


async def replay_events(pool: Database, subscription_id: str, numbers: Sequence[int]) -> None:
    """Has these events delivered (again), now."""
    await pool.execute(
        """insert into delivery (subscription_id, kind, number, state, attempts, due_at, due_since)
           select $1, 'event', number, 'waiting', 0, now(), now() from unnest($2::bigint[]) number
           on conflict (subscription_id, kind, number) do update set
               state = 'waiting', attempts = 0, due_at = now(), due_since = now(), changed_at = now()""",
        subscription_id,
        list(numbers),
    )
    await tell(pool)


_TIDY = (
    """update delivery set state = 'dead', changed_at = now(), error = coalesce(error, 'the target did not answer')
       where state = 'waiting' and due_since < now() - interval '24 hours'""",
    "delete from delivery where state = 'delivered' and changed_at < now() - interval '7 days'",
    "delete from delivery where state = 'dead' and changed_at < now() - interval '30 days'",
    "delete from announcement where at < now() - interval '40 days'",
    "delete from turn where ended_at < now() - interval '40 days'",
)


async def tidy(pool: Database) -> int:
    """Gives up what has waited for a day; how many that were. Forgets what is old (delivered 7 days, dead 30)."""
    done = [await pool.execute(statement) for statement in _TIDY]
    return int(done[0].rpartition(" ")[2])


@dataclass(frozen=True, slots=True)
class Totals:
    """How deliveries stand over all subscriptions."""

    waiting: int
    dead: int
    oldest_s: float
    """For how long the one that has waited longest has been due."""


async def totals(pool: Database) -> Totals:
    """As they stand now."""
    row = await pool.fetchrow(
        """select (select count(*) from delivery where state = 'waiting') as waiting,
               (select count(*) from delivery where state = 'dead') as dead,
               coalesce((select extract(epoch from now() - min(due_since)) from delivery
                         where state = 'waiting'), 0)::float8 as oldest_s"""
    )
    assert row is not None
    return Totals(row["waiting"], row["dead"], max(0.0, row["oldest_s"]))
