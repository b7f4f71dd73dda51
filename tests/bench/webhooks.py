"""200 webhooks, one in ten of them dead: how late the live ones have an event."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpcore2
import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.admission import Record
from deploy.local.ports import free_ports
from qalqan.envelope import from_kafka
from qalqan.topics import KEYED_PARTITIONS
from services.notify.domain.entry import body_of
from tests.bench.figures import Figure, Side
from tests.bench.ground import Ground, new_request_ids, progress
from tests.conftest import request_data

_LIVE, _HANGING, _REFUSING = 180, 10, 10
_FOR_S = 20.0
_SETTLE_S = 5.0
_LINE_LIMIT = 64 * 1024 * 1024

Ask = Callable[[], Awaitable[dict[str, Any]]]


async def webhooks(ground: Ground) -> list[Figure]:
    """From the append of an event to each live target, at 2 and 5 events/s; beside it, afterwards, a bare consumer that
    posts the same to the live targets alone: nothing signed, recorded or tried again."""
    progress.print(f"{_LIVE + _HANGING + _REFUSING} webhooks, {_HANGING} of them hanging, {_REFUSING} refusing ...")
    async with _receivers() as (ports, ask), _notify(ground) as http:
        ids = [await _subscribe(http, port) for port in [*ports, *free_ports(_REFUSING)]]
        await asyncio.sleep(2.0)
        await _events(ground, 2)  # connections are made, and the dead are found dead
        await ask()
        ours = {rate: await _measured(ground, rate, _FOR_S, ask) for rate in (2, 5)}
        for each in ids:
            await http.delete(f"/subscriptions/{each}")
        posting = asyncio.create_task(_post_bare(ground.run.kafka, ports[:_LIVE]))
        await asyncio.sleep(2.0)
        await _events(ground, 2)
        await ask()
        bare = await _measured(ground, 5, _FOR_S, ask)
        posting.cancel()
        await asyncio.wait([posting])
    more = {
        f"at_{rate}_per_s": {
            "within_1_s_percent": round(100 * sum(late <= 1000 for late in found["late_ms"]) / found["due"], 2),
            "p99_ms": round(Side(found["late_ms"], "").quantile(0.99), 1),
            "missing": found["due"] - len(found["late_ms"]),
            "repeated": found["repeated"],
        }
        for rate, found in ours.items()
    }
    return [
        Figure(
            "webhooks",
            "ms",
            Side(
                ours[5]["late_ms"], f"append of an event -> each of {_LIVE} live webhooks (20 others dead), 5 events/s"
            ),
            Side(bare["late_ms"], f"the same read by a bare consumer and posted by httpcore2 to the {_LIVE}, unsigned"),
            goal="99 % within 1 s",
            more=more,
        )
    ]


async def _measured(ground: Ground, rate: int, for_s: float, ask: Ask) -> dict[str, Any]:
    due = await _events(ground, rate, for_s)
    await asyncio.sleep(_SETTLE_S)
    found = {**await ask(), "due": due * _LIVE}
    within = 100 * sum(late <= 1000 for late in found["late_ms"]) / found["due"]
    progress.print(f"  {rate} events/s: {within:.2f} % of {found['due']} within 1 s, {found['repeated']} repeated")
    return found


async def _events(ground: Ground, rate: int, for_s: float = 4.0) -> int:
    """Raises requests, each of which is two events: itself and its ballot. How many events."""
    requests = new_request_ids(round(rate * for_s / 2))
    for request_id in requests:
        await ground.send(ground.signed("TR", "RequestRaised", request_data(request_id)))
        await asyncio.sleep(2 / rate)
    return 2 * len(requests)


@contextlib.asynccontextmanager
async def _receivers() -> AsyncIterator[tuple[list[int], Ask]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.receivers", str(_LIVE), str(_HANGING)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def ask() -> dict[str, Any]:
        stdin.write(b"\n")
        return dict(json.loads(await stdout.readline()))

    try:
        yield json.loads(await stdout.readline()), ask
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def _notify(ground: Ground) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {ground.run.token}"}
    async with httpx2.AsyncClient(base_url=ground.run.http["notify"], headers=headers, timeout=30) as http:
        yield http


async def _subscribe(http: httpx2.AsyncClient, port: int) -> str:
    wanted = {"types": ["RequestRaised", "BallotOpened"]}
    answer = await http.post(
        "/subscriptions", json={"kind": "webhook", "target": f"http://127.0.0.1:{port}/hook", "filter": wanted}
    )
    return str(answer.raise_for_status().json()["subscription_id"])


async def _post_bare(kafka: str, ports: list[int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    # A pool for each: one for all looks through every connection at each call.
    pools = {f"http://127.0.0.1:{port}/hook": httpcore2.AsyncConnectionPool() for port in ports}
    posts: set[asyncio.Task[httpcore2.Response]] = set()
    try:
        consumer.assign([TopicPartition(t, p) for t in ("requests", "decisions") for p in range(KEYED_PARTITIONS)])
        await consumer.seek_to_end()
        async for record in consumer:
            body = _body(record).encode()
            for url, pool in pools.items():
                posts.add(task := asyncio.create_task(pool.request("POST", url, content=body)))
                task.add_done_callback(posts.discard)
    finally:
        for pool in pools.values():
            await pool.aclose()
        await consumer.stop()


def _body(record: Record) -> str:
    event = from_kafka(record.key, record.headers, record.value)
    return body_of(event, record.topic, record.partition, record.offset, record.timestamp)
