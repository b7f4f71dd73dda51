"""HTTP out: `GET /stream`, server-sent events of every public event."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from sse_starlette import EventSourceResponse

from chassis.reading import Asking, guarded, while_admitted
from chassis.tokens import Tokens
from qalqan.events import EVENTS, Mode, type_of
from qalqan.fields import RequestId, State
from services.notify.api.live import LastEventId, live, lively, place
from services.notify.domain.entry import Wanted
from services.notify.stream import Stream

_FILTERS = 100

Requests = Annotated[
    list[RequestId], Query(alias="request", description="Request ids; any of them", max_length=_FILTERS)
]
States = Annotated[
    list[State], Query(alias="state", description="The affected state, or who says it", max_length=_FILTERS)
]
Types = Annotated[list[str], Query(alias="type", description="`VoteCast` or `qalqan.VoteCast.v1`", max_length=_FILTERS)]
Modes = Annotated[list[Mode], Query(alias="mode")]


def stream_router(stream: Stream, tokens: Tokens) -> APIRouter:
    """The live stream, for those who show a token."""
    router = guarded(tokens)

    @router.get(
        "/stream",
        summary="Every public event, live",
        response_class=EventSourceResponse,
        responses=lively(422),
    )
    async def events(
        reader: Asking,
        request: Requests = [],  # noqa: B006
        state: States = [],  # noqa: B006
        type: Types = [],  # noqa: B006
        mode: Modes = [],  # noqa: B006
        last_event_id: LastEventId = None,
    ) -> EventSourceResponse:
        """From now on, or from after `Last-Event-ID` (0: from the first). Data: the structured CloudEvent, with where
        it stands on Kafka; first of all comes an `id` without data: where it begins. Each filter may stand several
        times; an event passes that all filters let pass."""
        wanted = Wanted(request, state, [_type(name) for name in type], mode)
        after = place(last_event_id)
        # The place is taken before the answer begins: what comes after the reader has it is not missed.
        frames = _frames(stream, stream.end if after is None else after, wanted)
        return live(while_admitted(tokens, reader, frames))

    return router


def _type(name: str) -> str:
    found = name if name in EVENTS else type_of(name)
    if found not in EVENTS:
        raise HTTPException(422, f"type: {name[:80]!r} is no event of the contract")
    return found


async def _frames(stream: Stream, after: int, wanted: Wanted) -> AsyncIterator[bytes]:
    # A reader that is cut off before its first event must know where to go on: an `id` alone, which is no event.
    yield f"id: {after}\r\n\r\n".encode()
    async for entry in stream.read(after, wanted):
        yield entry.frame
