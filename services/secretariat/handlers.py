"""Kafka in: `inbox.governance`, to `members`."""

from collections.abc import Mapping
from typing import Any

from chassis.facts import Fact, Incoming, LaneView
from chassis.handlers import Doc, Handlers
from qalqan.topics import INBOX_GOVERNANCE
from services.secretariat import domain, store
from services.secretariat.domain import Register

REGISTER = "register"
"""There is one register, whatever state or key a registration is about."""


class SecretariatHandlers(Handlers[Register]):
    """The secretariat service, as its one lane sees it."""

    inbox = INBOX_GOVERNANCE

    def key_of(self, incoming: Incoming) -> str:
        """The one register."""
        return REGISTER

    def decide(self, state: Register | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """A registration, admitted."""
        return domain.decide(state, incoming, lane.registry.network)

    def evolve(self, state: Register | None, fact: Fact) -> Register:
        """The register after it."""
        return domain.evolve(state, fact)

    def mode_of(self, state: Register) -> str:
        """Members and keys have no mode; `members` carries none."""
        return "actual"

    def is_open(self, state: Register) -> bool:
        """Always."""
        return True

    def split(self, before: Register | None, after: Register) -> tuple[Doc, list[tuple[str, Any]]]:
        """As the store has it."""
        return store.split(before, after)

    def join(self, doc: Doc, parts: Mapping[str, Any]) -> Register:
        """As the store had it."""
        return store.join(doc, parts)
