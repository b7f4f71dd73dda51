"""Somebody reads the live stream, now of one replica of notify, now of the other, and must not miss anything."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager

import asyncpg
import httpx2

from deploy.local.stack import Stack
from qalqan.client import Message
from tests.chaos.replicas import Replica
from tests.integration.test_http import Reader
from tests.meanwhile import meanwhile

_SILENCE_S = 1.5
"""After which a reader turns to the other replica: one that is frozen says nothing."""
_WITHIN_S = 30.0


class Audience:
    """A reader who goes on with Last-Event-ID on either replica."""

    def __init__(self, system: Stack, http: httpx2.AsyncClient, begins_after: int) -> None:
        self.begins_after = begins_after
        self.turns = 0
        """How often it turned to the other replica with something read."""
        self._reader = Reader(system, http)

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, system: Stack) -> AsyncIterator["Audience"]:
        """From where the stream ends now."""
        owner = await asyncpg.connect(system.database_url)
        try:
            begins_after = int(await owner.fetchval("select last_seq from notify.stream"))
        finally:
            await owner.close()
        async with httpx2.AsyncClient(timeout=_SILENCE_S) as http:
            yield cls(system, http, begins_after)

    @property
    def place(self) -> int:
        """The number of the last event it was told."""
        return self._reader.told[-1].seq if self._reader.told else self.begins_after

    def listening(self, replicas: Sequence[Replica]) -> AbstractAsyncContextManager[None]:
        """Reads while the block runs, of one replica after the other."""
        return meanwhile(self._listen(replicas))

    async def _listen(self, replicas: Sequence[Replica]) -> None:
        for replica in itertools.cycle(replicas):
            before = self.place
            with contextlib.suppress(httpx2.TransportError):
                async with self._reader.reading(before, replica.address) as events:
                    async for _ in events:
                        pass
            self.turns += self.place > before
            await asyncio.sleep(0.05)

    async def hear_out(self, messages: Collection[Message]) -> None:
        """Reads on until it has been told all of these. AssertionError: something missing, twice, or out of order."""
        missing = {(message.topic, message.partition, message.offset) for message in messages}
        missing -= {told.place for told in self._reader.told}
        async with asyncio.timeout(_WITHIN_S):
            while missing:
                with contextlib.suppress(httpx2.TransportError):
                    async with self._reader.reading(self.place) as events:
                        async for told in events:
                            missing.discard(told.place)
                            if not missing:
                                break
        heard = self._reader.told
        assert [each.seq for each in heard] == list(range(self.begins_after + 1, self.begins_after + 1 + len(heard)))
        places = [each.place for each in heard]
        assert len(set(places)) == len(places)
        reached: dict[tuple[str, int], int] = {}
        for topic, partition, offset in places:
            assert reached.get((topic, partition), -1) < offset
            reached[topic, partition] = offset
