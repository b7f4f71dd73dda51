"""A bad night: every process is killed again and again, or frozen, while requests run: nothing lost, nothing twice.

`make chaos` plays it whole (QALQAN_CHAOS_REQUESTS=300, QALQAN_CHAOS_KILLS=20 of each); `make test` a part of it.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter

from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan.runinfo import RunInfo
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.conftest import Party

REQUESTS = int(os.environ.get("QALQAN_CHAOS_REQUESTS", "20"))
KILLS = int(os.environ.get("QALQAN_CHAOS_KILLS", "1"))
PROCESSES = (*SERVICES, "kafka", "postgres")
_FREEZE_S = (0.2, 8.0)
"""From a moment to past a session (6 s)."""
_BETWEEN_S = (0.1, 1.0)
_BACK_WITHIN_S = 60.0


async def struck(system: Stack, name: str, before: dict[str, int], number: signal.Signals) -> int:
    """Sends a signal to a process as run.json names it now, once it is another one than was killed last."""
    deadline = time.monotonic() + _BACK_WITHIN_S
    while time.monotonic() < deadline:
        pid = RunInfo.load(system.home / "run.json").pids.get(name)
        if pid is not None and pid != before.get(name):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it died by itself: the runner names the next one soon
            else:
                return pid
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} did not come back within {_BACK_WITHIN_S} s")


async def storm(system: Stack, chance: random.Random) -> Counter[str]:
    """Kills every process KILLS times in any order, and freezes one now and then; returns how often each was struck."""
    strokes = [name for name in PROCESSES for _ in range(KILLS)]
    chance.shuffle(strokes)
    before: dict[str, int] = {}
    counted: Counter[str] = Counter()
    for at, name in enumerate(strokes):
        await asyncio.sleep(chance.uniform(*_BETWEEN_S))
        before[name] = await struck(system, name, before, signal.SIGKILL)
        counted[f"{name} killed"] += 1
        if at % len(PROCESSES) == 0:
            counted[await freeze(system, chance, before)] += 1
    return counted


async def freeze(system: Stack, chance: random.Random, before: dict[str, int]) -> str:
    """Stops a process for a while."""
    name = chance.choice(PROCESSES)
    pid = await struck(system, name, before, signal.SIGSTOP)
    try:
        await asyncio.sleep(chance.uniform(*_FREEZE_S))
    finally:
        os.kill(pid, signal.SIGCONT)
    return f"{name} frozen"


async def test_a_storm(system: Stack, states: Party) -> None:
    """All requests come to their mobilisation; all acknowledged is exactly once on a public topic or rejected."""
    chance = random.Random(seed_of_run())
    line = Line(states, chance)
    async with line.watching():
        raging = asyncio.create_task(storm(system, chance))
        expected_s = KILLS * len(PROCESSES) * 1.3
        await line.run_all([new_id() for _ in range(REQUESTS)], 120.0 + 5 * expected_s, expected_s)
        counted = await raging
        await line.run_all([new_id()], 60.0)  # and then it is as it was before
    messages = await line.check()
    struck_by = ", ".join(f"{what} {times}" for what, times in sorted(counted.items()))
    print(f"{struck_by}; {len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")
