"""What notify was told and no topic tells again: subscriptions, how far each has been told, what waits for it.

A rebuild makes the stream anew, and numbers of events that came in the same moment may be exchanged. So places and
deliveries are found again by where their events stand on Kafka; a place never behind what was not told.
"""

import asyncpg

_TABLES = ("subscription", "announcement")

_NUMBERS = """
create temporary table renumbered as
select o.seq as old, n.seq as new
from {after}.event n left join {before}.event o using (topic, partition, "offset")
"""

_PLACES = """
insert into {after}.place (subscription_id, seq)
select p.subscription_id, coalesce(
    (select min(new) - 1 from renumbered where old is null or old > p.seq), (select last_seq from {after}.stream)
)
from {before}.place p
"""

_DELIVERIES = """
insert into {after}.delivery ({columns})
select {moved} from {before}.delivery d left join renumbered r on d.kind = 'event' and r.old = d.number
where d.kind = 'announcement' or r.new is not null
"""

_NEXT_NUMBER = """
select setval(pg_get_serial_sequence('{after}.announcement', 'number'), coalesce(max(number), 0) + 1, false)
from {after}.announcement
"""


async def carry_over(connection: "asyncpg.Connection[asyncpg.Record]", before: str, after: str) -> int:
    """From one schema into another, whose stream has been filled; how many subscriptions there are."""
    async with connection.transaction():
        for table in _TABLES:
            columns = await _common(connection, table, before, after)
            insertion = f"insert into {after}.{table} ({columns}) overriding system value"
            await connection.execute(f"{insertion} select {columns} from {before}.{table}")
        await connection.execute(_NUMBERS.format(before=before, after=after))
        await connection.execute(_PLACES.format(before=before, after=after))
        columns = await _common(connection, "delivery", before, after)
        moved = ", ".join(
            "coalesce(r.new, d.number)" if name == "number" else f"d.{name}" for name in columns.split(", ")
        )
        await connection.execute(_DELIVERIES.format(before=before, after=after, columns=columns, moved=moved))
        await connection.execute(_NEXT_NUMBER.format(after=after))
        await connection.execute("drop table renumbered")
        return int(await connection.fetchval(f"select count(*) from {after}.subscription"))


async def _common(connection: "asyncpg.Connection[asyncpg.Record]", table: str, before: str, after: str) -> str:
    """The columns that both have: an earlier version's schema may lack some."""
    rows = await connection.fetch(
        """select a.column_name from information_schema.columns a join information_schema.columns b
               on (b.table_schema, b.table_name, b.column_name) = ($2, a.table_name, a.column_name)
           where a.table_schema = $1 and a.table_name = $3 order by a.ordinal_position""",
        after,
        before,
        table,
    )
    return ", ".join(row["column_name"] for row in rows)
