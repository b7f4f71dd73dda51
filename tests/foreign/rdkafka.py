"""A national system on librdkafka (confluent-kafka): votes, and reads what came of it.

librdkafka's default partitioner is CRC32; the contract's is murmur2, as Java has it.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from tests.foreign.contract import Party

PATIENCE_S = 60.0


def send(
    party: Party,
    topic: str,
    name: str,
    data: dict[str, Any],
    partitioner: str | None = "murmur2_random",
) -> str:
    """Writes a signed event and returns its place, `<topic>/<partition>/<offset>`. None: librdkafka's default."""
    options = {} if partitioner is None else {"partitioner": partitioner}
    producer = Producer({"bootstrap.servers": party.run["kafka"], "acks": "all", **options})
    value = json.dumps(data, ensure_ascii=False).encode()
    headers = party.headers(party.attributes(name, data["request_id"]), value)
    places: list[str] = []

    def delivered(error: object, message: Message) -> None:
        if error is None:
            places.append(f"{message.topic()}/{message.partition()}/{message.offset()}")

    producer.produce(topic, value, data["request_id"].encode(), headers=headers, on_delivery=delivered)
    producer.flush(PATIENCE_S)
    (place,) = places
    return place


def first(party: Party, topics: list[str], wanted: Callable[[dict[str, str], Any], bool]) -> tuple[str, Any]:
    """Topic and data of the first event, from the beginning, whose attributes and data are wanted."""
    consumer = Consumer({"bootstrap.servers": party.run["kafka"], "group.id": "unused", "enable.auto.commit": False})
    try:
        known = consumer.list_topics(timeout=PATIENCE_S).topics
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics for number in known[topic].partitions]
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None or message.error():
                continue
            attributes = {
                name.removeprefix("ce_"): (content or b"").decode() for name, content in message.headers() or []
            }
            data = json.loads(message.value() or b"null")
            if wanted(attributes, data):
                return str(message.topic()), data
        raise TimeoutError(f"nothing on {topics}")
    finally:
        consumer.close()
