"""The request service's composition root: the one place where its parts meet."""

from chassis.service import LaneService, Parts, run
from chassis.settings import Settings
from services.request.api import router
from services.request.domain import Request
from services.request.handlers import RequestHandlers

NAME = "request"


def build(settings: Settings, handlers: RequestHandlers | None = None) -> LaneService[Request]:
    """The service, not yet connected to anything."""
    return LaneService(
        Parts.of(NAME, settings), handlers or RequestHandlers(), lambda pool, _, tokens: [router(pool, tokens)]
    )


if __name__ == "__main__":
    run(build, NAME)
