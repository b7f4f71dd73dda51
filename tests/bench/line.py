"""The line's two promises, each beside relays of two hops: last vote to mobilisation, request to ballot."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from qalqan.events import type_of
from tests.bench.figures import Figure, Side
from tests.bench.ground import (
    GAPS_S,
    Ground,
    Reader,
    Signed,
    new_request_ids,
    one_vote_short,
    opened,
    progress,
)
from tests.bench.relay import Relay, Template, relaying, template
from tests.conftest import request_data

_PATIENCE_S = 30.0
_SETTLE_S = 0.03

WITH_DATABASE = (
    "two hops of bare aiokafka, each with one durable PostgreSQL transaction of four trips by asyncpg that "
    "writes the rows our lanes wrote, acks=all, records of the same sizes"
)
WITHOUT_DATABASE = "the same two hops without a database"


@dataclass
class Stream:
    """One side: messages ready to be sent, where each comes out, and how long each took (ms)."""

    name: str
    messages: Sequence[Signed]
    target: str
    kind: str | None
    samples: list[float]
    sent_ms: dict[str, float]
    """Wall clock, by key: for `where`."""
    read_ms: dict[str, float]

    @classmethod
    def of(cls, name: str, messages: Sequence[Signed], target: str, kind: str | None = None) -> "Stream":
        """A side without samples."""
        return cls(name, messages, target, kind, [], {}, {})


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured: our side, the relay with a database, the relay without."""

    ours: Stream
    relay: Stream
    bare: Stream


async def last_vote_to_authorized(ground: Ground) -> list[Figure]:
    """From the last needed vote to the mobilisation; and whether the baseline is what it should be."""
    async with last_votes(ground) as run:
        return [
            Figure(
                "last_vote_to_authorized",
                "ms",
                Side(
                    run.ours.samples,
                    "last needed vote sent -> MobilizationAuthorized read by a bare consumer",
                ),
                Side(run.relay.samples, WITH_DATABASE),
                goal="ratio p50 <= 1.2, p99 <= 1.3",
            ),
            Figure(
                "baseline_check",
                "ms",
                Side(run.relay.samples, WITH_DATABASE),
                Side(run.bare.samples, WITHOUT_DATABASE),
                goal="ratio 1.4 to 1.9",
            ),
        ]


@asynccontextmanager
async def last_votes(ground: Ground) -> AsyncIterator[Run]:
    """Measures; the system and the relays still run inside the block."""
    count = ground.samples + ground.warmup
    progress.print(f"Preparing {count} requests, each one vote short ...")
    votes = await one_vote_short(ground, await opened(ground, new_request_ids(count + 1)))
    key = votes[0].key.decode()
    async with Reader(ground.run.kafka, ["mobilizations"]) as reader:
        authorized = reader.expect("mobilizations", votes[0].key)
        await ground.send(votes[0])
        await asyncio.wait_for(authorized, _PATIENCE_S)
    first = await _template(ground, "consensus", "decisions", key)
    second = await _template(ground, "pledge", "mobilizations", key)
    ours = Stream.of("ours", votes[1:], "mobilizations", type_of("MobilizationAuthorized"))
    async with _beside(ground, "vote", ours, first, second) as run:
        yield run


async def request_to_ballot(ground: Ground) -> list[Figure]:
    """From a signed request to the ballot that it opens."""
    requests = [
        ground.signed("TR", "RequestRaised", request_data(request_id))
        for request_id in new_request_ids(ground.samples + ground.warmup + 1)
    ]
    key = requests[0].key.decode()
    async with Reader(ground.run.kafka, ["decisions"]) as reader:
        ballot = reader.expect("decisions", requests[0].key)
        await ground.send(requests[0])
        await asyncio.wait_for(ballot, _PATIENCE_S)
    first = await _template(ground, "request", "requests", key)
    second = await _template(ground, "consensus", "decisions", key)
    ours = Stream.of("ours", requests[1:], "decisions", type_of("BallotOpened"))
    async with _beside(ground, "request", ours, first, second) as run:
        return [
            Figure(
                "request_to_ballot",
                "ms",
                Side(run.ours.samples, "RequestRaised sent -> BallotOpened read by a bare consumer"),
                Side(run.relay.samples, WITH_DATABASE),
                more={
                    "without_database": Side(run.bare.samples, WITHOUT_DATABASE).as_json(),
                },
            )
        ]


async def _template(ground: Ground, service: str, topic: str, key: str) -> Template:
    assert ground.run.database is not None
    return await template(ground.run.database, service, topic, key)


@asynccontextmanager
async def _beside(ground: Ground, what: str, ours: Stream, first: Template, second: Template) -> AsyncIterator[Run]:
    """Our side and two relays, each with random gaps of its own, one message in flight at a time."""
    kafka, database = ground.run.kafka, ground.run.database
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relaying(f"{what}-durable", kafka, database, first, second))
        bare = await stack.enter_async_context(relaying(f"{what}-bare", kafka, None, first, second))
        targets = [ours.target, relay.target, bare.target]
        reader = await stack.enter_async_context(Reader(kafka, targets))
        run = Run(ours, _through(relay, ours.messages), _through(bare, ours.messages))
        turn = asyncio.Lock()
        over = asyncio.Event()

        async def measure_ours() -> None:
            await _measure(ground, ours, reader, turn, random.Random(ground.seed), lambda: False)
            over.set()

        progress.print(f"Measuring {ground.samples} of each side, some {ground.samples * 0.7:.0f} s ...")
        await asyncio.gather(
            measure_ours(),
            _measure(ground, run.relay, reader, turn, random.Random(ground.seed + 1), over.is_set),
            _measure(ground, run.bare, reader, turn, random.Random(ground.seed + 2), over.is_set),
        )
        yield run


def _through(relay: Relay, messages: Sequence[Signed]) -> Stream:
    """The same records into a relay. It may be a little faster than we are, and then needs more of them."""
    many = [replace(message, topic=relay.source) for message in messages]
    again = [replace(message, key=message.key + b"-again") for message in many]
    return Stream.of(relay.name, [*many, *again], relay.target)


async def _measure(
    ground: Ground,
    stream: Stream,
    reader: Reader,
    turn: asyncio.Lock,
    gaps: random.Random,
    over: Callable[[], bool],
) -> None:
    for number, message in enumerate(stream.messages):
        await asyncio.sleep(gaps.uniform(*GAPS_S))
        if over():
            return
        async with turn:
            read = reader.expect(stream.target, message.key, stream.kind)
            key = message.key.decode()
            stream.sent_ms[key] = time.time_ns() / 1e6
            sent_at = time.perf_counter()
            await ground.send(message)
            read_at, _ = await asyncio.wait_for(read, _PATIENCE_S)
            if number >= ground.warmup:
                stream.samples.append((read_at - sent_at) * 1000)
            stream.read_ms[key] = stream.sent_ms[key] + (read_at - sent_at) * 1000
            await asyncio.sleep(_SETTLE_S)  # what it set off behind the measured path has run as well
