"""Kafka in: `requests`, `decisions` and `inbox.pledges`; out to `pledges` and `mobilizations`."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from chassis import parking
from chassis.facts import Fact, Incoming, LaneView
from chassis.handlers import Doc, Handlers
from chassis.metrics import Measure
from qalqan.topics import DECISIONS, INBOX_PLEDGES, REQUESTS
from services.pledge import domain, store
from services.pledge.domain import State
from services.pledge.domain.allocator import Allocator
from services.pledge.domain.plan import FIRST_ARRIVAL


class PledgeHandlers(Handlers[State]):
    """The pledge service, as its lanes see it."""

    inbox = INBOX_PLEDGES
    follows = (REQUESTS, DECISIONS)

    def __init__(self, allocator: Allocator = FIRST_ARRIVAL) -> None:
        self._allocator = allocator

    def decide(self, state: State | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """A pledge's next step, and what becomes of the plan."""
        return domain.decide(state, incoming, lane.now, self._allocator)

    def evolve(self, state: State | None, fact: Fact) -> State:
        """The state after a fact."""
        return domain.evolve(state, fact, self._allocator)

    def due_at(self, state: State) -> datetime | None:
        """The next deadline of its pledges."""
        return domain.due_at(state)

    def due(self, state: State, lane: LaneView) -> list[Fact]:
        """What that deadline brings."""
        return domain.due(state, lane.now, self._allocator)

    def patience(self, state: State | None) -> timedelta:
        """A request may still be raised, and the ballot on an amendment be opened; the amendment itself is here within
        moments."""
        expected = state is None or state.content is None or max(state.contents) > state.revision
        return parking.WAIT if expected else parking.WAIT_FOR_NEWS

    def measures(self, states: Iterable[State], now: datetime) -> list[Measure]:
        """Offers that wait for an answer, and requests whose help is under way."""
        known = list(states)
        offers = [pledge for state in known for pledge in state.pledges.values() if pledge.standing == "offered"]
        underway = [state for state in known if state.mobilization is not None]
        return [
            Measure("offers_unanswered", "Offers that the affected state has not answered", len(offers)),
            Measure("open_mobilizations", "Open requests with an authorised mobilisation", len(underway)),
        ]

    def mode_of(self, state: State) -> str:
        """As the request was raised."""
        assert state.mode is not None, "nothing is stated on a request whose content is not known"
        return state.mode

    def is_open(self, state: State) -> bool:
        """Until the request is cancelled or closed; reports that come later load it again."""
        return not state.closed

    def split(self, before: State | None, after: State) -> tuple[Doc, list[tuple[str, Any]]]:
        """As the store has it."""
        return store.split(before, after)

    def join(self, doc: Doc, parts: Mapping[str, Any]) -> State:
        """As the store had it."""
        return store.join(doc, parts)
