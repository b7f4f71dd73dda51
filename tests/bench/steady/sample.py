"""A sample of the system under load: memory, lag, processor, size; latency and throughput since the one before."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.roles import SERVICES
from qalqan.topics import ALL, PUBLIC, REJECTIONS
from services.consensus.handlers import ConsensusHandlers
from services.notify.store.events import next_offsets
from services.pledge.handlers import PledgeHandlers
from services.request.handlers import RequestHandlers
from services.secretariat.handlers import SecretariatHandlers
from tests.bench.ground import Ground
from tests.bench.steady.load import Load

Row = dict[str, float]
_LANED = {
    "request": RequestHandlers,
    "pledge": PledgeHandlers,
    "consensus": ConsensusHandlers,
    "secretariat": SecretariatHandlers,
}
OURS = (*SERVICES, "kafka", "postgres", "load")
"""Whose processor time is sampled, beside that of the whole machine."""
_TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


class Sampler:
    """Takes samples. It keeps none, and works in the kernel and the database for some ten milliseconds each time."""

    def __init__(self, ground: Ground, load: Load, consumer: AIOKafkaConsumer, database: Any) -> None:
        self._ground = ground
        self._load = load
        self._consumer = consumer
        self._database = database
        self._began = self._last = time.monotonic()
        self._ended = 0
        self._places = [TopicPartition(topic.name, n) for topic in ALL for n in range(topic.partitions)]
        self._burnt: dict[str, float] = {}
        self._pids: dict[str, int] = {}
        self.restarts = 0
        self.rejections = 0

    async def sample(self) -> Row:
        """One row: minutes since the start; MB; records; ms; requests a second; per cent of one core."""
        now = time.monotonic()
        latencies = sorted(self._load.take_latencies())
        ended, seconds = self._load.ended - self._ended, now - self._last
        self._ended, self._last = self._load.ended, now
        row = {
            "minutes": (now - self._began) / 60,
            "requests_per_s": ended / seconds if seconds else 0.0,
            "in_flight": self._load.in_flight,
            "p50_ms": statistics.median(latencies) if latencies else float("nan"),
            "p99_ms": latencies[-(-len(latencies) * 99 // 100) - 1] if latencies else float("nan"),
        }
        row |= await self._lags()
        row["database_mb"] = await self._database.fetchval("select pg_database_size(current_database())") / 1e6
        return row | await asyncio.to_thread(self._processes, seconds)

    async def _lags(self) -> Row:
        """Records that a service has not handled yet, over all it reads, as PostgreSQL has it; asked before the ends,
        so that what comes in between counts against it."""
        read: dict[str, dict[tuple[str, int], int]] = {}
        for service, handlers in _LANED.items():
            rows = await self._database.fetch(f"select partition, next_offsets from {service}.lane")
            lanes = {row["partition"]: json.loads(row["next_offsets"]) for row in rows}
            read[service] = {
                (topic.name, n): lanes.get(n, {}).get(topic.name, 0)
                for topic in (handlers.inbox, *handlers.follows)
                for n in range(topic.partitions)
            }
        unread = {(topic.name, n): 0 for topic in PUBLIC for n in range(topic.partitions)}
        read["notify"] = unread | await next_offsets(self._database)
        ends = await self._consumer.end_offsets(self._places)
        self.rejections = sum(end for tp, end in ends.items() if tp.topic == REJECTIONS.name)
        return {
            f"{service}_lag": sum(max(0, ends[TopicPartition(*place)] - offset) for place, offset in places.items())
            for service, places in read.items()
        }

    def _processes(self, seconds: float) -> Row:
        pids: dict[str, int] = dict(self._ground.stack.run()["pids"])
        self.restarts += sum(self._pids.get(name, pid) != pid for name, pid in pids.items())
        self._pids = pids
        backends = [pids["postgres"], *(child.pid for child in psutil.Process(pids["postgres"]).children())]
        # Its own pages alone: what it shares of files moves with whoever else has them open.
        row = {f"{service}_mb": _resident_mb(pids[service])[0] for service in SERVICES}
        row["kafka_rss_mb"] = sum(_resident_mb(pids["kafka"]))
        row["postgres_rss_mb"] = _together_mb(backends)
        burnt = {service: _processor_s([pids[service]]) for service in SERVICES}
        burnt |= {"kafka": _processor_s([pids["kafka"]]), "postgres": _processor_s(backends)}
        burnt |= {"load": _processor_s([os.getpid()]), "machine": _machine_s()}
        for name, used in burnt.items():
            row[f"{name}_cpu"] = max(0.0, used - self._burnt.get(name, used)) / seconds * 100 if seconds else 0.0
        self._burnt = burnt
        return row


def _resident_mb(pid: int) -> tuple[float, float]:
    """Resident pages of its own, and shared ones."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE_MB, int(shared) * _PAGE_MB


def _together_mb(pids: Iterable[int]) -> float:
    """PostgreSQL's processes: what each has of its own, and once the most that one of them shares."""
    own, shared = 0.0, 0.0
    for pid in pids:
        try:
            each, common = _resident_mb(pid)
        except FileNotFoundError:  # a backend that has just gone
            continue
        own, shared = own + each, max(shared, common)
    return own + shared


def _processor_s(pids: Iterable[int]) -> float:
    """Processor time so far, with that of ended children."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += sum(map(int, fields[11:15]))
    return total * _TICKS_S


def _machine_s() -> float:
    """Processor time of the whole machine so far, idle and waiting left out: whether others were at work too."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) * _TICKS_S
