"""Requests run through the whole line, many at once, and checked, whatever happens to the services."""

import asyncio
import contextlib
import itertools
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from aiokafka.errors import KafkaError

from qalqan import topics
from qalqan.client import Ballot, Client, Message, Submission, ballot_of
from tests.chaos.checks import complaints, unsettled
from tests.conftest import Party, pledge_data, request_data

VOTERS = ("AZ", "KG", "KZ", "UZ")
_AT = "2023-02-06T09:00:00Z"
_SETTLED_WITHIN_S = 30.0
_ASKED_AGAIN_AFTER_S = 0.5
_numbers = itertools.count(1)


def seed_of_run() -> int:
    """QALQAN_CHAOS_SEED, or one by chance; printed, so that a failure can be played again."""
    seed = int(os.environ.get("QALQAN_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QALQAN_CHAOS_SEED={seed}")
    return seed


def new_id(partition: int | None = None) -> str:
    """A request id not used before, of a partition if that is named."""
    while True:
        request_id = f"TR-2023-C{os.getpid()}-{next(_numbers)}"
        if partition is None or topics.partition_of(request_id) == partition:
            return request_id


class Line:
    """Drives requests from door to door and remembers what was acknowledged. One feed watches for all."""

    def __init__(self, states: Party, chance: random.Random) -> None:
        self.acknowledged: list[Submission] = []
        self.authorized: list[str] = []
        self._states = states
        self._chance = chance
        self._seen: dict[tuple[str | None, str], Message] = {}
        self._arrived: dict[tuple[str | None, str], asyncio.Event] = defaultdict(asyncio.Event)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Reads the public topics while the block runs."""
        async with self._states["TR"].follow(topics.REQUEST_TOPICS) as feed:
            watch = asyncio.create_task(self._watch(feed))
            try:
                yield
            finally:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch

    async def _watch(self, feed: AsyncIterator[Message]) -> None:
        async for message in feed:
            self._seen[message.event.subject, message.name] = message
            self._arrived[message.event.subject, message.name].set()

    async def seen(self, request_id: str, name: str) -> Message:
        """Waits for an event of a request."""
        await self._arrived[request_id, name].wait()
        return self._seen[request_id, name]

    async def say(self, submit: Callable[[], Awaitable[Submission]]) -> Submission:
        """Sends a submission until the broker has it, and remembers it then. What went unanswered is sent anew, as
        another event: it may stand as well, or be refused beside it."""
        while True:
            try:
                submission = await submit()
            except KafkaError:
                await asyncio.sleep(_ASKED_AGAIN_AFTER_S)
                continue
            self.acknowledged.append(submission)
            return submission

    async def run(self, request_id: str) -> None:
        """One request: raised, pledged, accepted, voted on by four states, departed, authorised."""
        await self._linger()
        await self.say(lambda: self._states["TR"].raise_request(request_data(request_id)))
        await asyncio.gather(self._mobilize(request_id), self._decide(request_id))
        await self.seen(request_id, "MobilizationAuthorized")
        self.authorized.append(request_id)

    async def run_all(self, request_ids: Iterable[str], within_s: float, over_s: float = 0.0) -> None:
        """Requests side by side, begun within `over_s`. AssertionError: which are not authorised in time."""
        wanted = list(request_ids)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(self._later(request_id, over_s) for request_id in wanted))
        except TimeoutError:
            waiting = [request_id for request_id in wanted if request_id not in self.authorized]
            late = {waits: sorted(name for key, name in self._seen if key == waits) for waits in waiting}
            raise AssertionError(f"not authorised within {within_s} s; seen of each: {late}") from None

    async def _later(self, request_id: str, over_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(0, over_s))
        await self.run(request_id)

    async def _mobilize(self, request_id: str) -> None:
        tr, az = self._states["TR"], self._states["AZ"]
        await self._linger()
        await self.say(lambda: az.pledge(pledge_data(request_id)))
        await self.seen(request_id, "PledgeOffered")
        await self._linger()
        await self.say(lambda: tr.accept(request_id, "AZ-1", 3))
        await self.seen(request_id, "PledgeAccepted")
        await self._linger()
        await self.say(lambda: az.depart(request_id, "AZ-1", 3, _AT))
        await self.seen(request_id, "ResourceDeparted")

    async def _decide(self, request_id: str) -> None:
        ballot = ballot_of(await self.seen(request_id, "BallotOpened"))
        await asyncio.gather(*(self._vote(ballot, state) for state in VOTERS))

    async def _vote(self, ballot: Ballot, state: str) -> None:
        await self._linger()
        await self.say(lambda: self._states[state].vote(ballot, "approve"))

    async def _linger(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.5))

    async def check(self) -> list[Message]:
        """Waits until all that was acknowledged stands somewhere; AssertionError unless all checks hold."""
        reader: Client = self._states["TR"]
        async with asyncio.timeout(_SETTLED_WITHIN_S):
            while True:
                messages = await reader.read(topics.PUBLIC)
                if not unsettled(messages, self.acknowledged):
                    break
                await asyncio.sleep(0.3)
        found = complaints(messages, self.acknowledged, self.authorized, reader.root)
        assert not found, "\n".join(found[:20])
        return messages


def repeated(messages: list[Message]) -> int:
    """How many deliveries were repetitions: a word on what a run has met."""
    names: set[Any] = {(message.topic, message.event.source, message.event.id) for message in messages}
    return len(messages) - len(names)
