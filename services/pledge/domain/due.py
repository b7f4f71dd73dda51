"""Deadlines of a request's pledges, in log time.

None yet: that an offer not accepted by `offer_expires_at` expires of itself is a later issue's; until then an
acceptance after it is `too-late`.
"""

from datetime import datetime

from chassis.facts import Fact
from services.pledge.domain.state import State


def due_at(state: State) -> datetime | None:
    """The next deadline, or None."""
    return None


def due(state: State, now: datetime) -> list[Fact]:
    """What happens because log time has reached `now`."""
    return []
