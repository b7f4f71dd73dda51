"""A lane: one owner, one order, no effect twice (DESIGN "Lanes").

Life of a batch: judge (signatures) -> draft (in memory) -> commit (one statement, fenced) -> publish (from memory, in
order). PostgreSQL's offsets rule: whatever fails, the next owner starts from them.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic

import asyncpg
import structlog

from chassis import ledger, metrics
from chassis.admission import FIRST_POSITION, Admission, Doubtful, Judgement, Record, read_public
from chassis.bus import Bus, Outgoing
from chassis.database import RETRY_S, TRANSIENT, Pool, patiently
from chassis.draft import Committed, Draft, Subject
from chassis.facts import Incoming, Refused
from chassis.follower import Follower
from chassis.handlers import Handlers, S
from chassis.ledger import Stored, Transaction
from chassis.metrics import LaneStanding
from chassis.publication import Publisher
from chassis.telemetry import of_record, request_id, request_ids
from chassis.traces import Handling, Traces
from qalqan.envelope import Event
from qalqan.instants import from_millis
from qalqan.topics import REQUESTS

log = structlog.get_logger()

Facts = dict[tuple[str, int], Incoming | None]

_BATCH = 500
_QUEUE_HIGH = 2_000
_QUEUE_LOW = 500
_WAVES_AHEAD = 8
_SEEN = 2 * _BATCH
"""What is looked up for a batch must stay until the batch is worked out again. More than that is not worth its memory
(half a kilobyte each, in every lane): the database finds a repetition that comes later."""
_MARK_AFTER_S = 1.0
_NAMED = 10
_PRUNE_EVERY_S = 3600.0


class FenceLost(Exception):
    """Another owner has the lane: nothing of ours was written, and nothing more may be."""


class Seen(OrderedDict[tuple[str, str], bytes]):
    """Identities handled lately: the common repetition is answered from memory, the others from the database."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Adds identities and forgets the oldest beyond a bound."""
        super().update(*args, **kwargs)
        while len(self) > _SEEN:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Wave:
    """What a transaction has to publish; `caused_at`: when the broker took the oldest record behind it, by topic;
    `handling`: what its trace tells, where there is one."""

    step: int
    records: list[Outgoing]
    caused_at: dict[str, float]
    handling: Handling | None = None


class Lane(Generic[S]):
    """Partition p of all the keyed topics of a service, owned by this replica since `open`."""

    def __init__(
        self,
        partition: int,
        *,
        handlers: Handlers[S],
        pool: Pool,
        bus: Bus,
        follower: Follower,
        publisher: Publisher,
        admission: Admission,
        key_id: str,
        replica: str,
        on_alarm: Callable[[], None],
        pause: Callable[[int, bool], None],
        judges_by_its_own_word: bool = False,
        traces: Traces | None = None,
    ) -> None:
        self.partition = partition
        self._traces = traces
        self._judges_by_its_own_word = judges_by_its_own_word
        self._handlers = handlers
        self._pool = pool
        self._bus = bus
        self._follower = follower
        self._publisher = publisher
        self._admission = admission
        self._key_id = key_id
        self._replica = replica
        self._on_alarm = on_alarm
        self._pause = pause
        self._queue: list[Record] = []
        self._arrived = asyncio.Event()
        self._waves: asyncio.Queue[Wave] = asyncio.Queue(_WAVES_AHEAD)
        self._unsent_since: float | None = None
        self._seen = Seen()
        self._paused = False
        self.committed: Committed[S]

    # --- taking and leaving ------------------------------------------------------------------------------------------

    async def open(self) -> dict[str, int]:
        """Takes the lane: epoch + 1, hot state, what the outbox still holds. Returns the offsets to seek to."""
        row = await patiently(lambda: ledger.take_lane(self._pool, self.partition, self._replica))
        # Its later steps are ours: by them anyone can tell which replica wrote a public event.
        log.info("lane.taken", partition=self.partition, epoch=row.epoch, step=row.step)
        stored = await patiently(lambda: ledger.load_open(self._pool, self.partition))
        parked = await patiently(lambda: ledger.load_parked(self._pool, self.partition))
        rest = await patiently(lambda: ledger.load_outbox(self._pool, self.partition, row.published))
        subjects = {item.key: self._subject(item) for item in stored}
        self.committed = Committed.loaded(self.partition, row, subjects, parked, self._handlers)
        if rest:
            log.info("lane.outbox", partition=self.partition, records=len(rest))
            await self._bus.publish([self._publisher.sealed(record) for record in rest])
            self.committed.published = row.step
        return dict(row.next_offsets)

    async def run(self) -> None:
        """Works until cancelled; FenceLost when the lane is another's; anything else is a bug and stops the service."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish())
            tasks.create_task(self._keep_outbox())
            await self._work()

    def feed(self, records: Sequence[Record]) -> None:
        """Hands over records as they were polled. Never blocks; a full lane's partitions are paused."""
        self._queue.extend(records)
        self._arrived.set()
        if len(self._queue) > _QUEUE_HIGH and not self._paused:
            self._paused = True
            self._pause(self.partition, True)

    def standing(self) -> LaneStanding:
        """How it stands, for `GET /metrics`."""
        topics = (self._handlers.inbox, *self._handlers.follows)
        reached = self.committed.next_offsets
        ends = {topic.name: self._bus.end(topic.name, self.partition) for topic in topics}
        return LaneStanding(
            self.partition,
            {topic: max(0, end - reached.get(topic, 0)) for topic, end in ends.items()},
            sum(len(waiting) for waiting in self.committed.parked.values()),
            self._unsent_since,
            {topic: reached.get(topic, 0) for topic in ends},
        )

    @property
    def next_alarm(self) -> datetime | None:
        """When the next deadline falls, as far as is known."""
        return self.committed.alarms.first()

    # --- work --------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            size = 1 if self._judges_by_its_own_word else _BATCH
            batch, self._queue = self._queue[:size], self._queue[size:]
            if not self._queue:
                self._arrived.clear()
            if self._paused and len(self._queue) < _QUEUE_LOW:
                self._paused = False
                self._pause(self.partition, False)
            await self._handle(batch)
            if self._judges_by_its_own_word:
                # What it has just admitted (a key) may sign the next record: out with it, and read it back.
                await self._waves.join()
                await self._follower.catch_up()

    async def _handle(self, batch: list[Record]) -> None:
        try:
            await self._transact(batch)
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            if len(batch) == 1:
                await self._refuse(batch[0], error)
                return
            # One record that cannot be stored must cost only itself.
            about = request_ids(record.key for record in batch)
            log.warning(
                "lane.batch_failed", partition=self.partition, records=len(batch), request_ids=about, error=repr(error)
            )
            for record in batch:
                await self._handle([record])

    async def _refuse(self, record: Record, error: Exception) -> None:
        """A submission that the database will not hold is refused; a public fact that it will not hold is a bug."""
        if record.topic != self._handlers.inbox.name:
            raise error
        refused = Refused("bad-data", f"it cannot be stored: {error}")
        log.warning(
            "submission.cannot_be_stored",
            **of_record(record),
            error=repr(error),
        )
        await self._transact([record], {record.offset: Judgement(None, refused, None, 0)})

    async def _transact(self, batch: Sequence[Record], judged: dict[int, Judgement] | None = None) -> None:
        begun_ns = drafted_ns = 0 if self._traces is None else time.time_ns()
        judgements = judged or await self._judge(batch)
        facts = {
            (record.topic, record.offset): await self._believe(record)
            for record in batch
            if not self._is_submission(record)
        }
        known: list[Stored] = []
        while True:
            draft = await self._draft(batch, judgements, facts, known)
            if draft.next_offsets == self.committed.next_offsets:
                return
            tx = draft.transaction()
            if self._traces is not None:
                drafted_ns = time.time_ns()
            try:
                _, wave = await asyncio.gather(self._commit(tx), self._seal(tx))
                break
            except asyncpg.UniqueViolationError as error:
                # Somebody repeats what is not in memory any more: look it up and work the batch out again.
                if error.constraint_name == "inbox_pkey":
                    names = [(source, id) for source, id, _, _, _ in tx.identities]
                    load = partial(ledger.load_identities, self._pool, self.partition, names)
                    self._seen.update(await patiently(load))
                    continue
                keys = [row.key for row in tx.subjects if row.is_new]
                known += (found := await patiently(partial(ledger.load_keys, self._pool, keys)))
                if not found:
                    raise
        draft.apply()
        for reason in draft.refusals:
            metrics.REJECTED.labels(reason).inc()
        if log.is_enabled_for(logging.DEBUG):
            _tell(_readable(batch, judgements, facts), tx)
        handling = None
        if self._traces is not None:
            signed = {at: found for at, found in judgements.items() if found.identity is not None}
            handled = _readable(batch, signed, facts)  # nobody else writes into a request's trace
            handling = Handling(tx.step, handled, begun_ns, drafted_ns, time.time_ns())
        if tx.outgoing:
            self._unsent_since = self._unsent_since or time.time()
            await self._waves.put(Wave(tx.step, wave, metrics.caused_at(batch), handling))
        else:
            self._trace(handling, ())
        self._on_alarm()

    def _is_submission(self, record: Record) -> bool:
        return bool(record.topic == self._handlers.inbox.name)

    async def _believe(self, record: Record) -> Incoming | None:
        """A public record, if it is by whom it must be; else None: it is passed over, and said loudly."""
        try:
            return await self._follower.believed(partial(read_public, record), from_millis(record.timestamp))
        except Doubtful as doubt:
            metrics.DOUBTED.labels(record.topic).inc()
            log.error(
                "fact.doubtful",
                **of_record(record),
                why=str(doubt),
            )
            return None

    async def _judge(self, batch: Sequence[Record]) -> dict[int, Judgement]:
        now = self.committed.log_time
        at: dict[int, datetime] = {}
        submissions = [record for record in batch if self._is_submission(record)]
        for record in submissions:
            now = at[record.offset] = max(now, from_millis(record.timestamp))
        judgements = {record.offset: self._admission.judge(record, at[record.offset]) for record in submissions}
        unknown = [
            record
            for record in submissions
            if (refused := judgements[record.offset].refused) is not None and refused.reason == "unknown-key"
        ]
        if unknown:
            # All of them were appended before we ask: one look at `members` answers for the whole batch, so that a
            # flood of forgeries costs no more than one.
            await self._follower.catch_up(until=max(at[record.offset] for record in unknown))
            judgements.update({r.offset: self._admission.judge(r, at[r.offset]) for r in unknown})
        return judgements

    async def _draft(
        self, batch: Sequence[Record], judgements: dict[int, Judgement], facts: Facts, known: Sequence[Stored]
    ) -> Draft[S]:
        cold = await self._load_cold(judgements, facts)
        cold.update({item.key: self._subject(item) for item in known})
        draft = Draft(
            self.committed,
            self._handlers,
            self._publisher,
            self._follower.registry,
            self._key_id,
            self._seen,
            cold,
        )
        for record in batch:
            if not draft.at_offset(record):
                continue
            if self._is_submission(record):
                draft.take_submission(record, judgements[record.offset])
            elif (fact := facts[record.topic, record.offset]) is not None:
                draft.take_fact(record, fact)
            else:
                draft.pass_over(record)
        return draft

    async def _load_cold(self, judgements: dict[int, Judgement], facts: Facts) -> dict[str, Subject[S]]:
        """Requests that are not in the hot set: closed, or new.

        The first event of a key needs no look: should it be a repetition, the commit finds the key taken.
        """
        submitted = (judgement.incoming for judgement in judgements.values())
        keys = {
            self._handlers.key_of(incoming)
            for incoming in (*submitted, *facts.values())
            if incoming is not None and not _begins(incoming)
        }
        missing = [key for key in keys if key not in self.committed.subjects]
        if not missing:
            return {}
        stored = await patiently(lambda: ledger.load_keys(self._pool, missing))
        return {item.key: self._subject(item) for item in stored}

    def _subject(self, item: Stored) -> Subject[S]:
        return Subject(item.key, self._handlers.join(item.doc, item.parts), item.positions, tuple(item.folded))

    async def _seal(self, tx: Transaction) -> list[Outgoing]:
        """What it has to publish, signed while the database has the transaction."""
        for _ in range(2):
            await asyncio.sleep(0)  # first the statement is written to its socket
        return [self._publisher.sealed(record) for record, _ in tx.outgoing]

    async def _commit(self, tx: Transaction) -> None:
        """Commits, through failures of the database: an answer that was lost is looked up, never guessed."""
        attempt = 0
        while True:
            try:
                if await ledger.commit(self._pool, tx):
                    return
                lost = True
            except TRANSIENT as error:
                about = [row.key for row in tx.subjects[:_NAMED]]
                log.warning("database.commit_failed", partition=self.partition, request_ids=about, error=repr(error))
                lost = False
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            if lost or attempt:
                row = await patiently(lambda: ledger.read_lane(self._pool, self.partition))
                if row.epoch != tx.epoch:
                    raise FenceLost(f"lane {self.partition} is at epoch {row.epoch}, ours is {tx.epoch}")
                if row.step == tx.step and row.next_offsets == tx.next_offsets:
                    return
                if lost:
                    raise FenceLost(f"lane {self.partition} stands at {row.next_offsets}, not where we left it")

    # --- publishing --------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        while True:
            waves = [await self._waves.get()]
            while not self._waves.empty():
                waves.append(self._waves.get_nowait())
            await self._bus.publish([record for wave in waves for record in wave.records])
            self.committed.published = waves[-1].step
            self._unsent_since = None if self._waves.empty() else time.time()
            for wave in waves:
                _count(wave)
                self._trace(wave.handling, wave.records)
                self._waves.task_done()

    def _trace(self, handling: Handling | None, outgoing: Sequence[Outgoing]) -> None:
        if handling is not None and self._traces is not None:
            self._traces.handled(handling, outgoing, time.time_ns())

    async def _keep_outbox(self) -> None:
        """Off the path: notes what is out when no transaction comes by to note it, and forgets what is long out."""
        marked, pruned_at = self.committed.published, -_PRUNE_EVERY_S
        while True:
            await asyncio.sleep(_MARK_AFTER_S)
            published, now = self.committed.published, time.monotonic()
            try:
                if published != marked:
                    await ledger.mark_published(self._pool, self.partition, self.committed.epoch, published)
                    marked = published
                if now - pruned_at > _PRUNE_EVERY_S:
                    await ledger.prune_outbox(self._pool, self.partition)
                    pruned_at = now
            except TRANSIENT as error:
                log.warning("database.outbox_not_kept", partition=self.partition, error=repr(error))


def _readable(batch: Sequence[Record], judgements: dict[int, Judgement], facts: Facts) -> list[tuple[Record, Event]]:
    """The records of a batch with their events, where those could be read."""
    found = []
    for record in batch:
        if (record.topic, record.offset) in facts:
            fact = facts[record.topic, record.offset]
            event = None if fact is None else fact.event
        else:
            judged = judgements.get(record.offset)
            event = None if judged is None else judged.envelope
        if event is not None:
            found.append((record, event))
    return found


def _tell(handled: Iterable[tuple[Record, Event]], tx: Transaction) -> None:
    """Line by line what a transaction took and what it gives, for whoever looks for one request."""
    for record, event in handled:
        log.debug(
            "record.handled",
            **of_record(record),
            type=event.type,
            event_id=event.id,
            step=tx.step,
        )
    for sent, position in tx.outgoing:
        about = dict(sent.headers)
        log.debug(
            "event.stands",
            request_id=request_id(sent.key),
            topic=sent.topic,
            partition=sent.partition,
            position=position,
            type=about["ce_type"].decode(),
            event_id=about["ce_id"].decode(),
            step=tx.step,
        )


def _count(wave: Wave) -> None:
    metrics.took_effect(wave.caused_at)
    for topic, events in Counter(record.topic for record in wave.records).items():
        metrics.PUBLISHED.labels(topic).inc(events)


def _begins(incoming: Incoming) -> bool:
    """Whether a record is the first word of a new request. (A submission's own `position` would be anybody's claim.)"""
    return incoming.topic == REQUESTS.name and incoming.event.extensions.get("position") == FIRST_POSITION
