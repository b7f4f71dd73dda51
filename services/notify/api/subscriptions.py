"""HTTP: subscriptions are made, changed, tried and taken away; what became of deliveries."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from chassis.database import Pool
from chassis.problems import described
from chassis.reading import guarded
from chassis.tokens import Tokens
from services.notify.delivery.delivery import Delivery
from services.notify.delivery.guard import NotAllowed
from services.notify.delivery.webhook import new_secret
from services.notify.domain.subscription import Filter
from services.notify.store import subscriptions as store
from services.notify.store.subscriptions import Subscription

AN_OWNER, IN_ALL = 50, 1_000


class New(BaseModel):
    """A subscription to make."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["webhook", "email"]
    target: Annotated[str, Field(max_length=2_000, description="an https URL, or an e-mail address")]
    name: Annotated[str, Field(max_length=100)] = ""
    filter: Filter = Filter()
    digest_minutes: Annotated[int, Field(ge=0, le=1_440, description="e-mail: a digest each so often; 0: at once")] = 0


class Shown(BaseModel):
    """A subscription as its owner sees it."""

    subscription_id: str
    owner: str
    kind: str
    target: str
    name: str
    filter: Filter
    digest_minutes: int
    status: Literal["active", "paused", "disabled"]
    why: str | None
    created_at: datetime
    created_by: str
    seq: int


class WithSecret(Shown):
    """The same, with the secret that signs: it is shown this once."""

    secret: str | None


def subscriptions_router(pool: Pool, delivery: Delivery, tokens: Tokens) -> APIRouter:
    """Subscriptions, for those who show the token."""
    router = guarded(tokens)

    @router.post(
        "/subscriptions",
        summary="Be told by webhook or e-mail",
        status_code=201,
        response_model=WithSecret,
        responses=described(401, 409, 422),
    )
    async def make(new: New) -> Any:
        """Told from now on. The secret is shown once."""
        try:
            host, port = delivery.guard.check_url(new.target)
            await delivery.guard.addresses(host, port)
        except NotAllowed as error:
            raise HTTPException(422, f"target: {error}") from None
        except OSError as error:
            raise HTTPException(422, f"target: the name does not resolve: {error.strerror or error}") from None
        made = Subscription(
            subscription_id=f"sub_{secrets.token_hex(12)}",
            owner="secretariat",
            kind=new.kind,
            target=new.target,
            name=new.name,
            filter=new.filter,
            digest_minutes=new.digest_minutes,
            status="active",
            why=None,
            created_at=datetime.now(UTC),
            created_by="secretariat",
            secrets=(new_secret(),),
            seq=0,
        )
        if not await store.add(pool, made, AN_OWNER, IN_ALL):
            raise HTTPException(409, f"{made.owner} has {AN_OWNER} subscriptions already, which is the limit")
        kept = await store.one(pool, made.subscription_id)
        if kept is None:
            raise HTTPException(409, "it was taken away at this moment")
        return {**_shown(kept), "secret": made.secrets[0]}

    return router


def _shown(subscription: Subscription) -> dict[str, Any]:
    return {name: getattr(subscription, name) for name in Shown.model_fields}
