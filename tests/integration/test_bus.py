"""What every lane publishes through: one producer a replica, and all of them at once."""

import asyncio
import socket

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from structlog.testing import capture_logs

from chassis.bus import Bus, Outgoing, answering, member_consumer
from chassis.settings import Settings
from deploy.local.stack import Stack
from qalqan.access import Access

TOPIC = "test.bus"
WRITERS, WAVES = 250, 2
"""More than lanes, so that they wait on one another as long as lanes do on a busy machine."""


async def test_many_lanes_publish_to_one_partition(system: Stack) -> None:
    """None is turned away, and none waits for ever: `rejections` has every lane for a writer."""
    settings = Settings(
        kafka=Access(bootstrap_servers=system.kafka),
        DATABASE_URL=system.database_url,
        QALQAN_ROOT=system.identity.root,
        QALQAN_KEY=system.identity.service_key("pledge"),
        QALQAN_REPLICA="test-bus",
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=system.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1, topic_configs={"max.message.bytes": str(8 * 1024 * 1024)})])
    await admin.close()
    bus = Bus(settings, "pledge")
    await bus.open_to_publish()

    async def lane(number: int) -> None:
        for wave in range(WAVES):
            await bus.publish([Outgoing(TOPIC, 0, b"key", b"%d/%d" % (number, wave) * 40_000, [])])

    with capture_logs() as logs:
        async with asyncio.timeout(60):
            await asyncio.gather(*map(lane, range(WRITERS)))
    await bus.close()

    assert [entry for entry in logs if entry["event"] == "kafka.publish_failed"] == []
    async with AIOKafkaConsumer(bootstrap_servers=system.kafka) as consumer:
        place = TopicPartition(TOPIC, 0)
        assert (await consumer.end_offsets([place]))[place] == WRITERS * WAVES


async def test_a_consumer_waits_for_a_broker_that_is_away(system: Stack) -> None:
    """A service that is started while Kafka is away waits for it, and says so: that is no bug of its own."""
    host, port = system.kafka.split(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{door.getsockname()[1]}"
        with capture_logs() as logs:
            waiting = asyncio.create_task(
                answering(lambda: member_consumer(Access(bootstrap_servers=address), "test-away"))
            )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.5)
            async with await asyncio.start_server(connected, sock=door), asyncio.timeout(20):
                consumer = await waiting
                assert "members" in await consumer.topics()
                await consumer.stop()
    assert {entry["event"] for entry in logs} == {"kafka.waiting"}
