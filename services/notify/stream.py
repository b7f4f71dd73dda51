"""The live end of the stream: new events are read once for all readers; each reader keeps its own place."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from itertools import takewhile

import structlog

from chassis.database import TRANSIENT, Pool, patiently
from chassis.metrics import Measure
from services.notify.domain.entry import EVERYTHING, Entry, Wanted
from services.notify.store import events

log = structlog.get_logger()

_TAIL = 4_096
_PAGE = 500
_LOOK_AGAIN_S = 1.0


class Stream:
    """The newest events in memory; what is older comes from the store. A slow reader holds up no other."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tail: deque[Entry] = deque(maxlen=_TAIL)
        self._last_seq = 0
        self._woken = asyncio.Event()
        self._moved = asyncio.Condition()
        self._readers = 0

    async def follow_store(self) -> None:
        """Reads what is appended, by whichever replica, until cancelled. A lost connection is made anew."""
        begun = False
        while True:
            try:
                if not begun:
                    self._last_seq, begun = await events.last_seq(self._pool), True
                    await self._tell()  # whoever asked before has waited for what is there already
                async with self._pool.acquire() as connection:
                    await connection.add_listener(events.CHANNEL, self._wake)
                    try:
                        while not connection.is_closed():
                            await self._read_on()
                            self._woken.clear()
                            with contextlib.suppress(TimeoutError):
                                await asyncio.wait_for(self._woken.wait(), _LOOK_AGAIN_S)
                    finally:
                        if not connection.is_closed():
                            await connection.remove_listener(events.CHANNEL, self._wake)
            except TRANSIENT as error:
                log.warning("stream.connection_lost", error=repr(error))
                await asyncio.sleep(_LOOK_AGAIN_S)

    def _wake(self, *_: object) -> None:
        self._woken.set()

    @property
    def end(self) -> int:
        """The number of the newest event: whoever reads from after it reads from now on."""
        return self._last_seq

    async def read(self, after: int, wanted: Wanted = EVERYTHING) -> AsyncIterator[Entry]:
        """Every event after a number that is wanted, for ever."""
        async for page in self.pages(after, wanted):
            for entry in page:
                if wanted(entry):
                    yield entry

    async def pages(self, after: int, wanted: Wanted = EVERYTHING) -> AsyncIterator[list[Entry]]:
        """The same some at a time, with others among them: of what is old, what the store cannot tell apart."""
        place = after
        self._readers += 1
        try:
            while True:
                page, place = await self._next(place, wanted)
                if page:
                    yield page
                async with self._moved:
                    while self._last_seq <= place:
                        await self._moved.wait()
        finally:
            self._readers -= 1

    def measures(self) -> list[Measure]:
        """How the stream stands, for `GET /metrics`."""
        return [
            Measure("stream_readers", "Readers of the live stream", self._readers),
            Measure("stream_events", "Events in the stream", self._last_seq),
        ]

    async def _read_on(self) -> None:
        while entries := await events.after(self._pool, self._last_seq, _PAGE):
            self._tail.extend(entries)
            self._last_seq = entries[-1].seq
            await self._tell()

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _next(self, place: int, wanted: Wanted) -> tuple[list[Entry], int]:
        """Some events after a place, and the place up to which that is all."""
        if self._tail and self._tail[0].seq <= place + 1:
            # From the newest on: a reader that keeps up looks at what is new, not at the whole tail.
            page = list(takewhile(lambda entry: entry.seq > place, reversed(self._tail)))[::-1]
            return page, page[-1].seq if page else place
        seen = self._last_seq
        page = await patiently(lambda: events.after(self._pool, place, _PAGE, wanted.requests, wanted.register))
        reached = page[-1].seq if page else place
        return page, reached if len(page) == _PAGE else max(reached, seen)
