"""Records read back from the log: what was submitted at a place, what was stated since a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.admission import Record
from chassis.bus import member_consumer
from qalqan.access import Access
from qalqan.instants import to_millis

_POLL_MS = 1_000
_FETCH_BYTES = 64 * 1024
"""Little is read beyond what was asked for; a record larger than that comes all the same (KIP-74)."""
_AT_ONCE = 4


class Lookup:
    """A consumer outside any group for each question: one that is kept would be held up by its own long polls."""

    def __init__(self, kafka: Access, replica: str) -> None:
        self._kafka = kafka
        self._client_id = f"{replica}.lookup"
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def at(self, topic: str, partition: int, offset: int) -> "Record | None":
        """The record at a place; None: none was written there (yet), or it is not kept any more. KafkaError."""
        tp = TopicPartition(topic, partition)
        async with self._consumer() as consumer:
            begin = (await consumer.beginning_offsets([tp]))[tp]
            end = (await consumer.end_offsets([tp]))[tp]
            if begin <= offset < end:
                async for record in _read(consumer, tp, offset, end):
                    return record if record.offset == offset else None
        return None

    async def since(self, topic: str, partition: int, instant: datetime) -> AsyncIterator[Record]:
        """The records that the broker took at or after an instant, up to the newest. KafkaError."""
        tp = TopicPartition(topic, partition)
        async with self._consumer() as consumer:
            end = (await consumer.end_offsets([tp]))[tp]
            begin = (await consumer.offsets_for_times({tp: to_millis(instant)}))[tp]
            if begin is not None:
                async for record in _read(consumer, tp, begin.offset, end):
                    yield record

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with self._turns:
            consumer = member_consumer(self._kafka, self._client_id, fetch_bytes=_FETCH_BYTES)
            try:
                await consumer.start()
                yield consumer
            finally:
                await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int, end: int) -> AsyncIterator[Record]:
    consumer.assign([tp])
    consumer.seek(tp, offset)
    while await consumer.position(tp) < end:
        for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ()):
            if record.offset < end:
                yield record
