"""The consensus service's composition root: the one place where its parts meet."""

from chassis.service import LaneService, Parts, run
from chassis.settings import Settings
from services.consensus.api import router
from services.consensus.domain import DEFAULT, Rules, State
from services.consensus.handlers import ConsensusHandlers

NAME = "consensus"


def build(settings: Settings, rules: Rules = DEFAULT) -> LaneService[State]:
    """The service, not yet connected to anything. `rules`: what new ballots are bound to."""
    return LaneService(
        Parts.of(NAME, settings),
        ConsensusHandlers(rules),
        lambda pool, lookup, tokens: [router(pool, lookup, tokens)],
    )


if __name__ == "__main__":
    run(build, NAME)
