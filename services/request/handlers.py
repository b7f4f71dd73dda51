"""Kafka in: `inbox.requests`, to `requests`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chassis.facts import Fact, Incoming, LaneView
from qalqan.topics import INBOX_REQUESTS, Topic
from services.request import domain, store
from services.request.domain import Request


class RequestHandlers:
    """The request service, as its lanes see it."""

    inbox: Topic = INBOX_REQUESTS
    follows: tuple[Topic, ...] = ()
    split = staticmethod(store.split)
    join = staticmethod(store.join)

    def key_of(self, incoming: Incoming) -> str:
        """The request's id."""
        assert incoming.event.subject is not None
        return incoming.event.subject

    def decide(self, state: Request | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """What the affected state says, admitted."""
        return domain.decide(state, incoming, lane.now)

    def evolve(self, state: Request | None, fact: Fact) -> Request:
        """The entry after a fact."""
        return domain.evolve(state, fact)

    def evolve_lane(self, doc: Mapping[str, Any], fact: Fact) -> Mapping[str, Any]:
        """Nothing is kept for the whole lane."""
        return doc

    def due_at(self, state: Request) -> datetime | None:
        """A request has no deadline of its own."""
        return None

    def due(self, state: Request, lane: LaneView) -> list[Fact]:
        """Nothing falls due."""
        return []

    def mode_of(self, state: Request) -> str:
        """As raised."""
        return state.mode

    def is_open(self, state: Request) -> bool:
        """Until cancelled or closed."""
        return state.status == "open"
