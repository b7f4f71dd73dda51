"""Deadlines of a request's pledges, in log time.

That an offer not accepted by `offer_expires_at` expires of itself is a later issue's; until then an acceptance after it
is `too-late`.
"""

from datetime import datetime

from chassis.facts import Fact
from services.pledge.domain.allocator import Allocator
from services.pledge.domain.decide import mobilize
from services.pledge.domain.mandate import planned_content
from services.pledge.domain.plan import FIRST_ARRIVAL
from services.pledge.domain.state import State


def due_at(state: State) -> datetime | None:
    """When a mobilisation is owed: consensus was reached, but the authorisation was lost with the database before it
    was published. In the line that is never left behind; after a rebuild it may be."""
    if not state.decided or state.mobilization is not None or planned_content(state) is None:
        return None
    return state.decided[0].decided_at


def due(state: State, now: datetime, allocator: Allocator = FIRST_ARRIVAL) -> list[Fact]:
    """What is owed is stated."""
    return mobilize(state, now, allocator)
