"""Memory of the five services together, idle."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from deploy.local.roles import SERVICES
from tests.bench.figures import Figure, Side
from tests.bench.ground import Ground, progress

_SAMPLES = 5
_BARE = """
import aiokafka, asyncpg, fastapi, faststream.kafka, nacl.signing, pydantic, structlog, uvicorn, uvloop
print("ready", flush=True)
input()
"""


async def idle_memory_mb(ground: Ground) -> list[Figure]:
    """PSS: a page that processes share counts once, in shares; RSS, where it counts in each, is beside."""
    progress.print("Letting the services come to rest ...")
    await asyncio.sleep(5.0)
    ours, theirs = [], []
    with _bare_processes() as bare:
        for _ in range(_SAMPLES):
            pids = [ground.stack.run()["pids"][name] for name in SERVICES]
            ours.append(memory_mb(pids))
            theirs.append(memory_mb(bare))
            await asyncio.sleep(1.0)
    each = {name: round(memory_mb([pid])["Pss"], 1) for name, pid in ground.stack.run()["pids"].items()}
    return [
        Figure(
            "idle_memory_mb",
            "MB",
            Side([sample["Pss"] for sample in ours], "PSS of the five services together, idle"),
            Side(
                [sample["Pss"] for sample in theirs],
                "PSS of five Pythons that only import the same libraries",
            ),
            goal="<= 500 MB",
            more={
                "rss_mb": round(max(sample["Rss"] for sample in ours), 1),
                "baseline_rss_mb": round(max(sample["Rss"] for sample in theirs), 1),
                "pss_mb_each": each,
            },
        )
    ]


@contextlib.contextmanager
def _bare_processes() -> Iterator[list[int]]:
    processes = [
        subprocess.Popen([sys.executable, "-c", _BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in SERVICES
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.communicate(b"\n")


def memory_mb(pids: Iterable[int]) -> dict[str, float]:
    """MB (10^6 bytes) of these processes together, from /proc/<pid>/smaps_rollup."""
    total = {"Pss": 0.0, "Rss": 0.0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in total:
                total[name] += int(rest.split()[0]) * 1024 / 1e6
    return total
