"""Folding facts into the state: the one way it changes, live and in a rebuild."""

from datetime import datetime

from chassis.facts import Fact
from qalqan.events import (
    BallotClosed,
    BallotLapsed,
    BallotOpened,
    BallotSuperseded,
    BallotWithdrawn,
    ConsensusBlocked,
    ConsensusReached,
    MandateEnded,
    Mobilization,
    PledgeAccepted,
    PledgeContent,
    PledgeDeclined,
    PledgeOffered,
    PledgeRevised,
    PledgeWithdrawn,
    Report,
    RequestAmended,
    RequestAnticipated,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
)
from qalqan.fields import Model
from services.pledge.domain.allocator import Allocator
from services.pledge.domain.life import LIFE, ReportStep
from services.pledge.domain.mandate import planned_content, scope
from services.pledge.domain.plan import FIRST_ARRIVAL, make_plan
from services.pledge.domain.state import (
    Ballot,
    Content,
    Decision,
    MobilizationState,
    Plan,
    PledgeState,
    ReportKind,
    State,
)


def evolve(state: State | None, fact: Fact, allocator: Allocator = FIRST_ARRIVAL) -> State:
    """The state after a fact of `requests`, `decisions`, `pledges` or `mobilizations`.

    Facts of different writers may come in any order; our own (`pledges`, `mobilizations`) in that of their
    `step`. Until the mobilisation is authorised the plan is kept ready here, so that ConsensusReached only
    states it; from then on the plan is what was stated, and nothing is decided again.
    """
    if state is None:
        state = State(request_id=getattr(fact.data, "request_id"))  # noqa: B009 every fact read here has one
    after = _fold(state, fact)
    if after.mobilization is None and _plan_moves(state, after, fact.data):
        return after.model_copy(update={"plan": make_plan(after, allocator)})
    return after


def _plan_moves(before: State, after: State, data: Model) -> bool:
    """Whether anything changed that a plan depends on before it is stated."""
    pledge_id = getattr(data, "pledge_id", "")
    return (
        planned_content(after) is not planned_content(before)
        or scope(after) != scope(before)
        or after.accepted(pledge_id) != before.accepted(pledge_id)
    )


def _fold(state: State, fact: Fact) -> State:
    match fact.data:
        case PledgeOffered() as offer:
            return _offered(state, offer, fact.recorded_at)
        case PledgeRevised() as offer:
            whole = {"offer": _content(offer), "revision": offer.revision}
            return _changed(state, offer.pledge_id, standing="offered", accepted=0, **whole)
        case PledgeAccepted() as answer:
            return _changed(state, answer.pledge_id, standing="accepted", accepted=answer.quantity)
        case PledgeDeclined() as answer:
            return _changed(state, answer.pledge_id, standing="declined", accepted=0)
        case PledgeWithdrawn() as end:
            return _with_pledge(state, end.pledge_id, standing="withdrawn", accepted=0)
        case Report() as report:
            return _reported(state, report)
        case RequestRaised() as request:
            return _with_content(state, 1, Content.of(request))
        case RequestAmended() as request:
            return _with_content(state, request.revision, Content.of(request))
        case RequestAnticipated() as request:
            return _with_content(state, 0, Content.anticipated(request))
        case RequestCancelled() | RequestClosed():
            return state.model_copy(update={"closed": True})
        case Mobilization() as mobilization:
            return _mobilized(state, mobilization)
        case BallotOpened() | BallotClosed() | MandateEnded() as record:
            return _decisions(state, record)
        case _:
            return state


def _with_content(state: State, revision: int, content: Content) -> State:
    return state.model_copy(update={"contents": {**state.contents, revision: content}})


def _offered(state: State, offer: PledgeOffered, recorded_at: datetime | None) -> State:
    assert recorded_at is not None, "an offer is a submission: the broker took it at some time"
    pledge = PledgeState(offer=_content(offer), offered_at=recorded_at)
    return state.model_copy(update={"pledges": {**state.pledges, offer.pledge_id: pledge}})


def _content(offer: PledgeContent) -> PledgeContent:
    """What is offered, without the kind of event that said it: as it comes back from the store."""
    return PledgeContent.model_construct(**{name: getattr(offer, name) for name in PledgeContent.model_fields})


def _changed(state: State, pledge_id: str, **changes: object) -> State:
    return _with_pledge(state, pledge_id, changes=state.pledges[pledge_id].changes + 1, **changes)


def _with_pledge(state: State, pledge_id: str, **changes: object) -> State:
    pledge = state.pledges[pledge_id].model_copy(update=changes)
    return state.model_copy(update={"pledges": {**state.pledges, pledge_id: pledge}})


def _reported(state: State, report: Report) -> State:
    step = LIFE[type(report)]
    assert isinstance(step, ReportStep)
    reports: dict[ReportKind, dict[str, int]] = state.pledges[report.pledge_id].reports
    sums = reports.get(step.kind, {})
    line_id = report.line_id or ""
    added = {**sums, line_id: sums.get(line_id, 0) + report.quantity}
    return _with_pledge(state, report.pledge_id, reports={**reports, step.kind: added})


def _decisions(state: State, record: Model) -> State:
    match record:
        case BallotOpened():
            ballot = Ballot(revision=record.ballot.revision, items=record.ballot.items)
            ballots = {**state.ballots, record.ballot_id: ballot}
            return state.model_copy(update={"ballots": ballots, "revision": ballot.revision})
        case ConsensusReached():
            closed = state.ballots.get(record.ballot_id)
            if closed is None:
                return state  # closed before: the same word under another place changes nothing
            decision = Decision(
                digest=record.decision_digest,
                decided_at=record.decided_at,
                revision=record.revision,
                items=closed.items,
            )
            decided = state.model_copy(update={"decided": [*state.decided, decision]})
            return _without_ballot(decided, record)
        case ConsensusBlocked() | BallotLapsed():
            if record.ballot_id not in state.ballots:
                return state
            return _without_ballot(state.model_copy(update={"void": len(state.decided)}), record)
        case BallotSuperseded():
            return _without_ballot(state, record)
        case BallotWithdrawn():
            return _without_ballot(state.model_copy(update={"ended": True}), record)
        case MandateEnded():
            return state.model_copy(update={"ended": True})
        case _:
            return state


def _without_ballot(state: State, record: BallotClosed) -> State:
    open_ballots = {key: ballot for key, ballot in state.ballots.items() if key != record.ballot_id}
    return state.model_copy(update={"ballots": open_ballots})


def _mobilized(state: State, fact: Mobilization) -> State:
    known = state.mobilization.line_ids if state.mobilization else {}
    mobilization = MobilizationState(
        revision=fact.revision,
        decisions=fact.decisions,
        authorized_at=fact.authorized_at,
        line_ids=known | {line.line_id: line.pledge_id for line in fact.lines},
    )
    plan = Plan(lines=fact.lines, coverage=fact.coverage, optimality_gap=fact.optimality_gap)
    return state.model_copy(update={"mobilization": mobilization, "plan": plan})
