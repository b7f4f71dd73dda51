"""Making a service's database again from the topics: folding, never deciding.

DESIGN "Rebuild folds, never re-decides". What stands on the public topics happened; what does not stand there is known
to nobody. So a lane's state is its own events, folded by `evolve` in the order in which they were made, and between
them the facts of others that it had read by then. All of that is written in its own events, rejections included: `step`
and `ordinal` are their order, `followed` how far the lane had read each public topic. Nothing is guessed from clocks.

Where the lane goes on:

- **Public topics it follows**: where its last event says that it stood. What it read after that led to nothing (it
  would have said so); it is read again, and leads to nothing again.
- **Its inbox**: read once more from its beginning, without deciding. A submission is done with when it stands on a
  public topic (as source, id and core digest) or its offset is on `rejections`. The lane goes on behind the last one
  of these; but if a submission before it left no trace, then there: it waits for its request (`parked`). It is handled
  now as if it had just come, and those behind it that are done with are left out (`lane.handled`). Ticks and
  repetitions leave no trace and need none: handled again, they do nothing again.
- **Identities**: of what was admitted, and of what was rejected after its signature had been found good (CONTRACT
  "Identity"), so that a repetition stays silent and another event under the same id is still told.
- **Log time**: the highest append time of the inbox up to there, as ever.

What differs from the database before: `epoch` (seconds since 1970, above any that was counted up, so that a forgotten
owner cannot pass the fence), `step` (that of the last event: transactions that said nothing are not counted), the
outbox (empty: all is out), rows of `parked` (they come again with their submissions), and the outcome of a submission
that was rejected after waiting (now noted).

While the old tables can be read, what their outbox still holds is published first (`publish_rest`). Where they are lost
together with events that were committed but not published, so are these. A submission of which nothing stands is
handled anew; what else was lost is owed, and a domain tells it by a deadline that has passed (`Handlers.due_at`): a
request without its ballot, a ballot in which everybody has voted, a consensus without its mobilisation.

Each lane is written in one transaction, the topics' ids last: a rebuild that was cut short leaves a database that
`chassis.recovery` refuses, and is simply run again.
"""

import base64
import contextlib
import heapq
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Self, get_args

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis import ledger, recovery
from chassis.admission import Doubtful, Record, read_data, read_public
from chassis.bus import Bus, Outgoing, member_consumer
from chassis.database import Pool
from chassis.draft import Subject, fold
from chassis.facts import Fact, Incoming, Refused
from chassis.handlers import Handlers, S
from chassis.ledger import Connection, SubjectRow
from chassis.publication import Publisher, parse_followed
from chassis.telemetry import of_record
from qalqan import trust
from qalqan.access import Access
from qalqan.envelope import BadEnvelope, Event, from_kafka
from qalqan.events import EVENTS, TICK, Reason, SubmissionRejected
from qalqan.instants import from_millis
from qalqan.registry import NotRegistered, Registry
from qalqan.signing import read_material
from qalqan.sources import Source
from qalqan.topics import MEMBERS, REJECTIONS, REQUEST_TOPICS, Topic

log = structlog.get_logger()

_POLL_MS = 1_000
_SUBJECTS_IN_MEMORY = 5_000
_REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
_WITHOUT_IDENTITY = frozenset(_REASONS[: _REASONS.index("duplicate-id") + 1])
"""Reasons up to `duplicate-id`: what was rejected for one of them burns nobody's id."""

Name = tuple[str, str]
"""Source and id of a submission."""
Progress = Callable[[str, int, int], None]
"""Told what is being read, how many records of it are read, and of how many."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found. `unsettled`: submissions without a trace, which are handled at the next start."""

    events: int = 0
    requests: int = 0
    submissions: int = 0
    unsettled: int = 0
    ignored: int = 0
    """Records of the service's own topics that it did not write."""


# --- reading ---------------------------------------------------------------------------------------------------------


class Reading:
    """Partitions as they stand when the reading begins, each from its beginning to its end, at its reader's pace."""

    def __init__(self, consumer: AIOKafkaConsumer, what: str, progress: Progress) -> None:
        self._consumer = consumer
        self._what = what
        self._progress = progress
        self._ends: dict[TopicPartition, int] = {}
        self._done = self._total = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def of(
        cls, kafka: Access, partitions: Sequence[TopicPartition], what: str, progress: Progress
    ) -> AsyncIterator[Self]:
        """Opens the partitions. KafkaError: the broker does not answer."""
        consumer = member_consumer(kafka, "rebuild")
        await consumer.start()
        try:
            consumer.assign(partitions)
            reading = cls(consumer, what, progress)
            begins = await consumer.beginning_offsets(partitions)
            reading._ends = await consumer.end_offsets(partitions)
            reading._total = sum(reading._ends.values()) - sum(begins.values())
            for tp, begin in begins.items():
                consumer.seek(tp, begin)
            yield reading
            progress(what, reading._total, reading._total)
        finally:
            await consumer.stop()

    async def records(self, topic: Topic, partition: int) -> AsyncIterator[Record]:
        """The records of a partition, in order."""
        tp = TopicPartition(topic.name, partition)
        end = self._ends[tp]
        while await self._consumer.position(tp) < end:
            for record in (await self._consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ()):
                if record.offset < end:
                    self._done += 1
                    yield record
            self._progress(self._what, self._done, self._total)


@dataclass(slots=True)
class Own:
    """An event that the lane made: its place in the order of the lane, and how far the lane had read by then."""

    step: int
    ordinal: int
    followed: dict[str, int]

    @classmethod
    def of(cls, event: Event) -> "Own":
        """From the extensions that the writer set. ValueError: it did not set them."""
        more = event.extensions
        return cls(int(more["step"]), int(more.get("ordinal", "0")), parse_followed(more.get("followed", "")))


@dataclass(slots=True)
class Rejected:
    """A rejection: its reason, and whose submission it was, if its identity is remembered."""

    reason: Reason
    name: Name | None
    core: bytes | None


# --- a lane ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Known:
    """An identity: the core digest, where it stands in the inbox (-1: no longer there), the reason of its rejection."""

    core: bytes
    offset: int = -1
    outcome: str | None = None


@dataclass(slots=True)
class Trace:
    """What a lane's own events tell of it beside the state of its requests."""

    step: int = 0
    followed: dict[str, int] = field(default_factory=dict)
    rejected: dict[int, Rejected] = field(default_factory=dict)
    known: dict[Name, Known] = field(default_factory=dict)

    def note(self, own: Own) -> None:
        """The lane was here."""
        self.step = max(self.step, own.step)
        for topic, offset in own.followed.items():
            self.followed[topic] = max(self.followed.get(topic, 0), offset)


@dataclass(slots=True)
class Place:
    """Where a lane goes on in its inbox."""

    next_offset: int = 0
    log_time: datetime | None = None
    handled: list[int] = field(default_factory=list)
    unsettled: int = 0


class Fold(Generic[S]):
    """The requests of a lane, folded one fact after the other, and written as memory needs it."""

    def __init__(self, handlers: Handlers[S], connection: Connection, partition: int) -> None:
        self.doc: dict[str, Any] = {}
        self.written: set[str] = set()
        self._handlers = handlers
        self._connection = connection
        self._partition = partition
        self._subjects: dict[str, Subject[S]] = {}
        self._parts: dict[str, dict[str, Any]] = {}
        """By request: the parts that changed since it was written."""

    async def own(self, incoming: Incoming, is_statement: bool) -> bool:
        """A fact of the lane's own; False: it stands there a second time, or where it cannot."""
        subject = await self._subject(self._handlers.key_of(incoming))
        if incoming.topic in _POSITIONED:
            last = subject.positions.get(incoming.topic, 0)
            position = int(incoming.event.extensions["position"])
            if position != last + 1:
                if position > last:
                    log.error(
                        "rebuild.out_of_place",
                        request_id=subject.key,
                        topic=incoming.topic,
                        offset=incoming.offset,
                        last=last,
                    )
                return False
            subject.positions[incoming.topic] = position
        event, recorded_at = (None, None) if is_statement else (incoming.event, incoming.recorded_at)
        fact = Fact(incoming.data, event, recorded_at)
        before = subject.state
        subject.state = self._handlers.evolve(before, fact)
        self.doc = dict(self._handlers.evolve_lane(self.doc, fact))
        await self._changed(subject, before)
        return True

    async def others(self, incoming: Incoming) -> None:
        """A fact of another service, as the lane folded it."""
        subject = await self._subject(self._handlers.key_of(incoming))
        before = subject.state
        if fold(self._handlers, subject, incoming):
            await self._changed(subject, before)

    async def flush(self) -> None:
        """Writes what changed; requests that are closed leave memory."""
        rows = []
        for key in self._parts:
            subject = self._subjects[key]
            assert subject.state is not None
            doc, _ = self._handlers.split(subject.state, subject.state)
            is_open = self._handlers.is_open(subject.state)
            rows.append(SubjectRow(key, key not in self.written, is_open, subject.positions, list(subject.folded), doc))
            if not is_open:
                del self._subjects[key]
        parts = [(key, name, part) for key, named in self._parts.items() for name, part in named.items()]
        await ledger.rewrite_subjects(self._connection, self._partition, rows, parts)
        self.written.update(self._parts)
        self._parts.clear()

    async def _subject(self, key: str) -> Subject[S]:
        subject = self._subjects.get(key)
        if subject is None:
            subject = Subject(key, None, {})
            if key in self.written:
                (stored,) = await ledger.load_keys(self._connection, [key])
                state = self._handlers.join(stored.doc, stored.parts)
                subject = Subject(key, state, stored.positions, tuple(stored.folded))
            self._subjects[key] = subject
        return subject

    async def _changed(self, subject: Subject[S], before: S | None) -> None:
        assert subject.state is not None
        _, parts = self._handlers.split(before, subject.state)
        self._parts.setdefault(subject.key, {}).update(parts)
        if len(self._parts) >= _SUBJECTS_IN_MEMORY:
            await self.flush()


_POSITIONED = frozenset(topic.name for topic in REQUEST_TOPICS)


async def publish_rest(pool: Pool, bus: Bus, publisher: Publisher) -> int:
    """Publishes what the outbox of a database still holds, as the next owner of its lanes would; how much that was.

    Of a restored backup it is what was published long ago: a repetition, with the same ids and positions.
    """
    rest: list[Outgoing] = []
    for row in await pool.fetch("select partition, published from lane order by partition"):
        rest.extend(await ledger.load_outbox(pool, row["partition"], row["published"]))
    await bus.publish([publisher.sealed(record) for record in rest])
    return len(rest)


class Rebuild(Generic[S]):
    """The database of one service with lanes, made again from the topics. Its tables are there and empty."""

    def __init__(
        self, service: str, source: str, handlers: Handlers[S], registry: Registry, kafka: Access, progress: Progress
    ) -> None:
        self._service = service
        self._source = source
        self._handlers = handlers
        self._registry = registry
        self._kafka = kafka
        self._progress = progress
        self._own_topics = recovery.written_by(service, handlers.inbox)[:-1]
        self._chain = Registry(registry.root)
        self.found = Rebuilt()

    async def run(self, database: str) -> Rebuilt:
        """Rebuilds every lane. `database`: the URL of the service's own role.

        KafkaError, asyncpg.PostgresError, OSError: as they come; what was written until then is refused at a start.
        """
        connection = await asyncpg.connect(database)
        try:
            traces = await self._read_rejections()
            for partition in range(self._handlers.inbox.partitions):
                async with connection.transaction():
                    await self._lane(connection, partition, traces[partition])
            topics = (self._handlers.inbox, *self._handlers.follows, *self._own_topics, REJECTIONS)
            await recovery.keep_ids(connection, await recovery.ids_of(self._kafka, topics))
        finally:
            await connection.close()
        return self.found

    async def _lane(self, connection: Connection, partition: int, trace: Trace) -> None:
        topics = [t for t in (*self._own_topics, *self._handlers.follows) if partition < t.partitions]
        where = [TopicPartition(topic.name, partition) for topic in (*topics, self._handlers.inbox)]
        folded: Fold[S] = Fold(self._handlers, connection, partition)
        async with Reading.of(self._kafka, where, f"{self._service}, lane {partition}", self._progress) as reading:
            await self._fold(reading, partition, trace, folded)
            await folded.flush()
            place = await self._place(reading, partition, trace)
        await ledger.rewrite_identities(
            connection,
            [
                (partition, source, id, known.core, known.offset, known.outcome)
                for (source, id), known in trace.known.items()
            ],
        )
        offsets = {**trace.followed, self._handlers.inbox.name: place.next_offset}
        await ledger.rewrite_lane(
            connection,
            partition,
            epoch=int(time.time()),
            next_offsets={topic: offset for topic, offset in offsets.items() if offset},
            step=trace.step,
            log_time=place.log_time,
            doc=folded.doc,
            handled=place.handled,
        )
        self.found.requests += len(folded.written)
        self.found.submissions += len(trace.known)
        self.found.unsettled += place.unsettled

    # --- what happened -----------------------------------------------------------------------------------------------

    async def _fold(self, reading: Reading, partition: int, trace: Trace, folded: Fold[S]) -> None:
        """The lane's own events in the order in which they were made; before each, what the lane had read by then."""
        others = {
            topic.name: _Followed(reading.records(topic, partition))
            for topic in self._handlers.follows
            if partition < topic.partitions
        }

        async def follow(to: dict[str, int]) -> None:
            for topic, followed in others.items():
                async for record in followed.until(to.get(topic, 0)):
                    await self._fold_other(record, folded)

        streams = [
            self._own(reading.records(topic, partition)) for topic in self._own_topics if partition < topic.partitions
        ]
        async for own, incoming in _merged(streams):
            await follow(own.followed)
            is_statement = incoming.event.source == self._source
            if not await folded.own(incoming, is_statement):
                continue
            self.found.events += 1
            trace.note(own)
            if not is_statement:
                core = read_material(incoming.event).core
                assert core is not None, "its signature was checked"
                trace.known[incoming.event.source, incoming.event.id] = Known(core)
        await follow(trace.followed)

    async def _fold_other(self, record: Record, folded: Fold[S]) -> None:
        try:
            incoming = read_public(record, self._registry)
        except Doubtful as doubt:
            # The line passed it over too.
            log.warning(
                "rebuild.doubtful",
                **of_record(record),
                why=str(doubt),
            )
            return
        await folded.others(incoming)

    async def _own(self, records: AsyncIterator[Record]) -> AsyncIterator[tuple[Own, Incoming]]:
        async for record in records:
            try:
                incoming = self._read_own(record)
                own = Own.of(incoming.event)
            except (Doubtful, NotRegistered, BadEnvelope, Refused, KeyError, ValueError) as error:
                log.warning(
                    "rebuild.ignored",
                    **of_record(record),
                    why=str(error),
                )
                self.found.ignored += 1
                continue
            yield own, incoming

    def _read_own(self, record: Record) -> Incoming:
        """A record of a topic of ours, if it is by whom it must be."""
        if record.topic in _POSITIONED:
            return read_public(record, self._registry)
        event = from_kafka(record.key, record.headers, record.value)
        if record.topic == MEMBERS.name:
            self._chain.next_offset = record.offset
            if not self._chain.apply(event):
                raise NotRegistered(f"{event.type} {event.id}: a repetition")
        else:
            self._check(event, record)
        kind, source = EVENTS[event.type], Source.parse(event.source)
        assert source is not None, "it is signed with a registered key"
        at = from_millis(record.timestamp)
        return Incoming(record.topic, record.partition, record.offset, at, event, kind, read_data(event, kind), source)

    def _check(self, event: Event, record: Record) -> None:
        if why := trust.doubt(event, record.topic, from_millis(record.timestamp), self._registry):
            raise Doubtful(why)

    async def _read_rejections(self) -> list[Trace]:
        """By lane: which offsets of its inbox were rejected, and how far it had come."""
        traces = [Trace() for _ in range(self._handlers.inbox.partitions)]
        where = [TopicPartition(REJECTIONS.name, partition) for partition in range(REJECTIONS.partitions)]
        async with Reading.of(self._kafka, where, f"{self._service}, {REJECTIONS.name}", self._progress) as reading:
            for partition in range(REJECTIONS.partitions):
                async for record in reading.records(REJECTIONS, partition):
                    try:
                        event = from_kafka(record.key, record.headers, record.value)
                        rejected = recovery.rejected_in(event, self._handlers.inbox, self._source)
                        if rejected is None:
                            continue
                        self._check(event, record)
                        own = Own.of(event)
                    except (BadEnvelope, Doubtful, KeyError, ValueError) as error:
                        log.warning(
                            "rebuild.ignored",
                            **of_record(record),
                            why=str(error),
                        )
                        self.found.ignored += 1
                        continue
                    trace = traces[rejected.partition]
                    trace.note(own)
                    _note_rejection(trace, rejected)
                    self.found.events += 1
        return traces

    # --- where the lane goes on --------------------------------------------------------------------------------------

    async def _place(self, reading: Reading, partition: int, trace: Trace) -> Place:
        """Reads the inbox again without deciding: what is done with, and where to go on."""
        place, now, begun = Place(), None, False
        async for record in reading.records(self._handlers.inbox, partition):
            at = from_millis(record.timestamp)
            now = at if now is None else max(now, at)
            settled = self._is_settled(record, trace)
            if settled is None:
                continue
            if not settled:
                begun = True
                place.unsettled += 1
            elif begun:
                place.handled.append(record.offset)
            else:
                place.next_offset, place.log_time = record.offset + 1, now
        return place

    def _is_settled(self, record: Record, trace: Trace) -> bool | None:
        """Whether a record of the inbox is done with. None: a tick or a repetition, which may be handled again."""
        rejected = trace.rejected.get(record.offset)
        if rejected is not None:
            if rejected.name is not None:
                trace.known[rejected.name].offset = record.offset
            return True
        try:
            event = from_kafka(record.key, record.headers, record.value)
            core = read_material(event).core
        except BadEnvelope:
            return False
        if event.type == TICK.type and event.source == self._source:
            return None
        known = trace.known.get((event.source, event.id))
        if known is None or known.core != core:
            return False
        if known.offset >= 0:
            return None
        known.offset = record.offset
        return True


def _note_rejection(trace: Trace, rejected: SubmissionRejected) -> None:
    name = core = None
    if rejected.reason not in _WITHOUT_IDENTITY and rejected.original_base64 is not None:
        event = _original(rejected.original_base64)
        name, core = (event.source, event.id), read_material(event).core
        assert core is not None, "its signature was checked"
        trace.known[name] = Known(core, outcome=rejected.reason)
    trace.rejected[rejected.offset] = Rejected(rejected.reason, name, core)


def _original(text: str) -> Event:
    """The submission that a rejection carries (`admission.original_base64`)."""
    whole = json.loads(base64.b64decode(text))
    headers = [(name, base64.b64decode(value)) for name, value in whole["headers"]]
    return from_kafka(base64.b64decode(whole["key"]), headers, base64.b64decode(whole["value"]))


class _Followed:
    """A public topic that the lane follows, read on as far as it had read it."""

    def __init__(self, records: AsyncIterator[Record]) -> None:
        self._records = records
        self._next: Record | None = None
        self._begun = False

    async def until(self, offset: int) -> AsyncIterator[Record]:
        """What comes before an offset and was not given yet."""
        if not self._begun:
            self._begun, self._next = True, await anext(self._records, None)
        while self._next is not None and self._next.offset < offset:
            yield self._next
            self._next = await anext(self._records, None)


async def _merged(
    streams: Iterable[AsyncIterator[tuple[Own, Incoming]]],
) -> AsyncIterator[tuple[Own, Incoming]]:
    """The lane's events, over all its topics, in the order in which it made them."""
    heads: list[tuple[int, int, int, Own, Incoming, AsyncIterator[tuple[Own, Incoming]]]] = []

    async def take(n: int, stream: AsyncIterator[tuple[Own, Incoming]]) -> None:
        if (head := await anext(stream, None)) is not None:
            own, incoming = head
            heapq.heappush(heads, (own.step, own.ordinal, n, own, incoming, stream))

    for n, stream in enumerate(streams):
        await take(n, stream)
    while heads:
        _, _, n, own, incoming, stream = heapq.heappop(heads)
        yield own, incoming
        await take(n, stream)
