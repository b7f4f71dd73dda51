"""After kill -9: how long until the next decision, ours beside a bare relay's next record."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.process import HEALTHY_AFTER_S, Program, Supervised
from qalqan.events import type_of
from qalqan.runinfo import RunInfo
from qalqan.topics import DECISIONS, KEYED_PARTITIONS
from tests.bench.figures import Figure, Side
from tests.bench.ground import Ground, Reader, Record, Signed, new_request_ids, opened, progress, standing
from tests.bench.relay import Hop, template
from tests.conftest import request_data

_SERVICE_KILLS, _BROKER_KILLS = 6, 4
_SEED = 2023
_BEAT_S = 0.1
_BEATS_A_REQUEST = 3
_REST_S = (HEALTHY_AFTER_S + 0.5, HEALTHY_AFTER_S + 2.5)
"""Between a recovery and the next kill: what has proven itself is started again at once (`deploy.local.process`)."""
_LONGEST_S = 20.0
_SPARE_S = 15.0
_SETTLE_S = 0.5
_SETTLED_S = 2.0
_CHUNK = 200
_FIRST_VOTERS = ("AZ", "KG", "KZ")
_DECIDED = type_of("ConsensusReached")


@dataclass
class Beat:
    """A record sent (ms of the wall clock) and what it must lead to."""

    sent_ms: float
    answer: "asyncio.Future[tuple[float, Record]]"


@dataclass
class Load:
    """A last needed vote and a record of the relay every 100 ms, a new request every third time: one is always due."""

    ground: Ground
    reader: Reader
    votes: Sequence[Signed]
    relay: tuple[str, str]
    ours: list[Beat] = field(default_factory=list)
    theirs: list[Beat] = field(default_factory=list)

    async def run(self) -> None:
        """Sends until cancelled."""
        source, target = self.relay
        begins = time.monotonic()
        for number, vote in enumerate(self.votes):
            await asyncio.sleep(begins + number * _BEAT_S - time.monotonic())
            self.ours.append(Beat(time.time() * 1000, self.reader.expect("decisions", vote.key, _DECIDED)))
            await self.ground.send(vote)
            self.theirs.append(Beat(time.time() * 1000, self.reader.expect(target, vote.key)))
            await self.ground.send(replace(vote, topic=source))
            if number % _BEATS_A_REQUEST == 0:
                await self.ground.send(self.ground.signed("TR", "RequestRaised", request_data(new_request_ids(1)[0])))
        raise AssertionError("the load ended before the last recovery")

    async def outage_s(self, beats: Sequence[Beat], killed_ms: float) -> float:
        """From the kill to the first append of an answer to what was sent after it."""
        async with asyncio.timeout(_LONGEST_S):
            while not (done := _answered(beats, killed_ms)):  # noqa: ASYNC110 - the first of many, seldom asked
                await asyncio.sleep(0.02)
        await asyncio.sleep(_SETTLE_S)  # another partition's, appended before, may be read after
        done = _answered(beats, killed_ms)
        return (min(record.timestamp for record in done) - killed_ms) / 1000


def _answered(beats: Sequence[Beat], since_ms: float) -> list[Record]:
    return [beat.answer.result()[1] for beat in beats if beat.sent_ms > since_ms and beat.answer.done()]


async def recovery_s() -> list[Figure]:
    """Kills of the consensus service and of the broker, at random moments under a steady load, in a system of its own.

    What has to be loaded counts: some 2,000 requests are open, each one vote short of its decision.
    """
    with tempfile.TemporaryDirectory(prefix="qalqan-bench-") as place:
        async with standing(Path(place), 0, _SEED) as ground:
            return await measured(ground)


async def measured(ground: Ground) -> list[Figure]:
    """As `recovery_s`, on this system."""
    seconds = (2 * _SERVICE_KILLS + _BROKER_KILLS) * (_REST_S[1] + 2.0) + _BROKER_KILLS * 6.0 + _SPARE_S
    progress.print(f"Opening {seconds / _BEAT_S:.0f} ballots, each one vote short ...")
    ballots = await opened(ground, new_request_ids(int(seconds / _BEAT_S)))
    async with Reader(ground.run.kafka, ["votes"]) as reader:
        voted = [reader.expect("votes", ballot.request_id.encode()) for ballot in ballots]
        for at in range(0, len(ballots), _CHUNK):  # more at once would be more than a record batch may hold
            some = ballots[at : at + _CHUNK]
            first_votes = [ground.signed(state, "VoteCast", b.vote(state)) for b in some for state in _FIRST_VOTERS]
            await asyncio.gather(*[await ground.send(vote) for vote in first_votes])
        await asyncio.wait_for(asyncio.gather(*voted), 120)
    await asyncio.sleep(_SETTLED_S)
    first, *votes = [ground.signed("UZ", "VoteCast", ballot.vote("UZ")) for ballot in ballots]
    async with Reader(ground.run.kafka, ["decisions"]) as reader:
        decided = reader.expect("decisions", first.key, _DECIDED)
        await ground.send(first)
        await asyncio.wait_for(decided, 60)
    async with _relay(ground, first.key.decode()) as relay_pid:
        topics = ("bench.recovery.0", "bench.recovery.1")
        async with Reader(ground.run.kafka, ["decisions", topics[1]]) as reader:
            load = Load(ground, reader, votes, topics)
            sending = asyncio.create_task(load.run())
            try:
                return await _kill_in_turn(ground, load, relay_pid)
            finally:
                sending.cancel()


async def _kill_in_turn(ground: Ground, load: Load, relay_pid: Callable[[], int]) -> list[Figure]:
    moments = random.Random(ground.seed)
    ours, bare = [], []
    for number in range(_SERVICE_KILLS):
        progress.print(f"Killing consensus and the bare relay, {number + 1} of {_SERVICE_KILLS} ...")
        await asyncio.sleep(moments.uniform(*_REST_S))
        ours.append(await load.outage_s(load.ours, _kill(_pid(ground, "consensus"))))
        await asyncio.sleep(moments.uniform(*_REST_S))
        bare.append(await load.outage_s(load.theirs, _kill(relay_pid())))
    ours_broker, bare_broker = [], []
    for number in range(_BROKER_KILLS):
        progress.print(f"Killing the broker, {number + 1} of {_BROKER_KILLS} ...")
        await asyncio.sleep(moments.uniform(*_REST_S))
        killed_ms = _kill(_pid(ground, "kafka"))
        both = await asyncio.gather(load.outage_s(load.ours, killed_ms), load.outage_s(load.theirs, killed_ms))
        ours_broker.append(both[0])
        bare_broker.append(both[1])
    return [
        Figure(
            "recovery_s",
            "s",
            Side(ours, "kill -9 of consensus -> first append of a decision whose last vote was sent after it"),
            Side(
                bare,
                "kill -9 of a bare relay (aiokafka, asyncpg, one durable transaction a record, the same runner) -> "
                "first append of a record sent to it after that",
            ),
            goal="<= 2 s",
        ),
        Figure(
            "broker_recovery_s",
            "s",
            Side(ours_broker, "kill -9 of the broker -> first append of a decision whose last vote was sent after it"),
            Side(bare_broker, "the bare relay's outage at the same kills"),
            goal="<= 8 s",
        ),
    ]


def _pid(ground: Ground, name: str) -> int:
    return RunInfo.load(ground.stack.home / "run.json").pids[name]


def _kill(pid: int) -> float:
    os.kill(pid, signal.SIGKILL)
    return time.time() * 1000


@contextlib.asynccontextmanager
async def _relay(ground: Ground, key: str) -> AsyncIterator[Callable[[], int]]:
    """One hop of the relay, kept running by the runner's own class, as a service is."""
    assert ground.run.database is not None
    source, target = topics = [f"bench.recovery.{number}" for number in range(2)]
    admin = AIOKafkaAdminClient(bootstrap_servers=ground.run.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(t, KEYED_PARTITIONS, 1, topic_configs=DECISIONS.config()) for t in topics])
    await admin.close()
    plan = await template(ground.run.database, "consensus", "decisions", key)
    hop = Hop("recovery", ground.run.kafka, source, target, plan, ground.run.database)
    told, log = ground.stack.home / "relay.json", ground.stack.home / "logs" / "relay.log"
    await asyncio.to_thread(told.write_text, json.dumps(asdict(hop)))
    program = Program(
        "relay",
        command=lambda: [sys.executable, "-m", "tests.bench.relay", str(told)],
        answers=lambda: b"ready" in log.read_bytes(),
        log=log,
    )
    process = Supervised(program)
    process.start()

    def pid() -> int:
        assert process.pid is not None
        return process.pid

    try:
        await asyncio.to_thread(process.wait_ready)
        yield pid
    finally:
        await asyncio.to_thread(process.stop)
