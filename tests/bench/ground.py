"""What the benchmarks stand on: one running system, bare clients, signed records made beforehand."""

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata
from rich.console import Console

from deploy.local.stack import Stack
from qalqan import jsontext
from qalqan.envelope import Event, to_kafka
from qalqan.events import EVENTS, type_of
from qalqan.instants import format_instant
from qalqan.registry import Root
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key, sign
from qalqan.sources import state_source
from qalqan.topics import KEYED_PARTITIONS
from tests.conftest import pledge_data, request_data

ROOT = Path(__file__).parents[2]
"""The checkout: where `python -m tests...` finds us."""

FETCH_BYTES = 8 * 1024 * 1024
GAPS_S = (0.2, 1.0)
"""Messages of each side come at random gaps: a tight loop would hide idle polls."""

progress = Console(stderr=True, width=None if sys.stderr.isatty() else 140)

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Signed:
    """A record ready to be sent."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass
class Ground:
    """A running system and the bare clients beside it. `seed`: gaps are the same in every run."""

    stack: Stack
    run: RunInfo
    producer: AIOKafkaProducer
    samples: int
    seed: int
    warmup: int = 10
    marks: Path | None = None
    keys: dict[str, tuple[str, Ed25519Key]] = field(default_factory=dict)
    """By state: its source and its key."""

    def signed(self, state: str, name: str, data: Mapping[str, Any]) -> Signed:
        """A submission of a state, signed."""
        source, key = self.keys[state]
        kind = EVENTS[type_of(name)]
        assert kind.inbox is not None
        event = Event(
            id=str(uuid.uuid4()),
            source=source,
            type=kind.type,
            subject=data["request_id"],
            time=format_instant(datetime.now(UTC)),
            datacontenttype="application/json",
            data=jsontext.canonical(dict(data)),
            extensions={"partitionkey": data["request_id"]},
        )
        record_key, value, headers = to_kafka(sign(event, key))
        return Signed(kind.inbox.name, record_key, value, headers)

    async def send(self, record: Signed) -> "asyncio.Future[RecordMetadata]":
        """Hands a record to the producer, which sends it at once; the future waits for the broker."""
        return await self.producer.send(record.topic, record.value, key=record.key, headers=record.headers)


@contextlib.asynccontextmanager
async def standing(home: Path, samples: int, seed: int, *, marks: Path | None = None) -> AsyncIterator[Ground]:
    """The system, started for the length of the block. `marks`: services write there what they did when."""
    progress.print("Starting Kafka, PostgreSQL and five services ...")
    stack = Stack(home) if marks is None else Stack(home, command=_traced, extra={"QALQAN_BENCH_MARKS": str(marks)})
    await asyncio.to_thread(stack.start)
    try:
        run = RunInfo.load(home / "run.json")
        network = Root.load(run.root).network
        keys = {
            path.stem: (state_source(network, path.stem), Ed25519Key.from_pem(path.read_bytes()))
            for path in sorted(Path(run.keys).glob("*.pem"))  # noqa: ASYNC240 - before anything is measured
        }
        async with producing(run.kafka) as producer:
            yield Ground(stack, run, producer, samples, seed, marks=marks, keys=keys)
    finally:
        await asyncio.to_thread(stack.stop)


def _traced(service: str) -> Sequence[str]:
    return [sys.executable, "-m", "tests.bench.traced", service]


@contextlib.asynccontextmanager
async def producing(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    """A bare producer, with the settings that every side uses."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=FETCH_BYTES,
        max_request_size=FETCH_BYTES,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


class Reader:
    """A bare consumer over whole topics from now on; says when an awaited record was read."""

    def __init__(self, kafka: str, topics: Sequence[str]) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka,
            group_id=None,
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._topics = topics
        self._awaited: dict[tuple[str, bytes, bytes | None], asyncio.Future[tuple[float, Record]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Reader":
        await self._consumer.start()
        partitions = [TopicPartition(topic, number) for topic in self._topics for number in range(KEYED_PARTITIONS)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self._consumer.position(partition)
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await self._consumer.stop()

    def expect(self, topic: str, key: bytes, kind: str | None = None) -> asyncio.Future[tuple[float, Record]]:
        """The time (`time.perf_counter`) and the record, once one of this topic, key and type was read."""
        wanted = asyncio.get_running_loop().create_future()
        self._awaited[topic, key, kind.encode() if kind else None] = wanted
        return wanted

    async def _read(self) -> None:
        async for record in self._consumer:
            now = time.perf_counter()
            kind = next((value for name, value in record.headers if name == "ce_type"), None)
            for name in (kind, None):
                wanted = self._awaited.pop((record.topic, record.key or b"", name), None)
                if wanted is not None and not wanted.done():
                    wanted.set_result((now, record))


@dataclass(frozen=True, slots=True)
class Open:
    """A request with an open ballot."""

    request_id: str
    ballot_id: str
    round: int

    def vote(self, state: str, sequence: int = 1) -> dict[str, Any]:
        """The data of this state's approval."""
        return {
            "request_id": self.request_id,
            "ballot_id": self.ballot_id,
            "round": self.round,
            "state": state,
            "sequence": sequence,
            "position": "approve",
        }


def new_request_ids(count: int) -> list[str]:
    """Ids of requests that nobody has raised, over all partitions."""
    tag = uuid.uuid4().hex[:8]
    return [f"TR-2023-B{tag}-{number}" for number in range(count)]


async def opened(ground: Ground, request_ids: Sequence[str]) -> list[Open]:
    """Raises requests and waits for their ballots."""
    async with Reader(ground.run.kafka, ["decisions"]) as reader:
        kind = type_of("BallotOpened")
        ballots = [reader.expect("decisions", request_id.encode(), kind) for request_id in request_ids]
        for request_id in request_ids:
            await ground.send(ground.signed("TR", "RequestRaised", request_data(request_id)))
        found = []
        for request_id, ballot in zip(request_ids, ballots, strict=True):
            _, record = await asyncio.wait_for(ballot, 60)
            data = jsontext.parse(record.value or b"")
            found.append(Open(request_id, data["ballot_id"], data["ballot"]["round"]))
        return found


async def one_vote_short(ground: Ground, ballots: Sequence[Open]) -> list[Signed]:
    """Pledges, accepts and casts all votes but UZ's on each; gives those last votes, signed, not sent."""
    async with Reader(ground.run.kafka, ["pledges", "votes"]) as reader:
        done = []
        for ballot in ballots:
            key = ballot.request_id.encode()
            done.append(reader.expect("pledges", key, type_of("PledgeAccepted")))
            pledge = pledge_data(ballot.request_id)
            acceptance = {
                "request_id": ballot.request_id,
                "pledge_id": "AZ-1",
                "pledge_revision": 1,
                "quantity": 3,
            }
            await ground.send(ground.signed("AZ", "PledgeOffered", pledge))
            await ground.send(ground.signed("TR", "PledgeAccepted", acceptance))
            for state in ("AZ", "KG", "KZ"):
                await ground.send(ground.signed(state, "VoteCast", ballot.vote(state)))
        await asyncio.wait_for(asyncio.gather(*done), 60)
    await asyncio.sleep(2.0)  # the votes are handled as well, and what runs after (offsets, marks) has run
    return [ground.signed("UZ", "VoteCast", ballot.vote("UZ")) for ballot in ballots]
