"""How a public event changes what a reader sees of its request. Pure; events are folded in the order of the stream.

Topics come independently, so an event may be read before the one of another topic that it stands on: `TooEarly`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from qalqan.certificate import CLOSING
from qalqan.events import (
    BallotClosed,
    BallotOpened,
    Coverage,
    Mobilization,
    Need,
    PledgeAccepted,
    PledgeContent,
    PledgeDeclined,
    PledgeRevised,
    PledgeWithdrawn,
    Report,
    RequestAmended,
    RequestAnticipated,
    RequestCancelled,
    RequestClosed,
    RequestContent,
    ResourceArrived,
    ResourceCommitted,
    ResourceDeparted,
    VoteCast,
    type_of,
)
from qalqan.fields import Model
from services.notify.domain.view import (
    BallotView,
    CoveragePoint,
    MobilizationView,
    NeedView,
    PledgeView,
    PositionView,
    View,
)
from services.notify.domain.waits import waits

_POINTS: Final = 400
"""Points of a coverage curve; beyond it every second one of the older half goes."""


class TooEarly(Exception):
    """What the event stands on has not been read yet."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the stream that is believed: its number, its topic, its place there, when, and what it says.

    `position`: of its key and topic (CONTRACT "Envelope"). `at`: when the broker took it, or the submission in it.
    """

    seq: int
    topic: str
    position: int
    at: datetime
    data: Model


def fold(view: View | None, told: Told) -> View:
    """The view after an event; the same view when it says nothing new. TooEarly: nothing is known to fold it into."""
    if view is not None and told.position <= view.positions.get(told.topic, 0):
        return view  # a repeated delivery
    after = _fold(view, told)
    changes = {
        "seq": told.seq if view is None else max(view.seq, told.seq),  # what waited has a lower one
        "changed_at": told.at,
        "positions": {**after.positions, told.topic: told.position},
    }
    after = after.model_copy(update=changes)
    return after.model_copy(update={"waits": waits(after), "coverage_over_time": _curve(view, after)})


def _fold(view: View | None, told: Told) -> View:
    data = told.data
    if isinstance(data, RequestAnticipated | RequestContent):
        return _requested(view, data, told)
    if view is None:
        raise TooEarly
    match data:
        case RequestCancelled():
            return view.model_copy(update={"status": "cancelled", "reason": data.reason})
        case RequestClosed():
            return view.model_copy(update={"status": "closed", "reason": data.reason})
        case BallotOpened():
            return _met(view.model_copy(update={"ballots": [*view.ballots, _opened(view, data)]}))
        case VoteCast():
            return _voted(view, data, told.at)
        case BallotClosed():
            return _closed(view, data)
        case PledgeContent():
            return _met(_with_pledge(view, _offered(view.pledge(data.pledge_id), data, told.at)))
        case PledgeAccepted() | PledgeDeclined() | PledgeWithdrawn() | Report():
            return _met(_with_pledge(view, _answered(_pledge(view, data.pledge_id), data)))
        case Mobilization():
            return _met(view.model_copy(update={"mobilization": _planned(data)}))
    return view


def _requested(view: View | None, data: RequestAnticipated | RequestContent, told: Told) -> View:
    said: dict[str, Any] = {"emergency": data.emergency, "text": data.text, "language": data.language}
    if isinstance(data, RequestContent):
        said |= {
            "status": "open",
            "revision": data.revision if isinstance(data, RequestAmended) else 1,
            "needs": [_need(need) for need in data.needs],
            "acceptance": data.acceptance,
        }
    if view is not None:
        return _met(view.model_copy(update=said))
    return View(
        request_id=data.request_id,
        seq=told.seq,
        mode=data.mode,
        state=data.affected_state,
        raised_at=told.at,
        changed_at=told.at,
        **{"status": "anticipated", **said},
    )


def _need(need: Need) -> NeedView:
    return NeedView.model_construct(**{name: getattr(need, name) for name in Need.model_fields})


def _opened(view: View, data: BallotOpened) -> BallotView:
    ballot = data.ballot
    by_request = {}
    if ballot.affected_state in ballot.roll:
        # Its signed request is its approval, unless it votes otherwise (CONTRACT "Rule `consensus`").
        by_request[ballot.affected_state] = PositionView(position="approve", sequence=0, at=ballot.opened_at)
    return BallotView(
        ballot_id=data.ballot_id,
        round=ballot.round,
        revision=ballot.revision,
        roll=ballot.roll,
        items=ballot.items,
        opened_at=ballot.opened_at,
        deadline=ballot.deadline,
        positions=by_request,
    )


def _voted(view: View, vote: VoteCast, at: datetime) -> View:
    ballot = _ballot(view, vote.ballot_id)
    before = ballot.positions.get(vote.state)
    if before is not None and before.sequence >= vote.sequence:
        return view
    position = PositionView(
        position=vote.position,
        sequence=vote.sequence,
        at=at,
        reason=vote.reason,
        declaration=vote.declaration,
        reservation=vote.reservation,
    )
    return _with_ballot(view, ballot.model_copy(update={"positions": {**ballot.positions, vote.state: position}}))


def _closed(view: View, data: BallotClosed) -> View:
    ballot = _ballot(view, data.ballot_id)
    known = {
        state: PositionView(position=position, sequence=0, at=data.decided_at) for state, position in data.tally.items()
    }
    result = {
        "positions": {**known, **ballot.positions},  # the votes themselves may be read after what they led to
        "outcome": CLOSING[type_of(type(data).__name__)],
        "decided_at": data.decided_at,
        "decision_digest": data.decision_digest,
        "blocked_by": data.blocked_by,
    }
    return _with_ballot(view, ballot.model_copy(update=result))


def _offered(before: PledgeView | None, data: PledgeContent, at: datetime) -> PledgeView:
    return PledgeView(
        pledge_id=data.pledge_id,
        revision=data.revision if isinstance(data, PledgeRevised) else 1,
        state=data.pledging_state,
        channel=data.channel,
        capability=data.capability,
        quantity=data.quantity,
        unit=data.unit,
        answers=data.answers,
        origin=data.origin,
        ready_at=data.ready_at,
        arrives_at=data.arrives_at,
        offer_expires_at=data.offer_expires_at,
        conditions=data.conditions,
        offered_at=at,
        committed=0 if before is None else before.committed,
    )


def _answered(pledge: PledgeView, data: PledgeAccepted | PledgeDeclined | PledgeWithdrawn | Report) -> PledgeView:
    match data:
        case PledgeAccepted():
            return pledge.model_copy(update={"status": "accepted", "accepted": data.quantity})
        case PledgeDeclined():
            return pledge.model_copy(update={"status": "declined", "accepted": 0})
        case PledgeWithdrawn():
            return pledge.model_copy(update={"status": "withdrawn", "accepted": 0})
    kind = {ResourceCommitted: "committed", ResourceDeparted: "departed", ResourceArrived: "arrived"}
    what = kind.get(type(data), "released")
    return pledge.model_copy(update={what: getattr(pledge, what) + data.quantity})


def _planned(data: Mobilization) -> MobilizationView:
    return MobilizationView(
        mobilization_id=data.mobilization_id,
        revision=data.revision,
        authorized_at=data.authorized_at,
        lines=data.lines,
        coverage=data.coverage,
    )


def _met(view: View) -> View:
    """The view with its needs as far as they are met now."""
    if view.mobilization is not None:
        stated = {each.need_id: each for each in view.mobilization.coverage}
        needs = [_measured(need, stated.get(need.need_id)) for need in view.needs]
    else:
        needs = [_expected(need, view.pledges) for need in view.needs]
    return view.model_copy(update={"needs": needs})


def _measured(need: NeedView, stated: Coverage | None) -> NeedView:
    """As the plan says; a need that it does not know yet is not met."""
    measures = ("covered", "on_time", "bilateral")
    return need.model_copy(update={name: 0 if stated is None else getattr(stated, name) for name in measures})


def _expected(need: NeedView, pledges: Iterable[PledgeView]) -> NeedView:
    """Before there is a plan: what was accepted of the pledges that answer this need first of all, in its unit."""
    coming = [p for p in pledges if p.accepted and p.answers[:1] == [need.need_id] and p.unit == need.unit]
    in_time = [
        p for p in coming if need.needed_by is None or (p.arrives_at is not None and p.arrives_at <= need.needed_by)
    ]
    return need.model_copy(
        update={
            "covered": min(need.quantity, sum(p.accepted for p in coming)),
            "on_time": min(need.quantity, sum(p.accepted for p in in_time)),
            "bilateral": min(need.quantity, sum(p.accepted for p in coming if p.channel == "bilateral")),
        }
    )


def _curve(before: View | None, after: View) -> list[CoveragePoint]:
    """The curve, with a point more where something changed."""
    points = [] if before is None else before.coverage_over_time
    point = CoveragePoint(
        at=after.changed_at,
        covered={need.need_id: need.covered for need in after.needs},
        on_time={need.need_id: need.on_time for need in after.needs},
    )
    if points and (points[-1].covered, points[-1].on_time) == (point.covered, point.on_time):
        return points
    if len(points) >= _POINTS:
        points = [*points[: _POINTS // 2 : 2], *points[_POINTS // 2 :]]
    return [*points, point]


def _ballot(view: View, ballot_id: str) -> BallotView:
    for ballot in reversed(view.ballots):
        if ballot.ballot_id == ballot_id:
            return ballot
    raise TooEarly


def _pledge(view: View, pledge_id: str) -> PledgeView:
    pledge = view.pledge(pledge_id)
    if pledge is None:
        raise TooEarly
    return pledge


def _with_ballot(view: View, ballot: BallotView) -> View:
    ballots = [ballot if each.ballot_id == ballot.ballot_id else each for each in view.ballots]
    return view.model_copy(update={"ballots": ballots})


def _with_pledge(view: View, pledge: PledgeView) -> View:
    known = view.pledge(pledge.pledge_id) is not None
    pledges = [pledge if each.pledge_id == pledge.pledge_id else each for each in view.pledges]
    return view.model_copy(update={"pledges": pledges if known else [*pledges, pledge]})
