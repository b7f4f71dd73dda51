"""What every lane publishes through: one producer a replica, and all of them at once."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from structlog.testing import capture_logs

from chassis.bus import Bus, Outgoing
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
