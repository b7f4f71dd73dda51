"""What a service brings to the lane: its topics, its domain, and how its state is stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from chassis.facts import Fact, Incoming, LaneView
from qalqan.topics import Topic

Doc = dict[str, Any]


S = TypeVar("S")


class Handlers(Protocol[S]):
    """A service, as the lane sees it. `S` is the state of one request: immutable, replaced at each fact.

    Nothing here awaits, reads a clock (but where a docstring says so) or does I/O: the lane does.
    """

    @property
    def inbox(self) -> Topic:
        """The inbox whose append times are the lane's clock."""
        ...

    @property
    def follows(self) -> Sequence[Topic]:
        """Public topics of the same lane."""
        ...

    def key_of(self, incoming: Incoming) -> str:
        """Whose state a record is about: its request's id."""
        ...

    def decide(self, state: S | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """What follows from a record. Refused or NotYet for a submission that is not admitted (yet)."""
        ...

    def evolve(self, state: S | None, fact: Fact) -> S:
        """The state after a fact."""
        ...

    def evolve_lane(self, doc: Mapping[str, Any], fact: Fact) -> Mapping[str, Any]:
        """What the service keeps for the whole lane, after a fact."""
        ...

    def due_at(self, state: S) -> datetime | None:
        """When the next deadline of this state falls, in log time."""
        ...

    def due(self, state: S, lane: LaneView) -> list[Fact]:
        """What a deadline at or before `lane.now` brings."""
        ...

    def mode_of(self, state: S) -> str:
        """`actual`, `exercise` or `test`."""
        ...

    def is_open(self, state: S) -> bool:
        """Whether the state belongs to the hot set."""
        ...

    def split(self, before: S | None, after: S) -> tuple[Doc, list[tuple[str, Any]]]:
        """The state as it is stored: its document, and the named parts that changed."""
        ...

    def join(self, doc: Doc, parts: Mapping[str, Any]) -> S:
        """The state from its document and all its parts."""
        ...
