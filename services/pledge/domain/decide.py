"""What follows from a record: the facts to state, above all when a mobilisation is authorised and revised."""

from datetime import datetime
from typing import TypeVar

from chassis.facts import Fact, Incoming
from qalqan.events import (
    BallotClosed,
    MandateEnded,
    Mobilization,
    MobilizationAuthorized,
    MobilizationRevised,
    PledgeAccepted,
    PledgeDeclined,
    PledgeOffered,
    PledgeRevised,
    PledgeWithdrawn,
    Report,
    RequestContent,
)
from services.pledge.domain.admit import admit
from services.pledge.domain.allocator import Allocator
from services.pledge.domain.evolve import evolve
from services.pledge.domain.mandate import in_force, planned_content
from services.pledge.domain.plan import FIRST_ARRIVAL, make_plan
from services.pledge.domain.state import Plan, State

_Stated = TypeVar("_Stated", bound=Mobilization)


def decide(state: State | None, incoming: Incoming, now: datetime, allocator: Allocator = FIRST_ARRIVAL) -> list[Fact]:
    """The facts to state because of a record, in order; `now` is log time.

    A submission of `inbox.pledges` comes before it is folded, and is itself the first fact. A record of
    `requests` or `decisions` is folded already, and only what follows from it is given. Raises Refused and
    NotYet as `admit` does.
    """
    match incoming.data:
        case Report() as report:
            # A report moves no plan: what has departed stays on its line when something else moves it.
            return admit(state, incoming, report, now)
        case PledgeOffered() | PledgeRevised() | PledgeWithdrawn() | PledgeAccepted() | PledgeDeclined() as submission:
            facts = admit(state, incoming, submission, now)
            if state is None or state.mobilization is None:
                return facts  # the plan is kept ready by `evolve`, and nothing is stated of it yet
            before = state.accepted(submission.pledge_id)
            for fact in facts:
                state = evolve(state, fact, allocator)
            if state.accepted(submission.pledge_id) == before:
                return facts
            return facts + mobilize(state, now, allocator)
        case RequestContent() | BallotClosed() | MandateEnded():
            return mobilize(state, now, allocator) if state else []
        case _:
            return []


def mobilize(state: State, now: datetime, allocator: Allocator) -> list[Fact]:
    """What is to be stated on `mobilizations` (CONTRACT, MobilizationAuthorized).

    Authorised once, at the first consensus reached, as soon as the request's content is known too. What is
    otherwise by then (a later decision, the mandate's end) is a revision, as is any later change of the plan.
    """
    if planned_content(state) is None or not state.decided:
        return []
    facts = []
    if state.mobilization is None:
        first = state.decided[0]
        facts.append(Fact(_stated(MobilizationAuthorized, state, 1, [first.digest], now, state.plan)))
        if in_force(state) == [first]:
            return facts  # the plan kept ready is the plan
        state = evolve(state, facts[0], allocator)
    last = state.mobilization
    assert last is not None
    decisions = [decision.digest for decision in in_force(state)]
    plan = make_plan(state, allocator)
    if plan != state.plan or decisions != last.decisions:
        revision = last.revision + 1
        facts.append(Fact(_stated(MobilizationRevised, state, revision, decisions, last.authorized_at, plan)))
    return facts


def _stated(
    kind: type[_Stated],
    state: State,
    revision: int,
    decisions: list[str],
    authorized_at: datetime,
    plan: Plan,
) -> _Stated:
    mode = state.mode
    assert mode is not None, "a plan answers a content, and that has a mode"
    return kind(
        request_id=state.request_id,
        mobilization_id=f"M-{state.request_id}",
        revision=revision,
        mode=mode,
        decisions=decisions,
        authorized_at=authorized_at,
        lines=plan.lines,
        coverage=plan.coverage,
        optimality_gap=plan.optimality_gap,
    )
