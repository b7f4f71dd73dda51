"""A chunk of fuzzing: fresh requests, mutated submissions to the real topics, the account, a look at the services."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random

from deploy.local.stack import Stack
from qalqan import topics
from qalqan.runinfo import RunInfo
from qalqan.signing import EcdsaP256Key
from tests.fuzz.account import Published, Sent, settle
from tests.fuzz.grammar import CAST, Grammar, Shot, Target, World, unregistered
from tests.integration.stranger import Place, Stranger

TARGETS = 8
BATCH_RECORDS = 50
BATCH_BYTES = 400_000
PUBLIC = topics.PUBLIC


class Calm:
    """`with Calm(system):` no service is started again meanwhile, and none writes a stack trace."""

    def __init__(self, system: Stack) -> None:
        self._run_json = system.home / "run.json"
        self._logs = sorted((system.home / "logs").glob("*.log"))

    def __enter__(self) -> None:
        self._pids = RunInfo.load(self._run_json).pids
        self._ends = {log: log.stat().st_size for log in self._logs}

    def __exit__(self, kind: object, *_: object) -> None:
        traces = [f"{log.name}: {trace}" for log in self._logs for trace in self._traces(log.read_bytes(), log)]
        assert not traces, "\n".join(traces[:3])
        if kind is None:
            assert RunInfo.load(self._run_json).pids == self._pids, "a service was started again"

    def _traces(self, text: bytes, log: object) -> Iterator[str]:
        new = text[self._ends[log] :].decode("utf-8", "replace")  # type: ignore[index]
        for piece in new.split("Traceback")[1:]:
            yield f"Traceback{piece[:3000]}"


async def world(stranger: Stranger, rng: Random) -> World:
    """Fresh requests with open ballots and a pledge each, one of them over, and everybody's keys."""
    name = f"F{rng.randrange(10**9)}"
    keys = {state: stranger.state_key(state) for state in CAST}
    keys["KZ"] = await stranger.register_key(
        "KZ", ["request", "pledge", "accept", "vote", "track"], EcdsaP256Key.generate()
    )

    async def target(number: int) -> Target:
        acceptance = "automatic" if number % 2 else "manual"
        request_id = await stranger.raised(acceptance=acceptance)
        await stranger.offered(request_id)
        opened = await stranger.stated("BallotOpened", request_id)
        return Target(request_id, opened.data["ballot_id"])

    targets = await asyncio.gather(*(target(number) for number in range(TARGETS)))
    ended = targets[-1].request_id
    cancelled = stranger.signed("RequestCancelled", {"request_id": ended, "reason": "over"})
    await stranger.admit(cancelled, topics.INBOX_REQUESTS)
    await stranger.stated("BallotWithdrawn", ended)
    tracking = await stranger.register_key("UZ", ["track"])
    past = await stranger.register_key("UZ", ["vote", "pledge"], valid_until="2023-02-01T00:00:00Z")
    foreign = (*unregistered(), stranger.service_key("consensus"), tracking, past)
    return World(stranger.network, name, keys, foreign, stranger.office_key("secretariat"), tuple(targets))


async def over_kafka(system: Stack, seed: int, count: int) -> Counter[str]:
    """What became of `count` mutated submissions. AssertionError: something was lost, counted twice, or crashed."""
    rng = Random(seed)
    with Calm(system):
        async with Stranger.of(system) as stranger:
            grammar = Grammar(rng, await world(stranger, rng))
            ends = {tp: end for topic in PUBLIC for tp, end in (await stranger.ends(topic)).items()}
            sent = await _send(stranger, [grammar.shot() for _ in range(count)])
            await drained(stranger)
            published = Published.of(await stranger.written_since(ends))
    return settle(sent, published)


async def _send(stranger: Stranger, shots: list[Shot]) -> list[Sent]:
    """All of them, each partition's in order."""
    lines: defaultdict[tuple[str, int], list[Shot]] = defaultdict(list)
    for shot in shots:
        lines[shot.record.topic.name, shot.record.to_partition()].append(shot)

    async def line(queue: list[Shot]) -> list[Sent]:
        sent: list[Sent] = []
        for batch in _batches(queue):
            places: list[Place] = await stranger.put_batch([shot.record for shot in batch])
            sent += zip(batch, places, strict=True)
        return sent

    return [one for sent in await asyncio.gather(*map(line, lines.values())) for one in sent]


def _batches(shots: list[Shot]) -> Iterator[list[Shot]]:
    batch: list[Shot] = []
    size = 0
    for shot in shots:
        if batch and (len(batch) == BATCH_RECORDS or size + shot.record.size() > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(shot)
        size += shot.record.size()
    if batch:
        yield batch


async def drained(stranger: Stranger) -> None:
    """Two good ones through every partition: when the second stands, all that was before the first does."""

    async def through(topic: str, partition: int) -> None:
        for _ in range(2):
            await stranger.good(topic, partition)

    lanes = [(inbox.name, partition) for inbox in topics.INBOXES for partition in range(inbox.partitions)]
    await asyncio.gather(*(through(*lane) for lane in lanes if lane[0] != topics.INBOX_VOTES.name))
    await asyncio.gather(*(through(*lane) for lane in lanes if lane[0] == topics.INBOX_VOTES.name))
