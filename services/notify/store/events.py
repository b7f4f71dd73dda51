"""The stream's SQL: events are numbered in the order in which they become visible."""

from collections.abc import Collection, Sequence

from chassis.database import Pool
from chassis.ledger import Database
from qalqan.topics import MEMBERS, PUBLIC
from services.notify.domain.entry import Entry

CHANNEL = "stream"

_APPEND = """
with head as materialized (select last_seq from stream),
news as (
    select r.*, row_number() over (order by r.ordinality) as n      -- as they came: a join keeps no order
    from unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[]) with ordinality
        r (topic, partition, "offset", subject, reason, body, ordinality)
    where not exists (
        select from event e where (e.topic, e.partition, e."offset") = (r.topic, r.partition, r."offset")
    )
), place as (                        -- the fence: nothing, if another replica has written since we looked
    update stream set last_seq = stream.last_seq + (select count(*) from news) from head
    where stream.last_seq = head.last_seq returning stream.last_seq
), appended as (
    insert into event (seq, topic, partition, "offset", subject, reason, body)
    select last_seq - (select count(*) from news) + n, topic, partition, "offset", subject, reason, body
    from news, place
)
select pg_notify('stream', last_seq::text) is not null from place
"""


# One step down the index for each place: grouping would read all that the stream has ever had, at every start.
_NEXT_OFFSETS = """
select place.topic, place.partition, last."offset" + 1 as next
from unnest($1::text[], $2::int[]) place (topic, partition), lateral (
    select "offset" from event e where (e.topic, e.partition) = (place.topic, place.partition)
    order by "offset" desc limit 1
) last
"""

_OF_SUBJECTS = """
select seq, body from event where seq > $1 and subject = any($3::text[]) order by seq limit $2
"""

# The term is that of the migration's index.
_REGISTER = f"select seq, body from event where seq > $1 and topic = '{MEMBERS.name}' order by seq limit $2"

Row = tuple[str, int, int, str | None, str | None, str]
"""Topic, partition, offset, subject, a rejection's reason, body."""


async def append(pool: Database, rows: Sequence[Row]) -> None:
    """Adds records that are not there yet, and wakes every replica's readers.

    Any number of replicas may write, also the same records: each stands once, and the numbers have no gap.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    while await pool.fetchval(_APPEND, *columns) is None:
        pass  # another replica wrote at the same moment: look again


async def next_offsets(pool: Database) -> dict[tuple[str, int], int]:
    """The next offset to read of each (topic, partition) that was read before."""
    places = [(topic.name, partition) for topic in PUBLIC for partition in range(topic.partitions)]
    rows = await pool.fetch(_NEXT_OFFSETS, [topic for topic, _ in places], [partition for _, partition in places])
    return {(row["topic"], row["partition"]): row["next"] for row in rows}


async def last_seq(pool: Pool) -> int:
    """The number of the newest event."""
    return int(await pool.fetchval("select last_seq from stream"))


async def after(
    pool: Pool, seq: int, limit: int, subjects: Collection[str] = (), register: bool = False
) -> list[Entry]:
    """Events after a number, in order; `subjects`: of these subjects alone; `register`: of members and keys alone."""
    if register:
        rows = await pool.fetch(_REGISTER, seq, limit)
    elif subjects:
        rows = await pool.fetch(_OF_SUBJECTS, seq, limit, list(subjects))
    else:
        rows = await pool.fetch("select seq, body from event where seq > $1 order by seq limit $2", seq, limit)
    return [Entry(row["seq"], row["body"]) for row in rows]
