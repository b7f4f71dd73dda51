"""Every event of the contract: one model a type, and the table that says who signs it and where it goes.

This table is the source of admission, of the published JSON Schemas, and of the documents made from them
(CONTRACT "Submissions", "What services state").
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from qalqan import topics
from qalqan.fields import (
    Capability,
    Digest,
    Duration,
    Identifier,
    Instant,
    JsonObject,
    KeyId,
    Mandate,
    Model,
    Money,
    Place,
    Quantity,
    RequestId,
    Revision,
    State,
    Text,
    Unit,
)
from qalqan.jsontext import Settled, canonical
from qalqan.topics import Topic

Mode = Literal["actual", "exercise", "test"]
Severity = Literal["Extreme", "Severe", "Moderate", "Minor", "Unknown"]
"""As in CAP 1.2, `severity`."""
StructuredEvent = JsonObject
"""A whole CloudEvent in structured form, with `data_base64` and `dssematerial`."""


# --- what an affected state says -------------------------------------------------------------------------------------


class Emergency(Model):
    """What happened, where and when."""

    kind: Text
    title: Text
    occurred_at: Instant | None = None
    place: Place
    severity: Severity


class Need(Model):
    """Something asked for: a capability, how much, how urgently (`priority` 1 is first), by when and where."""

    need_id: Identifier
    capability: Capability
    quantity: Quantity
    unit: Unit
    priority: Annotated[int, Field(ge=1, le=9)]
    needed_by: Instant | None = None
    deliver_to: Place
    substitutes: list[Capability] = []
    text: Text | None = None

    @model_validator(mode="after")
    def _other_is_named(self) -> Self:
        if self.text is None and "other" in (self.capability, *self.substitutes):
            raise ValueError("`other` needs a `text` that says what")
        return self


class RequestAnticipated(Model):
    """A request may follow: no needs yet and no ballot, but offers may attach to it."""

    request_id: RequestId
    affected_state: State
    mode: Mode
    emergency: Emergency
    text: str | None = None
    language: str | None = None


class RequestContent(Model):
    """What is asked for, whole: as first raised, and anew with each amendment."""

    request_id: RequestId
    affected_state: State
    mode: Mode
    emergency: Emergency
    needs: Annotated[list[Need], Field(min_length=1)]
    acceptance: Literal["manual", "automatic"] = "manual"
    text: str | None = None
    language: str | None = None
    mandate: Mandate | None = None

    @model_validator(mode="after")
    def _needs_are_distinct(self) -> Self:
        ids = [need.need_id for need in self.needs]
        twice = sorted({need_id for need_id in ids if ids.count(need_id) > 1})
        if twice:
            raise ValueError(f"needs: need_id {', '.join(twice)} stands twice")
        return self


class RequestRaised(RequestContent):
    """The affected state asks for help: revision 1."""


class RequestAmended(RequestContent):
    """The affected state asks for something else: a ballot on it takes the place of an open one."""

    revision: Annotated[int, Field(ge=2)]


class RequestCancelled(Model):
    """The affected state takes its request back."""

    request_id: RequestId
    reason: Text


class RequestClosed(Model):
    """The affected state needs nothing more."""

    request_id: RequestId
    reason: Text


# --- what a pledging state says, and the answers to it ---------------------------------------------------------------


class Package(Model):
    """Load to be lifted, or capacity offered to others: persons, dogs, vehicles, tonnes, cubic metres."""

    personnel: Annotated[int, Field(ge=0)] | None = None
    dogs: Annotated[int, Field(ge=0)] | None = None
    vehicles: Annotated[int, Field(ge=0)] | None = None
    cargo_t: Annotated[float, Field(ge=0)] | None = None
    cargo_m3: Annotated[float, Field(ge=0)] | None = None
    support_needed: str | None = None


class PledgeContent(Model):
    """What is offered, whole: as first offered, and anew with each revision."""

    pledge_id: Identifier
    request_id: RequestId
    pledging_state: State
    channel: Literal["mechanism", "bilateral"] = "mechanism"
    answers: list[Identifier] = []
    capability: Capability
    quantity: Quantity
    unit: Unit
    divisible: bool = True
    min_quantity: Quantity = 1
    origin: Place
    mode_of_transport: Literal["air", "road", "rail", "sea"]
    transport: Literal["own", "needed", "offered"] = "own"
    ready_at: Instant
    arrives_at: Instant | None = None
    offer_expires_at: Instant | None = None
    cost_borne_by: str | None = None
    estimated_cost: Money | None = None
    certified_unit: Identifier | None = None
    package: Package | None = None
    conditions: str | None = None
    text: Text | None = None
    mandate: Mandate | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.capability == "other" and self.text is None:
            raise ValueError("`other` needs a `text` that says what")
        if self.min_quantity > self.quantity:
            raise ValueError(f"min_quantity {self.min_quantity} is more than quantity {self.quantity}")
        if self.arrives_at is not None and self.arrives_at < self.ready_at:
            raise ValueError("arrives_at is before ready_at")
        return self


class PledgeOffered(PledgeContent):
    """A state offers a quantity of a capability: revision 1."""


class PledgeRevised(PledgeContent):
    """The pledging state offers something else in its place; an acceptance of what it offered before is void."""

    revision: Annotated[int, Field(ge=2)]


class PledgeWithdrawn(Model):
    """The pledging state takes its offer back."""

    request_id: RequestId
    pledge_id: Identifier
    reason: Text


class PledgeAccepted(Model):
    """The affected state accepts a quantity of a pledge's revision.

    `by` policy: the pledge service does, as the request allows.
    """

    request_id: RequestId
    pledge_id: Identifier
    pledge_revision: Revision
    quantity: Quantity
    by: Literal["state", "policy"] | None = None
    mandate: Mandate | None = None


class PledgeDeclined(Model):
    """The affected state declines a pledge's revision."""

    request_id: RequestId
    pledge_id: Identifier
    pledge_revision: Revision
    reason: Text


class Report(Model):
    """How much of a pledge did something, when and where; reports of each kind add up."""

    request_id: RequestId
    pledge_id: Identifier
    line_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,60}$")] | None = None
    quantity: Quantity
    at: Instant
    place: Place | None = None


class ResourceCommitted(Report):
    """The pledging state's own go."""


class ResourceDeparted(Report):
    """It left."""


class ResourceArrived(Report):
    """It is there."""


class ResourceReleased(Report):
    """It is free to go home."""


# --- votes -----------------------------------------------------------------------------------------------------------

Position = Literal["approve", "object", "abstain", "constructive-abstain", "not-participating"]


class VoteCast(Model):
    """A state's position on a ballot; the highest `sequence` counts."""

    request_id: RequestId
    ballot_id: Digest
    round: Annotated[int, Field(ge=1)]
    state: State
    sequence: Annotated[int, Field(ge=1)]
    position: Position
    reason: Text | None = None
    declaration: Text | None = None
    reservation: Text | None = None
    mandate: Mandate | None = None

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if self.position == "object" and not (self.reason and self.reason.strip()):
            raise ValueError("an objection needs a `reason`")
        if self.position == "constructive-abstain" and not (self.declaration and self.declaration.strip()):
            raise ValueError("a constructive abstention needs a `declaration`")
        return self


# --- what the consensus service states -------------------------------------------------------------------------------


class RuleRecord(Model):
    """The rule a ballot is bound to; `window_at_risk` applies at severity Extreme."""

    rule_id: str
    kind: str
    window: Duration
    window_at_risk: Duration


class BallotRecord(Model):
    """The text of a ballot: its digest is the ballot's id, so every vote's signature covers it."""

    network: str
    mode: Mode
    request_id: RequestId
    revision: Revision
    request_digest: Digest
    round: int
    items: list[Identifier]
    rule: RuleRecord
    roll: list[State]
    affected_state: State
    members_offset: int
    governance_offset: int
    opened_at: Instant
    deadline: Instant

    @cached_property
    def text(self) -> Settled:
        """The record as JSON: its digest is the ballot's id."""
        return Settled(dump(self))


class BallotOpened(Model):
    """A ballot on a revision of a request. `inbox_from`: the first offset of its partition of `inbox.votes` that may
    hold a vote on it (beside the record: no vote's signature covers it)."""

    request_id: RequestId
    ballot_id: Digest
    ballot: BallotRecord
    inbox_from: int = 0


class Objection(Model):
    """Who objects, and why."""

    state: State
    reason: str


class BallotClosed(Model):
    """What the events that close a ballot have in common."""

    request_id: RequestId
    ballot_id: Digest
    revision: Revision
    round: int
    mode: Mode
    tally: dict[State, Position]
    absent: list[State]
    blocked_by: list[Objection]
    decided_at: Instant
    decision_digest: Digest
    certificate: JsonObject

    def to_json(self) -> bytes:
        """The certificate in the very form that `decision_digest` is of."""
        head = self.model_dump_json(by_alias=True, exclude={"certificate"}).removesuffix("}")
        return b'%b,"certificate":%b}' % (head.encode(), canonical(self.certificate))


class ConsensusReached(BallotClosed):
    """Every state on the roll has a position and none objects."""


class ConsensusBlocked(BallotClosed):
    """A state objects."""


class BallotLapsed(BallotClosed):
    """The deadline came and positions are missing."""


class BallotSuperseded(BallotClosed):
    """The request was amended while the ballot was open."""


class BallotWithdrawn(BallotClosed):
    """The request was cancelled or closed while the ballot was open."""


class MandateEnded(Model):
    """A decided request was cancelled or closed: what has not departed is stood down."""

    request_id: RequestId
    cause: StructuredEvent


# --- what the pledge service states ----------------------------------------------------------------------------------


class Line(Model):
    """A part of an accepted pledge on its way to a need."""

    line_id: str
    need_id: Identifier
    pledge_id: Identifier
    state: State
    capability: Capability
    quantity: Quantity
    unit: Unit
    depart_by: Instant | None
    arrives_at: Instant | None
    estimated: bool
    reason: str


class Coverage(Model):
    """How much of a need is met: `covered` includes `bilateral`, `on_time` arrives by `needed_by`."""

    need_id: Identifier
    requested: int
    covered: int
    on_time: int
    bilateral: int


class Mobilization(Model):
    """The whole plan of a request, each time."""

    request_id: RequestId
    mobilization_id: str
    revision: Revision
    mode: Mode
    decisions: list[Digest]
    authorized_at: Instant
    lines: list[Line]
    coverage: list[Coverage]
    optimality_gap: float | None


class MobilizationAuthorized(Mobilization):
    """The first plan: the conditions are met; states act on it in their own right."""


class MobilizationRevised(Mobilization):
    """A later plan."""


# --- what any service answers to what it cannot admit ----------------------------------------------------------------

Reason = Literal[
    "too-large", "bad-envelope", "wrong-network", "wrong-type", "key-mismatch", "wrong-partition", "unknown-key",
    "foreign-source", "key-not-valid", "bad-signature", "key-scope", "duplicate-id", "bad-data",
    "unknown-request", "duplicate-request", "request-closed", "unknown-ballot", "not-eligible", "too-late", "stale",
    "equivocation", "unknown-pledge", "over-accepted", "not-allowed", "rate-limited",
]  # fmt: skip
"""Why a submission is refused; the first thirteen are checked in this order, the rest are the state of things."""


class SubmissionRejected(Model):
    """A submission that was not admitted, with the reason and the original."""

    source_topic: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    original_base64: str | None


# --- members and keys ------------------------------------------------------------------------------------------------


class Chained(Model):
    """An event of the Secretariat's chain: `serial` 1, 2 ... over the topic, `previous` = digest of the data before."""

    serial: Annotated[int, Field(ge=1)]
    previous: Digest | None


class MemberRegistered(Chained):
    """A state and what it is to the mechanism, from and until when."""

    state: State
    names: dict[str, str]
    status: Literal["member", "observer", "partner"]
    from_: Annotated[Instant, Field(alias="from")]
    until: Instant | None = None


Scope = Literal["request", "pledge", "accept", "vote", "track", "consent"]


class KeyRegistered(Chained):
    """A key of one source, what it may sign, and from when until when; `possession` proves that its holder has it."""

    source: str
    key_id: KeyId
    algorithm: str
    public_key: str
    scopes: list[Scope]
    valid_from: Instant
    valid_until: Instant | None = None
    possession: str


class KeyRevoked(Chained):
    """A key signs nothing more, from the offset of this event on."""

    key_id: KeyId
    reason: Text


# --- inside a service's own inbox ------------------------------------------------------------------------------------


class Tick(Model):
    """A service's own alarm clock: written to its own inbox so that a deadline falls in the log's time."""

    at: Instant


# --- the table -------------------------------------------------------------------------------------------------------

Signer = Literal["state", "secretariat", "service"]


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event.

    `inbox`: where it is submitted (None: only services state it). `topic`: the public topic it stands on (None: none).
    `signer` and `scope`: whose key signs it and what that key must be allowed. `actor`: the field of the data that
    names the acting state, which must be the source's; `mints`: the field whose new id must begin with its code.
    """

    name: str
    model: type[Model]
    topic: Topic | None
    inbox: Topic | None = None
    signer: Signer = "service"
    scope: Scope | None = None
    actor: str | None = None
    mints: str | None = None

    @property
    def type(self) -> str:
        """The CloudEvents `type`."""
        return type_of(self.name)


def type_of(name: str) -> str:
    """`VoteCast` -> `qalqan.VoteCast.v1`."""
    return f"qalqan.{name}.v1"


def _by_state(
    model: type[Model],
    inbox: Topic,
    topic: Topic,
    scope: Scope,
    actor: str | None = None,
    mints: str | None = None,
) -> EventType:
    return EventType(model.__name__, model, topic, inbox, "state", scope, actor, mints)


def _by_secretariat(model: type[Model]) -> EventType:
    return EventType(model.__name__, model, topics.MEMBERS, topics.INBOX_GOVERNANCE, "secretariat")


def _by_service(model: type[Model], topic: Topic) -> EventType:
    return EventType(model.__name__, model, topic)


_requests = (topics.INBOX_REQUESTS, topics.REQUESTS)
_pledges = (topics.INBOX_PLEDGES, topics.PLEDGES)
_reports = (topics.INBOX_PLEDGES, topics.MOBILIZATIONS)

EVENTS: dict[str, EventType] = {
    kind.type: kind
    for kind in (
        _by_state(RequestAnticipated, *_requests, scope="request", actor="affected_state", mints="request_id"),
        _by_state(RequestRaised, *_requests, scope="request", actor="affected_state", mints="request_id"),
        _by_state(RequestAmended, *_requests, scope="request", actor="affected_state"),
        _by_state(RequestCancelled, *_requests, scope="request"),
        _by_state(RequestClosed, *_requests, scope="request"),
        _by_state(PledgeOffered, *_pledges, scope="pledge", actor="pledging_state", mints="pledge_id"),
        _by_state(PledgeRevised, *_pledges, scope="pledge", actor="pledging_state"),
        _by_state(PledgeWithdrawn, *_pledges, scope="pledge"),
        _by_state(PledgeAccepted, *_pledges, scope="accept"),
        _by_state(PledgeDeclined, *_pledges, scope="accept"),
        _by_state(ResourceCommitted, *_reports, scope="track"),
        _by_state(ResourceDeparted, *_reports, scope="track"),
        _by_state(ResourceArrived, *_reports, scope="track"),
        _by_state(ResourceReleased, *_reports, scope="track"),
        _by_state(VoteCast, topics.INBOX_VOTES, topics.VOTES, scope="vote", actor="state"),
        _by_service(BallotOpened, topics.DECISIONS),
        _by_service(ConsensusReached, topics.DECISIONS),
        _by_service(ConsensusBlocked, topics.DECISIONS),
        _by_service(BallotLapsed, topics.DECISIONS),
        _by_service(BallotSuperseded, topics.DECISIONS),
        _by_service(BallotWithdrawn, topics.DECISIONS),
        _by_service(MandateEnded, topics.DECISIONS),
        _by_service(MobilizationAuthorized, topics.MOBILIZATIONS),
        _by_service(MobilizationRevised, topics.MOBILIZATIONS),
        _by_service(SubmissionRejected, topics.REJECTIONS),
        _by_secretariat(MemberRegistered),
        _by_secretariat(KeyRegistered),
        _by_secretariat(KeyRevoked),
    )
}
"""Every type of the contract that this version speaks, by its CloudEvents `type`."""

TICK = EventType("Tick", Tick, topic=None)
"""Not of the contract: a service's own, admitted only in its own inbox under its own key."""


def dump(model: Model) -> dict[str, Any]:
    """The JSON form of a model's data, as the contract spells it."""
    return model.model_dump(mode="json", by_alias=True)
