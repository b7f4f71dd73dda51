"""A national system on the official CloudEvents SDK, in both modes, over Kafka and over HTTP."""

import json
import os
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from aiokafka import AIOKafkaProducer
from cloudevents.core.bindings import http, kafka
from cloudevents.core.v1.event import CloudEvent

from deploy.local.stack import Stack
from tests.conftest import request_data
from tests.foreign import rdkafka
from tests.foreign.contract import Party
from tests.foreign.sdk import signed


@dataclass(frozen=True, slots=True)
class Sent:
    """What the sender is told at once: the broker's place, or HTTP's status and problem."""

    place: str | None
    problem: dict[str, Any] | None = None


async def over_kafka(party: Party, message: kafka.KafkaMessage) -> Sent:
    """Any producer will do: the SDK made key, headers and value."""
    key = message.key.encode() if isinstance(message.key, str) else message.key
    async with AIOKafkaProducer(bootstrap_servers=party.run["kafka"]) as producer:
        headers = list(message.headers.items())
        done = await producer.send_and_wait("inbox.requests", message.value, key=key, headers=headers)
    return Sent(f"{done.topic}/{done.partition}/{done.offset}")


async def over_http(party: Party, message: http.HTTPMessage) -> Sent:
    """Posts to the owner of requests."""
    async with httpx2.AsyncClient(timeout=20) as client:
        url = f"{party.run['http']['request']}/events"
        answer = await client.post(url, headers=message.headers, content=message.body)
    if answer.status_code == 202:
        return Sent(answer.headers["location"].removeprefix("/submissions/"))
    return Sent(None, answer.json())


async def send(party: Party, event: CloudEvent, way: str) -> Sent:
    """By one of the four ways."""
    match way:
        case "kafka binary":
            return await over_kafka(party, kafka.to_binary_event(event))
        case "kafka structured":
            return await over_kafka(party, kafka.to_structured_event(event))
        case "http binary":
            return await over_http(party, http.to_binary_event(event))
        case _:
            return await over_http(party, http.to_structured_event(event))


WAYS = ("kafka binary", "kafka structured", "http binary", "http structured")


@pytest.mark.parametrize("way", WAYS)
async def test_an_event_of_the_sdk_is_admitted_byte_for_byte(system: Stack, way: str) -> None:
    """Whatever the mode in, what stands on `requests` is what was signed."""
    party = Party.of(system.home / "run.json", "TR")
    data = request_data(f"TR-2023-sdk-{os.getpid()}-{WAYS.index(way)}")
    event = signed(party, "RequestRaised", data["request_id"], json.dumps(data, indent=1).encode())
    sent = await send(party, event, way)
    assert sent.place is not None, sent.problem
    topic, stands = rdkafka.first(party, ["requests", "rejections"], lambda it, _: it["id"] == event.get_id())
    assert (topic, stands) == ("requests", data)


@pytest.mark.parametrize("way", ["kafka structured", "http structured"])
async def test_data_that_the_sdk_would_spell_itself_is_answered(system: Stack, way: str) -> None:
    """Data given as a dict become `data` in a structured event, which the contract does not take."""
    party = Party.of(system.home / "run.json", "TR")
    data = request_data(f"TR-2023-sdk-{os.getpid()}-9")
    good = signed(party, "RequestRaised", data["request_id"], json.dumps(data).encode())
    sent = await send(party, CloudEvent(good.get_attributes(), data), way)
    if sent.place is not None:
        _, said = rdkafka.first(party, ["rejections"], lambda it, _: it["subject"] == sent.place)
    else:
        assert sent.problem is not None
        said = sent.problem
    assert (said["reason"], "data_base64" in said["detail"]) == ("bad-envelope", True), said
