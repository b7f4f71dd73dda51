"""One request before the members, as the consensus service's shell holds it but without broker and database.

Deadlines fall before the record that brings the time; every step is stored and loaded as the lane does it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from chassis.admission import read_public
from chassis.bus import Outgoing
from chassis.facts import Fact, Incoming, forwarded
from chassis.publication import Publisher, public_topic
from qalqan import topics
from qalqan.envelope import Event, to_kafka
from qalqan.events import (
    BallotClosed,
    BallotOpened,
    Position,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
    VoteCast,
)
from qalqan.fields import Model
from qalqan.registry import Registry
from qalqan.sources import service_source
from services.consensus import store
from services.consensus.domain import DEFAULT, Chain, Court, Rules, State, decide, due, due_at, evolve
from tests.unit.builders import NETWORK, REQUEST_ID, T0, example
from tests.unit.network import Network, event_of, published

CONSENSUS = service_source(NETWORK, "consensus")


@dataclass
class Hearing:
    """The way of one request: what was stated, what stands on public topics, the state."""

    network: Network
    rules: Rules = DEFAULT
    request_id: str = REQUEST_ID
    chain: Chain = field(default_factory=lambda: Chain(f"decisions-{topics.partition_of(REQUEST_ID)}"))
    offset: int = 100
    """Of `inbox.votes`: the next record's."""
    state: State | None = None
    facts: list[Fact] = field(default_factory=list)
    topics_written: list[Event] = field(default_factory=list)
    """The events of the public topics, in the order they were folded."""
    _doc: dict[str, Any] = field(default_factory=dict)
    _parts: dict[str, Any] = field(default_factory=dict)

    # --- what happens --------------------------------------------------------------------------------------

    def raised(self, at: datetime = T0, opened_at: datetime | None = None, **changes: object) -> list[Model]:
        """The request comes in on `requests`; the ballot opens at `opened_at` of the wall clock (else at
        `at`)."""
        data = example(
            RequestRaised,
            request_id=self.request_id,
            affected_state=self.request_id.split("-")[0],
            **changes,
        )
        return self._read(data, at, opened_at or at)

    def cancelled(self, at: datetime) -> list[Model]:
        """The request is cancelled."""
        return self._read(example(RequestCancelled, request_id=self.request_id), at, at)

    def closed(self, at: datetime) -> list[Model]:
        """The request is closed."""
        return self._read(example(RequestClosed, request_id=self.request_id), at, at)

    def votes(
        self,
        state: str,
        position: Position = "approve",
        *,
        at: datetime,
        sequence: int = 1,
        by: str | None = None,
        **changes: object,
    ) -> list[Model]:
        """A vote comes in, on the ballot that is or was open.

        Raises Refused; deadlines stay fallen all the same.
        """
        vote = {
            "request_id": self.request_id,
            "ballot_id": self.ballot_id,
            "state": state,
            "sequence": sequence,
            "position": position,
            "reason": "no overflight" if position == "object" else None,
            "declaration": "we stand aside" if position == "constructive-abstain" else None,
            **changes,
        }
        record = self.network.incoming(example(VoteCast, **vote), by=by or state, at=at, offset=self.offset)
        fallen = self.time_comes(at)
        self.offset += 1
        stated = decide(self.state, record, self._court(at, record.offset), self.rules)
        return fallen + self._fold(stated, record)

    def time_comes(self, at: datetime) -> list[Model]:
        """Any record of the inbox, at `at`: the deadlines up to there fall, and nothing else happens."""
        stated: list[Model] = []
        while self.state is not None and (deadline := due_at(self.state)) is not None and deadline <= at:
            stated += self._fold(due(self.state, self._court(deadline, self.offset), self.rules), None)
        return stated

    # --- what is known -------------------------------------------------------------------------------------

    @property
    def ballot_id(self) -> str:
        """Of the newest ballot; a digest that is none before there is one."""
        opened = [fact.data for fact in self.facts if isinstance(fact.data, BallotOpened)]
        return opened[-1].ballot_id if opened else "sha256:" + "0" * 64

    @property
    def closings(self) -> list[BallotClosed]:
        """What closed ballots."""
        return [fact.data for fact in self.facts if isinstance(fact.data, BallotClosed)]

    @property
    def closing(self) -> BallotClosed:
        """What closed the one ballot."""
        (closed,) = self.closings
        return closed

    @property
    def closing_event(self) -> Event:
        """The signed event that closed the one ballot."""
        (event,) = [event for event in self.topics_written if b'"certificate"' in event.data]
        return event

    def rebuilt(self) -> State | None:
        """The state folded from the public topics through `evolve` alone."""
        state = None
        for event in self.topics_written:
            state = evolve(state, forwarded(read_back(event, self.network.registry)))
        return state

    # --- the shell -----------------------------------------------------------------------------------------

    def _read(self, data: Model, at: datetime, now: datetime) -> list[Model]:
        record = self.network.incoming(data, at=at, topic=topics.REQUESTS)
        self._fold([forwarded(record)], None)
        return self._fold(decide(self.state, record, self._court(now, self.offset), self.rules), record)

    def _court(self, now: datetime, next_offset: int) -> Court:
        partition = topics.partition_of(self.request_id)
        key = self.network.keys[CONSENSUS]
        return Court(partition, now, next_offset, self.network.registry, key.key_id, self.chain)

    def _fold(self, facts: Sequence[Fact], cause: Incoming | None) -> list[Model]:
        before = self.state
        for fact in facts:
            self.state = evolve(self.state, fact)
            assert fact.after in (None, self.state)
            self.facts.append(fact)
            self.topics_written.append(self._publish(fact, cause))
            if isinstance(fact.data, BallotClosed):
                serial = fact.data.certificate["serial"]
                assert isinstance(serial, int)
                self.chain = Chain(self.chain.name, serial, fact.data.decision_digest)
        self._store(before)
        return [fact.data for fact in facts]

    def _publish(self, fact: Fact, cause: Incoming | None) -> Event:
        same_topic = [event for event in self.topics_written if event.extensions["x"] == public_topic(fact).name]
        publisher = Publisher(CONSENSUS, self.network.keys[CONSENSUS])
        record = publisher.record(
            fact,
            self.request_id,
            mode="actual",
            position=len(same_topic) + 1,
            step=len(self.topics_written),
            now=T0,
            members_offset=self.network.registry.next_offset,
            cause=cause,
        )
        event = event_of(publisher.sealed(record))
        # A note for ourselves, where it was written: unsigned, as every extension.
        return replace(event, extensions={**event.extensions, "x": record.topic})

    def _store(self, before: State | None) -> None:
        """As a transaction does: the document anew, the parts that changed; loading gives the same state."""
        assert self.state is not None
        if self.state is before:
            return
        doc, parts = store.split(before, self.state)
        self._doc = json.loads(json.dumps(doc))
        self._parts |= json.loads(json.dumps(dict(parts)))
        loaded = store.join(self._doc, self._parts)
        assert loaded == self.state
        self.state = loaded


def read_back(event: Event, registry: Registry) -> Incoming:
    """An event of a public topic, as its readers get it."""
    key, value, headers = to_kafka(event)
    topic = event.extensions["x"]
    record = published(Outgoing(topic, topics.partition_of(key.decode()), key, value, headers))
    return read_public(record, registry)
