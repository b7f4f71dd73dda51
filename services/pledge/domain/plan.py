"""The plan of a request: what was accepted, laid over what is needed, as lines and coverage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from qalqan.events import Line, Need
from services.pledge.domain.allocator import Allocation, Allocator, Demand, Supply
from services.pledge.domain.coverage import Delivery, coverage
from services.pledge.domain.estimate import Arrival, arrival
from services.pledge.domain.first_arrival import FirstArrival
from services.pledge.domain.held import Held, departed
from services.pledge.domain.lines import make_line, need_numbers
from services.pledge.domain.mandate import planned_content, scope
from services.pledge.domain.match import fits
from services.pledge.domain.state import Plan, PledgeState, State

FIRST_ARRIVAL: Final[Allocator] = FirstArrival()

_Arrivals = Mapping[str, Mapping[str, Arrival]]
"""By pledge, and by each need it fits."""


def make_plan(state: State, allocator: Allocator) -> Plan:
    """The plan as things stand; empty while the request's content is not known.

    What has departed on a line of the plan last stated stays on it, also when nothing is in force any more;
    the rest of what was accepted is allocated anew, mechanism pledges to the needs in scope, bilateral ones
    to any.
    """
    content = planned_content(state)
    if content is None:
        return Plan()
    needs = {need.need_id: need for need in content.needs}
    in_scope = scope(state)
    held = departed(state)
    pledges = _accepted(state)
    arrivals = {
        pledge_id: {
            need_id: arrival(pledge.offer, need.deliver_to)
            for need_id, need in needs.items()
            if fits(pledge.offer, need)
        }
        for pledge_id, pledge in pledges.items()
    }
    demands = _demands(content.needs, held)
    supplies = _supplies(pledges, arrivals, in_scope, held)
    allocation = allocator.allocate(demands, supplies)
    _check(allocation, demands, supplies)
    lines = _lines(state, needs, pledges, arrivals, held, allocation, in_scope)
    deliveries = [Delivery(each.need_id, each.quantity, each.arrives_at, bilateral=False) for each in lines]
    for share in allocation.shares:
        if pledges[share.pledge_id].offer.channel == "bilateral":
            there = arrivals[share.pledge_id][share.need_id]
            deliveries.append(Delivery(share.need_id, share.quantity, there.arrives_at, bilateral=True))
    return Plan(
        lines=lines,
        coverage=coverage(content.needs, deliveries),
        optimality_gap=allocation.optimality_gap,
    )


def _accepted(state: State) -> dict[str, PledgeState]:
    """The pledges of which anything is accepted, the earlier offers first."""
    by_offer = sorted(state.pledges.items(), key=lambda item: (item[1].offered_at, item[0]))
    return {pledge_id: pledge for pledge_id, pledge in by_offer if pledge.accepted}


def _demands(needs: Sequence[Need], held: Held) -> list[Demand]:
    """What the needs lack besides what has departed."""
    served: Counter[str] = Counter()
    for lines in held.values():
        served.update(lines)
    return [
        Demand(need.need_id, need.priority, need.quantity - served[need.need_id], need.needed_by)
        for need in needs
        if need.quantity > served[need.need_id]
    ]


def _supplies(
    pledges: Mapping[str, PledgeState], arrivals: _Arrivals, in_scope: frozenset[str], held: Held
) -> list[Supply]:
    """What of the pledges is free to be planned; what is not divisible stays where a part of it went."""
    supplies = []
    for pledge_id, pledge in pledges.items():
        offer = pledge.offer
        bilateral = offer.channel == "bilateral"
        bound = held.get(pledge_id, {})
        options = {
            need_id: there.arrives_at
            for need_id, there in arrivals[pledge_id].items()
            if (bilateral or need_id in in_scope) and (offer.divisible or not bound or need_id in bound)
        }
        quantity = pledge.accepted - sum(bound.values())
        if options and quantity:
            supplies.append(Supply(pledge_id, quantity, options, not offer.divisible, bilateral))
    return supplies


def _check(allocation: Allocation, demands: Sequence[Demand], supplies: Sequence[Supply]) -> None:
    """Holds an allocation to the seam's promise; an allocator that breaks it is a bug: AssertionError."""
    lacking = {demand.need_id: demand.quantity for demand in demands}
    free = {supply.pledge_id: supply.quantity for supply in supplies}
    possible = {(supply.pledge_id, need_id) for supply in supplies for need_id in supply.arrivals}
    for share in allocation.shares:
        key = (share.pledge_id, share.need_id)
        if key not in possible or share.quantity < 1 or share.need_id not in lacking:
            raise AssertionError(f"allocator: {share} is not possible, or is given twice")
        possible.remove(key)
        free[share.pledge_id] -= share.quantity
        lacking[share.need_id] -= share.quantity
    if any(left < 0 for left in (*free.values(), *lacking.values())):
        raise AssertionError("allocator: more than a pledge has or a need lacks")


def _lines(
    state: State,
    needs: Mapping[str, Need],
    pledges: Mapping[str, PledgeState],
    arrivals: _Arrivals,
    held: Held,
    allocation: Allocation,
    in_scope: frozenset[str],
) -> list[Line]:
    """The lines of what is held and what is allocated: by need, then arrival."""
    numbers = need_numbers(state)
    lines = []
    planned = set()
    for share in allocation.shares:
        pledge_id, need_id = share.pledge_id, share.need_id
        offer = pledges[pledge_id].offer
        if offer.channel == "mechanism":
            quantity = share.quantity + held.get(pledge_id, {}).get(need_id, 0)
            there = arrivals[pledge_id][need_id]
            lines.append(make_line(numbers[need_id], offer, needs[need_id], quantity, there, share.reason))
            planned.add((pledge_id, need_id))
    for line in state.plan.lines:
        quantity = held.get(line.pledge_id, {}).get(line.need_id, 0)
        if quantity and (line.pledge_id, line.need_id) not in planned:
            reason = line.reason if line.need_id in in_scope else "Has departed; what had not is stood down"
            lines.append(line.model_copy(update={"quantity": quantity, "reason": reason}))
    lines.sort(key=lambda at: (numbers[at.need_id], at.arrives_at is None, at.arrives_at, at.line_id))
    return lines
