"""Every topic of the contract, made before anything else runs."""

import asyncio
import contextlib
import time

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from deploy.local.errors import CannotStart
from qalqan import topics
from qalqan.access import Access

MOST_REPLICAS = 3
PATIENCE_S = 30.0


async def create(access: Access) -> None:
    """Create what is missing of qalqan.topics.ALL and wait until every partition has a leader.

    Replicas: as many as there are brokers, three at most (with two in sync then, DESIGN "Recovery"). Raises
    CannotStart when no broker answers, or a topic exists with another number of partitions.
    """
    admin = None
    try:
        admin = AIOKafkaAdminClient(**access.options())
        await admin.start()
        await _create_missing(admin)
        await _wait_for_leaders(admin)
        with contextlib.suppress(KafkaError):
            # The first question for a group makes the broker create its topic of offsets: before anybody
            # waits for it.
            await admin.find_coordinator("qalqan")
    except (KafkaError, OSError, ValueError) as error:  # ValueError: not host:port
        raise CannotStart(
            f"Kafka at {access.bootstrap_servers} does not answer as it should ({error}): start it, or correct "
            "KAFKA_BOOTSTRAP_SERVERS."
        ) from error
    finally:
        if admin is not None:
            await admin.close()


async def _create_missing(admin: AIOKafkaAdminClient) -> None:
    present = set(await admin.list_topics())
    missing = [topic for topic in topics.ALL if topic.name not in present]
    if not missing:
        return
    brokers = len((await admin.describe_cluster())["brokers"])
    replicas = min(MOST_REPLICAS, brokers)
    in_sync = {"min.insync.replicas": "2"} if replicas == MOST_REPLICAS else {}
    answer = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replicas, topic_configs={**topic.config(), **in_sync})
            for topic in missing
        ]
    )
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error.__name__ != "TopicAlreadyExistsError":
            raise CannotStart(f"The topic {name} could not be made: {error.__name__} {' '.join(filter(None, message))}")


async def _wait_for_leaders(admin: AIOKafkaAdminClient) -> None:
    deadline = time.monotonic() + PATIENCE_S
    wanted = {topic.name: topic.partitions for topic in topics.ALL}
    while True:
        described = {topic["topic"]: topic for topic in await admin.describe_topics(list(wanted))}
        led = {
            name: [part for part in topic["partitions"] if part["leader"] >= 0]
            for name, topic in described.items()
            if not topic["error_code"]
        }
        if all(len(led.get(name, ())) >= count for name, count in wanted.items()):
            break
        if time.monotonic() > deadline:
            late = sorted(name for name, count in wanted.items() if len(led.get(name, ())) < count)
            raise CannotStart(
                f"Kafka has no leader for {', '.join(late)}, or too few partitions: look at the broker's log."
            )
        await asyncio.sleep(0.05)
    for name, parts in led.items():
        if len(parts) != wanted[name]:
            raise CannotStart(
                f"The topic {name} has {len(parts)} partitions instead of {wanted[name]}, fixed for life: "
                "use another Kafka."
            )
