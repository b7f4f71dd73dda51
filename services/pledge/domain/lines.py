"""The lines of a plan: their ids, which stay the same in every plan, and their words."""

from datetime import timedelta

from qalqan.events import Line, Need, PledgeContent
from services.pledge.domain.coverage import in_time
from services.pledge.domain.estimate import Arrival
from services.pledge.domain.state import State


def need_numbers(state: State) -> dict[str, int]:
    """Each need's number, 1, 2 ... as it first appears over the revisions; its lines carry it always."""
    numbers: dict[str, int] = {}
    for _, content in sorted(state.contents.items()):
        for need in content.needs:
            numbers.setdefault(need.need_id, len(numbers) + 1)
    return numbers


def make_line(number: int, offer: PledgeContent, need: Need, quantity: int, there: Arrival, reason: str) -> Line:
    """The line of a pledge for the need of that number; to the allocator's `reason` its merits are added."""
    if offer.capability != need.capability:
        reason += f", in place of {need.capability}"
    return Line(
        line_id=f"{offer.pledge_id}.{number}",
        need_id=need.need_id,
        pledge_id=offer.pledge_id,
        state=offer.pledging_state,
        capability=offer.capability,
        quantity=quantity,
        unit=offer.unit,
        depart_by=there.depart_by,
        arrives_at=there.arrives_at,
        estimated=there.estimated,
        reason=reason + _punctuality(need, there),
    )


def _punctuality(need: Need, there: Arrival) -> str:
    if need.needed_by is None:
        return ""
    if there.arrives_at is None:
        return "; when it arrives is not known"
    if in_time(need, there.arrives_at):
        return "; in time"
    late_h = -((need.needed_by - there.arrives_at) // timedelta(hours=1))  # rounded up
    return f"; up to {late_h} h late"
