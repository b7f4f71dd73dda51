"""HTTP out: `GET /rejections`, what was refused, why, and what it was."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from chassis.database import Pool
from chassis.reading import guarded, readable, shown
from chassis.tokens import Tokens
from qalqan.events import Reason
from qalqan.topics import INBOXES
from services.notify.domain.rejection import Rejection, rejection
from services.notify.store.rejections import Asked, newest

_INBOX = f"^({'|'.join(inbox.name.replace('.', '[.]') for inbox in INBOXES)})$"


class Rejections(BaseModel):
    """The newest first. `next`: ask on with `before`; null: there are no others."""

    items: list[Rejection]
    next: int | None


def rejections_router(pool: Pool, tokens: Tokens) -> APIRouter:
    """For operators and the Secretariat: an original may hold what a state did not mean to publish."""
    router = guarded(tokens, "secretariat", "operator")

    @router.get("/rejections", summary="What was refused", response_model=Rejections, responses=readable(403, 422))
    async def rejections(
        request: Request,
        reason: Reason | None = None,
        source_topic: Annotated[str | None, Query(pattern=_INBOX, examples=[INBOXES[0].name])] = None,
        before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """For operators and the Secretariat. Each with the submission as it came, as text; a page of large ones may
        have fewer than asked for."""
        found, more = await newest(pool, Asked(reason, source_topic, before), limit)
        items = [rejection(entry) for entry in found]
        return shown(request, Rejections(items=items, next=items[-1].seq if more else None))

    return router
