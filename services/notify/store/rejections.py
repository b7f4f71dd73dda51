"""Rejections out of the stream, the newest first."""

from dataclasses import dataclass

from chassis.database import Pool
from qalqan.topics import REJECTIONS
from services.notify.domain.entry import Entry

_PAGE_BYTES = 4 * 1024 * 1024
"""An original may be 256 KiB: a page ends behind the one that brings it above this."""
_PREFETCH = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rejections: of a reason, of an inbox, older than a number; None: of any."""

    reason: str | None
    source_topic: str | None
    before: int | None


async def newest(pool: Pool, asked: Asked, limit: int) -> tuple[list[Entry], bool]:
    """So many at most, and whether there are others behind them."""
    # The terms are those of the migration's indexes.
    # Without a reason it is none of ours.
    terms, parameters = [f"topic = '{REJECTIONS.name}'", "reason is not null"], list[object]()
    for term, value in (
        ("reason", asked.reason),
        ("split_part(subject, '/', 1)", asked.source_topic),
    ):
        if value is not None:
            parameters.append(value)
            terms.append(f"{term} = ${len(parameters)}")
    if asked.before is not None:
        parameters.append(asked.before)
        terms.append(f"seq < ${len(parameters)}")
    query = f"select seq, body from event where {' and '.join(terms)} order by seq desc limit {limit + 1}"
    found: list[Entry] = []
    size = 0
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        async for row in connection.cursor(query, *parameters, prefetch=_PREFETCH):
            if len(found) == limit or size > _PAGE_BYTES:
                return found, True
            found.append(Entry(row["seq"], row["body"]))
            size += len(row["body"])
    return found, False
