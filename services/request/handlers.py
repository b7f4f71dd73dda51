"""Kafka in: `inbox.requests`, to `requests`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from chassis.facts import Fact, Incoming, LaneView
from chassis.handlers import Doc, Handlers
from chassis.metrics import Measure
from qalqan.topics import INBOX_REQUESTS
from services.request import domain, store
from services.request.domain import Request


class RequestHandlers(Handlers[Request]):
    """The request service, as its lanes see it."""

    inbox = INBOX_REQUESTS

    def decide(self, state: Request | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """What the affected state says, admitted."""
        return domain.decide(state, incoming, lane.now)

    def evolve(self, state: Request | None, fact: Fact) -> Request:
        """The entry after a fact."""
        return domain.evolve(state, fact)

    def measures(self, states: Iterable[Request], now: datetime) -> list[Measure]:
        """The requests that are open."""
        return [Measure("open_requests", "Requests that are open", sum(1 for _ in states))]

    def mode_of(self, state: Request) -> str:
        """As raised."""
        return state.mode

    def is_open(self, state: Request) -> bool:
        """Until cancelled or closed."""
        return state.status in ("anticipated", "open")

    def split(self, before: Request | None, after: Request) -> tuple[Doc, list[tuple[str, Any]]]:
        """As the store has it."""
        return store.split(before, after)

    def join(self, doc: Doc, parts: Mapping[str, Any]) -> Request:
        """As the store had it."""
        return store.join(doc, parts)
