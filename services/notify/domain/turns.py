"""It is your turn: what a state owes, when it is told so, and who else is. Pure.

A turn follows from what a request waits for (`waits`). It is told when it begins (of a line: when it is late), and
again by the rule below until somebody acknowledges it or it ends; from `SECRETARIAT_FROM` on the Secretariat is told
too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from qalqan.events import Mode, Severity
from qalqan.fields import Instant, Model, RequestId, State
from services.notify.domain.view import View, Wait

AGAIN: Final[dict[Severity, tuple[timedelta, ...]]] = {
    "Extreme": (timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=45)),
    "Severe": (timedelta(minutes=15), timedelta(minutes=45), timedelta(hours=2)),
}
"""How long after the first time a turn is told again, by severity (CAP 1.2)."""
_OTHERWISE: Final = (timedelta(minutes=30), timedelta(hours=2), timedelta(hours=6))
SECRETARIAT_FROM: Final = 2
"""The level (0: told for the first time) from which the Secretariat is told as well."""


class Turn(Model):
    """What a state owes. `next_at`: when it is told (again); `level`: how often it was, less one."""

    turn_id: UUID
    request_id: str
    state: str
    kind: str
    what: str
    since: Instant
    deadline: Instant | None
    level: int
    next_at: Instant | None


class TurnView(Model):
    """A turn as its state sees it. `told_at`: each time that it was told; `level`: how often that was, less one."""

    turn_id: UUID
    state: State
    request_id: RequestId
    mode: Mode
    title: str
    severity: Severity
    kind: str
    what: str
    since: Instant
    deadline: Instant | None
    level: int
    told_at: list[Instant]
    acknowledged_at: Instant | None
    acknowledged_by: str | None
    ended_at: Instant | None


def turns(view: View) -> list[Turn]:
    """What is owed in a request, as it is when nobody has been told yet."""
    return [_turn(view, wait) for wait in view.waits]


def _turn(view: View, wait: Wait) -> Turn:
    return Turn(
        turn_id=uuid5(NAMESPACE_URL, "\n".join((view.request_id, wait.state, wait.kind, wait.what))),
        request_id=view.request_id,
        state=wait.state,
        kind=wait.kind,
        what=wait.what,
        since=wait.since,
        deadline=wait.deadline,
        level=-1,
        next_at=first_told(wait),
    )


def first_told(wait: Wait) -> datetime | None:
    """When a state is told of it: at once; of a line when it is late (never, where no time is set)."""
    return wait.since if wait.kind in ("vote", "accept") else wait.deadline


def told_again(level: int, first: datetime, severity: Severity, deadline: datetime | None) -> datetime | None:
    """When a turn that was just told for the `level`-th time (0: the first) is told again; None: no more.

    The words are spread over the time there is: a short ballot is not over before the second one.
    """
    steps: Sequence[timedelta] = AGAIN.get(severity, _OTHERWISE)
    if level >= len(steps):
        return None
    at = first + steps[level]
    if deadline is None or deadline <= first:
        return at
    share = (deadline - first) * (level + 1) / (len(steps) + 1)
    return min(at, first + share)
