"""HTTP out: `GET /stream`, server-sent events of every public event."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from sse_starlette import EventSourceResponse, ServerSentEvent

from chassis.problems import described
from chassis.reading import Asking, guarded, while_admitted
from chassis.tokens import Tokens
from services.notify.domain.entry import Entry
from services.notify.stream import Stream

_PING_S = 15


def stream_router(stream: Stream, tokens: Tokens) -> APIRouter:
    """The live stream, for those who show a token."""
    router = guarded(tokens)

    @router.get(
        "/stream",
        summary="Every public event, live",
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **described(400, 401, 422)},
    )
    async def live(
        reader: Asking,
        last_event_id: Annotated[str | None, Header(description="The `id` of the last event that was read")] = None,
    ) -> EventSourceResponse:
        """From now on, or from after `Last-Event-ID` (0: from the first). Data: the structured CloudEvent."""
        if last_event_id is not None and not (last_event_id.isdecimal() and len(last_event_id) < 19):
            raise HTTPException(400, f"Last-Event-ID {last_event_id[:40]!r} is not a number that this stream gave")
        # The place is taken before the answer begins: what comes after the reader has it is not missed.
        after = stream.end if last_event_id is None else int(last_event_id)
        return EventSourceResponse(_events(while_admitted(tokens, reader, stream.read(after))), ping=_PING_S)

    return router


async def _events(entries: AsyncIterator[Entry]) -> AsyncIterator[ServerSentEvent]:
    async for entry in entries:
        yield ServerSentEvent(id=str(entry.seq), data=entry.body)
