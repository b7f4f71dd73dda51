"""The request service with a bug: its handlers raise on a marked request (`python -m tests.chaos.faulty`)."""

from chassis.facts import Fact, Incoming, LaneView
from chassis.service import run
from chassis.settings import Settings
from qalqan.events import RequestRaised
from services.request import main
from services.request.domain import Request
from services.request.handlers import RequestHandlers

MARK = "this request meets a bug"


class FaultyHandlers(RequestHandlers):
    """The service's own handlers, but for one request."""

    def decide(self, state: Request | None, incoming: Incoming, lane: LaneView) -> list[Fact]:
        """RuntimeError on a marked request."""
        if isinstance(incoming.data, RequestRaised) and incoming.data.text == MARK:
            raise RuntimeError(MARK)
        return super().decide(state, incoming, lane)


def build(settings: Settings) -> object:
    """The service with the bug in it."""
    return main.build(settings, FaultyHandlers())


if __name__ == "__main__":
    run(build, main.NAME)
