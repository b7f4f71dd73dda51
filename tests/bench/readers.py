"""A thousand readers of one notify process, some of them stopped: how late the others have an event, and what each
costs."""

import asyncio
import json
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from qalqan.topics import KEYED_PARTITIONS
from tests.bench.figures import Figure, Side
from tests.bench.ground import Ground, new_request_ids, progress
from tests.bench.listeners import Orders
from tests.bench.memory import memory_mb
from tests.conftest import request_data

_READERS, _STOPPED = 1_000, 10
_REQUESTS = 60
_GAP_S = 0.4
"""Each request raised is two events: itself and its ballot. So these are 5 events a second."""
_SETTLE_S = 3.0
_LINE_LIMIT = 64 * 1024 * 1024


async def stream_readers(ground: Ground) -> list[Figure]:
    """From the append of an event to each reader; beside it a bare consumer's reading of the same events."""
    progress.print(f"{_READERS:,} readers of the stream, {_STOPPED} of them stopped ...")
    pid = ground.stack.run()["pids"]["notify"]
    before = memory_mb([pid])["Pss"]
    listeners = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.listeners"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    assert listeners.stdin is not None
    assert listeners.stdout is not None
    url, token = f"{ground.run.http['notify']}/stream?mode=test", ground.run.token or ""
    try:
        listeners.stdin.write(f"{Orders(url, token, _READERS, _STOPPED).as_json()}\n".encode())
        assert await listeners.stdout.readline() == b"ready\n"
        bare: list[float] = []
        async with asyncio.timeout(600):
            reading = asyncio.create_task(_read_bare(ground.run.kafka, bare))
            for request_id in new_request_ids(_REQUESTS):
                await ground.send(ground.signed("TR", "RequestRaised", request_data(request_id)))
                await asyncio.sleep(_GAP_S)
            await asyncio.sleep(_SETTLE_S)
            reading.cancel()
            after = memory_mb([pid])["Pss"]
            listeners.stdin.write(b"\n")
            found: dict[str, Any] = json.loads(await listeners.stdout.readline())
    finally:
        if listeners.returncode is None:
            listeners.kill()
        await listeners.wait()
    assert (found["fewest"], found["most"], found["ended"]) == (2 * _REQUESTS, 2 * _REQUESTS, 0), found
    each_kb = (after - before) * 1000 / _READERS
    return [
        Figure(
            "stream_readers",
            "ms",
            Side(found["late_ms"], f"append of an event -> each of {_READERS - _STOPPED} live readers, 5 events/s"),
            Side(bare, "the same events read by one bare consumer, at the same time"),
            goal="p99 <= 500 ms, <= 150 kB a reader",
            more={"kb_each": round(each_kb, 1), "readers": _READERS, "stopped": _STOPPED},
        )
    ]


async def _read_bare(kafka: str, late_ms: list[float]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(t, p) for t in ("requests", "decisions") for p in range(KEYED_PARTITIONS)])
        await consumer.seek_to_end()
        async for record in consumer:
            late_ms.append(time.time() * 1000 - record.timestamp)
    finally:
        await consumer.stop()
