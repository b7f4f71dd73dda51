"""Kafka: whether it answers, whether the topics are what they must be, whether its clock is ours."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.bus import member_consumer
from deploy.local.doctor.finding import Finding, look, well, wrong
from deploy.local.doctor.system import System
from deploy.local.topics import MOST_REPLICAS
from qalqan import topics
from qalqan.topics import Topic

_APART_S = 2.0
_LISTENS_MS = 500
_LOOKS_BACK_S = 2.0
_REQUEST_TIMEOUT_MS = 3_000


async def kafka(system: System) -> list[Finding]:
    """Whether it answers, and with how many brokers. Raises what aiokafka raises when it does not."""
    async with _admin(system) as admin:
        count = len((await admin.describe_cluster())["brokers"])
    return [well("Kafka", f"{count} broker{'s' if count > 1 else ''}, {system.kafka.bootstrap_servers}")]


async def topic_settings(system: System, wanted: Sequence[Topic] = topics.ALL) -> list[Finding]:
    """Whether all topics exist, with their partitions, replicas and settings."""
    async with _admin(system) as admin:
        metadata = await admin._get_cluster_metadata()
        there = {name: partitions for _, name, _, partitions in metadata.topics}
        present = [topic for topic in wanted if topic.name in there]
        configs = await _configs(admin, present)
    replicas = min(MOST_REPLICAS, len(metadata.brokers))
    found: list[Finding] = []
    for topic in wanted:
        if topic.name not in there:
            found.append(wrong(f"topic {topic.name}", "does not exist", "`qalqan up` makes what is missing"))
        else:
            found += _judged(topic, there[topic.name], configs.get(topic.name, {}), replicas)
    return found or [well("topics", f"{len(wanted)}, with their partitions and settings")]


def _judged(topic: Topic, partitions: Sequence[Any], config: dict[str, str], replicas: int) -> list[Finding]:
    what = f"topic {topic.name}"
    if len(partitions) != topic.partitions:
        seen = f"{len(partitions)} partitions instead of {topic.partitions}"
        return [wrong(what, seen, "nothing may be written meanwhile: docs/operations.md, the service refuses to start")]
    found = []
    if fewest := [part for part in partitions if len(part[3]) < replicas]:
        seen = f"{len(fewest)} partitions have fewer than {replicas} replicas"
        found.append(wrong(what, seen, "`kafka-reassign-partitions.sh`: what is acknowledged must be on two brokers"))
    if behind := [part for part in partitions if len(part[4]) < len(part[3])]:
        seen = f"{len(behind)} partitions have replicas that are behind"
        found.append(look(what, seen, "a broker is away or catches up: with one more gone, nothing can be written"))
    differ = {name: value for name, value in topic.config().items() if config and config.get(name) != value}
    if differ:
        seen = ", ".join(f"{name} is {config.get(name)}" for name in differ)
        settings = ",".join(f"{name}={value}" for name, value in differ.items())
        remedy = f"`kafka-configs.sh --alter --entity-type topics --entity-name {topic.name} --add-config {settings}`"
        found.append(wrong(what, seen, remedy))
    if not config:
        found.append(look(what, "its settings may not be seen", "ask as a user who may describe configurations"))
    return found


async def clock(system: System) -> list[Finding]:
    """How far the brokers' clocks are from ours, by the newest records and by what comes while we listen."""
    partitions = [TopicPartition(topic.name, n) for topic in topics.PUBLIC for n in range(topic.partitions)]
    consumer = member_consumer(system.kafka, "doctor.clock")
    try:
        await consumer.start()
        ends = {tp: end for tp, end in (await consumer.end_offsets(partitions)).items() if end}
        newest = await _newest(consumer, ends)
        since = time.time()
        fresh = await _fresh(consumer, ends)
    finally:
        await consumer.stop()
    return [judged_clock(newest, fresh, since, time.time())]


def judged_clock(newest: float | None, fresh: Sequence[float], since: float, now: float) -> Finding:
    """`newest`: when the broker says that it took the last record before `since`; `fresh`: those that came until `now`.

    Seconds since 1970. A clock that is ahead shows on any record; one that is behind only while something comes.
    """
    what = "clock of Kafka"
    remedy = "set both by NTP: windows of keys and deadlines are judged by the brokers' clocks"
    ahead = max([*fresh, *([newest] if newest is not None else [])], default=0.0) - now
    if ahead > _APART_S:
        return wrong(what, f"{ahead:.1f} s ahead of ours", remedy)
    if fresh:
        behind = since - max(fresh)
        if behind > _APART_S:
            return wrong(what, f"{behind:.1f} s behind ours", remedy)
        return well(what, f"within {_APART_S:.0f} s of ours")
    if newest is None:
        return look(what, "nothing stands on any topic yet", "ask again once something does")
    return well(what, f"not ahead of ours; the newest record is {_ago(now - newest)} old")


async def _newest(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> float | None:
    """When the broker took the newest record of any partition, in seconds since 1970."""
    if not ends:
        return None
    consumer.assign(list(ends))
    for tp, end in ends.items():
        consumer.seek(tp, end - 1)
    last: dict[TopicPartition, int] = {}
    # Where a partition ends with the mark of a transaction nothing comes: the others tell enough.
    enough = time.monotonic() + _LOOKS_BACK_S
    while last.keys() != ends.keys() and time.monotonic() < enough:
        for tp, records in (await consumer.getmany(timeout_ms=_LISTENS_MS)).items():
            last[tp] = records[-1].timestamp
    return max(last.values()) / 1000 if last else None


async def _fresh(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> list[float]:
    """When the broker took what comes while we listen."""
    found = await consumer.getmany(timeout_ms=_LISTENS_MS) if ends else {}
    return [record.timestamp / 1000 for tp, records in found.items() for record in records if record.offset >= ends[tp]]


async def _configs(admin: AIOKafkaAdminClient, present: Sequence[Topic]) -> dict[str, dict[str, str]]:
    """Settings by topic; of those that may not be seen, none."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in present]
    answers = await admin.describe_configs(resources) if resources else []
    return {
        name: {setting: value for setting, value, *_ in settings}
        for answer in answers
        for code, _, _, name, settings in answer.resources
        if not code
    }


@contextlib.asynccontextmanager
async def _admin(system: System) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**system.kafka.options(), client_id="doctor", request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
