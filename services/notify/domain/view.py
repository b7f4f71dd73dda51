"""A request as a reader sees it: the whole (`View`), and the line of it that stands on the board (`Card`)."""

from typing import Final, Literal

from pydantic import Field

from qalqan.certificate import Outcome
from qalqan.events import Coverage, Emergency, Line, Mode, Need, Objection, Position, Severity
from qalqan.fields import Digest, Identifier, Instant, Model, Place, Quantity, RequestId, Revision, State, Unit

Status = Literal["anticipated", "open", "cancelled", "closed"]
Standing = Literal["offered", "accepted", "declined", "withdrawn"]


class PositionView(Model):
    """A state's position on a ballot. `sequence` 0: by its own signed request, not by a vote."""

    position: Position
    sequence: int
    at: Instant
    reason: str | None = None
    declaration: str | None = None
    reservation: str | None = None


class BallotView(Model):
    """A ballot and the positions taken on it; `outcome` null: it takes votes."""

    ballot_id: Digest
    round: int
    revision: Revision
    roll: list[State]
    items: list[Identifier]
    opened_at: Instant
    deadline: Instant
    positions: dict[State, PositionView]
    outcome: Outcome | None = None
    decided_at: Instant | None = None
    decision_digest: Digest | None = None
    blocked_by: list[Objection] = []

    def waits_for(self) -> list[State]:
        """Whose position is missing."""
        return [state for state in self.roll if state not in self.positions] if self.outcome is None else []


class PledgeView(Model):
    """A pledge: what is offered, the answer to it, and how much of it was reported to have done what."""

    pledge_id: Identifier
    revision: Revision
    state: State
    channel: Literal["mechanism", "bilateral"]
    capability: str
    quantity: Quantity
    unit: Unit
    answers: list[Identifier]
    origin: Place
    ready_at: Instant
    arrives_at: Instant | None
    offer_expires_at: Instant | None
    conditions: str | None
    offered_at: Instant
    status: Standing = "offered"
    accepted: int = 0
    committed: int = 0
    departed: int = 0
    arrived: int = 0
    released: int = 0


class NeedView(Need):
    """A need, and how far it is met: as the last plan says, before there is one by what was accepted for it."""

    covered: int = 0
    on_time: int = 0
    bilateral: int = 0


class MobilizationView(Model):
    """The plan as last stated."""

    mobilization_id: str
    revision: Revision
    authorized_at: Instant
    lines: list[Line]
    coverage: list[Coverage]


class CoveragePoint(Model):
    """How far each need was met from an instant on."""

    at: Instant
    covered: dict[Identifier, int]
    on_time: dict[Identifier, int]


class Wait(Model):
    """What is owed: by which state, since when, until when; late is what is owed beyond its deadline.

    `what`: the ballot, the pledge (with its revision, `AZ-1/2`) or the line.
    """

    kind: Literal["vote", "accept", "depart", "arrive"]
    state: State
    what: str
    since: Instant
    deadline: Instant | None


class View(Model):
    """A request and all that public events say of it, up to the event `seq` of the stream."""

    request_id: RequestId
    seq: int
    mode: Mode
    status: Status
    state: State
    emergency: Emergency
    text: str | None
    language: str | None
    acceptance: Literal["manual", "automatic"] = "manual"
    revision: int = 0
    """0: anticipated only."""
    raised_at: Instant
    """When the broker took it, anticipated or raised."""
    changed_at: Instant
    reason: str | None = None
    """Why it was cancelled or closed."""
    needs: list[NeedView] = []
    ballots: list[BallotView] = []
    """The oldest first."""
    pledges: list[PledgeView] = []
    """In the order of their first offer."""
    mobilization: MobilizationView | None = None
    coverage_over_time: list[CoveragePoint] = []
    waits: list[Wait] = []
    positions: dict[str, int] = Field(default={}, description="The newest position read of each public topic")

    def pledge(self, pledge_id: str) -> PledgeView | None:
        """The pledge of that id."""
        return next((pledge for pledge in self.pledges if pledge.pledge_id == pledge_id), None)

    @property
    def is_open(self) -> bool:
        """Neither cancelled nor closed."""
        return self.status in ("anticipated", "open")


WAITS: Final = 20
"""On a card: a request may wait for hundreds of things, and its card goes to every reader at each change."""


class BallotCard(Model):
    """The newest ballot: how many positions are `in` of how many that count."""

    round: int
    revision: Revision
    outcome: Outcome | None
    opened_at: Instant
    deadline: Instant
    decided_at: Instant | None
    in_: int = Field(alias="in")
    of: int


class CoverageCard(Model):
    """Sums of quantities over all needs; `percent`: of each need what is covered, each need weighing the same."""

    requested: int
    covered: int
    on_time: int
    percent: int


class PledgesCard(Model):
    """How many pledges are on offer, and how many of them stand accepted."""

    offered: int
    accepted: int


class Card(Model):
    """A request's line on the board."""

    request_id: RequestId
    seq: int
    mode: Mode
    status: Status
    state: State
    title: str
    kind: str
    severity: Severity
    place: str
    revision: int
    raised_at: Instant
    changed_at: Instant
    ballot: BallotCard | None
    coverage: CoverageCard
    pledges: PledgesCard
    authorized_at: Instant | None
    waits: list[Wait]
    """What is due first, `WAITS` at most."""
    waiting: int
    """How many there are in all."""

    @classmethod
    def of(cls, view: View) -> "Card":
        """The line of a view."""
        standing = [pledge.status for pledge in view.pledges]
        accepted = standing.count("accepted")
        return cls(
            request_id=view.request_id,
            seq=view.seq,
            mode=view.mode,
            status=view.status,
            state=view.state,
            title=view.emergency.title,
            kind=view.emergency.kind,
            severity=view.emergency.severity,
            place=view.emergency.place.name,
            revision=view.revision,
            raised_at=view.raised_at,
            changed_at=view.changed_at,
            ballot=_ballot(view.ballots[-1]) if view.ballots else None,
            coverage=_coverage(view.needs),
            pledges=PledgesCard(offered=standing.count("offered") + accepted, accepted=accepted),
            authorized_at=view.mobilization.authorized_at if view.mobilization else None,
            waits=view.waits[:WAITS],
            waiting=len(view.waits),
        )


def _ballot(ballot: BallotView) -> BallotCard:
    return BallotCard(
        round=ballot.round,
        revision=ballot.revision,
        outcome=ballot.outcome,
        opened_at=ballot.opened_at,
        deadline=ballot.deadline,
        decided_at=ballot.decided_at,
        **{"in": sum(state in ballot.positions for state in ballot.roll)},
        of=len(ballot.roll),
    )


def _coverage(needs: list[NeedView]) -> CoverageCard:
    met = [min(1.0, need.covered / need.quantity) for need in needs]
    return CoverageCard(
        requested=sum(need.quantity for need in needs),
        covered=sum(need.covered for need in needs),
        on_time=sum(need.on_time for need in needs),
        percent=int(100 * sum(met) / len(met)) if met else 0,
    )
