"""One transaction's worth of records, worked out in memory: committed whole or forgotten.

Everything here is a function of what was read and of the lane's committed state; nothing is changed outside the draft
until its transaction stands.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, cast

import structlog

from chassis import parking
from chassis.admission import Judgement, Record, original_base64
from chassis.alarms import AlarmChanges, Alarms
from chassis.bus import Outgoing
from chassis.facts import Fact, Incoming, LaneView, NotYet, Refused
from chassis.handlers import Handlers, S
from chassis.ledger import LaneRow, Parked, SubjectRow, Transaction
from chassis.publication import Publisher, public_topic
from qalqan.complaints import shown
from qalqan.envelope import Event
from qalqan.events import TICK, Reason, SubmissionRejected
from qalqan.instants import from_millis
from qalqan.registry import Registry
from qalqan.topics import REQUEST_TOPICS

log = structlog.get_logger()

_START_OF_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Subject(Generic[S]):
    """A request in memory: its state and the last position given, or read, on each topic."""

    key: str
    state: S | None
    positions: dict[str, int]
    folded: tuple[str, ...] = ()
    """Facts of others that are in the state, by who stated them and their id."""


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
    parked: dict[str, list[Parked]]
    """What waits, by request."""
    alarms: Alarms
    handled: frozenset[int] = frozenset()
    """Offsets of the inbox beyond the next one that are done with all the same (`chassis.rebuild`)."""

    @classmethod
    def loaded(
        cls,
        partition: int,
        row: LaneRow,
        subjects: dict[str, Subject[S]],
        parked: Iterable[Parked],
        handlers: Handlers[S],
    ) -> "Committed[S]":
        """A lane as the database has it."""
        waiting: dict[str, list[Parked]] = {}
        for item in parked:
            waiting.setdefault(item.key, []).append(item)
        alarms = Alarms()
        for key in subjects.keys() | waiting.keys():
            state = subjects[key].state if key in subjects else None
            alarms.set(key, _alarm(handlers, state, waiting.get(key, ())))
        log_time = row.log_time or _START_OF_TIME
        return cls(
            partition,
            row.epoch,
            row.next_offsets,
            row.step,
            row.published,
            log_time,
            row.doc,
            subjects,
            waiting,
            alarms,
            row.handled,
        )


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
        self.refusals: list[Reason] = []
        self.parked: list[Parked] = []
        self._parked_of: dict[str, list[Parked]] = {}
        self._loads: dict[str, parking.Load] | None = None
        self.outcomes: dict[tuple[str, str], str] = {}
        self.unparked: set[int] = set()
        self._unparked_keys: set[str] = set()
        self._alarms = AlarmChanges(lane.alarms)

    # --- records -----------------------------------------------------------------------------------------------------

    def take_submission(self, record: Record, judgement: Judgement) -> None:
        """A record of the inbox: first the deadlines at or before it fall, then it is handled."""
        self._fall_due(record)
        self.next_offsets[record.topic] = record.offset + 1
        if record.offset in self._lane.handled:
            return
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

    def pass_over(self, record: Record) -> None:
        """A record that nobody believes: only its place is noted."""
        self.next_offsets[record.topic] = record.offset + 1

    def take_fact(self, record: Record, incoming: Incoming) -> None:
        """A record of a public topic: folded, then its consequences, then whatever waited for it."""
        self.next_offsets[record.topic] = record.offset + 1
        subject = self._subject(self._handlers.key_of(incoming))
        if not fold(self._handlers, subject, incoming):
            return
        view = self._view(now=incoming.recorded_at)
        for fact in self._handlers.decide(subject.state, incoming, view):
            self._state(subject, fact, view, incoming, self._registry.next_offset)
        self._resume(subject.key)
        self._set_alarm(subject.key)

    def at_offset(self, record: Record) -> bool:
        """Whether a record is still to be handled: PostgreSQL's offsets rule."""
        return bool(record.offset >= self.next_offsets.get(record.topic, 0))

    # --- submissions -------------------------------------------------------------------------------------------------

    def _submit(self, record: Record, incoming: Incoming, members_offset: int) -> None:
        key = self._handlers.key_of(incoming)
        try:
            queue = _pledge_of(incoming)
            if queue is not None and any(parked.queue == queue for parked in self._waiting(key)):
                raise NotYet(queue)
            self._admit(incoming, key, members_offset)
        except NotYet as not_yet:
            self._park(parking.park(record, incoming, key, not_yet.queue, members_offset))
        self._set_alarm(key)

    def _admit(self, incoming: Incoming, key: str, members_offset: int) -> None:
        subject = self._subject(key)
        view = self._view(now=self.log_time)
        for fact in self._handlers.decide(subject.state, incoming, view):
            self._state(subject, fact, view, incoming, members_offset)

    def _resume(self, key: str) -> None:
        """What waited for a request is handled, in the order it came, as if it came now."""
        still: set[str] = set()
        for parked in list(self._waiting(key)):
            if parked.queue in still:
                continue
            record, incoming = parking.unpark(parked, self._lane.partition)
            try:
                self._admit(incoming, key, parked.members_offset)
            except NotYet:
                still.add(parked.queue)
                continue
            except Refused as refused:
                self._settle(incoming, parked, refused)
                self._reject(record, refused, incoming.event)
            self._unpark(parked)

    def _expire(self, key: str) -> None:
        """What has waited its time is refused for what it still lacks; what stood behind it is no longer held up."""
        patience = self._handlers.patience(self._subject(key).state)
        late = [parked for parked in self._waiting(key) if parked.parked_at + patience <= self.log_time]
        for parked in late:
            record, incoming = parking.unpark(parked, self._lane.partition)
            refused = Refused("unknown-request", f"no request {key} was raised within {_seconds(parking.WAIT)} s")
            try:
                self._admit(incoming, key, parked.members_offset)
            except NotYet as not_yet:
                refused = not_yet.otherwise or refused
            except Refused as meant:
                refused = refused if meant.reason == refused.reason else meant
            else:
                self._unpark(parked)
                continue
            self._settle(incoming, parked, refused)
            self._reject(record, refused, incoming.event)
            self._unpark(parked)
        if late:
            self._resume(key)

    def _settle(self, incoming: Incoming, parked: Parked, refused: Refused) -> None:
        """Notes the outcome of a submission that waited: in this very draft, or since an earlier one."""
        name = (incoming.event.source, incoming.event.id)
        if name in self.identities:
            core, offset, _ = self.identities[name]
            self.identities[name] = (core, offset, refused.reason)
        else:
            self.outcomes[name] = refused.reason

    def _waiting(self, key: str) -> Iterator[Parked]:
        """What waits for a request, in the order it came."""
        for parked in (*self._lane.parked.get(key, ()), *self._parked_of.get(key, ())):
            if parked.offset not in self.unparked:
                yield parked

    def _park(self, row: Parked) -> None:
        of_source = self._load_of(row.source)
        if not parking.room_for(row, sum(1 for _ in self._waiting(row.key)), of_source):
            detail = f"no request {shown(row.key)} is known, and too many submissions wait already"
            raise Refused("unknown-request", detail)
        self.parked.append(row)
        self._parked_of.setdefault(row.key, []).append(row)
        of_source.add(row)

    def _unpark(self, parked: Parked) -> None:
        if self._loads is not None:
            self._loads[parked.source].remove(parked)
        self.unparked.add(parked.offset)
        self._unparked_keys.add(parked.key)

    def _load_of(self, source: str) -> parking.Load:
        """What waits of a source. Counted when the first one of a draft comes to wait, then kept: a flood must not be
        walked through again for each of its records."""
        if self._loads is None:
            self._loads = {}
            for key in self._lane.parked:
                for row in self._waiting(key):
                    self._loads.setdefault(row.source, parking.Load()).add(row)
        return self._loads.setdefault(source, parking.Load())

    # --- time --------------------------------------------------------------------------------------------------------

    def _fall_due(self, record: Record) -> None:
        """Log time moves to the record's append time; deadlines up to there fall, oldest first, before the record."""
        self.log_time = max(self.log_time, _append_time(record))
        while (alarm := self._alarms.next_due(self.log_time)) is not None:
            at, key = alarm
            self._expire(key)
            subject = self._subject(key)
            if subject.state is not None and self._handlers.due_at(subject.state) == at:
                view = self._view(now=at)
                for fact in self._handlers.due(subject.state, view):
                    self._state(subject, fact, view, None, self._registry.next_offset)
            self._set_alarm(key)
            assert self._alarms.at(key) != at, f"the deadline of {key} at {at} fell and still stands"

    def _set_alarm(self, key: str) -> None:
        """The earliest of the state's own deadline and the end of what waits for it."""
        self._alarms.set(key, _alarm(self._handlers, self._subject(key).state, self._waiting(key)))

    # --- facts -------------------------------------------------------------------------------------------------------

    def _state(
        self, subject: Subject[S], fact: Fact, view: LaneView, cause: Incoming | None, members_offset: int
    ) -> None:
        """A fact happens: the state evolves and its record joins the outbox at the key's next position."""
        subject.state = cast(S, fact.after) if fact.after is not None else self._handlers.evolve(subject.state, fact)
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
            ordinal=len(self.outgoing),
            followed=self._followed(),
        )
        self.outgoing.append((record, position))

    def _reject(self, record: Record, refused: Refused, envelope: Event | None) -> None:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        self.refusals.append(refused.reason)
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
            Fact(data, recorded_at=max(self.log_time, _append_time(record))),
            place,
            mode=None,
            position=None,
            step=self.step,
            now=self.log_time,
            members_offset=self._registry.next_offset,
            cause=None,
            ordinal=len(self.outgoing),
            followed=self._followed(),
        )
        self.outgoing.append((outgoing, None))

    def _followed(self) -> dict[str, int]:
        """How far the lane has read what it follows: by this a rebuild folds in the same order."""
        return {topic.name: self.next_offsets.get(topic.name, 0) for topic in self._handlers.follows}

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
                (source, id, core, offset, outcome) for (source, id), (core, offset, outcome) in self.identities.items()
            ],
            outcomes=[(source, id, outcome) for (source, id), outcome in self.outcomes.items()],
            parked=[parked for parked in self.parked if parked.offset not in self.unparked],
            unparked=sorted(self.unparked - {parked.offset for parked in self.parked}),
            outgoing=self.outgoing,
        )
        for subject in self._changed():
            assert subject.state is not None
            before = self._known(subject.key)
            doc, parts = self._handlers.split(before.state if before else None, subject.state)
            is_open = self._handlers.is_open(subject.state)
            tx.subjects.append(
                SubjectRow(subject.key, before is None, is_open, subject.positions, list(subject.folded), doc)
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
        for key in {parked.key for parked in self.parked} | self._unparked_keys:
            if waiting := list(self._waiting(key)):
                lane.parked[key] = waiting
            else:
                lane.parked.pop(key, None)
        self._alarms.apply()
        self._seen.update({name: core for name, (core, _, _) in self.identities.items()})

    def _changed(self) -> Iterable[Subject[S]]:
        for subject in self.subjects.values():
            known = self._known(subject.key)
            if subject.state is not None and (
                known is None or known.state is not subject.state or known.positions != subject.positions
            ):
                yield subject


def fold(handlers: Handlers[S], subject: Subject[S], incoming: Incoming) -> bool:
    """Another service's fact becomes part of a request's state. False: it is in it, or stands where it cannot."""
    position = int(incoming.event.extensions.get("position", "0"))
    name = f"{incoming.event.source}#{incoming.event.id}"
    if position:
        if name in subject.folded:
            return False  # again, whatever place it claims: no signature covers that
        last = subject.positions.get(incoming.topic, 0)
        if position <= last:
            return False  # its writer delivered it again: without a second effect
        if position > last + 1:
            # Its writer leaves no gap: somebody else repeats an event under a place that is not its own.
            log.error(
                "fact.out_of_place",
                request_id=subject.key,
                topic=incoming.topic,
                offset=incoming.offset,
                position=position,
                last=last,
            )
            return False
        subject.positions[incoming.topic] = position
        subject.folded = (*subject.folded, name)
    subject.state = handlers.evolve(subject.state, Fact(incoming.data, incoming.event, incoming.recorded_at))
    return True


def _alarm(handlers: Handlers[S], state: S | None, waiting: Iterable[Parked]) -> datetime | None:
    """The earliest of a state's own deadline and the end of what waits for it."""
    own = None if state is None else handlers.due_at(state)
    patience = handlers.patience(state)
    ends = (parked.parked_at + patience for parked in waiting)
    return min((at for at in (own, *ends) if at is not None), default=None)


def _pledge_of(incoming: Incoming) -> str | None:
    """What a submission queues behind: its pledge."""
    return getattr(incoming.data, "pledge_id", None)


def _append_time(record: Record) -> datetime:
    return from_millis(record.timestamp)


def _seconds(wait: timedelta) -> int:
    return int(wait.total_seconds())
