"""A cold start with all downloads cached: from the command to the first authorised mobilisation."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from qalqan.runinfo import NotRunning, RunInfo
from qalqan.topics import KEYED_PARTITIONS, MOBILIZATIONS
from tests.bench.figures import Figure, Side
from tests.bench.ground import ROOT, progress

_ROUNDS = 3
_PATIENCE_S = 120.0
_DEMO = "import typer; from deploy.local.demo import demo; typer.run(demo)"
_BARE = """
import sys, pathlib
from deploy.local.infrastructure import Infrastructure
with Infrastructure(pathlib.Path(sys.argv[1])):
    print("ready", flush=True)
"""


async def cold_demo_s() -> list[Figure]:
    """`qalqan demo` as anybody starts it, watched from outside by a bare consumer."""
    ours, bare, ready = [], [], []
    for number in range(_ROUNDS):
        progress.print(f"Cold start {number + 1} of {_ROUNDS} ...")
        with tempfile.TemporaryDirectory(prefix="qalqan-bench-") as place:
            ready_s, authorized_s = await _demo(Path(place))
        ready.append(ready_s)
        ours.append(authorized_s)
        with tempfile.TemporaryDirectory(prefix="qalqan-bench-") as place:
            bare.append(await _bare_start(Path(place)))
    return [
        Figure(
            "cold_demo_s",
            "s",
            Side(ours, "`qalqan demo` started -> first MobilizationAuthorized read"),
            Side(
                bare,
                "broker and database formatted, started and with all topics and roles made, nothing else",
            ),
            goal="<= 15 s",
            more={"ready_s": round(sorted(ready)[len(ready) // 2], 2)},
        )
    ]


def _command() -> Sequence[str]:
    script = Path(sys.executable).with_name("qalqan")
    return [str(script), "demo"] if script.exists() else [sys.executable, "-c", _DEMO]


async def _demo(place: Path) -> tuple[float, float]:
    """Seconds until the system was ready, and until the first mobilisation. RuntimeError: the demo failed."""
    began = time.perf_counter()
    log = place / "demo.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *_command(), "--json", stdout=out, stderr=out, cwd=ROOT, env={**os.environ, "TMPDIR": str(place)}
        )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            run = await _running(place, lambda: process.returncode is None)
            ready_s = time.perf_counter() - began
            await _first_mobilization(run.kafka)
            authorized_s = time.perf_counter() - began
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code != 0:
        raise RuntimeError(f"the demo ended with {code}: {log.read_text()[-2000:]}")
    return ready_s, authorized_s


async def _running(place: Path, alive: Callable[[], bool]) -> RunInfo:
    while alive():
        for path in place.glob("qalqan-demo-*/run.json"):  # noqa: ASYNC240 - we only watch
            try:
                return RunInfo.load(path)
            except NotRunning:
                break
        await asyncio.sleep(0.02)
    raise RuntimeError(f"the demo ended before it was ready: {(place / 'demo.log').read_text()[-2000:]}")


async def _first_mobilization(kafka: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(MOBILIZATIONS.name, number) for number in range(KEYED_PARTITIONS)])
        async for record in consumer:
            if (b"qalqan.MobilizationAuthorized.v1") in (value for _, value in record.headers):
                return
    finally:
        await consumer.stop()


async def _bare_start(place: Path) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _BARE, str(place)), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        await asyncio.wait_for(process.stdout.readline(), _PATIENCE_S)
        return time.perf_counter() - began
    finally:
        await process.wait()
