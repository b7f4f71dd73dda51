"""What the pledge service knows of a request: immutable, safe through JSON, folded from public facts."""

from typing import Annotated, Literal

from pydantic import Field

from qalqan.events import Coverage, Line, Mode, Need, PledgeContent, RequestAnticipated, RequestContent
from qalqan.fields import Digest, Identifier, Instant, Model, Quantity, RequestId, Revision
from qalqan.fields import State as StateCode

ReportKind = Literal["committed", "departed", "arrived", "released"]
Stage = Literal["offered", "accepted", "declined", "underway", "withdrawn"]
"""Where a pledge stands in its life; `underway`: some of it has departed."""


class Content(Model):
    """A revision of the request, as far as pledges and plans depend on it."""

    affected_state: StateCode
    mode: Mode
    acceptance: Literal["manual", "automatic"]
    needs: list[Need]

    @classmethod
    def of(cls, request: RequestContent) -> "Content":
        """What a request's event says."""
        return cls(
            affected_state=request.affected_state,
            mode=request.mode,
            acceptance=request.acceptance,
            needs=request.needs,
        )

    @classmethod
    def anticipated(cls, request: RequestAnticipated) -> "Content":
        """Before anything is asked for: no needs, and nothing is accepted but by the affected state itself."""
        return cls(affected_state=request.affected_state, mode=request.mode, acceptance="manual", needs=[])


class PledgeState(Model):
    """A pledge: its current content, the affected state's answer, and what was reported of it.

    `offered_at`: when the broker took the offer (log time). `accepted`: the quantity that stands accepted.
    `reports`: for each kind, the sum for each line ("" where a report named none).
    """

    offer: PledgeContent
    offered_at: Instant
    revision: Revision = 1
    standing: Literal["offered", "accepted", "declined", "withdrawn"] = "offered"
    accepted: int = 0
    changes: int = 0
    """Revisions of the offer and answers to it."""
    reports: dict[ReportKind, dict[str, Quantity]] = Field(default_factory=dict)

    def reported(self, kind: ReportKind) -> int:
        """The sum of the reports of a kind."""
        return sum(self.reports.get(kind, {}).values())

    @property
    def stage(self) -> Stage:
        """Where it stands in its life."""
        return "underway" if self.reports.get("departed") else self.standing


class Decision(Model):
    """A consensus that was reached: its digest, when, and the needs of which revision it covers."""

    digest: Digest
    decided_at: Instant
    revision: Revision
    items: list[Identifier]


class Ballot(Model):
    """An open ballot: the needs of which revision it is to decide on."""

    revision: Revision
    items: list[Identifier]


class MobilizationState(Model):
    """What was last stated on `mobilizations`, apart from the plan.

    `line_ids`: every line ever stated and its pledge, since a report may name one that a later plan dropped.
    """

    revision: Revision
    decisions: list[Digest]
    authorized_at: Instant
    line_ids: dict[str, Identifier]


class Plan(Model):
    """Who brings what to which need, and how far that goes; `optimality_gap` None: unproven."""

    lines: list[Line] = Field(default_factory=list)
    coverage: list[Coverage] = Field(default_factory=list)
    optimality_gap: float | None = None


class State(Model):
    """A request as the pledge service knows it.

    `contents`: by revision, from `requests` (0: it was anticipated); `revision`: the one that binds, from `decisions`
    (DESIGN, "The way of an event", 4). The two topics are read independently, so each may know what the other does not
    yet. `closed`: the request was cancelled or closed (`requests`); `ended`: so was its mandate (`decisions`).
    `plan`: until a mobilisation is authorised the plan kept ready, a function of all the rest; then the plan
    last stated.
    """

    request_id: RequestId
    contents: dict[Annotated[int, Field(ge=0)], Content] = Field(default_factory=dict)
    closed: bool = False
    revision: Revision = 1
    ballots: dict[Digest, Ballot] = Field(default_factory=dict)
    decided: list[Decision] = Field(default_factory=list)
    void: int = 0
    """How many of the decisions, the oldest, a ballot on an amendment has ended that did not reach."""
    ended: bool = False
    pledges: dict[Identifier, PledgeState] = Field(default_factory=dict)
    mobilization: MobilizationState | None = None
    plan: Plan = Plan()

    def accepted(self, pledge_id: str) -> int:
        """The quantity that stands accepted of a pledge; 0 when there is none."""
        pledge = self.pledges.get(pledge_id)
        return pledge.accepted if pledge else 0

    @property
    def content(self) -> Content | None:
        """The newest content up to the revision that binds; None: nothing is known of the request yet."""
        known = [revision for revision in self.contents if revision <= self.revision]
        return self.contents[max(known)] if known else None

    @property
    def mode(self) -> Mode | None:
        """The request's mode, for the envelope of all that is stated on it; None: not read yet."""
        return next((content.mode for content in self.contents.values()), None)
