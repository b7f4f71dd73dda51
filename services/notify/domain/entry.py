"""What a reader of the live stream is shown of a public record. Pure."""

import json
from dataclasses import dataclass

from qalqan.envelope import Event, to_structured


@dataclass(frozen=True, slots=True)
class Entry:
    """A public event in the stream: `seq` is its place, the same for every reader and after every restart."""

    seq: int
    body: str


def body_of(event: Event, topic: str, partition: int, offset: int) -> str:
    """The structured CloudEvent, with where it stands on Kafka as extensions."""
    return json.dumps({**to_structured(event), "topic": topic, "partition": partition, "offset": offset})
