"""What the state of things admits of the submissions of `inbox.pledges` (CONTRACT, SubmissionRejected)."""

from datetime import datetime

from chassis.facts import Fact, Incoming, NotYet, Refused, forwarded
from qalqan.events import (
    PledgeAccepted,
    PledgeContent,
    PledgeDeclined,
    PledgeOffered,
    PledgeRevised,
    PledgeWithdrawn,
    Report,
)
from qalqan.instants import format_instant
from services.pledge.domain.life import LIFE, ReportStep
from services.pledge.domain.match import fits
from services.pledge.domain.state import Content, PledgeState, State

MAX_CHANGES = 1_000
"""Revisions and answers of one pledge: each may move the whole plan, which everybody then reads anew."""

Submission = PledgeOffered | PledgeRevised | PledgeWithdrawn | PledgeAccepted | PledgeDeclined | Report


def admit(state: State | None, incoming: Incoming, submission: Submission, now: datetime) -> list[Fact]:
    """The facts that a submission becomes, itself first.

    Raises Refused with the contract's reason; NotYet for an offer on a request, or a need, that is not known yet.
    """
    if isinstance(submission, PledgeOffered):
        return _offered(state, incoming, submission, now)
    content = state.content if state else None
    if state is None or content is None:
        raise Refused("unknown-request", f"no request {submission.request_id} is known")
    pledge = state.pledges.get(submission.pledge_id)
    if pledge is None:
        raise Refused("unknown-pledge", f"{submission.request_id} has no pledge {submission.pledge_id}")
    if state.closed and LIFE[type(submission)].ends_with_request:
        raise _closed(state)
    _check_step(content, pledge, incoming, submission)
    if isinstance(submission, PledgeRevised | PledgeAccepted | PledgeDeclined) and pledge.changes >= MAX_CHANGES:
        raise Refused("rate-limited", f"{submission.pledge_id} was revised and answered {MAX_CHANGES} times: no more")
    match submission:
        case PledgeRevised():
            _check_next_revision(pledge, submission.revision)
            return _with_policy(incoming, content, submission, submission.revision, now)
        case PledgeAccepted():
            _check_acceptance(pledge, submission, now)
        case PledgeDeclined():
            _check_revision(pledge, submission.pledge_revision)
        case Report():
            _check_report(state, pledge, submission)
        case PledgeWithdrawn():
            pass
    return [forwarded(incoming)]


def _offered(state: State | None, incoming: Incoming, offer: PledgeOffered, now: datetime) -> list[Fact]:
    if state is None or state.content is None:
        raise NotYet(queue=offer.pledge_id)
    if state.closed:
        raise _closed(state)
    if offer.pledge_id in state.pledges:
        raise Refused("not-allowed", f"pledge_id {offer.pledge_id} is taken")
    return _with_policy(incoming, state.content, offer, 1, now)


def _with_policy(
    incoming: Incoming, content: Content, offer: PledgeContent, revision: int, now: datetime
) -> list[Fact]:
    """The offer, and its acceptance where the request has accepted beforehand what answers it."""
    needs = [need.need_id for need in content.needs]
    if missing := [need_id for need_id in offer.answers if need_id not in needs]:
        # Its sender may have read an amendment on `requests` that this lane, or the ballot on it, has still to follow.
        detail = (
            f"answers: {offer.request_id} has no need {', '.join(missing)}; it has {', '.join(needs) or 'none yet'}"
        )
        raise NotYet(offer.pledge_id, Refused("bad-data", detail))
    facts = [forwarded(incoming)]
    if _accepted_by_policy(content, offer, now):
        accepted = PledgeAccepted(
            request_id=offer.request_id,
            pledge_id=offer.pledge_id,
            pledge_revision=revision,
            quantity=offer.quantity,
            by="policy",
        )
        facts.append(Fact(accepted))
    return facts


def _accepted_by_policy(content: Content, offer: PledgeContent, now: datetime) -> bool:
    """Whether the request's `automatic` acceptance covers an offer: it names a need and can serve one.

    An unsolicited offer is the affected state's own to accept.
    """
    return (
        content.acceptance == "automatic"
        and bool(offer.answers)
        and any(fits(offer, need) for need in content.needs)
        and not _expired(offer, now)
    )


def _expired(offer: PledgeContent, now: datetime) -> bool:
    return offer.offer_expires_at is not None and now >= offer.offer_expires_at


def _closed(state: State) -> Refused:
    return Refused("request-closed", f"request {state.request_id} was cancelled or closed")


def _check_step(content: Content, pledge: PledgeState, incoming: Incoming, submission: Submission) -> None:
    step = LIFE[type(submission)]
    parties = {"pledging": pledge.offer.pledging_state, "affected": content.affected_state}
    may = sorted(parties[party] for party in step.by)
    if incoming.source.kind != "state" or incoming.source.name not in may:
        who = incoming.source.name
        raise Refused("not-allowed", f"{incoming.kind.name} is for {' or '.join(may)} to say, not {who}")
    if pledge.stage not in step.stages:
        raise Refused("not-allowed", f"{submission.pledge_id} is {pledge.stage}, it cannot {step.verb}")


def _check_revision(pledge: PledgeState, revision: int) -> None:
    if revision < pledge.revision:
        raise Refused("stale", f"pledge_revision: {revision} was replaced by {pledge.revision}")
    if revision > pledge.revision:
        raise Refused("not-allowed", f"pledge_revision: {revision}, but the last is {pledge.revision}")


def _check_next_revision(pledge: PledgeState, revision: int) -> None:
    if revision <= pledge.revision:
        raise Refused("stale", f"revision: {revision}, and {pledge.revision} is there")
    if revision > pledge.revision + 1:
        raise Refused("not-allowed", f"revision: {revision}, and {pledge.revision + 1} is the next")


def _check_acceptance(pledge: PledgeState, accepted: PledgeAccepted, now: datetime) -> None:
    """How much may be accepted, and until when.

    A part of what is not divisible, or less than `min_quantity`, is not on offer: `not-allowed` and not
    `bad-data`, for the acceptance is well formed and the same data would do under another offer.
    """
    offer = pledge.offer
    if accepted.by == "policy":
        raise Refused("bad-data", "by: `policy` is the pledge service's own")
    _check_revision(pledge, accepted.pledge_revision)
    if accepted.quantity > offer.quantity:
        raise Refused("over-accepted", f"quantity: {accepted.quantity} of {offer.quantity} offered")
    if not offer.divisible and accepted.quantity != offer.quantity:
        raise Refused("not-allowed", f"quantity: not divisible, all {offer.quantity} or nothing")
    if accepted.quantity < offer.min_quantity:
        raise Refused("not-allowed", f"quantity: at least {offer.min_quantity}, not {accepted.quantity}")
    if accepted.quantity < (departed := pledge.reported("departed")):
        raise Refused("not-allowed", f"quantity: {accepted.quantity} is less than the {departed} departed")
    if offer.offer_expires_at is not None and _expired(offer, now):
        raise Refused("too-late", f"the offer expired at {format_instant(offer.offer_expires_at)}")


def _check_report(state: State, pledge: PledgeState, report: Report) -> None:
    step = LIFE[type(report)]
    assert isinstance(step, ReportStep)
    line_ids = state.mobilization.line_ids if state.mobilization else {}
    if report.line_id is not None and line_ids.get(report.line_id) != report.pledge_id:
        raise Refused("not-allowed", f"line_id: pledge {report.pledge_id} never had a line {report.line_id}")
    total = pledge.reported(step.kind) + report.quantity
    if total > pledge.accepted:
        raise Refused("over-accepted", f"quantity: {total} {step.kind} of {pledge.accepted} accepted")
    if step.follows and total > (limit := pledge.reported(step.follows)):
        raise Refused("not-allowed", f"quantity: {total} {step.kind} of {limit} {step.follows}")
