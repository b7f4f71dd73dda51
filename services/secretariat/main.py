"""The secretariat service's composition root: the one place where its parts meet."""

from chassis.service import LaneService, Parts, run
from chassis.settings import Settings
from services.secretariat.api import router
from services.secretariat.domain import Register
from services.secretariat.handlers import SecretariatHandlers

NAME = "secretariat"


def build(settings: Settings) -> LaneService[Register]:
    """The service, not yet connected to anything.

    It admits its own key's registration, so it waits for none.
    """
    return LaneService(
        Parts.of(NAME, settings),
        SecretariatHandlers(),
        lambda pool, _, tokens: [router(pool, tokens)],
        judges_by_its_own_word=True,
    )


if __name__ == "__main__":
    run(build, NAME)
