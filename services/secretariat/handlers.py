"""Kafka in: `inbox.governance`, to `members`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chassis.facts import Fact, Incoming, LaneView
from qalqan.topics import INBOX_GOVERNANCE, Topic
from services.secretariat import domain, store
from services.secretariat.domain import Register

_REGISTER = "register"
"""There is one register, whatever state or key a registration is about."""


class SecretariatHandlers:
    """The secretariat service, as its one lane sees it."""

    inbox: Topic = INBOX_GOVERNANCE
    follows: tuple[Topic, ...] = ()
    split = staticmethod(store.split)
    join = staticmethod(store.join)

    def key_of(self, incoming: Incoming) -> str:
        """The one register."""
        return _REGISTER

    def decide(self, state: Register | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """A registration, admitted."""
        return domain.decide(state, incoming, lane.registry.network)

    def evolve(self, state: Register | None, fact: Fact) -> Register:
        """The register after it."""
        return domain.evolve(state, fact)

    def evolve_lane(self, doc: Mapping[str, Any], fact: Fact) -> Mapping[str, Any]:
        """Nothing is kept for the whole lane."""
        return doc

    def due_at(self, state: Register) -> datetime | None:
        """The register has no deadline."""
        return None

    def due(self, state: Register, lane: LaneView) -> list[Fact]:
        """Nothing falls due."""
        return []

    def mode_of(self, state: Register) -> str:
        """Members and keys have no mode; `members` carries none."""
        return "actual"

    def is_open(self, state: Register) -> bool:
        """Always."""
        return True
