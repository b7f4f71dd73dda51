"""What a service makes sure of before it starts: that its database and the topics belong together (DESIGN "Recovery").

With a database that was restored from a backup, or made anew, decisions would be taken and positions given a second
time; a topic that was made anew would be read from offsets that mean nothing there. So the service refuses to start,
and says what was found and what to do. The outbox may be ahead of the topics (a crash before publishing): that is the
ordinary way of things, and not looked at.

It costs a few requests, whatever the topics hold: only the end of each partition is read.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic import ValidationError

from chassis.bus import answering, member_consumer
from chassis.database import Pool
from chassis.ledger import Database
from chassis.topic_ids import topic_ids
from qalqan import trust
from qalqan.access import Access
from qalqan.envelope import BadEnvelope, Event, from_kafka
from qalqan.events import EVENTS, SubmissionRejected
from qalqan.topics import BY_NAME, REJECTIONS, Topic

EXIT_CODE = 3
"""Of a service that refuses to start: starting it again changes nothing."""
_LOOK_AT = 20
"""Records at the end of a partition: the last one may be a stranger's, or on `rejections` another service's."""
_POLL_MS = 1_000


class Refusal(Exception):
    """The service must not start: what was found, and what to do, in sentences for an operator."""


def written_by(service: str, inbox: Topic) -> tuple[Topic, ...]:
    """The public topics that a service writes, in the order of the contract's table; `rejections`, which has several
    writers, comes last."""
    admitted = {kind.topic for kind in EVENTS.values() if kind.inbox == inbox and kind.topic is not None}
    stated = {BY_NAME[topic] for topic, writer in trust.WRITERS.items() if writer == service}
    return (*sorted(admitted | stated, key=lambda topic: list(BY_NAME).index(topic.name)), REJECTIONS)


async def check(
    kafka: Access, replica: str, pool: Pool, service: str, source: str, inbox: Topic, follows: Sequence[Topic]
) -> None:
    """Whether a service with lanes may start; its topics' ids are kept at the first start. Refusal: why not.

    `source`: the service's own, as its events name it.
    """
    written = written_by(service, inbox)
    topics = (inbox, *follows, *written)
    async with _looking_at(kafka, replica, topics) as consumer:
        ids = await _identify(consumer, pool, service, topics)
        # The topics first, then the database: what was published between the two was committed before.
        steps = await _steps_published(consumer, written, inbox, source)
        ends = await consumer.end_offsets(_partitions((inbox, *follows)))
    rows = await pool.fetch(
        """select partition, step, topic, next::bigint from lane
           left join lateral jsonb_each_text(next_offsets) o (topic, next) on true"""
    )
    known = {row["partition"]: row["step"] for row in rows}
    for partition, (step, topic) in steps.items():
        if step > known.get(partition, 0):
            raise Refusal(
                f"{topic} holds what this database does not know: step {step} of lane {partition}, and the database "
                f"stands at {known.get(partition, 0)}. It is a restored backup, or was made anew. "
                f"Let it follow the topics: {remedy(service)}."
            )
    _check_ends(service, ends, {TopicPartition(r["topic"], r["partition"]): r["next"] for r in rows if r["topic"]})
    await keep_ids(pool, ids)


async def check_reader(
    kafka: Access,
    replica: str,
    pool: Pool,
    service: str,
    topics: Sequence[Topic],
    next_offsets: dict[tuple[str, int], int],
) -> None:
    """As `check`, for a service that only reads; `next_offsets`: by topic and partition, what it has read up to."""
    async with _looking_at(kafka, replica, topics) as consumer:
        ids = await _identify(consumer, pool, service, topics)
        ends = await consumer.end_offsets(_partitions(topics))
    _check_ends(service, ends, {TopicPartition(*place): offset for place, offset in next_offsets.items()})
    await keep_ids(pool, ids)


def remedy(service: str) -> str:
    """What an operator does about it."""
    return f"`qalqan down`, `qalqan rebuild {service}`, `qalqan up` (docs/operations.md)"


async def ids_of(kafka: Access, topics: Iterable[Topic]) -> dict[str, UUID]:
    """The ids that topics have now."""
    consumer = member_consumer(kafka, "recovery")
    await consumer.start()
    try:
        return {name: id for name, (id, _) in (await topic_ids(consumer, [t.name for t in topics])).items()}
    finally:
        await consumer.stop()


async def keep_ids(pool: Database, ids: dict[str, UUID]) -> None:
    """Notes which topics this database belongs to; what is noted already stays."""
    await pool.executemany(
        "insert into topic (name, id) values ($1, $2) on conflict (name) do nothing", list(ids.items())
    )


@contextlib.asynccontextmanager
async def _looking_at(kafka: Access, replica: str, topics: Sequence[Topic]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that has all these partitions and fetches nothing yet.

    Assigned at once, they cost one look at the metadata; asked for one by one, each topic would cost a pause of 100 ms.
    """
    partitions = _partitions(topics)
    consumer = await answering(lambda: member_consumer(kafka, f"{replica}.recovery"))
    try:
        consumer.assign(partitions)
        consumer.pause(*partitions)
        yield consumer
    finally:
        await consumer.stop()


async def _identify(consumer: AIOKafkaConsumer, pool: Pool, service: str, topics: Sequence[Topic]) -> dict[str, UUID]:
    """The topics' ids. Refusal: one is missing, has another number of partitions, or is not the one it was."""
    found = await topic_ids(consumer, [topic.name for topic in topics])
    for topic in topics:
        if topic.name not in found:
            raise Refusal(f"The topic {topic.name} does not exist on this Kafka: is it the right one?")
        count = found[topic.name][1]
        if count != topic.partitions:
            raise Refusal(
                f"{topic.name} has {count} partitions instead of {topic.partitions}, fixed for life: its keys "
                "belong elsewhere now. Bring its records to a topic of the right number (docs/operations.md)."
            )
    for row in await pool.fetch("select name, id from topic"):
        if row["name"] in found and found[row["name"]][0] != row["id"]:
            raise Refusal(
                f"{row['name']} is not the topic it was: it was made anew, and offsets kept of it mean nothing there. "
                f"Bring back its records if you can; then {remedy(service)}."
            )
    return {name: id for name, (id, _) in found.items()}


def _check_ends(service: str, ends: dict[TopicPartition, int], reached: dict[TopicPartition, int]) -> None:
    for tp, offset in reached.items():
        if offset > ends.get(tp, offset):
            raise Refusal(
                f"{tp.topic}, partition {tp.partition}, ends at {ends[tp]}, but was read up to {offset}: records were "
                f"lost, or this is another Kafka. Bring them back if you can; then {remedy(service)}."
            )


async def _steps_published(
    consumer: AIOKafkaConsumer, topics: Sequence[Topic], inbox: Topic, source: str
) -> dict[int, tuple[int, str]]:
    """By lane, the highest step among the last records of the topics, and the topic that has it."""
    highest: dict[int, tuple[int, str]] = {}
    for record in await _last_records(consumer, _partitions(topics)):
        place = _step_of(record, inbox, source)
        if place is not None and place[1] > highest.get(place[0], (0, ""))[0]:
            highest[place[0]] = place[1], record.topic
    return highest


def _step_of(record: "ConsumerRecord[bytes, bytes]", inbox: Topic, source: str) -> tuple[int, int] | None:
    """Lane and step of a record that our service wrote; None: another's."""
    try:
        event = from_kafka(record.key, record.headers, record.value)
        step = int(event.extensions.get("step", ""))
        if record.topic != REJECTIONS.name:
            return record.partition, step
        lane = rejected_in(event, inbox, source)
    except (BadEnvelope, ValidationError, ValueError):
        return None
    return None if lane is None else (lane.partition, step)


def rejected_in(event: Event, inbox: Topic, source: str) -> SubmissionRejected | None:
    """A rejection by our own service; None: another's. ValueError: it is malformed."""
    if event.source != source:
        return None
    rejected = SubmissionRejected.model_validate_json(event.data)
    return rejected if rejected.source_topic == inbox.name else None


async def _last_records(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> list["ConsumerRecord[bytes, bytes]"]:
    """The last few records of each partition."""
    ends = await consumer.end_offsets(partitions)
    begins = await consumer.beginning_offsets(partitions)
    waiting = {tp: end for tp, end in ends.items() if end > begins[tp]}
    for tp, end in waiting.items():
        consumer.seek(tp, max(begins[tp], end - _LOOK_AT))
    consumer.resume(*waiting)
    found: list[ConsumerRecord[bytes, bytes]] = []
    while waiting:
        for tp, records in (await consumer.getmany(*waiting, timeout_ms=_POLL_MS)).items():
            found.extend(record for record in records if record.offset < waiting[tp])
            if await consumer.position(tp) >= waiting[tp]:
                consumer.pause(tp)
                del waiting[tp]
    return found


def _partitions(topics: Iterable[Topic]) -> list[TopicPartition]:
    return [TopicPartition(topic.name, partition) for topic in topics for partition in range(topic.partitions)]
