"""The first events of a network: submitted to the Secretariat's inbox like anybody else's."""

import asyncio
import contextlib
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from deploy.local.errors import CannotStart
from deploy.local.keys import Identity
from qalqan import topics
from qalqan.access import Access
from qalqan.envelope import BadEnvelope, from_kafka, to_kafka
from qalqan.sources import Source

PATIENCE_S = 30.0


def _marker(home: Path) -> Path:
    return home / "genesis.submitted"


async def submit(identity: Identity, access: Access) -> int:
    """Submit the registrations once; returns how many stand on `members` when all were admitted.

    Submitting them again would change nothing (CONTRACT "Identity"), so a crash before the marker is written
    is harmless.
    """
    events = identity.genesis()
    if not _marker(identity.home).exists():
        producer = AIOKafkaProducer(
            **access.options(),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            request_timeout_ms=15_000,
        )
        await producer.start()
        try:
            sent = []
            for event in events:
                key, value, headers = to_kafka(event)
                sent.append(await producer.send(topics.INBOX_GOVERNANCE.name, value, key, partition=0, headers=headers))
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise CannotStart(
                f"Members and keys could not be submitted to Kafka at {access.bootstrap_servers} ({error}): "
                "look at its log."
            ) from error
        finally:
            await producer.stop()
        with contextlib.suppress(OSError):  # a home that may only be read: it is submitted again, to no effect
            _marker(identity.home).touch()
    return len(events)


async def check_network(identity: Identity, access: Access) -> None:
    """Whether this Kafka is still free, or our network's. Raises CannotStart when `members` is another network's."""
    partition = TopicPartition(topics.MEMBERS.name, 0)
    consumer = AIOKafkaConsumer(**access.options(), enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        if not (await consumer.end_offsets([partition]))[partition]:
            return
        consumer.assign([partition])
        async with asyncio.timeout(PATIENCE_S):
            first = await consumer.getone()
        source = Source.parse(from_kafka(first.key, first.headers, first.value).source)
    except (KafkaError, BadEnvelope, TimeoutError) as error:
        raise CannotStart(
            f"The members on Kafka at {access.bootstrap_servers} cannot be read ({error}): use another."
        ) from error
    finally:
        await consumer.stop()
    if source is None or source.network != identity.network:
        raise CannotStart(
            f"Kafka at {access.bootstrap_servers} belongs to the network "
            f"{source.network if source else 'of somebody else'}, and {identity.home} to "
            f"{identity.network}: use another Kafka, or start in that network's home."
        )


async def wait_admitted(access: Access, count: int) -> None:
    """Wait until `members` holds `count` events. Raises CannotStart when the Secretariat does not get
    there."""
    partition = TopicPartition(topics.MEMBERS.name, 0)
    consumer = AIOKafkaConsumer(**access.options(), enable_auto_commit=False)
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (await consumer.end_offsets([partition]))[partition] < count:  # noqa: ASYNC110  the broker tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CannotStart(
            "The secretariat did not admit the network's members and keys: see logs/secretariat.log."
        ) from None
    finally:
        await consumer.stop()
