"""Public events by HTTP: `GET /stream` of notify (Server-Sent Events), resumed whatever happens to it.

The signatures are checked here by root.json and the registrations on `members`, which come by the same way: neither
notify nor who stands between is trusted.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx2

from qalqan import jsontext, topics, trust
from qalqan.client import Message
from qalqan.envelope import from_structured
from qalqan.events import KeyRegistered, KeyRevoked, MemberRegistered
from qalqan.instants import from_millis, parse_instant, to_millis
from qalqan.registry import Registry, Root
from qalqan.watch.sighting import Sighting, Wanted

_SILENCE_S = 45.0
"""The stream says something at least every 15 s: after three times that nobody is there any more."""
_AGAIN_S = (0.1, 0.3, 1.0, 3.0)
"""The pauses between attempts; the last one is kept."""
_PATIENCE_S = 30.0
"""For the registrations that an event was judged by: they come on a connection of their own."""
_REGISTRATIONS = tuple(model.__name__ for model in (MemberRegistered, KeyRegistered, KeyRevoked))
_PLACE = ("topic", "partition", "offset", "appendedtime")


class Refused(Exception):
    """Notify does not show its stream; the text says why, for a person."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where notify is, and the token to show it."""

    url: str
    token: str


Find = Callable[[], Address | None]
"""Where notify is now (a restarted system has other ports); None: nowhere."""


class Members:
    """The register, read from the stream beside the events that it judges."""

    def __init__(self, root: Root) -> None:
        self._registry = Registry(root)
        self._refused: dict[int, str] = {}
        self._moved = asyncio.Condition()
        self._waited_for = 0

    async def follow(self, events: AsyncIterator[tuple[int, str]]) -> None:
        """Folds registrations, for ever."""
        async for _, body in events:
            message = message_of(body)
            if message is None or message.topic != topics.MEMBERS.name:
                continue
            if (why := self._registry.take(message.offset, message.event)) is not None:
                self._refused[message.offset] = why
            async with self._moved:
                self._moved.notify_all()

    async def doubt(self, message: Message) -> str | None:
        """Why a public event is not to be believed; None: it is. Waits a while for the registrations behind it."""
        if message.topic == topics.MEMBERS.name:
            known = await self._reached(message.offset + 1)
            return self._refused.get(message.offset) if known else "what stands before it on members did not come"
        judged_by = message.event.extensions.get("membersoffset", "")
        await self._reached(int(judged_by) if judged_by.isdecimal() else 0)
        return trust.doubt(message.event, message.topic, from_millis(message.timestamp_ms), self._registry)

    async def _reached(self, next_offset: int) -> bool:
        if next_offset > self._waited_for:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S), self._moved:
                    await self._moved.wait_for(lambda: self._registry.next_offset >= next_offset)
            self._waited_for = next_offset  # should it be no registration, nobody waits for it twice
        return self._registry.next_offset >= next_offset


async def from_stream(
    find: Find, root: Root, wanted: Wanted, *, from_beginning: bool, tell: Callable[[str], None]
) -> AsyncGenerator[Sighting, None]:
    """Public events, for ever, each once. Refused: notify will not show them.

    `tell` is given sentences about what happens to the connection.
    """
    members = Members(root)
    registrations = Wanted(types=_REGISTRATIONS).parameters()
    positions: dict[tuple[str, str | None], int] = {}
    following = asyncio.create_task(members.follow(read(find, registrations, 0, _silent)))
    try:
        async for _, body in read(find, wanted.parameters(), 0 if from_beginning else None, tell):
            if following.done():
                following.result()
            message = message_of(body)
            if message is None:
                tell(f"passed over, for it is no event of the contract: {body[:200]!a}")
                continue
            doubt = await members.doubt(message)
            counted, position = (message.topic, message.event.subject), message.position
            if doubt is None and position is not None:
                if position <= positions.get(counted, 0):
                    continue  # delivered again
                positions[counted] = position
            yield Sighting(message, doubt)
    finally:
        following.cancel()


async def read(
    find: Find, parameters: Sequence[tuple[str, str]], after: int | None, tell: Callable[[str], None]
) -> AsyncIterator[tuple[int, str]]:
    """Number and body of each event of the stream after a number (None: from now on), through every interruption."""
    tries = 0
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(10.0, read=_SILENCE_S)) as http:
        while True:
            try:
                async for number, body in _connected(http, find, parameters, after):
                    if tries:
                        tell("the stream goes on")
                    tries, after = 0, number
                    if body:
                        yield number, body
            except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol) as error:
                raise Refused(f"it cannot be asked for: {error}") from error  # a token that is none, mostly
            except (httpx2.TransportError, Unreachable) as error:
                if tries == 0:
                    tell(f"the stream was lost ({str(error) or type(error).__name__}); trying again")
                await asyncio.sleep(_AGAIN_S[min(tries, len(_AGAIN_S) - 1)])
                tries += 1


class Unreachable(Exception):
    """Nobody answers, for now."""


async def _connected(
    http: httpx2.AsyncClient, find: Find, parameters: Sequence[tuple[str, str]], after: int | None
) -> AsyncIterator[tuple[int, str]]:
    """What one connection brings: first where it begins, without a body. Refused, Unreachable, TransportError."""
    address = find()
    if address is None:
        raise Unreachable("there is no system that runs")
    headers = {"Accept": "text/event-stream"}
    if address.token:
        headers["Authorization"] = f"Bearer {address.token}"
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    async with http.stream("GET", f"{address.url}/stream", params=list(parameters), headers=headers) as answer:
        if answer.status_code >= 500:
            raise Unreachable(f"{address.url} answers {answer.status_code}")
        if answer.status_code != 200:
            raise Refused(await _why(answer.aread, address.url, answer.status_code))
        number, data = after or 0, ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id" and value.isdecimal():
                number = int(value)
            elif name == "data":
                data += value
            elif not line:
                yield number, data
                data = ""
    raise Unreachable("it ended")


async def _why(body: Callable[[], Awaitable[bytes]], url: str, status: int) -> str:
    try:
        detail = str(jsontext.parse(await body())["detail"])
    except (ValueError, KeyError):
        detail = "and does not say why"
    return f"{url} answers {status}: {detail}"


def message_of(body: str) -> Message | None:
    """A structured event of the stream, with where and when it stands on Kafka; None: it is none of the contract."""
    try:
        found = jsontext.parse(body.encode(), max_string=None)
        topic, partition, offset, appended = (found.pop(name) for name in _PLACE)
        event = from_structured(found)
        data = jsontext.parse(event.data, max_string=None)
        return Message(str(topic), int(partition), int(offset), to_millis(parse_instant(appended)), event, data)
    except (ValueError, KeyError, TypeError):
        return None


def _silent(_: str) -> None:
    """The events' own connection says what happens to both."""
