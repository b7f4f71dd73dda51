"""The words that a service's pure domain and its shell share: what came in, what happened, what is refused.

Pure: no I/O, no clock, no ids. A service's `domain` imports this and `qalqan`, nothing else of the chassis.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qalqan.envelope import Event
from qalqan.events import EventType, Reason
from qalqan.fields import Model
from qalqan.registry import Registry
from qalqan.sources import Source


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record that passed the checks: a submission from an inbox, or a fact from a public topic.

    `recorded_at`: when the broker took it (for a fact that was a submission: when the broker took that,
    `recordedtime`). `data` is the model of `kind`; `event` is the CloudEvent as signed.
    """

    topic: str
    partition: int
    offset: int
    recorded_at: datetime
    event: Event
    kind: EventType
    data: Model
    source: Source


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened, as it stands on a public topic.

    `event` is the submission it forwards byte for byte; None: this service states it, and the shell signs it.
    `recorded_at` goes with a forwarded submission: when the broker took it. `after`: the state that it leads to, where
    deciding has worked that out already (`evolve` would come to the same).
    """

    data: Model
    event: Event | None = None
    recorded_at: datetime | None = None
    after: Model | None = field(default=None, compare=False, repr=False)


def forwarded(incoming: Incoming) -> Fact:
    """The fact that a submission becomes when it is admitted, or that a public record is."""
    return Fact(incoming.data, incoming.event, incoming.recorded_at)


class Refused(Exception):
    """A submission that the state of things does not admit: one of the contract's reasons, what and where."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


class NotYet(Exception):
    """A submission that stands on something not known yet: it waits in the database, in order, for a while.

    `queue` names what waits together and in order (a pledge's id): whatever follows on the same queue waits
    behind it. `otherwise`: why it is refused if that never comes; None: nobody raised its request.
    """

    def __init__(self, queue: str, otherwise: "Refused | None" = None) -> None:
        super().__init__(queue)
        self.queue = queue
        self.otherwise = otherwise


@dataclass(frozen=True, slots=True)
class LaneView:
    """What a decision may look at beside the state of its request: the lane it is taken in.

    `now`: log time for a submission; for a public fact when the broker took the submission behind it, or else
    appended it. `next_offset`: of the inbox partition, the offset being handled or the next one. `doc`: what
    the service keeps for the whole lane. `registry`: members and keys; `key_id`: of the service's own key.
    """

    partition: int
    now: datetime
    next_offset: int
    registry: Registry
    key_id: str
    doc: Mapping[str, Any]
