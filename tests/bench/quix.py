"""Votes a second against a stream processor: Quix Streams, exactly once, with the same check on the same broker."""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import uuid
import venv
from collections.abc import AsyncIterator
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.local.jars import cache_dir
from qalqan.topics import INBOX_VOTES, KEYED_PARTITIONS, VOTES
from tests.bench.figures import Figure, Side
from tests.bench.ground import ROOT, Ground, Signed, progress
from tests.bench.votes import ROUNDS, consumer_of, ends, send_at_once, signed_votes, through_the_service
from tests.chaos.replicas import second

_LOCK = Path(__file__).with_suffix(".lock")
_PROCESSES = 2
_COMMIT_INTERVAL_S = 0.5
"""Shorter than the default 5 s, as its documentation advises for exactly once."""
_SEQUENCES = 8
"""Enough votes for several checkpoints of the peer: of one alone, neither the state nor the commit would count."""
_PATIENCE_S = 120.0
_WHAT = (
    "Quix Streams {version}, exactly once, as many processes over a topic of the same records: first append to it -> "
    "last to its output, read committed. It checks the same (envelope, signature, data) and keeps each ballot's tally "
    "(RocksDB and its changelog topic, a checkpoint each {interval} s); it has no database, no certificates, no "
    "identities against repetition, and who may vote on what until when it does not ask"
)


async def votes_per_second_vs_quix(ground: Ground) -> list[Figure]:
    """Both sides over the same votes, in turns; the side whose turn it is not has nothing to do."""
    python = await asyncio.to_thread(_environment)
    ours, theirs = [], []
    async with second(ground.stack, "consensus"), _peer(ground, python) as peer:
        await peer.through(await signed_votes(ground, "warming up", 1))
        for number in range(ROUNDS):
            votes = await signed_votes(ground, f"beside Quix, {number + 1} of {ROUNDS}", _SEQUENCES)
            ours.append(await through_the_service(ground, votes))
            theirs.append(await peer.through(votes))
    what = f"{len(votes)} votes at once, two replicas: first append to inbox.votes -> last to votes, all durable"
    return [
        Figure(
            "votes_per_second_vs_quix",
            "1/s",
            Side(ours, what, more_is_better=True),
            Side(theirs, _WHAT.format(version=peer.version, interval=_COMMIT_INTERVAL_S), more_is_better=True),
            goal=">= 2",
        )
    ]


class _Peer:
    """The running peer: its topics, its consumer group, its version."""

    def __init__(self, ground: Ground, admin: AIOKafkaAdminClient, version: str) -> None:
        name = f"bench-quix-{uuid.uuid4().hex[:8]}"
        self.group, self.source, self.target = name, f"{name}-in", f"{name}-out"
        self.version = version
        self._ground = ground
        self._admin = admin

    async def until_shared(self) -> None:
        """Waits until all processes have their partitions. TimeoutError."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                with contextlib.suppress(KafkaError):
                    (answer,) = await self._admin.describe_consumer_groups([self.group])
                    _, _, state, _, _, members, *_ = answer.groups[0]
                    if state == "Stable" and len(members) == _PROCESSES:
                        return
                await asyncio.sleep(0.2)

    async def through(self, votes: list[Signed]) -> float:
        """Votes a second, from the first append to the last. RuntimeError: its output is not one record a vote."""
        before = await ends(self._ground, self.target)
        first_ms = await send_at_once(self._ground, votes, self.source)
        until = await ends(self._ground, self.source)
        async with asyncio.timeout(_PATIENCE_S):
            while await self._committed() != until:  # noqa: ASYNC110 - Kafka sets no event here
                await asyncio.sleep(0.05)
        appended_ms = await self._read_committed(before)
        if len(appended_ms) != len(votes):
            raise RuntimeError(f"Quix Streams made {len(appended_ms)} records of {len(votes)} votes")
        return len(votes) / (max(appended_ms) - first_ms) * 1000

    async def _committed(self) -> dict[TopicPartition, int]:
        try:
            offsets = await self._admin.list_consumer_group_offsets(self.group)
        except KafkaError:  # a broker that is busy has no coordinator for a moment
            return {}
        return {tp: at.offset for tp, at in offsets.items() if tp.topic == self.source}

    async def _read_committed(self, since: dict[TopicPartition, int]) -> list[int]:
        """When each record of the output was appended, in ms; what no commit made visible is left out."""
        consumer = consumer_of(self._ground, isolation_level="read_committed")
        await consumer.start()
        try:
            consumer.assign(list(since))
            for tp, offset in since.items():
                consumer.seek(tp, offset)
            found: list[int] = []
            while batches := await consumer.getmany(timeout_ms=2000):
                found += [record.timestamp for records in batches.values() for record in records]
            return found
        finally:
            await consumer.stop()


@contextlib.asynccontextmanager
async def _peer(ground: Ground, python: Path) -> AsyncIterator[_Peer]:
    progress.print("Starting Quix Streams ...")
    admin = AIOKafkaAdminClient(bootstrap_servers=ground.run.kafka)
    await admin.start()
    processes = []
    try:
        peer = _Peer(ground, admin, await asyncio.to_thread(_version, python))
        await admin.create_topics(
            [
                NewTopic(name, KEYED_PARTITIONS, 1, topic_configs=like.config())
                for name, like in ((peer.source, INBOX_VOTES), (peer.target, VOTES))
            ]
        )
        place = ground.stack.home / peer.group
        place.mkdir()
        keys = {key.key_id: (key.algorithm, key.public_pem) for _, key in ground.keys.values()}
        (place / "keys.json").write_text(json.dumps(keys))
        processes = [_start(python, peer, ground.run.kafka, place, number) for number in range(_PROCESSES)]
        await peer.until_shared()
        yield peer
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            await asyncio.to_thread(process.wait)
        await admin.close()


def _start(python: Path, peer: _Peer, kafka: str, place: Path, number: int) -> subprocess.Popen[bytes]:
    options = {
        "kafka": kafka,
        "group": peer.group,
        "source": peer.source,
        "target": peer.target,
        "state": str(place / f"state-{number}"),
        "keys": str(place / "keys.json"),
        "commit-interval": str(_COMMIT_INTERVAL_S),
    }
    command = [str(python), "-m", "tests.bench.quix_app"]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}"}
    with (place / f"{number}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)


def _version(python: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('quixstreams'))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _environment() -> Path:
    """The Python of the peer's virtual environment, made from its lock if it is not there yet."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    place = cache_dir() / f"quix-{digest}-{sys.version_info[0]}.{sys.version_info[1]}"
    python, made = place / "bin" / "python", place / "made"
    if not made.exists():
        progress.print("Making a virtual environment for Quix Streams ...")
        venv.create(place, clear=True, with_pip=True)
        install = (
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(_LOCK),
        )
        subprocess.run([python, *install], check=True)
        made.touch()
    return python
