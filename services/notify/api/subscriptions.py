"""HTTP: subscriptions are made, changed, tried and taken away; what became of deliveries."""

import asyncio
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.database import Pool
from chassis.problems import described
from chassis.reading import Asking, Limit, Page, guarded, listed, readable, shown, unknown
from chassis.tokens import Reader, Tokens
from qalqan.instants import format_instant
from services.notify.delivery.delivery import Delivery, owner_of
from services.notify.delivery.guard import NotAllowed
from services.notify.delivery.mail import check_address
from services.notify.delivery.webhook import CONNECT_S, new_secret
from services.notify.domain.subscription import DeliveryState, Filter
from services.notify.store import events
from services.notify.store import subscriptions as store
from services.notify.store.subscriptions import Subscription

AN_OWNER, IN_ALL = 200, 1_000
"""How many subscriptions there may be."""
_PAGES_AT_ONCE, _PAGE = 10, 500

Kind = Literal["webhook", "email"]
Name = Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$", description="for people")]
Target = Annotated[str, Field(max_length=2_000, description="an https URL, or an e-mail address")]
DigestMinutes = Annotated[int, Field(ge=0, le=1_440, description="e-mail: one letter each so often; 0: at once")]
_ID = r"^sub_[0-9a-f]{24}$"
Id = Annotated[str, Path(pattern=_ID, examples=["sub_0123456789abcdef01234567"])]


class New(BaseModel):
    """A subscription to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Kind
    target: Target
    name: Name = ""
    filter: Filter = Filter()
    digest_minutes: DigestMinutes = 0


class Change(BaseModel):
    """What is to be different; what is left out stays. `paused` keeps its place, `active` goes on from there."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: Target | None = None
    name: Name | None = None
    filter: Filter | None = None
    digest_minutes: DigestMinutes | None = None
    status: Literal["active", "paused"] | None = None


class Shown(BaseModel):
    """A subscription as its owner sees it. `seq`: every event of the stream up to it has been seen to."""

    subscription_id: str
    owner: str
    kind: Kind
    target: str
    name: str
    filter: Filter
    digest_minutes: int
    status: Literal["active", "paused", "disabled"]
    why: str | None = Field(description="it is disabled")
    created_at: str
    created_by: str
    seq: int


class Whole(Shown):
    """The same, and how many of its deliveries wait or are dead."""

    waiting: int
    dead: int


class WithSecret(Shown):
    """The same, with the secret that signs: it is shown this once. A letter has none."""

    secret: str | None


class Tried(BaseModel):
    """What came of a trial: what the target answered (the beginning of it), or why it did not."""

    ok: bool
    status: int | None
    error: str | None
    took_ms: int
    answer: str


class Delivered(BaseModel):
    """A delivery. `kind` and `number`: which event of the stream, or which announcement."""

    kind: Literal["event", "announcement"]
    number: int
    state: DeliveryState
    attempts: int
    due_at: str
    due_since: str
    changed_at: str
    status: int | None
    error: str | None
    took_ms: int | None


class Replay(BaseModel):
    """What is to be delivered (again): dead letters, or with `after` the events that it wants after that number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    after: Annotated[int | None, Field(ge=0, lt=2**63)] = None


class Replayed(BaseModel):
    """How many deliveries wait now. `next`: there are more events, ask on with it as `after`."""

    count: int
    next: int | None = None


def subscriptions_router(pool: Pool, delivery: Delivery, tokens: Tokens) -> APIRouter:
    """Subscriptions of one's own: of an operator's state, of an integrator; the Secretariat's are all."""
    router = guarded(tokens, "secretariat", "operator", "integrator")

    async def mine(reader: Reader, subscription_id: str) -> Subscription:
        found = await store.one(pool, subscription_id)
        if found is None or (reader.role != "secretariat" and found.owner != owner_of(reader)):
            raise unknown("such subscription")
        return found

    async def check(kind: str, target: str, digest_minutes: int) -> None:
        """422: there is no way to such a target, 409: none here."""
        if kind == "email" and delivery.mail is None:
            raise HTTPException(409, "this network sends no e-mail: its operator has named no mail server")
        if kind == "webhook" and digest_minutes:
            raise HTTPException(422, "digest_minutes: a webhook is told at once; digests are for e-mail")
        try:
            if kind == "email":
                check_address(target)
            else:
                async with asyncio.timeout(CONNECT_S):
                    await delivery.guard.addresses(*delivery.guard.check_url(target))
        except (NotAllowed, ValueError) as error:
            raise HTTPException(422, f"target: {error}") from None
        except OSError as error:
            raise HTTPException(
                422, f"target: the name does not resolve ({error.strerror or 'no name server answers'})"
            ) from None

    @router.post(
        "/subscriptions",
        summary="Be told by webhook or e-mail",
        status_code=201,
        response_model=WithSecret,
        responses=described(400, 409, 413, 422, 503),
    )
    async def make(new: New, reader: Asking, response: Response) -> Any:
        """From now on. The secret that signs a webhook is shown in this answer alone."""
        await check(new.kind, new.target, new.digest_minutes)
        made = Subscription(
            subscription_id=f"sub_{secrets.token_hex(12)}",
            owner=owner_of(reader),
            kind=new.kind,
            target=new.target,
            name=new.name,
            filter=new.filter,
            digest_minutes=new.digest_minutes,
            status="active",
            why=None,
            created_at=datetime.now(UTC),
            created_by=reader.name,
            secrets=(new_secret(),) if new.kind == "webhook" else (),
            seq=0,
        )
        if not await store.add(pool, made, AN_OWNER, IN_ALL):
            raise HTTPException(
                409, f"{made.owner} has {AN_OWNER} subscriptions, or there are {IN_ALL} in all: no more"
            )
        kept = await mine(reader, made.subscription_id)
        response.headers["Location"] = f"/subscriptions/{made.subscription_id}"
        response.headers["Cache-Control"] = "no-store"
        return {**_fields(kept), "secret": made.secrets[0] if made.secrets else None}

    @router.get("/subscriptions", summary="Subscriptions", response_model=Page[Shown], responses=readable(422))
    async def index(
        request: Request,
        reader: Asking,
        limit: Limit = 100,
        cursor: Annotated[str | None, Query(pattern=_ID, description="`next` of the page before")] = None,
    ) -> Response:
        """One's own; the Secretariat sees all."""
        owner = None if reader.role == "secretariat" else owner_of(reader)
        found = await store.listed(pool, owner, cursor or "", limit + 1)
        items = [Shown(**_fields(each)) for each in found[:limit]]
        return listed(request, items, items[-1].subscription_id if len(found) > limit else None)

    @router.get(
        "/subscriptions/{subscription_id}",
        summary="One subscription",
        response_model=Whole,
        responses=readable(404, 422),
    )
    async def one(request: Request, reader: Asking, subscription_id: Id) -> Response:
        """With how many deliveries wait for it, and how many are dead."""
        found = await mine(reader, subscription_id)
        counts = await store.counts(pool, subscription_id)
        return shown(request, Whole(**_fields(found), waiting=counts.get("waiting", 0), dead=counts.get("dead", 0)))

    @router.patch(
        "/subscriptions/{subscription_id}",
        summary="Change a subscription",
        response_model=Shown,
        responses=described(400, 404, 409, 413, 422, 503),
    )
    async def change(reader: Asking, subscription_id: Id, wanted: Change) -> Any:
        """What is left out stays as it is. Within a second it is told by the new rule."""
        found = await mine(reader, subscription_id)
        fields = {name: value for name, value in wanted if value is not None}
        if "target" in fields or "digest_minutes" in fields:
            digest_minutes = fields.get("digest_minutes", found.digest_minutes)
            await check(found.kind, fields.get("target", found.target), digest_minutes)
        if "filter" in fields:
            fields["filter"] = fields["filter"].model_dump_json()
        if "status" in fields:
            fields["why"] = None
        if fields:
            await store.change(pool, subscription_id, fields)
        return _fields(await mine(reader, subscription_id))

    @router.delete(
        "/subscriptions/{subscription_id}",
        summary="End a subscription",
        status_code=204,
        responses=described(404, 422, 503),
    )
    async def remove(reader: Asking, subscription_id: Id) -> None:
        """With all that waits for it."""
        await mine(reader, subscription_id)
        await store.remove(pool, subscription_id)

    @router.post(
        "/subscriptions/{subscription_id}/test",
        summary="Try a subscription",
        response_model=Tried,
        responses=described(404, 409, 422, 503),
    )
    async def test(reader: Asking, subscription_id: Id) -> Tried:
        """Sends a message of the type `qalqan.trial.v1` at once, and says what the target answered to it."""
        found = await mine(reader, subscription_id)
        await check(found.kind, found.target, found.digest_minutes)
        answer = await delivery.trial(found)
        return Tried(
            ok=answer.ok, status=answer.status, error=answer.error, took_ms=answer.took_ms, answer=answer.body[:2_000]
        )

    @router.post(
        "/subscriptions/{subscription_id}/rotate",
        summary="A new secret",
        response_model=WithSecret,
        responses=described(404, 409, 422, 503),
    )
    async def rotate(reader: Asking, subscription_id: Id, response: Response) -> Any:
        """It signs from now on; for a day the one before signs too, so that a receiver may change at leisure."""
        found = await mine(reader, subscription_id)
        if found.kind != "webhook":
            raise HTTPException(409, "a letter is not signed: there is no secret")
        secret = new_secret()
        await store.rotate(pool, subscription_id, secret)
        response.headers["Cache-Control"] = "no-store"
        return {**_fields(found), "secret": secret}

    @router.get(
        "/subscriptions/{subscription_id}/deliveries",
        summary="What became of deliveries",
        response_model=Page[Delivered],
        responses=readable(404, 422),
    )
    async def deliveries(
        request: Request,
        reader: Asking,
        subscription_id: Id,
        state: DeliveryState | None = None,
        limit: Limit = 100,
        cursor: Annotated[str | None, Query(pattern=r"^(event|announcement)-[0-9]{1,18}$")] = None,
    ) -> Response:
        """Events first, the newest first. Those delivered are kept for 7 days, dead ones for 30."""
        await mine(reader, subscription_id)
        kind, _, number = (cursor or f"event-{10**18}").partition("-")
        rows = await store.deliveries(pool, subscription_id, state, (kind, int(number)), limit + 1)
        items = [Delivered(**{name: _told(value) for name, value in row.items()}) for row in rows[:limit]]
        return listed(request, items, f"{items[-1].kind}-{items[-1].number}" if len(rows) > limit else None)

    @router.post(
        "/subscriptions/{subscription_id}/replay",
        summary="Deliver again",
        response_model=Replayed,
        responses=described(400, 404, 409, 413, 422, 503),
    )
    async def replay(reader: Asking, subscription_id: Id, wanted: Replay) -> Replayed:
        """Dead letters, or what is wanted of the stream after a number; the ids are those of the first time."""
        found = await mine(reader, subscription_id)
        if found.status != "active":
            raise HTTPException(409, f"it is {found.status}: make it active first")
        if wanted.after is None:
            return Replayed(count=await store.replay_dead(pool, subscription_id))
        numbers: list[int] = []
        after, pages, is_all = wanted.after, 0, False
        while pages < _PAGES_AT_ONCE and not is_all:
            # What it has not been told yet comes by itself.
            page = [entry for entry in await events.after(pool, after, _PAGE) if entry.seq <= found.seq]
            numbers += [entry.seq for entry in page if await delivery.wants(found, entry)]
            after, pages, is_all = page[-1].seq if page else after, pages + 1, len(page) < _PAGE
        await store.replay_events(pool, subscription_id, numbers)
        return Replayed(count=len(numbers), next=None if is_all else after)

    return router


def _fields(subscription: Subscription) -> dict[str, Any]:
    return {name: _told(getattr(subscription, name)) for name in Shown.model_fields}


def _told(value: object) -> Any:
    return format_instant(value) if isinstance(value, datetime) else value
