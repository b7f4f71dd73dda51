"""The stream made again from the topics: every public event once, in the order in which the broker took them.

The numbers (`Last-Event-ID`) of events that notify had read together from different partitions may be exchanged with
each other (after a pause of notify: of all that it caught up on); whoever had read everything before the rebuild misses
nothing after it.
"""

import heapq
from collections.abc import AsyncIterator

import asyncpg
from aiokafka import TopicPartition

from chassis import recovery
from chassis.admission import Record
from chassis.rebuild import Progress, Reading, Rebuilt
from chassis.settings import Settings
from qalqan.topics import PUBLIC
from services.notify.handlers import row_of
from services.notify.store import events

_BATCH = 500


async def rebuild(settings: Settings, progress: Progress) -> Rebuilt:
    """Fills the empty store, in one transaction."""
    found = Rebuilt()
    places = [(topic, partition) for topic in PUBLIC for partition in range(topic.partitions)]
    where = [TopicPartition(topic.name, partition) for topic, partition in places]
    connection = await asyncpg.connect(settings.database)
    try:
        async with connection.transaction(), Reading.of(settings.kafka, where, "public topics", progress) as reading:
            rows = []
            async for record in _as_taken([reading.records(*place) for place in places]):
                if (row := row_of(record)) is None:
                    found.ignored += 1
                    continue
                rows.append(row)
                found.events += 1
                if len(rows) == _BATCH:
                    await events.append(connection, rows)
                    rows = []
            if rows:
                await events.append(connection, rows)
            await recovery.keep_ids(connection, await recovery.ids_of(settings.kafka, PUBLIC))
    finally:
        await connection.close()
    return found


async def _as_taken(streams: list[AsyncIterator[Record]]) -> AsyncIterator[Record]:
    """All records, the earliest append time first."""
    heads: list[tuple[int, int, Record]] = []
    for n, stream in enumerate(streams):
        if (record := await anext(stream, None)) is not None:
            heads.append((record.timestamp, n, record))
    heapq.heapify(heads)
    while heads:
        _, n, record = heads[0]
        yield record
        following = await anext(streams[n], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following.timestamp, n, following))
