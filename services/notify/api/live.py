"""Server-sent events (WHATWG HTML, "Server-sent events"), as all live answers of notify are."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, HTTPException
from sse_starlette import EventSourceResponse

from chassis.problems import Responses, described

_PING_S = 15

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="The `id` of the last event that was read")
]


def lively(*problems: int) -> Responses:
    """The answers of a live route: the stream, and problems before it begins."""
    stream = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
    return {200: stream, **described(400, 401, *problems)}


def place(last_event_id: str | None) -> int | None:
    """The number after which a reader goes on; None: it names none. 400: not one that a stream of ours gave."""
    if last_event_id is None:
        return None
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):
        raise HTTPException(400, f"Last-Event-ID {last_event_id[:40]!r} is not a number that this stream gave")
    return int(last_event_id)


def frame(number: int, data: str) -> bytes:
    """One event; `data` is JSON on one line."""
    return f"id: {number}\r\ndata: {data}\r\n\r\n".encode()


def live(frames: AsyncIterator[bytes]) -> EventSourceResponse:
    """The answer. A comment each `_PING_S` seconds shows that it lives."""
    return EventSourceResponse(frames, ping=_PING_S)
