"""A frozen owner: its lanes go on elsewhere; when it wakes it changes nothing (DESIGN "Lanes", the fence).

Of every service, the stream too: two replicas, one of them frozen, while requests run and members and keys change.
"""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan import topics, trust
from qalqan.client import Message
from qalqan.topics import REQUEST_TOPICS
from tests.chaos.audience import Audience
from tests.chaos.checks import distinct
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.chaos.register import Register
from tests.chaos.replicas import ALL_LANES, Replica, pairs, shared, until, whole, written_by_both
from tests.conftest import Party

_PATIENCE_S = 60.0
_AT = "2023-02-06T12:00:00Z"

Pairs = list[tuple[Replica, Replica]]


@dataclass(frozen=True, slots=True)
class Scene:
    """What goes on while replicas are frozen."""

    line: Line
    register: Register
    audience: Audience

    async def check(self) -> list[Message]:
        """AssertionError unless all holds: of the line, of the chain on `members`, and of what the audience was told.
        The messages of the scene as they stand, repetitions too."""
        messages = await self.line.check()
        members = {message.offset for message in self.register.stands(messages)}
        ours = {submission.request_id for submission in self.line.acknowledged}
        found = [
            message
            for message in messages
            if (message.topic == topics.MEMBERS.name and message.offset in members)
            or (topics.BY_NAME[message.topic] in REQUEST_TOPICS and message.event.subject in ours)
        ]
        await self.audience.hear_out(found)
        return found


@contextlib.asynccontextmanager
async def scene(system: Stack, states: Party, chance: random.Random) -> AsyncIterator[Scene]:
    """A line that is watched, a register, and somebody who will listen."""
    line = Line(states, chance)
    head = (await states["TR"].read([topics.MEMBERS]))[-1]
    async with line.watching(), Audience.of(system) as audience:
        yield Scene(line, Register(system, line, head), audience)


@contextlib.asynccontextmanager
async def going_on(scene: Scene, replicas: Pairs) -> AsyncIterator[None]:
    """Members and keys change, and the stream is read of both replicas, while the block runs."""
    stop = asyncio.Event()
    (stream,) = (pair for pair in replicas if pair[0].service == "notify")
    async with scene.audience.listening(stream), asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.register.extend(stop))
        try:
            yield
        finally:
            stop.set()


def owners(replicas: Pairs) -> Pairs:
    """With the one first that owns something: of the secretariat's only lane there is but one owner."""
    return [(one, other) if one.lanes() else (other, one) for one, other in replicas]


async def test_a_frozen_owner_changes_nothing_when_it_wakes(system: Stack, states: Party) -> None:
    """Frozen past its session: the second replica takes all lanes and goes on; then both share them again. The
    positions of one key come from both, without a gap."""
    chance = random.Random(seed_of_run())
    async with scene(system, states, chance) as it:
        line, begun = it.line, [new_id(lane) for lane in ALL_LANES]

        async def run_on_all_lanes() -> None:
            await line.run_all([new_id(lane) for lane in ALL_LANES], _PATIENCE_S)

        async with pairs(system, SERVICES) as replicas, going_on(it, replicas):
            frozen = owners(replicas)
            under_way = asyncio.create_task(line.run_all(begun, _PATIENCE_S))
            await some_ballot(line, begun, frozen)
            for one, _ in frozen:
                one.signal(signal.SIGSTOP)
            # All these are authorised while the owner of half the lanes is frozen.
            await run_on_all_lanes()
            await under_way
            for _, other in frozen:
                takes_all = partial(lambda other: other.lanes() == whole(other.service), other)
                await until(takes_all, f"{other.service}: the second replica does not take all lanes")
            for request_id in begun:
                await line.say(partial(states["TR"].close, request_id, "over"))
                await line.seen(request_id, "MandateEnded")
            for one, _ in frozen:
                one.signal(signal.SIGCONT)
            for one, other in frozen:
                await until(partial(shared, one, other), f"{other.service}: the lanes are not shared again")
            await run_on_all_lanes()
        await run_on_all_lanes()
        for request_id in begun:
            await line.say(partial(states["AZ"].arrive, request_id, "AZ-1", 3, _AT))
        messages = await it.check()
        assert it.audience.turns > 0, "nobody has read of both replicas of the stream"
        crossed = moved(messages, replicas)
    assert min(crossed[topic.name] for topic in (topics.REQUESTS, topics.DECISIONS, topics.MOBILIZATIONS)) > 0, crossed
    print(
        f"{len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated, keys of two: {dict(crossed)}"
    )


async def some_ballot(line: Line, request_ids: Sequence[str], frozen: Pairs) -> None:
    """Waits until a ballot is open on a lane whose owners are to be frozen: it will be closed by others."""
    theirs = frozenset.intersection(*(one.lanes() for one, _ in frozen if one.service in ("request", "consensus")))
    wanted = [request_id for request_id in request_ids if topics.partition_of(request_id) in theirs]
    waits = [asyncio.create_task(line.seen(request_id, "BallotOpened")) for request_id in wanted]
    await asyncio.wait(waits, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def moved(messages: Sequence[Message], replicas: Pairs) -> Counter[str]:
    """Of each topic, how many keys have positions from two processes. AssertionError: a partition that has not."""
    once = distinct(messages)
    writers = {topics.MEMBERS.name: "secretariat", **trust.WRITERS}
    found: Counter[str] = Counter()
    for pair in replicas:
        if pair[0].service != "notify":
            found += written_by_both((m for m in once if writers[m.topic] == pair[0].service), pair)
    return found


async def test_owners_frozen_at_any_moment(system: Stack, states: Party) -> None:
    """Now one, now the other, shortly or past its session, while requests are under way on every lane."""
    chance = random.Random(seed_of_run())
    async with scene(system, states, chance) as it:
        stop = asyncio.Event()

        async def keep_running(lane: int) -> None:
            while not stop.is_set():
                await it.line.run_all([new_id(lane)], _PATIENCE_S)

        async with pairs(system, SERVICES) as replicas, going_on(it, replicas):
            running = [asyncio.create_task(keep_running(lane)) for lane in ALL_LANES]
            for _ in range(3):
                await asyncio.gather(*(freeze_one(pair, chance) for pair in replicas))
            stop.set()
            await asyncio.gather(*running)
        messages = await it.check()
    print(f"{len(it.line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")


async def freeze_one(pair: tuple[Replica, Replica], chance: random.Random) -> None:
    """Freezes one of two replicas: for a moment, then past its session."""
    replica = chance.choice(pair)
    for length_s in (chance.uniform(0.1, 0.5), replica.session_s + chance.uniform(0.1, 1.0)):
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        replica.signal(signal.SIGSTOP)
        await asyncio.sleep(length_s)
        replica.signal(signal.SIGCONT)
