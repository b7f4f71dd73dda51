"""A service is killed in the middle of requests and its database is gone: it is made again, and nothing is missing.

What the outbox still held is lost with it. QALQAN_CHAOS_KILLS rounds (else one), each of a service by chance.
"""

import asyncio
import os
import random
import signal

import asyncpg

from deploy.local import rebuild
from deploy.local.roles import role_of
from deploy.local.stack import Stack
from tests.chaos.line import Line, new_id, seed_of_run
from tests.conftest import Party
from tests.integration.test_rebuild import start, stop

REQUESTS = 30
ROUNDS = int(os.environ.get("QALQAN_CHAOS_KILLS", "1"))
_BEGUN_OVER_S = 1.5
_WITHIN_S = 60.0


async def lose(system: Stack, service: str) -> None:
    """kill -9, the schema dropped with all that was not published, a rebuild, a start."""
    process = system.processes[service]
    process._stopping.set()  # the runner lets it lie
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await stop(system, service)
    owner = await asyncpg.connect(system.database_url)
    try:
        while await owner.fetchval("select count(*) from pg_stat_activity where usename = $1", role_of(service)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await owner.execute(f"drop schema {service} cascade")
    finally:
        await owner.close()
    print(service, await asyncio.to_thread(rebuild.run, system, service))
    await start(system, service)


async def test_a_database_is_lost_in_the_middle_of_thirty_requests(system: Stack, states: Party) -> None:
    """All come to their mobilisation; all acknowledged is exactly once on a public topic or rejected."""
    chance = random.Random(seed_of_run())
    for _ in range(ROUNDS):
        line = Line(states, chance)
        service = chance.choice(("request", "consensus", "pledge"))
        async with line.watching(), asyncio.TaskGroup() as tasks:
            running = line.run_all([new_id() for _ in range(REQUESTS)], _WITHIN_S, _BEGUN_OVER_S)
            tasks.create_task(running)
            await asyncio.sleep(chance.uniform(0.3, _BEGUN_OVER_S))
            await lose(system, service)
        await line.check()
