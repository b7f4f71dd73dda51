"""The consumer groups of the whole Kafka, strangers' too: who reads, and how far behind."""

import asyncio
import contextlib
from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.bus import member_consumer
from qalqan.access import Access
from services.notify.domain.standing import GroupView, KafkaView, PartitionView
from services.notify.standing.next_generation import described

log = structlog.get_logger()

_PATIENCE_S = 0.8
_REQUEST_TIMEOUT_MS = 3_000
_MOST_GROUPS = 200
_AT_ONCE = 8
_UNKNOWN: tuple[str, int | None] = ("Unknown", None)

Clients = tuple[AIOKafkaAdminClient, AIOKafkaConsumer]


class Groups:
    """Connected when somebody asks first, however long that takes: looks wait for no more than their time. What failed
    is made anew; aiokafka itself lets go of a connection that gave no answer for `_REQUEST_TIMEOUT_MS`."""

    def __init__(self, kafka: Access, client_id: str) -> None:
        self._kafka = kafka
        self._client_id = f"{client_id}.streams"
        self._connecting: asyncio.Task[Clients] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def look(self) -> tuple[list[GroupView], KafkaView]:
        """All groups by name, and whether Kafka answers."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="streams' connection")
        connecting = self._connecting
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await _look(*await asyncio.shield(connecting))
        except (KafkaError, OSError, TimeoutError) as error:
            # Who is only late is asked again over the same connections; making them costs far more than a look.
            if connecting.done() and not isinstance(error, TimeoutError):
                self._let_go()
            why = f"no answer within {_PATIENCE_S} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
            log.warning("streams.kafka_unknown", error=why)
            return [], KafkaView(answers=False, detail=why)

    async def close(self) -> None:
        """Lets go of the connections."""
        self._let_go()
        await asyncio.gather(*self._closing)

    async def _connect(self) -> Clients:
        admin = AIOKafkaAdminClient(
            **self._kafka.options(), client_id=self._client_id, request_timeout_ms=_REQUEST_TIMEOUT_MS
        )
        consumer = member_consumer(self._kafka, self._client_id)
        try:
            await admin.start()
            await consumer.start()
            await _look(admin, consumer)  # by which each broker is connected to: with TLS no look has time for that
        except BaseException:
            await _close(admin, consumer)
            raise
        return admin, consumer

    def _let_go(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            task = asyncio.create_task(_end(connecting), name="old connections")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _end(connecting: asyncio.Task[Clients]) -> None:
    connecting.cancel()
    with contextlib.suppress(KafkaError, OSError, asyncio.CancelledError):
        await _close(*await connecting)


async def _close(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
    for closing in (admin.close(), consumer.stop()):
        with contextlib.suppress(KafkaError, OSError):
            await closing


async def _look(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> tuple[list[GroupView], KafkaView]:
    metadata = await admin._get_cluster_metadata()
    topics = {topic: {part[1] for part in parts} for _, topic, _, parts in metadata.topics}
    nodes = [broker[0] for broker in metadata.brokers]
    # Each broker tells of the groups that it coordinates: nobody else need be asked for that.
    listed = await asyncio.gather(*(admin.list_consumer_groups([node]) for node in nodes))
    led_by = {group: node for node, groups in zip(nodes, listed, strict=True) for group, *_ in groups}
    names = sorted(led_by)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def offsets(group: str) -> dict[TopicPartition, int]:
        async with turns:
            found = await admin.list_consumer_group_offsets(group, led_by[group])
        return {tp: place.offset for tp, place in found.items()}

    async def standing(group: str) -> tuple[str, int | None]:
        async with turns:
            answers = await admin.describe_consumer_groups([group], led_by[group])
            _, _, state, _, _, members, *_ = answers[0].groups[0]
            if state != "Dead":
                return state, len(members)
            # A group of KIP-848 is listed, and yet none to those who ask as before.
            with contextlib.suppress(KafkaError, NotImplementedError):
                return await described(admin, group, led_by[group]) or _UNKNOWN
            return _UNKNOWN

    shown = names[:_MOST_GROUPS]
    places = await asyncio.gather(*map(offsets, shown))
    standings = await asyncio.gather(*map(standing, shown))
    there = {tp for group in places for tp in group if tp.partition in topics.get(tp.topic, ())}
    ends = await consumer.end_offsets(list(there)) if there else {}
    views = [_view(*each, ends) for each in zip(shown, standings, places, strict=True)]
    return views, KafkaView(answers=True, left_out=len(names) - len(shown))


def _view(
    group: str,
    standing: tuple[str, int | None],
    places: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> GroupView:
    partitions = []
    for tp, offset in sorted(places.items()):
        end = ends.get(tp)
        lag = None if end is None else max(0, end - offset)
        partitions.append(PartitionView(topic=tp.topic, partition=tp.partition, offset=offset, end=end, lag=lag))
    state, members = standing
    total = sum(part.lag for part in partitions if part.lag is not None)
    return GroupView(group=group, state=state, members=members, lag=total, partitions=partitions)
