"""Members and keys, followed from the start of their topic by every replica (CONTRACT "root.json")."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chassis.admission import Doubtful
from chassis.bus import member_consumer
from qalqan import trust
from qalqan.access import Access
from qalqan.envelope import BadEnvelope, from_kafka
from qalqan.instants import to_millis
from qalqan.registry import Registry, Root
from qalqan.topics import MEMBERS

log = structlog.get_logger()

T = TypeVar("T")

_POLL_MS = 500
_CATCH_UP_S = 30.0


class Follower:
    """Keeps a registry as new as the topic `members`."""

    def __init__(self, kafka: Access, replica: str, root: Root) -> None:
        self.registry = Registry(root)
        self._kafka = kafka
        self._replica = replica
        self._consumer: AIOKafkaConsumer | None = None
        # A broker answers a connection in order, and the consumer's is nearly always held up by its own long
        # poll.
        self._asker: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Condition()
        self._current_as_of_ms = 0
        self.failed: asyncio.Future[BaseException] = asyncio.Future()
        """Done when following met a bug: keys that stand still in silence would be worse than a stop."""

    async def start(self) -> None:
        """Reads `members` to its end, then goes on following it."""
        self._asker = member_consumer(self._kafka, f"{self._replica}.members.end")
        await self._asker.start()
        # It reads nothing. Asked about a partition that it was not assigned, a consumer pauses for 100 ms first.
        self._asker.assign([_TP])
        self._asker.pause(_TP)
        consumer = member_consumer(self._kafka, f"{self._replica}.members")
        await consumer.start()
        consumer.assign([_TP])
        await consumer.seek_to_beginning(_TP)
        self._consumer = consumer
        self._task = asyncio.create_task(self._follow(consumer), name="follow members")
        self._task.add_done_callback(self._ended)
        await self.catch_up()

    async def stop(self) -> None:
        """Stops following."""
        if self._task is not None:
            self._task.cancel()
        for consumer in (self._consumer, self._asker):
            if consumer is not None:
                await consumer.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed.set_result(error)

    async def catch_up(self, until: datetime | None = None) -> None:
        """Returns when everything has been folded that stood on the topic by now (or by `until`, if that is
        known).

        A key registered a moment ago must not be unknown only because this replica had not read so far.
        """
        if until is not None and to_millis(until) < self._current_as_of_ms:
            return
        end = await self._end()
        # Not `wait_for`, which may lose a cancellation (`chassis.tasks.end`): lanes wait here.
        async with asyncio.timeout(_CATCH_UP_S), self._moved:
            await self._moved.wait_for(lambda: self.registry.next_offset >= end)
        if until is not None:
            self._current_as_of_ms = max(self._current_as_of_ms, to_millis(until) + 1)

    async def believed(self, read: Callable[[Registry], T], appended_at: datetime) -> T:
        """What `read` makes of a public record; where its key is not known, once more when this replica has read as far
        as the record may have been judged by. Doubtful."""
        try:
            return read(self.registry)
        except Doubtful as doubt:
            if str(doubt) != trust.UNKNOWN_KEY:
                raise
        await self.catch_up(until=appended_at)
        return read(self.registry)

    async def _end(self) -> int:
        """The next offset of `members`, asked until the broker answers."""
        assert self._asker is not None
        while True:
            try:
                return int((await self._asker.end_offsets([_TP]))[_TP])
            except KafkaError as error:
                log.warning("members.end_unknown", error=repr(error))
                await asyncio.sleep(_POLL_MS / 1000)

    async def wait_for_key(self, key_id: str) -> None:
        """Returns when a key is registered: a service states nothing before its own is."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.registry.key(key_id) is not None)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                found = await consumer.getmany(_TP, timeout_ms=_POLL_MS)
            except KafkaError as error:
                log.warning("members.poll_failed", error=repr(error))
                await asyncio.sleep(_POLL_MS / 1000)
                continue
            for record in found.get(_TP, ()):
                try:
                    why = self.registry.take(record.offset, from_kafka(record.key, record.headers, record.value))
                except BadEnvelope as error:
                    why, self.registry.next_offset = str(error), record.offset + 1
                if why is not None:
                    log.error("members.ignored", offset=record.offset, why=why)
            if found:
                async with self._moved:
                    self._moved.notify_all()


_TP = TopicPartition(MEMBERS.name, 0)
