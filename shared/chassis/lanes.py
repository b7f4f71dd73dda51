"""The lanes of a replica: taken and left as Kafka assigns partitions, woken by ticks."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from chassis.admission import Record
from chassis.bus import Bus, Outgoing
from chassis.lane import FenceLost, Lane
from chassis.tasks import Failure, end
from qalqan.envelope import Event, to_kafka
from qalqan.events import TICK, Tick, dump
from qalqan.instants import format_instant
from qalqan.jsontext import canonical
from qalqan.signing import SigningKey, sign
from qalqan.topics import Topic, partition_of

log = structlog.get_logger()

_RETICK_S = 0.5
_COMMIT_EVERY_S = 2.0
_ORPHAN_S = 10.0


class Lanes(ConsumerRebalanceListener):  # type: ignore[misc]
    """One lane for each partition number that this replica owns."""

    def __init__(
        self,
        bus: Bus,
        inbox: Topic,
        follows: Sequence[Topic],
        make_lane: Callable[[int, Callable[[], None], Callable[[int, bool], None]], Lane[Any]],
        source: str,
        key: SigningKey,
    ) -> None:
        self.topics = (inbox, *follows)
        self.ready = asyncio.Event()
        """Set at the first assignment."""
        self._failure = Failure()
        self.failed = self._failure.happened
        """Done when a lane met a bug: the service must stop, loudly."""
        self._bus = bus
        self._inbox = inbox
        self._make_lane = make_lane
        self._source = source
        self._key = key
        self._lanes: dict[int, Lane[Any]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._alarm_set = asyncio.Event()

    def start(self) -> None:
        """Starts the clock and the noting of offsets."""
        self._background = [
            asyncio.create_task(self._tick(), name="ticks"),
            asyncio.create_task(self._commit_offsets(), name="kafka offsets"),
        ]
        for task in self._background:
            task.add_done_callback(self._failure.must_not_end)

    async def stop(self) -> None:
        """Leaves all lanes where they are."""
        for task in self._background:
            task.cancel()
        await self._leave(list(self._tasks))

    @property
    def owned(self) -> Sequence[Lane[Any]]:
        """The lanes that are at work here now."""
        return tuple(self._lanes.values())

    async def feed(self, records: Sequence[Record]) -> None:
        """Hands polled records to their lanes. What belongs to no lane of ours was another's before it came."""
        batches: dict[int, list[Record]] = {}
        for record in records:
            batches.setdefault(record.partition, []).append(record)
        for partition, batch in batches.items():
            lane = self._lanes.get(partition)
            if lane is not None:
                lane.feed(batch)

    # --- assignment --------------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Kafka takes partitions: their lanes stop here; what they committed, the next owner publishes."""
        await self._leave({tp.partition for tp in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Kafka gives partitions: each lane is begun, beside this, since no heartbeat is sent before this returns."""
        given: dict[int, set[str]] = {}
        for tp in assigned:
            given.setdefault(tp.partition, set()).add(tp.topic)
        for partition, topics in given.items():
            task = asyncio.create_task(self._own(partition, topics), name=f"lane {partition}")
            self._tasks[partition] = task
            task.add_done_callback(partial(self._ended, partition))
        if not given:
            self._note_assigned()

    async def _own(self, partition: int, topics: set[str]) -> None:
        """A lane's life: it is taken with its epoch, its topics are sought to its offsets, and it works."""
        expected = {topic.name for topic in self.topics if partition < topic.partitions}
        if topics != expected:
            raise RuntimeError(f"lane {partition} needs one owner for {sorted(expected)}, but got {sorted(topics)}")
        tps = [TopicPartition(topic, partition) for topic in topics]
        self._consumer(tps).pause(*tps)
        lane = self._make_lane(partition, self._alarm_set.set, self._pause)
        offsets = await lane.open()
        consumer = self._consumer(tps)
        for tp in tps:
            consumer.seek(tp, offsets.get(tp.topic, 0))
        consumer.resume(*tps)
        self._lanes[partition] = lane
        self._alarm_set.set()
        if self._lanes.keys() == self._tasks.keys():
            self._note_assigned()
        await lane.run()

    def _consumer(self, tps: Sequence[TopicPartition]) -> AIOKafkaConsumer:
        """The consumer, as long as it has these partitions. FenceLost: it has them no longer."""
        consumer = self._bus.consumer
        if consumer is None or not consumer.assignment().issuperset(tps):
            raise FenceLost(f"{tps} were taken away before they were begun")
        return consumer

    def _note_assigned(self) -> None:
        log.info("lanes.assigned", lanes=sorted(self._lanes))
        self.ready.set()

    async def _leave(self, partitions: Iterable[int]) -> None:
        tasks = []
        for partition in partitions:
            self._lanes.pop(partition, None)
            task = self._tasks.pop(partition, None)
            if task is not None:
                tasks.append(task)
        await end(tasks)

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, FenceLost):
            # Another replica has it. Kafka will say so shortly; should it not, a new start joins the group afresh.
            log.warning("lane.lost", partition=partition, why=str(error))
            self._lanes.pop(partition, None)
            self._tasks.pop(partition, None)
            asyncio.get_running_loop().call_later(_ORPHAN_S, self._check_orphan, partition, error)
            return
        self._failure.note(error or RuntimeError(f"lane {partition} ended by itself"))

    def _check_orphan(self, partition: int, error: BaseException) -> None:
        """A lane that we lost but that Kafka still calls ours, long after, would be nobody's."""
        consumer = self._bus.consumer
        assigned = consumer is not None and any(tp.partition == partition for tp in consumer.assignment())
        if assigned and partition not in self._tasks:
            self._failure.note(error)

    def _pause(self, partition: int, paused: bool) -> None:
        consumer = self._bus.consumer
        if consumer is None:
            return
        tps = [tp for tp in consumer.assignment() if tp.partition == partition]
        (consumer.pause if paused else consumer.resume)(*tps)

    # --- time --------------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Writes a tick into the inbox partition of a lane whose next deadline has come, until the lane has seen it."""
        while True:
            self._alarm_set.clear()
            now = datetime.now(UTC)
            alarms = {partition: lane.next_alarm for partition, lane in self._lanes.items()}
            due = [(partition, at) for partition, at in alarms.items() if at is not None and at <= now]
            for partition, at in due:
                await self._send_tick(partition, at)
            later = [at - now for at in alarms.values() if at is not None and at > now]
            pause = min([timedelta(seconds=_RETICK_S)] * bool(due) + later, default=None)
            try:
                await asyncio.wait_for(self._alarm_set.wait(), pause.total_seconds() if pause else None)
                if due:
                    await asyncio.sleep(0.02)  # the lane moves on: do not spin on an alarm it is handling
            except TimeoutError:
                pass

    async def _send_tick(self, partition: int, at: datetime) -> None:
        subject = _subject_in(partition, self._inbox.partitions)
        when = format_instant(at)
        event = Event(
            id=f"tick-{partition}-{when}",
            source=self._source,
            type=TICK.type,
            subject=subject,
            time=when,
            datacontenttype="application/json",
            data=canonical(dump(Tick(at=at))),
            extensions={"partitionkey": subject},
        )
        key, value, headers = to_kafka(sign(event, self._key))
        try:
            await self._bus.send(Outgoing(self._inbox.name, partition, key, value, headers))
        except KafkaError as error:
            log.warning("tick.failed", partition=partition, error=repr(error))

    async def _commit_offsets(self) -> None:
        """Tells Kafka how far we are: for displays of lag only, since PostgreSQL's offsets rule."""
        told: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(_COMMIT_EVERY_S)
            consumer = self._bus.consumer
            if consumer is None:
                continue
            owned = consumer.assignment()
            reached = {
                TopicPartition(topic, partition): offset
                for partition, lane in self._lanes.items()
                for topic, offset in lane.committed.next_offsets.items()
            }
            news = {tp: offset for tp, offset in reached.items() if tp in owned and told.get(tp) != offset}
            if not news:
                continue
            try:
                await consumer.commit(news)
                told.update(news)
            except KafkaError as error:
                log.info("kafka.offsets_not_noted", error=repr(error))


def _subject_in(partition: int, partitions: int) -> str:
    """A subject whose key belongs to a partition, so that a tick passes the same checks as everything else."""
    n = 0
    while partition_of(f"tick-{n}", partitions) != partition:
        n += 1
    return f"tick-{n}"
