"""HTTP out: the board of requests, and each request as it stands, both also live."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from sse_starlette import EventSourceResponse

from chassis.database import Pool
from chassis.follower import Follower
from chassis.reading import Asking, answer, guarded, readable, shown, unknown, while_admitted
from chassis.tokens import Tokens
from qalqan import trust
from qalqan.envelope import from_structured
from qalqan.events import Mode
from qalqan.fields import JsonObject, Model, RequestId, State
from qalqan.instants import parse_instant
from qalqan.signing import BadSignature, read_material
from qalqan.sources import Source
from services.notify.api.live import LastEventId, frame, live, lively, place
from services.notify.board import Board
from services.notify.domain.entry import Entry
from services.notify.domain.view import Card, Status, View
from services.notify.store import events, views

Id = Annotated[RequestId, Path(examples=["TR-2023-0001"])]


class Cards(Model):
    """The board. `seq`: go on from there with `GET /board/live`. `more`: there are others that were not asked for."""

    seq: int
    cards: list[Card]
    more: bool


class Signature(Model):
    """Whether an event is to be believed, by root.json and `members` alone (`qalqan.trust`), and whose key signed it.

    `why`: what is wrong with it.
    """

    state: Literal["valid", "invalid", "unknown-key", "none"]
    key_id: str | None
    by: str | None
    why: str | None


class Shown(Model):
    """An event of a request: its number in the stream, its topic, the structured CloudEvent, its signature's state."""

    seq: int
    topic: str
    event: JsonObject
    signature: Signature


class Events(Model):
    """Events in the order of the stream. `next`: ask on with `after`; null: there are no more now."""

    items: list[Shown]
    next: int | None


def board_router(board: Board, pool: Pool, follower: Follower, tokens: Tokens) -> APIRouter:
    """The board, for those who show a token."""
    router = guarded(tokens)

    @router.get("/board", summary="Requests on one board", response_model=Cards, responses=readable(422))
    async def cards(
        request: Request,
        state: Annotated[State | None, Query(description="The affected state")] = None,
        mode: Mode | None = None,
        status: Status | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """Open ones first: what is real before exercises, the most severe and the newest first; then what has ended."""
        await board.flush()
        seq = board.seq
        found = await views.board(pool, state, mode, status, limit + 1)
        texts = ",".join(kept.text for kept in found[:limit])
        more = json.dumps(len(found) > limit)
        return answer(request, f'{{"seq":{seq},"cards":[{texts}],"more":{more}}}'.encode())

    @router.get("/board/live", summary="Changed cards", response_class=EventSourceResponse, responses=lively(422))
    async def changed_cards(
        reader: Asking,
        state: Annotated[State | None, Query(description="The affected state")] = None,
        mode: Mode | None = None,
        last_event_id: LastEventId = None,
    ) -> EventSourceResponse:
        """A card whenever it changed; of one that changed several times while a reader was slow, the newest."""

        async def frames(after: int) -> AsyncIterator[bytes]:
            async for kept in board.changes(after):
                if state in (None, kept.state) and mode in (None, kept.mode):
                    yield frame(kept.seq, kept.text)

        after = place(last_event_id)
        return live(while_admitted(tokens, reader, frames(board.seq if after is None else after)))

    @router.get("/requests/{request_id}", summary="One request", response_model=View, responses=readable(404, 422))
    async def one(request: Request, request_id: Id) -> Response:
        """All that public events say of it."""
        found = await board.text(request_id)
        if found is None:
            raise unknown(f"request {request_id}")
        return answer(request, found.text.encode())

    @router.get(
        "/requests/{request_id}/live",
        summary="One request, live",
        response_class=EventSourceResponse,
        responses=lively(422),
    )
    async def one_live(reader: Asking, request_id: Id) -> EventSourceResponse:
        """The whole whenever it changed, now for the first time (or when it is raised)."""

        async def frames() -> AsyncIterator[bytes]:
            async for view in board.view_changes(request_id):
                yield frame(view.seq, view.text)

        return live(while_admitted(tokens, reader, frames()))

    @router.get(
        "/requests/{request_id}/events",
        summary="The events of a request",
        response_model=Events,
        responses=readable(404, 422),
    )
    async def of_request(
        request: Request,
        request_id: Id,
        after: Annotated[int, Query(ge=0, lt=2**63, description="The number of the last event that was read")] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 100,
    ) -> Response:
        """Each as it stands on its topic, and whether its signature holds."""
        found = await events.after(pool, after, limit + 1, [request_id])
        if not found and await board.text(request_id) is None:
            raise unknown(f"request {request_id}")
        items = [_shown(entry, follower) for entry in found[:limit]]
        return shown(request, Events(items=items, next=items[-1].seq if len(found) > limit else None))

    return router


def _shown(entry: Entry, follower: Follower) -> Shown:
    return Shown(seq=entry.seq, topic=entry.event["topic"], event=entry.event, signature=signature_of(entry, follower))


def signature_of(entry: Entry, follower: Follower) -> Signature:
    """Whether an entry is to be believed, and whose key signed it."""
    event = from_structured(entry.event)
    try:
        key_id = read_material(event).key_id
    except BadSignature as error:
        return Signature(state="invalid", key_id=None, by=None, why=str(error))
    except ValueError as error:
        return Signature(state="none", key_id=None, by=None, why=str(error))
    appended_at = parse_instant(entry.event["appendedtime"])
    doubt = trust.doubt(event, entry.event["topic"], appended_at, follower.registry)
    key = follower.registry.key(key_id)
    by = None if key is None else Source.parse(key.source)
    state: Literal["valid", "invalid", "unknown-key"] = (
        "valid" if doubt is None else "unknown-key" if doubt == trust.UNKNOWN_KEY else "invalid"
    )
    return Signature(state=state, key_id=key_id, by=None if by is None else by.name, why=doubt)
