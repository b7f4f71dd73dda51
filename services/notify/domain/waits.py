"""What a request waits for, and for whom. Pure."""

from collections.abc import Iterator

from qalqan.events import Line
from services.notify.domain.view import PledgeView, View, Wait


def waits(view: View) -> list[Wait]:
    """All that is owed, what is due first in front."""
    owed = [*_votes(view), *_answers(view), *_movements(view)]
    return sorted(owed, key=lambda wait: (wait.deadline is None, wait.deadline or wait.since, wait.state, wait.what))


def _votes(view: View) -> Iterator[Wait]:
    for ballot in view.ballots[-1:]:
        for state in ballot.waits_for():
            yield Wait(
                kind="vote", state=state, what=ballot.ballot_id, since=ballot.opened_at, deadline=ballot.deadline
            )


def _answers(view: View) -> Iterator[Wait]:
    """Offers that the affected state has not answered; with `automatic` those alone that answer no need."""
    if not view.is_open:
        return
    for pledge in view.pledges:
        if pledge.status == "offered" and (view.acceptance == "manual" or not pledge.answers):
            what = f"{pledge.pledge_id}/{pledge.revision}"
            deadline = pledge.offer_expires_at
            yield Wait(kind="accept", state=view.state, what=what, since=pledge.offered_at, deadline=deadline)


def _movements(view: View) -> Iterator[Wait]:
    """Lines of the plan that have not departed, or departed and have not arrived, as far as reports say."""
    if view.mobilization is None:
        return
    since = view.mobilization.authorized_at
    lines: dict[str, list[Line]] = {}
    for line in view.mobilization.lines:
        lines.setdefault(line.pledge_id, []).append(line)
    for pledge_id, of_pledge in lines.items():
        pledge = view.pledge(pledge_id)
        if pledge is None:
            continue  # the plan was read before the pledges it stands on
        for line, departed, arrived in _laid_on(of_pledge, pledge):
            if departed < line.quantity:
                yield Wait(kind="depart", state=line.state, what=line.line_id, since=since, deadline=line.depart_by)
            elif arrived < line.quantity:
                yield Wait(kind="arrive", state=line.state, what=line.line_id, since=since, deadline=line.arrives_at)


def _laid_on(lines: list[Line], pledge: PledgeView) -> Iterator[tuple[Line, int, int]]:
    """How much of each line has departed and arrived: reports add up, and are laid on a pledge's lines in order."""
    departed, arrived = pledge.departed, max(pledge.arrived, pledge.released)
    for line in lines:
        yield line, min(line.quantity, departed), min(line.quantity, arrived)
        departed, arrived = max(0, departed - line.quantity), max(0, arrived - line.quantity)
