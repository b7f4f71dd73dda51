"""Repeated deliveries: what a stalled owner had under way comes late, and again, and has no second effect."""

import asyncio
import random

from aiokafka import AIOKafkaProducer

from deploy.local.stack import Stack
from qalqan.client import Message
from qalqan.envelope import to_kafka
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.conftest import Party

_PATIENCE_S = 30.0


async def test_every_public_event_delivered_again(system: Stack, states: Party) -> None:
    """Of a request that is mobilised, and of one that is closed and known to the database alone."""
    line = Line(states, random.Random(seed_of_run()))
    mobilised, closed = new_id(3), new_id(3)
    async with line.watching():
        await line.run_all([mobilised, closed], _PATIENCE_S)
        await line.say(lambda: states["TR"].close(closed, "over"))
        await line.seen(closed, "MandateEnded")
        while (await line.seen(closed, "MobilizationRevised")).data["decisions"]:  # noqa: ASYNC110 - the last word on it
            await asyncio.sleep(0.05)
        before = await line.check()
        again = [m for m in before if m.event.subject in (mobilised, closed)]
        await deliver_again(system, again)
        # What comes behind on the same lane shows that all of it was read.
        await line.run_all([new_id(3)], _PATIENCE_S)
        after = await line.check()
    assert repeated(after) - repeated(before) == len(again)
    assert names(after, mobilised, closed) == names(before, mobilised, closed)


async def deliver_again(system: Stack, messages: list[Message]) -> None:
    """Writes them anew, one by one in the order of each partition, as a former owner's producer may."""
    producer = AIOKafkaProducer(bootstrap_servers=system.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for message in messages:
            key, value, headers = to_kafka(message.event)
            await producer.send_and_wait(message.topic, value, key=key, partition=message.partition, headers=headers)
    finally:
        await producer.stop()


def names(messages: list[Message], *request_ids: str) -> set[tuple[str | None, str, int | None]]:
    """What stands of these requests, and where in their order."""
    of_requests = (message for message in messages if message.event.subject in request_ids)
    return {(message.event.subject, message.name, message.position) for message in of_requests}
