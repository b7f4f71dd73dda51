"""kill -9 of each service in the middle of 50 requests: nothing acknowledged is lost or happens twice."""

import asyncio
import os
import random
import signal

from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan.runinfo import RunInfo
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.conftest import Party

REQUESTS = 50
_PATIENCE_S = 60.0
_BEGUN_OVER_S = 4.0


async def kill(system: Stack, service: str, before: int | None = None) -> int:
    """kill -9 of the process that run.json names now (another than `before`); returns its pid."""
    while True:
        pid = RunInfo.load(system.home / "run.json").pids.get(service)
        if pid is not None and pid != before:
            os.kill(pid, signal.SIGKILL)
            return pid
        await asyncio.sleep(0.02)


async def kill_each_in_turn(system: Stack, chance: random.Random) -> None:
    """Every service once, in any order, at any moment."""
    for service in chance.sample(SERVICES, len(SERVICES)):
        await asyncio.sleep(chance.uniform(0.2, 1.2))
        await kill(system, service)


async def test_a_service_killed_in_the_middle_of_fifty_requests(system: Stack, states: Party) -> None:
    """All come to their mobilisation; all acknowledged is exactly once on a public topic or rejected."""
    chance = random.Random(seed_of_run())
    line = Line(states, chance)
    async with line.watching():
        killing = asyncio.create_task(kill_each_in_turn(system, chance))
        await line.run_all([new_id() for _ in range(REQUESTS)], _PATIENCE_S, _BEGUN_OVER_S)
        await killing
    messages = await line.check()
    print(f"{len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")
