"""What a service brings to the lane: its topics, its domain, and how its state is stored."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from chassis import parking
from chassis.facts import Fact, Incoming, LaneView
from chassis.metrics import Measure
from qalqan.topics import Topic

Doc = dict[str, Any]
S = TypeVar("S")


class Handlers(ABC, Generic[S]):
    """A service, as its lanes see it. `S` is the state of one request: immutable, replaced at each fact.

    Nothing here awaits, does I/O or reads a clock (but where a docstring says so): the lane does. What few services
    need has a default: no deadline, nothing kept for the whole lane, the subject as the key of the state.
    """

    inbox: ClassVar[Topic]
    """The inbox whose append times are the lane's clock."""
    follows: ClassVar[Sequence[Topic]] = ()
    """Public topics of the same lane."""

    def key_of(self, incoming: Incoming) -> str:
        """Whose state a record is about: its request's id."""
        assert incoming.event.subject is not None
        return incoming.event.subject

    @abstractmethod
    def decide(self, state: S | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """What follows from a record. Refused or NotYet for a submission that is not admitted (yet)."""

    @abstractmethod
    def evolve(self, state: S | None, fact: Fact) -> S:
        """The state after a fact."""

    def evolve_lane(self, doc: Mapping[str, Any], fact: Fact) -> Mapping[str, Any]:
        """What the service keeps for the whole lane, after a fact."""
        return doc

    def due_at(self, state: S) -> datetime | None:
        """When the next deadline of this state falls, in log time."""
        return None

    def due(self, state: S, lane: LaneView) -> list[Fact]:
        """What a deadline at or before `lane.now` brings."""
        return []

    def patience(self, state: S | None) -> timedelta:
        """How long what is not admitted yet may wait, in log time."""
        return parking.WAIT

    def measures(self, states: Iterable[S], now: datetime) -> list[Measure]:
        """How the open states stand, for `GET /metrics`."""
        return []

    @abstractmethod
    def mode_of(self, state: S) -> str:
        """`actual`, `exercise` or `test`."""

    @abstractmethod
    def is_open(self, state: S) -> bool:
        """Whether the state belongs to the hot set."""

    @abstractmethod
    def split(self, before: S | None, after: S) -> tuple[Doc, list[tuple[str, Any]]]:
        """The state as it is stored: its document, and the named parts that changed."""

    @abstractmethod
    def join(self, doc: Doc, parts: Mapping[str, Any]) -> S:
        """The state from its document and all its parts."""
