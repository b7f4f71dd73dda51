"""Kafka: every option of every client, once, each written out with its reason."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from chassis import records
from chassis.settings import Settings
from qalqan.access import Access
from qalqan.topics import Topic

log = structlog.get_logger()

_PUBLIC_LIMIT_BYTES = 8 * 1024 * 1024
_RETRY_PAUSE_S = 0.2
_POLL_MS = 1000
_POLL_PATIENCE_S = 10.0
_RECORDS_A_POLL = 1000

Records = Sequence[ConsumerRecord[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record ready to be published; `partition` None: by the key, as the default partitioner of Java."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class PollingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose `getmany` waits for the first record and then takes what is there.

    FastStream's batch subscriber sleeps for another poll's length after an empty poll; a poll that never comes back
    empty has neither that cost nor a long poll's.
    """

    def __init__(self, *topics: str, failed: "asyncio.Future[BaseException]", **options: Any) -> None:
        super().__init__(*topics, **options)
        self._failed = failed

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        """Records of at least one partition. Blocks until there are some.

        What does not pass within a while stops the service: FastStream would wait for it in silence, for ever.
        """
        failing_since: float | None = None
        while True:
            try:
                if self._fetcher.error_future.done():
                    self._fetcher.error_future.result()
                found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = await super().getmany(
                    *partitions, timeout_ms=_POLL_MS, max_records=_RECORDS_A_POLL
                )
            except KafkaError as error:
                log.warning("kafka.poll_failed", error=repr(error))
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > _POLL_PATIENCE_S and not self._failed.done():
                    self._failed.set_result(error)
                await asyncio.sleep(_RETRY_PAUSE_S)
                continue
            failing_since = None
            if found:
                return found


class HandingOver(BatchSubscriber):
    """FastStream's batch subscriber, which gives a poll's records to its handler and does nothing else with them.

    What FastStream would do for each message (parse, decode, open contexts, pass middlewares, acknowledge) is what a
    lane must not have: it loses records that it cannot decode, swallows what a handler raises, and costs 0.3 ms.
    """

    __slots__ = ()

    async def consume_one(self, msg: tuple[ConsumerRecord[bytes, bytes], ...]) -> None:
        """Calls the handler, which hands the records on and does not raise."""
        if self.running:
            await self.calls[0].handler._original_call(msg)


class Listener(Protocol):
    """Who is told of rebalances, and stops the service when `failed` is done."""

    failed: "asyncio.Future[BaseException]"

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Before a rebalance."""
        ...

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """After it."""
        ...


class Bus:
    """The Kafka side of a replica: one FastStream broker that consumes, one producer that publishes."""

    def __init__(self, settings: Settings, service: str) -> None:
        records.install()
        self._settings = settings
        self._service = service
        self._producer: AIOKafkaProducer | None = None
        self._renewal = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._lines: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._in_use: Counter[AIOKafkaProducer] = Counter()
        self._failed: asyncio.Future[BaseException]
        self.broker = KafkaBroker(
            settings.kafka.bootstrap_servers,
            client_id=settings.replica,
            # What publishes is our own.
            consumer_only=True,
            apply_types=False,
            logger=None,
            # Topics are made by the runner, with their partition counts and settings, before anything else.
            allow_auto_create_topics=False,
            graceful_timeout=5.0,
        )

    def subscribe(
        self,
        topics: Sequence[Topic],
        listener: Listener,
        handler: Any,
        fetch_min_bytes: int = 1,
        fetch_max_wait_ms: int = 500,
    ) -> None:
        """Declares the replica's one consumer: all its topics in one subscription, so that lanes have one owner.

        `fetch_min_bytes`, `fetch_max_wait_ms`: how long the broker may hold a poll back to fill it; by default not at
        all. `handler` is given each poll's records, in order within a partition. It must not raise: it hands them on.
        """
        subscriber = self.broker.subscriber(
            *(topic.name for topic in topics),
            batch=True,
            max_records=_RECORDS_A_POLL,
            group_id=f"qalqan.{self._service}",
            # Static membership: a restart within the session gets its lanes back at once and moves nobody else's.
            group_instance_id=self._settings.replica,
            session_timeout_ms=self._settings.session_timeout_ms,
            heartbeat_interval_ms=max(200, self._settings.session_timeout_ms // 6),
            rebalance_timeout_ms=10_000,
            # Partition p of every topic goes to the same replica (FastStream's default is round robin).
            partition_assignment_strategy=(RangePartitionAssignor,),
            # PostgreSQL's offsets rule; a lane without any starts at the beginning, never at the end.
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            max_partition_fetch_bytes=_PUBLIC_LIMIT_BYTES,
            fetch_max_wait_ms=fetch_max_wait_ms,
            fetch_min_bytes=fetch_min_bytes,
            isolation_level="read_uncommitted",
            listener=listener,
            # A record's own `reply_to` header must not make us publish anywhere.
            no_reply=True,
        )
        subscriber(handler)
        subscriber.__class__ = HandingOver
        self._failed = listener.failed

    async def open_to_publish(self) -> None:
        """Connects what publishes, and nothing that consumes."""
        self._producer = await self._new_producer()

    async def open(self, publishes: bool = True) -> None:
        """Connects; consuming begins when FastStream starts the broker.

        `publishes`: False for a service that may write nowhere; Kafka would refuse it an idempotent producer.
        """
        if publishes:
            await self.open_to_publish()
        await self.broker.connect()
        config = self.broker.config.broker_config
        options = config.builder.keywords  # type: ignore[attr-defined]  # FastStream's own partial
        config.builder = partial(PollingConsumer, failed=self._failed, **(options | self._settings.kafka.options()))

    async def close(self) -> None:
        """Stops publishing, after FastStream has stopped the broker."""
        if self._producer is not None:
            await self._producer.stop()

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        """The one consumer, once started."""
        for subscriber in self.broker.subscribers:
            consumer: AIOKafkaConsumer | None = getattr(subscriber, "consumer", None)
            return consumer
        return None

    def end(self, topic: str, partition: int) -> int:
        """The offset that the next record of a partition will have, as the last poll told; 0: nothing is known yet."""
        consumer, tp = self.consumer, TopicPartition(topic, partition)
        if consumer is None or tp not in consumer.assignment():
            return 0
        return consumer.highwater(tp) or 0

    async def publish(self, wave: Sequence[Outgoing]) -> None:
        """Publishes records, each topic's partition as one batch and in order; returns when the broker has them all.

        One batch a partition is appended whole or not at all, so that no failure leaves a gap within a key.
        Retries until the broker takes them: what was committed must get out.
        """
        waiting: dict[TopicPartition, list[Outgoing]] = {}
        for record in wave:
            waiting.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        await asyncio.gather(*(self._publish_partition(tp, batch) for tp, batch in waiting.items()))

    async def _publish_partition(self, tp: TopicPartition, queue: list[Outgoing]) -> None:
        at = 0
        while at < len(queue):
            producer = self._producer
            assert producer is not None, "open() comes first"
            self._in_use[producer] += 1
            try:
                batch = producer.create_batch()
                end = at
                while end < len(queue) and (
                    batch.append(key=queue[end].key, value=queue[end].value, timestamp=None, headers=queue[end].headers)
                    is not None
                ):
                    end += 1
                batch.close()
                # All lanes write to the same partitions of `rejections`, one at a time: of many that wait for a place
                # in its queue aiokafka counts the time twice and thrice, and turns them away after a second.
                async with self._lines[tp]:
                    delivered = await producer.send_batch(batch, tp.topic, partition=tp.partition)
                await delivered
                at = end
            except KafkaError as error:
                log.warning("kafka.publish_failed", topic=tp.topic, partition=tp.partition, error=repr(error))
                await asyncio.sleep(_RETRY_PAUSE_S)
                await self._renew_producer(producer)
            finally:
                self._in_use[producer] -= 1

    async def send(self, record: Outgoing) -> tuple[int, int]:
        """Publishes one record (a submission over HTTP, a tick) and returns its partition and offset.

        KafkaError: the broker did not take it, as far as is known.
        """
        producer = self._producer
        assert producer is not None, "open() comes first"
        try:
            done = await producer.send_and_wait(
                record.topic, record.value, key=record.key, partition=record.partition, headers=record.headers
            )
        except KafkaError:
            await self._renew_producer(producer)
            raise
        return done.partition, done.offset

    async def _renew_producer(self, failed: AIOKafkaProducer | None) -> None:
        """A producer that failed for good (its sequence is lost) raises for ever: a new one takes its place.

        While the broker is away none can: then the old one stays until the next failure.
        """
        async with self._renewal:
            if self._producer is not failed or failed is None:
                return
            try:
                self._producer = await self._new_producer()
            except KafkaError as error:
                log.warning("kafka.producer_not_renewed", error=repr(error))
                return
        # What others still have in it goes out first; nobody has to wait for that.
        self._closing.add(closing := asyncio.create_task(self._retire(failed), name="old producer"))
        closing.add_done_callback(self._closing.discard)

    async def _retire(self, producer: AIOKafkaProducer) -> None:
        """Stops a producer once nobody uses it: a batch that comes into it meanwhile would never be sent, nor fail."""
        while self._in_use[producer]:  # noqa: ASYNC110  it is rare, and nobody waits for it
            await asyncio.sleep(_RETRY_PAUSE_S)
        del self._in_use[producer]
        await producer.stop()

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._settings.kafka.options(),
            client_id=self._settings.replica,
            acks="all",
            enable_idempotence=True,
            # Nothing waits that need not wait.
            linger_ms=0,
            # A batch holds a public record of any allowed size.
            max_batch_size=_PUBLIC_LIMIT_BYTES,
            max_request_size=_PUBLIC_LIMIT_BYTES,
            request_timeout_ms=10_000,
            retry_backoff_ms=100,
            metadata_max_age_ms=60_000,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer


def member_consumer(kafka: Access, client_id: str, fetch_bytes: int = _PUBLIC_LIMIT_BYTES) -> AIOKafkaConsumer:
    """A consumer outside any group, for a topic that every replica follows from its start, or looks something up in."""
    records.install()
    return AIOKafkaConsumer(
        **kafka.options(),
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=fetch_bytes,
    )


async def answering(make: Callable[[], AIOKafkaConsumer]) -> AIOKafkaConsumer:
    """A consumer, started. Waits for a Kafka that does not answer yet: a new one is made for each attempt."""
    while True:
        consumer = make()
        try:
            await consumer.start()
        except KafkaConnectionError as error:
            await consumer.stop()
            log.warning("kafka.waiting", error=repr(error))
            await asyncio.sleep(_RETRY_PAUSE_S)
        else:
            return consumer


def record_size(record: ConsumerRecord[bytes, bytes]) -> int:
    """Bytes of key, value and headers together: what RECORD_LIMIT_BYTES bounds."""
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name.encode("utf-8", "surrogateescape")) + len(value or b"")
    return size
