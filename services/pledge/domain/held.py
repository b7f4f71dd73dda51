"""What no new plan may move: the part of the last stated plan that has departed."""

from qalqan.events import Line
from services.pledge.domain.state import State

Held = dict[str, dict[str, int]]
"""Quantity by pledge and need."""


def departed(state: State) -> Held:
    """What has departed on the lines of the plan last stated; nothing before one was stated.

    What a report says without a line (or beyond it) is laid on the pledge's lines in their order. What
    departed before there was a line for it is not held: it is planned like all that was accepted.
    """
    if state.mobilization is None:
        return {}
    underway: dict[str, list[Line]] = {}
    for line in state.plan.lines:
        if "departed" in state.pledges[line.pledge_id].reports:
            underway.setdefault(line.pledge_id, []).append(line)
    held: Held = {}
    for pledge_id, lines in underway.items():
        reports = state.pledges[pledge_id].reports["departed"]
        named = {line.line_id: min(line.quantity, reports.get(line.line_id, 0)) for line in lines}
        rest = sum(reports.values()) - sum(named.values())
        for line in lines:
            more = min(line.quantity - named[line.line_id], rest)
            rest -= more
            if quantity := named[line.line_id] + more:
                held.setdefault(pledge_id, {})[line.need_id] = quantity
    return held
