"""A tiny service of the tests' own: other `chassis.handlers.Handlers`, and a lane of it in memory.

Offers for a request are laid on a tray for 90 s after the request was taken; then all that lie there are
accepted. A ballot may be heard of before its request: there is a tray then, but nothing can be laid on it
yet.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chassis.admission import Admission, Record, read_public
from chassis.bus import Outgoing
from chassis.draft import Committed, Draft, Subject
from chassis.facts import Fact, Incoming, LaneView, NotYet, Refused, forwarded
from chassis.handlers import Handlers
from chassis.ledger import LaneRow, Parked, Stored, Transaction
from chassis.publication import Publisher
from qalqan.envelope import Event
from qalqan.events import (
    TICK,
    BallotOpened,
    Mode,
    PledgeAccepted,
    PledgeOffered,
    PledgeWithdrawn,
    RequestRaised,
    SubmissionRejected,
    Tick,
    dump,
)
from qalqan.fields import Instant, Model
from qalqan.instants import from_millis
from qalqan.jsontext import canonical
from qalqan.signing import sign
from qalqan.sources import service_source
from qalqan.topics import DECISIONS, INBOX_PLEDGES, REQUESTS, Topic, partition_of
from tests.unit.builders import NETWORK, T0, example
from tests.unit.network import Network, event_of, key_of

OPEN_FOR = timedelta(seconds=90)
SOURCE = service_source(NETWORK, "pledge")
PARTITION = 3
IDS = [name for n in range(100) if partition_of(name := f"TR-2023-{n:04}") == PARTITION]
"""Requests of one lane."""


class Tray(Model):
    """What lies there, and until when."""

    request_id: str
    mode: Mode
    closes_at: Instant | None
    lying: dict[str, int]
    accepted: list[str]


class TrayHandlers(Handlers[Tray]):
    """The service, as its lane sees it."""

    inbox = INBOX_PLEDGES
    follows = (REQUESTS, DECISIONS)

    def key_of(self, incoming: Incoming) -> str:
        assert incoming.event.subject is not None
        return incoming.event.subject

    def decide(self, state: Tray | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        match incoming.data:
            case RequestRaised() | BallotOpened():
                return []
            case PledgeOffered() as offer:
                if state is None or state.closes_at is None:
                    raise NotYet(offer.pledge_id)
                if lane.now >= state.closes_at:
                    raise Refused("too-late", "the tray was taken away")
                if offer.pledge_id in state.lying:
                    raise Refused("not-allowed", "it lies there")
                return [forwarded(incoming)]
            case PledgeWithdrawn() as withdrawn:
                if state is None:
                    raise Refused("unknown-request", "no tray")
                if withdrawn.pledge_id not in state.lying:
                    raise Refused("unknown-pledge", "not on the tray")
                return [forwarded(incoming)]
        raise AssertionError(incoming.data)

    def evolve(self, state: Tray | None, fact: Fact) -> Tray:
        data = fact.data
        if isinstance(data, BallotOpened):
            return state or Tray(
                request_id=data.request_id, mode=data.ballot.mode, closes_at=None, lying={}, accepted=[]
            )
        if isinstance(data, RequestRaised):
            assert fact.recorded_at is not None
            return Tray(
                request_id=data.request_id,
                mode=data.mode,
                closes_at=fact.recorded_at + OPEN_FOR,
                lying={},
                accepted=[],
            )
        assert state is not None
        match data:
            case PledgeOffered():
                return state.model_copy(update={"lying": {**state.lying, data.pledge_id: data.quantity}})
            case PledgeWithdrawn() | PledgeAccepted():
                lying = {name: n for name, n in state.lying.items() if name != data.pledge_id}
                accepted = state.accepted + [data.pledge_id] * isinstance(data, PledgeAccepted)
                return state.model_copy(update={"lying": lying, "accepted": accepted})
        raise AssertionError(data)

    def evolve_lane(self, doc: Mapping[str, Any], fact: Fact) -> Mapping[str, Any]:
        """How many were accepted in the whole lane."""
        return {"accepted": doc.get("accepted", 0) + isinstance(fact.data, PledgeAccepted)}

    def due_at(self, state: Tray) -> datetime | None:
        return state.closes_at if state.lying else None

    def due(self, state: Tray, lane: LaneView) -> list[Fact]:
        return [
            Fact(
                PledgeAccepted(
                    request_id=state.request_id,
                    pledge_id=name,
                    pledge_revision=1,
                    quantity=quantity,
                    by="policy",
                )
            )
            for name, quantity in sorted(state.lying.items())
        ]

    def mode_of(self, state: Tray) -> str:
        return state.mode

    def is_open(self, state: Tray) -> bool:
        """A tray leaves the hot set once something was accepted."""
        return not state.accepted

    def split(self, before: Tray | None, after: Tray) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """What lies there is one part, the rest the document."""
        parts = [("lying", after.lying)] if before is None or before.lying is not after.lying else []
        return after.model_dump(mode="json", exclude={"lying"}), parts

    def join(self, doc: dict[str, Any], parts: Mapping[str, Any]) -> Tray:
        return Tray.model_validate({**doc, "lying": parts["lying"]})


class TrayLane:
    """What `chassis.lane.Lane` does around drafts, with a dictionary for a database."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.handlers = TrayHandlers()
        self.admission = Admission(INBOX_PLEDGES, network.registry, SOURCE)
        self.publisher = Publisher(SOURCE, key_of(SOURCE))
        self.seen: dict[tuple[str, str], bytes] = {}
        self.stored: dict[str, Stored] = {}
        self.out: list[Outgoing] = []
        self.committed = committed()

    def draft(self, batch: Sequence[Record]) -> Draft[Tray]:
        """A draft that has taken these records, as the lane makes it."""
        lane = self.committed
        cold = {key: self._load(key) for key in self.stored if key not in lane.subjects}
        draft = Draft(
            lane, self.handlers, self.publisher, self.network.registry, key_of(SOURCE).key_id, self.seen, cold
        )
        now = lane.log_time
        for taken in batch:
            if not draft.at_offset(taken):
                continue
            if taken.topic == INBOX_PLEDGES.name:
                now = max(now, from_millis(taken.timestamp))
                draft.take_submission(taken, self.admission.judge(taken, now))
            else:
                draft.take_fact(taken, read_public(taken, self.network.registry))
        return draft

    def handle(self, *batch: Record) -> list[Outgoing]:
        """One transaction: what it publishes."""
        draft = self.draft(batch)
        tx = draft.transaction()
        self._store(tx)
        draft.apply()
        made = [out for out, _ in tx.outgoing]
        self.out += made
        return made

    @property
    def waiting(self) -> list[Parked]:
        """What waits, in the order it came."""
        parked = (item for waiting in self.committed.parked.values() for item in waiting)
        return sorted(parked, key=lambda item: item.offset)

    def restart(self) -> None:
        """Everything in memory is lost; what was stored is loaded, as `Lane.open` does."""
        old = self.committed
        loaded = {key: self._load(key) for key in self.stored}
        subjects = {
            key: subject for key, subject in loaded.items() if subject.state and self.handlers.is_open(subject.state)
        }
        row = LaneRow(
            old.epoch + 1,
            dict(old.next_offsets),
            old.step,
            old.published,
            old.log_time,
            json.loads(json.dumps(old.doc)),
        )
        parked = [replace(item) for item in self.waiting]
        self.committed = Committed.loaded(PARTITION, row, subjects, parked, self.handlers)

    def state(self, key: str) -> Tray | None:
        """The state of a request, hot or stored."""
        subject = self.committed.subjects.get(key)
        if subject is not None:
            return subject.state
        return self._load(key).state if key in self.stored else None

    def _store(self, tx: Transaction) -> None:
        for row in tx.subjects:
            parts = self.stored[row.key].parts if row.key in self.stored else {}
            positions, folded, doc = json.loads(json.dumps([row.positions, row.folded, row.doc]))
            self.stored[row.key] = Stored(row.key, positions, folded, doc, parts)
        for key, name, part in tx.parts:
            self.stored[key].parts[name] = json.loads(json.dumps(part))

    def _load(self, key: str) -> Subject[Tray]:
        row = self.stored[key]
        return Subject(key, self.handlers.join(row.doc, row.parts), dict(row.positions), tuple(row.folded))


def committed() -> Committed[Tray]:
    """A lane that nothing has happened in."""
    row = LaneRow(1, {}, 0, 0, T0 - timedelta(days=1), {})
    return Committed.loaded(PARTITION, row, {}, [], TrayHandlers())


class Inbox:
    """Writes records as their senders do: each at the next offset of its topic."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._offsets: dict[str, Iterator[int]] = {}
        self._numbers = iter(range(1, 1_000_000))

    def raised(self, request_id: str, at: datetime, position: int = 1) -> Record:
        """A request, as it stands on `requests`."""
        event = self._network.event(example(RequestRaised, request_id=request_id), at=at)
        extensions = {**event.extensions, "position": f"{position:010d}", "mode": "test"}
        return self.place(replace(event, extensions=extensions), at, REQUESTS)

    def ballot(self, request_id: str, at: datetime) -> Record:
        """A ballot, as it stands on `decisions`."""
        event = self._network.event(example(BallotOpened, request_id=request_id), at=at)
        return self.place(replace(event, extensions={**event.extensions, "position": "0000000001"}), at, DECISIONS)

    def offered(self, request_id: str, pledge_id: str, at: datetime, **changes: Any) -> Record:
        """An offer."""
        return self.place(self.offer(request_id, pledge_id, **changes), at)

    def offer(self, request_id: str, pledge_id: str, event_id: str | None = None, **changes: Any) -> Event:
        """An offer, not yet written."""
        data = example(
            PledgeOffered,
            request_id=request_id,
            pledge_id=pledge_id,
            pledging_state=pledge_id.split("-")[0],
            **changes,
        )
        return self._network.event(data, event_id=event_id or f"e-{next(self._numbers)}")

    def withdrawn(self, request_id: str, pledge_id: str, at: datetime) -> Record:
        """A withdrawal."""
        data = example(PledgeWithdrawn, request_id=request_id, pledge_id=pledge_id)
        return self.place(self._network.event(data, event_id=f"e-{next(self._numbers)}"), at)

    def tick(self, at: datetime) -> Record:
        """The service's own alarm clock."""
        event = Event(
            id=f"tick-{at}",
            source=SOURCE,
            type=TICK.type,
            subject=IDS[0],
            time=None,
            datacontenttype="application/json",
            data=canonical(dump(Tick(at=at))),
        )
        return self.place(sign(event, key_of(SOURCE)), at)

    def place(self, event: Event, at: datetime, topic: Topic = INBOX_PLEDGES) -> Record:
        """The record of an event at the topic's next offset."""
        offset = next(self._offsets.setdefault(topic.name, iter(range(1_000_000))))
        return self._network.record(event, offset, at, topic)


def told(outgoing: Iterable[Outgoing]) -> list[str]:
    """What was published, in short: the event's name, with a pledge's id or a rejection's reason."""
    words = []
    for out in outgoing:
        event = event_of(out)
        name = event.type.split(".")[1]
        data = json.loads(event.data)
        more = data["reason"] if name == SubmissionRejected.__name__ else data.get("pledge_id", "")
        words.append(f"{name} {more}".strip())
    return words
