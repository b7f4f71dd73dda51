"""What a reader of the live stream is shown of a public record, and who wants to see which. Pure."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from qalqan.envelope import Event, to_structured
from qalqan.events import EVENTS
from qalqan.instants import format_instant, from_millis
from qalqan.sources import states_concerned
from qalqan.topics import MEMBERS


@dataclass(frozen=True)
class Entry:
    """A public event in the stream: `seq` is its place, the same for every reader and after every restart."""

    seq: int
    body: str

    @cached_property
    def event(self) -> dict[str, Any]:
        """The structured CloudEvent, and where and when it stands on Kafka."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @cached_property
    def states(self) -> frozenset[str]:
        """Whom it concerns: the state that says it, and the affected state of its request."""
        return states_concerned(self.event["source"], self.event.get("subject") or "", "mode" in self.event)

    @cached_property
    def frame(self) -> bytes:
        """It as a server-sent event: made once, for all readers."""
        return f"id: {self.seq}\r\ndata: {self.body}\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a reader wants: of any of these requests, and of any of these states, and so on; empty: of all."""

    requests: Collection[str] = ()
    states: Collection[str] = ()
    types: Collection[str] = ()
    modes: Collection[str] = ()
    everything: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "everything", not (self.requests or self.states or self.types or self.modes))

    @property
    def register(self) -> bool:
        """Whether nothing is among them but what stands on the register of members and keys."""
        return bool(self.types) and not self.requests and all(EVENTS[name].topic is MEMBERS for name in self.types)

    def __call__(self, entry: Entry) -> bool:
        """Whether the entry is among them."""
        if self.everything:
            return True
        event = entry.event
        return (
            (not self.requests or event.get("subject") in self.requests)
            and (not self.types or event["type"] in self.types)
            and (not self.modes or event.get("mode") in self.modes)
            and (not self.states or not entry.states.isdisjoint(self.states))
        )


EVERYTHING = Wanted()


def body_of(event: Event, topic: str, partition: int, offset: int, appended_ms: int) -> str:
    """The structured CloudEvent, with where it stands on Kafka and when it was appended there as extensions."""
    appended = format_instant(from_millis(appended_ms))
    where = {"topic": topic, "partition": partition, "offset": offset, "appendedtime": appended}
    return json.dumps({**to_structured(event), **where})
