"""A public event that was seen, whether it is to be believed, and whether anybody asked for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qalqan.client import Message
from qalqan.envelope import to_structured
from qalqan.events import EVENTS, type_of
from qalqan.instants import format_instant, from_millis
from qalqan.sources import Source, states_concerned
from qalqan.topics import BY_NAME, REQUEST_TOPICS


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event where it stands. `doubt`: why it is not to be believed; None: its signature and its signer were
    checked."""

    message: Message
    doubt: str | None

    @property
    def source(self) -> Source | None:
        """Who says it."""
        return Source.parse(self.message.event.source)

    @property
    def request_id(self) -> str | None:
        """The request it belongs to; a rejection and a registration belong to none."""
        message = self.message
        topic = BY_NAME.get(message.topic)
        return message.event.subject if topic in REQUEST_TOPICS else None

    @property
    def mode(self) -> str | None:
        """`actual`, `exercise` or `test`: as signed in the data where it stands there, else as the topic's writer has
        it."""
        data = self.message.data
        ballot = data.get("ballot")
        signed = data.get("mode") or (ballot.get("mode") if isinstance(ballot, Mapping) else None)
        return signed if isinstance(signed, str) else self.message.event.extensions.get("mode")

    def structured(self) -> dict[str, Any]:
        """The CloudEvent in the JSON format, with where and when it stands and what was found as extensions."""
        message = self.message
        return {
            **to_structured(message.event),
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "appendedtime": format_instant(from_millis(message.timestamp_ms)),
            "signature": "valid" if self.doubt is None else f"not valid: {self.doubt}",
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show; an empty filter lets everything through. `types`: names such as `VoteCast`."""

    requests: Sequence[str] = ()
    states: Sequence[str] = ()
    types: Sequence[str] = ()
    modes: Sequence[str] = ()

    def takes(self, sighting: Sighting) -> bool:
        """Whether all filters let it through."""
        message = sighting.message
        return (
            (not self.requests or sighting.request_id in self.requests)
            and (not self.types or message.name in self.types)
            and (not self.modes or sighting.mode in self.modes)
            and (not self.states or bool(states_of(sighting) & set(self.states)))
        )

    def parameters(self) -> list[tuple[str, str]]:
        """The same for `GET /stream`."""
        return [
            *(("request", request) for request in self.requests),
            *(("state", state) for state in self.states),
            *(("type", type_of(name)) for name in self.types),
            *(("mode", mode) for mode in self.modes),
        ]


def states_of(sighting: Sighting) -> frozenset[str]:
    """The states an event is about."""
    event = sighting.message.event
    return states_concerned(event.source, event.subject or "", sighting.request_id is not None)


def name_of(text: str) -> str | None:
    """`VoteCast`, of that or of `qalqan.VoteCast.v1`; None: there is no such event."""
    kind = EVENTS.get(text) or EVENTS.get(type_of(text))
    return kind.name if kind else None
