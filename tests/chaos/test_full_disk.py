"""The database's disk is full while requests run, and is freed: nothing lost, nothing twice, and all goes on by itself.

Two ways to be full: tables cannot grow (each statement fails), and the log cannot go on (the server dies, and cannot
come back before there is room). `make chaos` plays it whole (QALQAN_CHAOS_REQUESTS, QALQAN_CHAOS_KILLS rounds), also on
a disk that broker, database and logs share.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.local.roles import SERVICES
from qalqan.client import Client, Submission
from qalqan.envelope import Event, to_http
from qalqan.events import type_of
from qalqan.instants import format_instant
from qalqan.jsontext import canonical
from qalqan.keys import read_key
from qalqan.signing import sign
from qalqan.sources import state_source
from tests.chaos.disk import SmallDisk, system_on_a_small_disk
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.chaos.replicas import until
from tests.conftest import request_data

REQUESTS = int(os.environ.get("QALQAN_CHAOS_REQUESTS", "20"))
ROUNDS = int(os.environ.get("QALQAN_CHAOS_KILLS", "1"))
_WHO = ("AZ", "KG", "KZ", "TR", "UZ")
_ROUND_S = 10.0
_WELL_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A system, the line that runs through it, and a client of its HTTP side."""

    system: SmallDisk
    line: Line
    office: httpx2.AsyncClient


Fill = Callable[[Scene, random.Random], Awaitable[None]]


async def play(system: SmallDisk, fill: Fill, rounds: int) -> None:
    """Requests run while the disk is filled and freed. AssertionError: something is not as it must be afterwards."""
    chance = random.Random(seed_of_run())
    async with contextlib.AsyncExitStack() as stack:
        run = system.run
        line = Line({who: await stack.enter_async_context(Client.connect(run, state=who)) for who in _WHO}, chance)
        office = await stack.enter_async_context(httpx2.AsyncClient(timeout=_WELL_WITHIN_S))
        scene = Scene(system, line, office)
        async with line.watching():
            whole_s = rounds * _ROUND_S
            wanted = [new_id() for _ in range(REQUESTS)]
            running = asyncio.create_task(line.run_all(wanted, 120.0 + 5 * whole_s, whole_s / 2))
            for _ in range(rounds):
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                await fill(scene, chance)
            await running
            await line.run_all([new_id()], _WELL_WITHIN_S)  # and then it is as it was before
        messages = await line.check()
        await all_is_known(scene)
        code, words = await asyncio.to_thread(system.status)
        assert code == 0, words
        for service in SERVICES:
            assert "Traceback" not in system.log(service), f"{service} said it with a stack trace"
    print(f"{refusals(system)} statements refused, {deaths(system)} deaths of the database; ", end="")
    print(f"{len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")


async def the_database_stands_still(scene: Scene, chance: random.Random) -> None:
    """In both ways, one after the other."""
    await tables_cannot_grow(scene)
    await asyncio.sleep(chance.uniform(0.1, 1.0))
    await the_log_cannot_go_on(scene, chance)


async def tables_cannot_grow(scene: Scene) -> None:
    """Every statement that needs room fails, until there is some. The server lives."""
    system = scene.system
    await system.begin_log_segment()
    before, died = refusals(system), deaths(system)
    with system.full():
        async with asyncio.timeout(_WELL_WITHIN_S):
            while refusals(system) == before:
                await post(scene)
        code, words = await asyncio.to_thread(system.status)
        assert code == 1
        assert "the disk is full" in words
    assert deaths(system) == died


async def the_log_cannot_go_on(scene: Scene, chance: random.Random) -> None:
    """The server dies, and is tried again until there is room; a service that starts meanwhile waits for it."""
    system, service = scene.system, chance.choice(SERVICES)
    with system.full():
        died, waited = deaths(system), system.log(service).count("database.waiting")
        await system.need_new_log()
        os.kill(system.run.pids[service], signal.SIGKILL)
        await post(scene)
        await until(lambda: deaths(system) > died + 1, "the database is not tried again", _WELL_WITHIN_S)
        assert 'PANIC:  could not write to file "pg_wal/' in system.log("postgres")
        assert "postgres ended (exit code 1, the disk is full) and was started again." in system.told
        code, words = await asyncio.to_thread(system.status)
        assert code == 1
        assert "the disk is full" in words
        said = "does not say that it waits"
        await until(lambda: system.log(service).count("database.waiting") > waited, f"{service} {said}", _WELL_WITHIN_S)
    await until(system.well, "it does not get well by itself", _WELL_WITHIN_S)


async def everything_stands_still(scene: Scene, chance: random.Random) -> None:
    """Broker and database die and are tried again until there is room; a service that starts meanwhile waits."""
    system, service = scene.system, chance.choice(SERVICES)
    with system.full():
        died = deaths(system)
        await system.need_new_log()
        os.kill(system.run.pids[service], signal.SIGKILL)
        await post(scene)
        await until(lambda: deaths(system) > died + 1, "the database is not tried again", _WELL_WITHIN_S)
        await asyncio.sleep(chance.uniform(0.1, 5.0))
    await until(system.well, "it does not get well by itself", _WELL_WITHIN_S)


FILLED: dict[str, tuple[int, int, Fill]] = {
    "postgres": (384, ROUNDS, the_database_stands_still),
    **({".": (640, max(1, ROUNDS // 5), everything_stands_still)} if ROUNDS > 1 else {}),
}
"""By the part of the home that is a disk of its own: its size in MiB, how often it is filled and freed, and how."""


@pytest.mark.parametrize("part", FILLED)
async def test_a_full_disk(tmp_path: Path, part: str) -> None:
    """All acknowledged, over Kafka and HTTP, is exactly once on a public topic or rejected; requests run as before."""
    size_mib, rounds, fill = FILLED[part]
    async with system_on_a_small_disk(tmp_path / "home", size_mib, part) as system:
        await play(system, fill, rounds)


async def post(scene: Scene) -> None:
    """Raises a request over HTTP and would like to wait. What is answered with 201 or 202 is acknowledged."""
    run, request_id = scene.system.run, new_id()
    event = Event(
        id=str(uuid.uuid4()),
        source=state_source(run.network, "TR"),
        type=type_of("RequestRaised"),
        subject=request_id,
        time=format_instant(datetime.now(UTC)),
        datacontenttype="application/json",
        data=canonical(request_data(request_id)),
        extensions={"partitionkey": request_id},
    )
    headers, body = to_http(sign(event, read_key(run.key_path("TR"))))
    headers["prefer"] = "wait=1"
    try:
        answer = await scene.office.post(f"{run.http['request']}/events", headers=headers, content=body)
    except httpx2.TransportError:
        return  # the service has just been killed: nobody acknowledged anything
    if answer.status_code in (201, 202):
        told: dict[str, Any] = answer.json()
        assert answer.headers["location"] == told["location"]
        place = (told["topic"], told["partition"], told["offset"])
        scene.line.acknowledged.append(Submission(event.id, event.source, event.type, request_id, *place, 0))
    else:
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


async def all_is_known(scene: Scene) -> None:
    """What the service tells of each submission is what it was promised: settled."""
    run = scene.system.run
    for submission in scene.line.acknowledged:
        if submission.topic != "inbox.requests":
            continue
        place = f"{submission.topic}/{submission.partition}/{submission.offset}"
        headers = {"authorization": f"Bearer {run.token}"}
        told = (await scene.office.get(f"{run.http['request']}/submissions/{place}", headers=headers)).json()
        assert told["status"] == "admitted", told


def refusals(system: SmallDisk) -> int:
    """How many transactions of lanes the full disk has refused."""
    lines = [line for service in SERVICES for line in system.log(service).splitlines()]
    return sum("DiskFullError" in line and "database.commit_failed" in line for line in lines)


def deaths(system: SmallDisk) -> int:
    """How often the runner has found the database dead."""
    return len(re.findall(r"^postgres ended", system.told, re.MULTILINE))
