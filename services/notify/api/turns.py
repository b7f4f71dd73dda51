"""HTTP out: what each state owes; in: that somebody sees to it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from chassis.database import Pool
from chassis.problems import described
from chassis.reading import Asking, guarded, readable, shown, unknown
from chassis.tokens import Tokens
from qalqan.fields import Model, RequestId, State
from services.notify.domain.turns import TurnView
from services.notify.store import turns


class TurnsPage(Model):
    """Turns, those that have not ended first, and of them what is due first."""

    items: list[TurnView]


def turns_router(pool: Pool, tokens: Tokens) -> APIRouter:
    """Turns, for those who show a token."""
    router = guarded(tokens)

    @router.get("/turns", summary="What states owe", response_model=TurnsPage, responses=readable(422))
    async def listed(
        request: Request,
        state: Annotated[State | None, Query(description="Who owes it")] = None,
        request_id: Annotated[RequestId | None, Query(alias="request")] = None,
        open: Annotated[bool | None, Query(description="Whether it is still owed")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """A ballot to vote on, a pledge to answer, a line that should leave or arrive."""
        return shown(request, TurnsPage(items=await turns.listed(pool, state, request_id, open, limit)))

    @router.post(
        "/turns/{turn_id}/acknowledge",
        summary="Somebody sees to it",
        response_model=TurnView,
        responses=described(401, 403, 404, 422, 503),
    )
    async def acknowledge(turn_id: Annotated[UUID, Path()], reader: Asking) -> TurnView:
        """Nobody is told of it again. For the duty desk of the state whose turn it is, and the Secretariat."""
        turn = await turns.one(pool, turn_id)
        if turn is None:
            raise unknown(f"turn {turn_id}")
        if not reader.acts_for(turn.state):
            raise HTTPException(
                403, f"it is the turn of {turn.state}: its operators acknowledge it, or the Secretariat"
            )
        await turns.acknowledge(pool, turn_id, f"{reader.name} ({reader.state or reader.role})")
        return await turns.one(pool, turn_id) or turn

    return router
