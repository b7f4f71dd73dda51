"""Votes a second: through the durable consensus service, and through a consumer that only checks them."""

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from qalqan.signing import PublicKey
from qalqan.topics import INBOX_VOTES, KEYED_PARTITIONS, VOTES, partition_of
from tests.bench.check import checked
from tests.bench.figures import Figure, Side
from tests.bench.ground import FETCH_BYTES, Ground, Record, Signed, new_request_ids, opened, progress
from tests.chaos.replicas import second

_REQUESTS = 600
_VOTERS = ("AZ", "KG", "KZ")
"""All but the last one needed: ballots stay open, so that it is votes that are counted."""
_SEQUENCES = 2
ROUNDS = 3
_CHUNK = 200
_WAVE = 3_600
"""Sent at once: more would make batches larger than an inbox takes."""
_PATIENCE_S = 120.0


async def votes_per_second(ground: Ground) -> list[Figure]:
    """Both sides over the same records of the same topic, one after the other, in several rounds.

    The bare side checks on two threads, so the service has two replicas; what one does alone is told beside it.
    """
    alone, ours, bare = [], [], []
    for number in range(ROUNDS):
        alone.append(
            await through_the_service(ground, await signed_votes(ground, f"one replica, {number + 1} of {ROUNDS}"))
        )
    async with second(ground.stack, "consensus"):
        for number in range(ROUNDS):
            votes = await signed_votes(ground, f"two replicas, {number + 1} of {ROUNDS}")
            start = await ends(ground, INBOX_VOTES.name)
            ours.append(await through_the_service(ground, votes))
            bare.append(await _through_bare_threads(ground, start, len(votes)))
    count = _REQUESTS * _SEQUENCES * len(_VOTERS)
    return [
        Figure(
            "votes_per_second",
            "1/s",
            Side(
                ours,
                f"{count} votes at once, two replicas: first append to inbox.votes -> last to votes, all durable",
                more_is_better=True,
            ),
            Side(
                bare,
                "bare aiokafka consumer, envelope and data parsed, PyNaCl on two threads, nothing kept",
                more_is_better=True,
            ),
            goal=">= 0.5",
            more={"one_replica": round(statistics.median(alone))},
        )
    ]


async def signed_votes(ground: Ground, of: str, sequences: int = _SEQUENCES) -> list[Signed]:
    """Votes on new requests, signed and not sent; each state votes so many times on each. `of`: for people."""
    progress.print(f"Signing votes on {_REQUESTS} new requests ({of}) ...")
    ballots = await opened(ground, new_request_ids(_REQUESTS))
    return [
        ground.signed(state, "VoteCast", ballot.vote(state, sequence + 1))
        for sequence in range(sequences)
        for ballot in ballots
        for state in _VOTERS
    ]


async def send_at_once(ground: Ground, votes: list[Signed], topic: str) -> int:
    """Sends votes as fast as the broker takes them; when it appended the first, in ms."""
    first_ms = None
    for at in range(0, len(votes), _WAVE):
        waiting = [
            await ground.producer.send(
                topic, vote.value, key=vote.key, headers=vote.headers, partition=partition_of(vote.key.decode())
            )
            for vote in votes[at : at + _WAVE]
        ]
        sent = await asyncio.gather(*waiting)
        first_ms = first_ms or min(put.timestamp for put in sent)
    assert first_ms is not None
    return first_ms


async def through_the_service(ground: Ground, votes: list[Signed]) -> float:
    """Votes a second, from the first append to the inbox to the last to `votes`."""
    before = await ends(ground, VOTES.name)
    first_ms = await send_at_once(ground, votes, INBOX_VOTES.name)
    async with asyncio.timeout(_PATIENCE_S):
        # Asking for the ends costs the machine less than reading all of it would.
        while sum((await ends(ground, VOTES.name)).values()) < sum(before.values()) + len(votes):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    last_ms = await _newest_append(ground, before)
    return len(votes) / (last_ms - first_ms) * 1000


async def _newest_append(ground: Ground, since: dict[TopicPartition, int]) -> int:
    consumer = consumer_of(ground)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(since))
        newest = 0
        for tp, end in ends.items():
            if end > since[tp]:
                consumer.assign([tp])
                consumer.seek(tp, end - 1)
                newest = max(newest, (await consumer.getone()).timestamp)
        return newest
    finally:
        await consumer.stop()


async def _through_bare_threads(ground: Ground, start: dict[TopicPartition, int], count: int) -> float:
    keys = {key.key_id: PublicKey.from_pem(key.public_pem, key.algorithm) for _, key in ground.keys.values()}
    consumer = consumer_of(ground)
    await consumer.start()
    loop = asyncio.get_running_loop()
    try:
        consumer.assign(list(start))
        for tp, offset in start.items():
            consumer.seek(tp, offset)
        seen, checks = 0, []
        with ThreadPoolExecutor(2) as threads:
            began = time.perf_counter()
            while seen < count:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    seen += len(records)
                    for at in range(0, len(records), _CHUNK):
                        chunk = records[at : at + _CHUNK]
                        checks.append(loop.run_in_executor(threads, _check, chunk, keys))
            await asyncio.gather(*checks)
            return seen / (time.perf_counter() - began)
    finally:
        await consumer.stop()


def _check(records: list[Record], keys: dict[str, PublicKey]) -> None:
    for record in records:
        checked(record.key, record.headers, record.value, keys)


def consumer_of(ground: Ground, isolation_level: str = "read_uncommitted") -> Any:
    """A bare consumer without a group, not started."""
    return AIOKafkaConsumer(
        bootstrap_servers=ground.run.kafka,
        group_id=None,
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        isolation_level=isolation_level,
    )


async def ends(ground: Ground, topic: str) -> dict[TopicPartition, int]:
    """The next offset of each of its partitions."""
    consumer = consumer_of(ground)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(
            [TopicPartition(topic, number) for number in range(KEYED_PARTITIONS)]
        )
        return ends
    finally:
        await consumer.stop()
