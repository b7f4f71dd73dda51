"""HTTP out: the register of requests."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from chassis.database import Pool
from chassis.reading import Cursor, Limit, Page, Reads, Where, guarded, listed, readable, shown, unknown
from chassis.tokens import Tokens
from qalqan.events import Mode
from qalqan.fields import RequestId, State
from services.request import domain, store


def router(pool: Pool, tokens: Tokens) -> APIRouter:
    """The register, for those who show a token."""
    reads, routes = Reads(pool, store.join), guarded(tokens)

    @routes.get("/requests", summary="Requests, by id", response_model=Page[domain.Request], responses=readable(422))
    async def requests(
        request: Request,
        state: Annotated[State | None, Query(description="The affected state")] = None,
        mode: Annotated[Mode | None, Query()] = None,
        status: Annotated[Literal["anticipated", "open", "cancelled", "closed"] | None, Query()] = None,
        open: Annotated[bool | None, Query(description="Neither cancelled nor closed")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Each with its content as the affected state last put it."""
        where = Where({"affected_state": state, "mode": mode, "status": status}, open)
        return listed(request, *await reads.page(where, lambda it: [it], limit, cursor))

    @routes.get(
        "/requests/{request_id}",
        summary="One request",
        response_model=domain.Request,
        responses=readable(404, 422),
    )
    async def one(request: Request, request_id: Annotated[RequestId, Path(examples=["TR-2023-0001"])]) -> Response:
        """Its status, its revision and its content."""
        found = await reads.one(request_id)
        if found is None:
            raise unknown(f"request {request_id}")
        return shown(request, found)

    return routes
