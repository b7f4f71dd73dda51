"""The record of CONTRACT's certificate, as pydantic models, and its digest."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from qalqan import jsontext
from qalqan.events import BallotRecord, Position, StructuredEvent, type_of
from qalqan.fields import Digest, Instant, Model, State

Outcome = Literal["reached", "blocked", "lapsed", "superseded", "withdrawn"]

CLOSING: Final[dict[str, Outcome]] = {
    type_of("ConsensusReached"): "reached",
    type_of("ConsensusBlocked"): "blocked",
    type_of("BallotLapsed"): "lapsed",
    type_of("BallotSuperseded"): "superseded",
    type_of("BallotWithdrawn"): "withdrawn",
}
"""The types of event that close a ballot, and the outcome that each states."""

_Natural = Annotated[int, Field(ge=0)]


class Counted(Model):
    """A state's position, and what states it: its VoteCast (`by` vote) or the affected state's request."""

    state: State
    position: Position
    by: Literal["vote", "request"]
    recorded_at: Instant
    event: StructuredEvent | None = None


class InboxRange(Model):
    """What was read of the inbox while the ballot was open, both offsets included; to = from - 1: nothing."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    topic: str
    partition: _Natural
    from_: Annotated[_Natural, Field(alias="from")]
    to: Annotated[int, Field(ge=-1)]


class Certificate(Model):
    """Everything that a ballot was decided by, and its place in the chain of its partition of `decisions`."""

    version: Annotated[int, Field(ge=1, le=1)]
    ballot: BallotRecord
    outcome: Outcome
    decided_at: Instant
    request: StructuredEvent
    request_recorded_at: Instant
    counted: list[Counted]
    cause: StructuredEvent | None
    inbox: InboxRange
    keys: list[StructuredEvent]
    members: list[StructuredEvent]
    chain: str
    serial: Annotated[int, Field(ge=1)]
    previous: Digest | None


def digest(certificate: Mapping[str, Any]) -> str:
    """The `decision_digest` of a certificate, of its JSON as received: a model would drop fields added later.

    Raises ValueError for what has no RFC 8785 form.
    """
    return jsontext.digest_of(dict(certificate))
