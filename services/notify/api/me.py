"""HTTP out: `GET /me`, what the token that is shown says of its holder."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from chassis.reading import Asking, guarded
from chassis.tokens import Role, Tokens


class Me(BaseModel):
    """Who reads. `state`: an operator's always, an integrator's where it has one, else null."""

    role: Role
    state: str | None = Field(examples=["KZ"])
    name: str = Field(examples=["duty desk"])


def me_router(tokens: Tokens) -> APIRouter:
    """For whoever shows a token."""
    router = guarded(tokens)

    @router.get("/me", summary="Who I am here")
    async def me(reader: Asking, response: Response) -> Me:
        """The holder's role and state: what a page may offer to them."""
        response.headers["Cache-Control"] = "private, no-store"
        return Me(role=reader.role, state=reader.state, name=reader.name)

    return router
