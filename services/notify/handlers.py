"""Kafka in: every public topic, into the stream."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from chassis.admission import Record
from chassis.bus import Bus
from chassis.database import Pool, patiently
from chassis.metrics import LaneStanding, caused_at, took_effect
from chassis.tasks import Failure
from chassis.telemetry import of_record
from chassis.traces import Traces
from qalqan.envelope import BadEnvelope, from_kafka
from services.notify.domain.entry import body_of
from services.notify.domain.rejection import reason_of
from services.notify.store import events

log = structlog.get_logger()


class Intake(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads public topics into the store. Its offsets are in the store; reading twice writes once."""

    def __init__(self, bus: Bus, pool: Pool, traces: Traces | None = None) -> None:
        self.ready = asyncio.Event()
        self.failure = Failure()
        self.failed = self.failure.happened
        self._bus = bus
        self._pool = pool
        self._traces = traces
        self._reached: dict[TopicPartition, int] = {}

    def standing(self) -> list[LaneStanding]:
        """How far its reading is behind, for `GET /metrics`."""
        lag: defaultdict[int, dict[str, int]] = defaultdict(dict)
        next_offsets: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for tp, reached in self._reached.items():
            lag[tp.partition][tp.topic] = max(0, self._bus.end(tp.topic, tp.partition) - reached)
            next_offsets[tp.partition][tp.topic] = reached
        return [LaneStanding(partition, topics, reached=next_offsets[partition]) for partition, topics in lag.items()]

    @property
    def behind(self) -> float:
        """How many records it has still to read; infinitely many before it has begun."""
        if not self.ready.is_set():
            return math.inf
        return sum(max(0, self._bus.end(tp.topic, tp.partition) - reached) for tp, reached in self._reached.items())

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing is held."""
        self._reached.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Goes on where the store ends."""
        consumer = self._bus.consumer
        assert consumer is not None
        try:
            offsets = await patiently(lambda: events.next_offsets(self._pool))
        except Exception as error:
            self.failure.note(error)  # aiokafka would log it and read on from anywhere
            raise
        self._reached = {tp: offsets.get((tp.topic, tp.partition), 0) for tp in assigned}
        for tp, offset in self._reached.items():
            consumer.seek(tp, offset)
        log.info("stream.assigned", partitions=sorted(f"{tp.topic}/{tp.partition}" for tp in assigned))
        self.ready.set()

    async def take(self, records: Sequence[Record]) -> None:
        """Writes a poll's records; returns when they are written, so that nothing is passed over."""
        if self.failed.done():
            return  # what could not be written comes first, at the next start
        try:
            begun_ns = 0 if self._traces is None else time.time_ns()
            rows = [row for record in records if (row := row_of(record)) is not None]
            if rows:
                await patiently(lambda: events.append(self._pool, rows))
            self._note(records)
            if self._traces is not None:
                self._traces.taken(records, begun_ns, time.time_ns())
        except Exception as error:
            # FastStream would log it and go on to the next records: here it stops the service.
            self.failure.note(error)

    def _note(self, records: Sequence[Record]) -> None:
        took_effect(caused_at(records))
        for record in records:
            self._reached[TopicPartition(record.topic, record.partition)] = record.offset + 1


def row_of(record: Record) -> events.Row | None:
    """A public record as the store has it; None: nobody is shown it."""
    try:
        event = from_kafka(record.key, record.headers, record.value)
    except BadEnvelope as error:
        # Only a service may write here, and none writes this: somebody else did. Nobody is shown it.
        log.error(
            "stream.ignored",
            **of_record(record),
            why=str(error),
        )
        return None
    body = body_of(event, record.topic, record.partition, record.offset, record.timestamp)
    return record.topic, record.partition, record.offset, event.subject, reason_of(event), body
