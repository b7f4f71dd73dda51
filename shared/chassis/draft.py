"""One transaction's worth of records, worked out in memory: committed whole or forgotten.

Everything here is a function of what was read and of the lane's committed state; nothing is changed outside the draft
until its transaction stands.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic

from chassis import parking
from chassis.admission import Judgement, Record, original_base64
from chassis.bus import Outgoing
from chassis.facts import Fact, Incoming, LaneView, NotYet, Refused
from chassis.handlers import Handlers, S
from chassis.ledger import Parked, Transaction
from chassis.publication import Publisher, public_topic
from qalqan.envelope import Event
from qalqan.events import TICK, SubmissionRejected
from qalqan.instants import from_millis
from qalqan.registry import Registry
from qalqan.topics import REQUEST_TOPICS


@dataclass(slots=True)
class Subject(Generic[S]):
    """A request in memory: its state and the last position given, or read, on each topic."""

    key: str
    state: S | None
    positions: dict[str, int]


@dataclass(slots=True)
class Committed(Generic[S]):
    """A lane's state as its last transaction left it."""

    partition: int
    epoch: int
    next_offsets: dict[str, int]
    step: int
    published: int
    log_time: datetime
    doc: dict[str, Any]
    subjects: dict[str, Subject[S]]
    parked: list[Parked]
    alarms: list[tuple[datetime, str]]
    """A heap of (when, key); an entry whose time is no longer its subject's is passed over."""


class Draft(Generic[S]):
    """The next transaction of a lane, record by record."""

    def __init__(
        self,
        lane: Committed[S],
        handlers: Handlers[S],
        publisher: Publisher,
        registry: Registry,
        key_id: str,
        seen: dict[tuple[str, str], bytes],
        cold: dict[str, Subject[S]],
    ) -> None:
        self._lane = lane
        self._cold = cold
        self._handlers = handlers
        self._publisher = publisher
        self._registry = registry
        self._key_id = key_id
        self._seen = seen
        self.next_offsets = dict(lane.next_offsets)
        self.log_time = lane.log_time
        self.doc: dict[str, Any] = lane.doc
        self.step = lane.step + 1
        self.subjects: dict[str, Subject[S]] = {}
        self.identities: dict[tuple[str, str], tuple[bytes, int, str | None]] = {}
        self.outgoing: list[tuple[Outgoing, int | None]] = []
        self.parked: list[Parked] = []
        self.unparked: set[int] = set()
        self._alarms = list(lane.alarms)

    # --- records -----------------------------------------------------------------------------------------------------

    def take_submission(self, record: Record, judgement: Judgement) -> None:
        """A record of the inbox: first the deadlines at or before it fall, then it is handled."""
        self._fall_due(record)
        self.next_offsets[record.topic] = record.offset + 1
        identity, outcome = judgement.identity, None
        if identity is not None:
            known = self._core_of(identity.source, identity.id)
            if known == identity.core:
                return  # a repetition: silent, without a second effect
            if known is not None:
                refused = Refused("duplicate-id", f"id {identity.id!r} was another event's, of the same source")
                self._reject(record, refused, judgement.envelope)
                return
        try:
            if judgement.refused is not None:
                raise judgement.refused
            assert judgement.incoming is not None
            if judgement.incoming.kind is TICK:
                return  # its time has come with it; nothing else is in it
            self._submit(record, judgement.incoming, judgement.members_offset)
        except Refused as refused:
            outcome = refused.reason
            self._reject(record, refused, judgement.envelope)
        if identity is not None:
            self.identities[identity.source, identity.id] = (identity.core, record.offset, outcome)

    def take_fact(self, record: Record, incoming: Incoming) -> None:
        """A record of a public topic: folded, then its consequences, then whatever waited for it."""
        self.next_offsets[record.topic] = record.offset + 1
        subject = self._subject(self._handlers.key_of(incoming))
        position = int(incoming.event.extensions.get("position", "0"))
        if position:
            if position <= subject.positions.get(record.topic, 0):
                return  # its writer delivered it again: without a second effect
            subject.positions[record.topic] = position
        given = Fact(incoming.data, incoming.event, incoming.recorded_at)
        subject.state = self._handlers.evolve(subject.state, given)
        view = self._view(now=incoming.recorded_at)
        for fact in self._handlers.decide(subject.state, incoming, view):
            self._state(subject, fact, view, incoming, self._registry.next_offset)
        self._set_alarm(subject)
        self._resume(subject.key)

    def at_offset(self, record: Record) -> bool:
        """Whether a record is still to be handled: PostgreSQL's offsets rule."""
        return bool(record.offset >= self.next_offsets.get(record.topic, 0))

    # --- submissions -------------------------------------------------------------------------------------------------

    def _submit(self, record: Record, incoming: Incoming, members_offset: int) -> None:
        key = self._handlers.key_of(incoming)
        try:
            queue = _pledge_of(incoming)
            if queue is not None and any(p.queue == queue and p.key == key for p in self._waiting()):
                raise NotYet(queue)
            self._admit(incoming, key, members_offset)
        except NotYet as not_yet:
            row = parking.park(record, incoming, key, not_yet.queue)
            if not parking.room_for(row, self._waiting()):
                raise Refused("rate-limited", f"too many submissions wait for request {key}") from None
            self.parked.append(row)
            heapq.heappush(self._alarms, (row.parked_at + parking.WAIT, key))

    def _admit(self, incoming: Incoming, key: str, members_offset: int) -> None:
        subject = self._subject(key)
        view = self._view(now=self.log_time)
        for fact in self._handlers.decide(subject.state, incoming, view):
            self._state(subject, fact, view, incoming, members_offset)
        self._set_alarm(subject)

    def _resume(self, key: str) -> None:
        """What waited for a request is handled, in the order it came, as if it came now."""
        waiting = [parked for parked in self._waiting() if parked.key == key]
        still: set[str] = set()
        for parked in waiting:
            if parked.queue in still:
                continue
            record, incoming = parking.unpark(parked, self._lane.partition)
            try:
                self._admit(incoming, key, self._registry.next_offset)
            except NotYet:
                still.add(parked.queue)
                continue
            except Refused as refused:
                self._settle(incoming, parked, refused)
                self._reject(record, refused, incoming.event)
            self._unpark(parked)

    def _expire(self, key: str) -> None:
        """What has waited its time is refused: it stands on a request that nobody raised."""
        for parked in [parked for parked in self._waiting() if parked.key == key]:
            if parked.parked_at + parking.WAIT <= self.log_time:
                record, incoming = parking.unpark(parked, self._lane.partition)
                refused = Refused("unknown-request", f"no request {key} was raised within {_seconds(parking.WAIT)} s")
                self._settle(incoming, parked, refused)
                self._reject(record, refused, incoming.event)
                self._unpark(parked)

    def _settle(self, incoming: Incoming, parked: Parked, refused: Refused) -> None:
        """Notes the outcome of a submission that waited within this very draft; an older row keeps its own."""
        name = (incoming.event.source, incoming.event.id)
        if name in self.identities:
            core, offset, _ = self.identities[name]
            self.identities[name] = (core, offset, refused.reason)

    def _waiting(self) -> Iterable[Parked]:
        for parked in (*self._lane.parked, *self.parked):
            if parked.offset not in self.unparked:
                yield parked

    def _unpark(self, parked: Parked) -> None:
        self.unparked.add(parked.offset)

    # --- time --------------------------------------------------------------------------------------------------------

    def _fall_due(self, record: Record) -> None:
        """Log time moves to the record's append time; deadlines up to there fall, oldest first, before the record."""
        self.log_time = max(self.log_time, _append_time(record))
        while self._alarms and self._alarms[0][0] <= self.log_time:
            at, key = heapq.heappop(self._alarms)
            self._expire(key)
            subject = self._subject(key)
            if subject.state is None or self._handlers.due_at(subject.state) != at:
                continue
            view = self._view(now=at)
            for fact in self._handlers.due(subject.state, view):
                self._state(subject, fact, view, None, self._registry.next_offset)
            self._set_alarm(subject)

    def _set_alarm(self, subject: Subject[S]) -> None:
        at = None if subject.state is None else self._handlers.due_at(subject.state)
        if at is not None and (at, subject.key) not in self._alarms[:1]:
            heapq.heappush(self._alarms, (at, subject.key))

    # --- facts -------------------------------------------------------------------------------------------------------

    def _state(
        self, subject: Subject[S], fact: Fact, view: LaneView, cause: Incoming | None, members_offset: int
    ) -> None:
        """A fact happens: the state evolves and its record joins the outbox at the key's next position."""
        subject.state = self._handlers.evolve(subject.state, fact)
        self.doc = dict(self._handlers.evolve_lane(self.doc, fact))
        topic = public_topic(fact)
        position = mode = None
        if topic in REQUEST_TOPICS:
            position = subject.positions.get(topic.name, 0) + 1
            subject.positions[topic.name] = position
            mode = self._handlers.mode_of(subject.state)
        record_key = subject.key if fact.event is None else fact.event.subject or subject.key
        record = self._publisher.record(
            fact,
            record_key,
            mode=mode,
            position=position,
            step=self.step,
            now=view.now,
            members_offset=members_offset,
            cause=cause,
        )
        self.outgoing.append((record, position))

    def _reject(self, record: Record, refused: Refused, envelope: Event | None) -> None:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        original = None if refused.reason == "too-large" else original_base64(record)
        data = SubmissionRejected(
            source_topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=refused.reason,
            detail=refused.detail,
            original_base64=original,
        )
        outgoing = self._publisher.record(
            Fact(data, recorded_at=_append_time(record)),
            place,
            mode=None,
            position=None,
            step=self.step,
            now=self.log_time,
            members_offset=self._registry.next_offset,
            cause=None,
        )
        self.outgoing.append((outgoing, None))

    # --- state -------------------------------------------------------------------------------------------------------

    def _subject(self, key: str) -> Subject[S]:
        subject = self.subjects.get(key)
        if subject is None:
            known = self._known(key)
            subject = Subject(key, None, {}) if known is None else replace(known, positions=dict(known.positions))
            self.subjects[key] = subject
        return subject

    def _known(self, key: str) -> Subject[S] | None:
        """A request as it was before this draft: from the hot set, or loaded for this draft alone."""
        return self._lane.subjects.get(key) or self._cold.get(key)

    def _core_of(self, source: str, id: str) -> bytes | None:
        here = self.identities.get((source, id))
        return here[0] if here is not None else self._seen.get((source, id))

    def _view(self, now: datetime) -> LaneView:
        return LaneView(
            self._lane.partition,
            now,
            self.next_offsets.get(self._handlers.inbox.name, 0),
            self._registry,
            self._key_id,
            self.doc,
        )

    # --- the transaction ---------------------------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """What the draft writes."""
        tx = Transaction(
            self._lane.partition,
            self._lane.epoch,
            self._lane.next_offsets,
            self.next_offsets,
            self.step,
            self.log_time,
            self.doc,
            self._lane.published,
            identities=[
                (source, id, core, offset, outcome)
                for (source, id), (core, offset, outcome) in self.identities.items()
            ],
            parked=[parked for parked in self.parked if parked.offset not in self.unparked],
            unparked=[parked.offset for parked in self._lane.parked if parked.offset in self.unparked],
            outgoing=self.outgoing,
        )
        for subject in self._changed():
            assert subject.state is not None
            before = self._known(subject.key)
            doc, parts = self._handlers.split(before.state if before else None, subject.state)
            tx.subjects.append(
                (subject.key, before is None, self._handlers.is_open(subject.state), subject.positions, doc)
            )
            tx.parts.extend((subject.key, name, part) for name, part in parts)
        return tx

    def apply(self) -> None:
        """The transaction stands: the lane's committed state becomes the draft's."""
        lane = self._lane
        for subject in list(self._changed()):
            assert subject.state is not None
            if self._handlers.is_open(subject.state):
                lane.subjects[subject.key] = subject
            else:
                lane.subjects.pop(subject.key, None)
        lane.next_offsets = self.next_offsets
        lane.log_time = self.log_time
        lane.doc = self.doc
        lane.step = self.step
        lane.parked = list(self._waiting())
        lane.alarms = self._alarms
        self._seen.update({name: core for name, (core, _, _) in self.identities.items()})

    def _changed(self) -> Iterable[Subject[S]]:
        for subject in self.subjects.values():
            known = self._known(subject.key)
            if subject.state is not None and (
                known is None or known.state is not subject.state or known.positions != subject.positions
            ):
                yield subject


def _pledge_of(incoming: Incoming) -> str | None:
    """What a submission queues behind: its pledge."""
    return getattr(incoming.data, "pledge_id", None)


def _append_time(record: Record) -> datetime:
    return from_millis(record.timestamp)


def _seconds(wait: timedelta) -> int:
    return int(wait.total_seconds())
