"""A frozen owner: its lanes go on elsewhere; when it wakes it changes nothing (DESIGN "Lanes", the fence)."""

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from functools import partial

from deploy.local.stack import Stack
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.chaos.replicas import ALL_LANES, Replica, first, second, shared, until
from tests.conftest import Party

SERVICES = ("request", "consensus", "pledge")
_PATIENCE_S = 60.0
_SESSION_S = {1: 6.0, 2: 3.0}
"""Of the first replica (the default) and of the second (`replicas.SECOND_SESSION_MS`)."""


async def pairs(system: Stack, stack: AsyncExitStack) -> list[tuple[Replica, Replica]]:
    """Two replicas of each service that is frozen here."""
    seconds = await asyncio.gather(*(stack.enter_async_context(second(system, service)) for service in SERVICES))
    return [(first(system, replica.service), replica) for replica in seconds]


async def test_a_frozen_owner_changes_nothing_when_it_wakes(system: Stack, states: Party) -> None:
    """Frozen past its session: the second replica takes all lanes and goes on; then both share them again."""
    chance = random.Random(seed_of_run())
    line = Line(states, chance)

    async def run_on_all_lanes() -> None:
        await line.run_all([new_id(lane) for lane in ALL_LANES], _PATIENCE_S)

    async with line.watching():
        async with AsyncExitStack() as stack:
            replicas = await pairs(system, stack)
            under_way = asyncio.create_task(run_on_all_lanes())
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            for frozen, _ in replicas:
                frozen.signal(signal.SIGSTOP)
            # All these are authorised while the owner of half the lanes is frozen.
            await run_on_all_lanes()
            await under_way
            assert all(other.lanes() == ALL_LANES for _, other in replicas)
            for frozen, _ in replicas:
                frozen.signal(signal.SIGCONT)
            for frozen, other in replicas:
                again = partial(shared, frozen, other)
                await until(again, f"{other.service}: the lanes are not shared again")
            await run_on_all_lanes()
        await run_on_all_lanes()
        messages = await line.check()
    print(f"{len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")


async def test_owners_frozen_at_any_moment(system: Stack, states: Party) -> None:
    """Now one, now the other, shortly or past its session, while requests are under way on every lane."""
    chance = random.Random(seed_of_run())
    line = Line(states, chance)
    stop = asyncio.Event()

    async def keep_running(lane: int) -> None:
        while not stop.is_set():
            await line.run_all([new_id(lane)], _PATIENCE_S)

    async with line.watching():
        async with AsyncExitStack() as stack:
            replicas = await pairs(system, stack)
            running = [asyncio.create_task(keep_running(lane)) for lane in ALL_LANES]
            for _ in range(3):
                await asyncio.gather(*(freeze_one(pair, chance) for pair in replicas))
            stop.set()
            await asyncio.gather(*running)
        messages = await line.check()
    print(f"{len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")


async def freeze_one(pair: tuple[Replica, Replica], chance: random.Random) -> None:
    """Freezes one of two replicas: for a moment, then past its session."""
    number = chance.choice((1, 2))
    replica = pair[number - 1]
    for length_s in (chance.uniform(0.1, 0.5), _SESSION_S[number] + chance.uniform(0.1, 1.0)):
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        replica.signal(signal.SIGSTOP)
        await asyncio.sleep(length_s)
        replica.signal(signal.SIGCONT)
