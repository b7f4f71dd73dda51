"""HTTP out: `GET /streams`, the consumers' dashboards of those who run the system."""

from fastapi import APIRouter, Response

from chassis.reading import guarded
from chassis.tokens import Tokens
from services.notify.domain.standing import Streams
from services.notify.standing import Overview


def streams_router(overview: Overview, tokens: Tokens) -> APIRouter:
    """For operators and the Secretariat."""
    router = guarded(tokens, "secretariat", "operator")

    @router.get("/streams", summary="How services, lanes and consumer groups stand")
    async def streams(response: Response) -> Streams:
        """For operators and the Secretariat; as of a second ago at the most. A service that does not answer says so
        here, and holds up nobody; `effect` counts since a process started, `lately` and the rates within `window_s`."""
        response.headers["Cache-Control"] = "private, no-store"
        return await overview.look()

    return router
