"""The pledge service's composition root: the one place where its parts meet."""

from chassis.service import LaneService, Parts, run
from chassis.settings import Settings
from services.pledge.api import router
from services.pledge.domain import State
from services.pledge.domain.allocator import Allocator
from services.pledge.domain.plan import FIRST_ARRIVAL
from services.pledge.handlers import PledgeHandlers

NAME = "pledge"


def build(settings: Settings, allocator: Allocator = FIRST_ARRIVAL) -> LaneService[State]:
    """The service, not yet connected to anything. `allocator`: how accepted pledges are given to needs."""
    return LaneService(
        Parts.of(NAME, settings), PledgeHandlers(allocator), lambda pool, _, tokens: [router(pool, tokens)]
    )


if __name__ == "__main__":
    run(build, NAME)
