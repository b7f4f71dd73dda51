"""Kafka in: `requests` opens and ends ballots, `inbox.votes` fills them; out to `votes` and `decisions`."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from chassis.facts import Fact, Incoming, LaneView
from chassis.handlers import Doc, Handlers
from chassis.metrics import Measure
from qalqan.events import BallotClosed, RequestContent
from qalqan.topics import INBOX_VOTES, REQUESTS
from services.consensus import domain, store
from services.consensus.domain import Chain, Court, Rules, State


def wall_clock() -> datetime:
    """The one place where a wall clock is read: `opened_at`, which is then written into the event."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class ConsensusHandlers(Handlers[State]):
    """The consensus service, as its lanes see it."""

    inbox = INBOX_VOTES
    follows = (REQUESTS,)

    def __init__(self, rules: Rules = domain.DEFAULT, clock: Callable[[], datetime] = wall_clock) -> None:
        self._rules = rules
        self._clock = clock

    def decide(self, state: State | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """A ballot opened, a vote counted, a ballot closed."""
        now = self._clock() if isinstance(incoming.data, RequestContent) else lane.now
        return domain.decide(state, incoming, _court(lane, now), self._rules)

    def evolve(self, state: State | None, fact: Fact) -> State:
        """The state after a fact."""
        return domain.evolve(state, fact)

    def evolve_lane(self, doc: Mapping[str, Any], fact: Fact) -> Mapping[str, Any]:
        """The head of the partition's chain of certificates."""
        if not isinstance(fact.data, BallotClosed):
            return doc
        return {"serial": fact.data.certificate["serial"], "previous": fact.data.decision_digest}

    def due_at(self, state: State) -> datetime | None:
        """The deadline of the open ballot, or at once what is owed after a rebuild."""
        return domain.due_at(state)

    def due(self, state: State, lane: LaneView) -> list[Fact]:
        """The ballot closes at its deadline; one that is owed opens now."""
        now = self._clock() if state.ballot is None else lane.now
        return domain.due(state, _court(lane, now), self._rules)

    def measures(self, states: Iterable[State], now: datetime) -> list[Measure]:
        """The ballots that take votes, and how long the oldest has been open."""
        opened = [ballot.record.opened_at for state in states if (ballot := state.open_ballot()) is not None]
        age_s = (now - min(opened, default=now)).total_seconds()
        return [
            Measure("open_ballots", "Ballots that take votes", len(opened)),
            Measure("oldest_ballot_age_seconds", "How long the oldest of them has been open", age_s),
        ]

    def mode_of(self, state: State) -> str:
        """As the request was raised."""
        return state.mode

    def is_open(self, state: State) -> bool:
        """Until the request is cancelled or closed and nothing is to be decided on it any more."""
        return state.status in ("anticipated", "open") or state.open_ballot() is not None

    def split(self, before: State | None, after: State) -> tuple[Doc, list[tuple[str, Any]]]:
        """As the store has it."""
        return store.split(before, after)

    def join(self, doc: Doc, parts: Mapping[str, Any]) -> State:
        """As the store had it."""
        return store.join(doc, parts)


def _court(lane: LaneView, now: datetime) -> Court:
    chain = Chain.of(lane.partition, lane.doc)
    return Court(lane.partition, now, lane.next_offset, lane.registry, lane.key_id, chain)
