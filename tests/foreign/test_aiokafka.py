"""A national system on aiokafka: what it signed stands on `requests`, and a ballot is opened on exactly that."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local.stack import Stack
from tests.foreign.contract import Party

PATIENCE_S = 60.0


async def raise_request(party: Party, data: dict[str, Any]) -> str:
    """Raises a request and returns the event's id."""
    request_id = str(data["request_id"])
    attributes = party.attributes("RequestRaised", request_id)
    body = json.dumps(data, ensure_ascii=False, indent=2).encode()
    producer = AIOKafkaProducer(bootstrap_servers=party.run["kafka"])
    await producer.start()
    try:
        signed = party.headers(attributes, body)
        await producer.send_and_wait("inbox.requests", body, key=request_id.encode(), headers=signed)
    finally:
        await producer.stop()
    return attributes["id"]


async def first(party: Party, topic: str, wanted: Callable[[Any], bool]) -> Any:
    """The first record of a topic that is wanted."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=party.run["kafka"], auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for record in consumer:
                if wanted(record):
                    return record
    finally:
        await consumer.stop()


async def rejection(party: Party, event_id: str) -> dict[str, Any]:
    """What is said of an event that was not admitted."""
    record = await first(party, "rejections", lambda record: rejected_id(record) == event_id)
    said: dict[str, Any] = json.loads(record.value)
    return said


def rejected_id(record: Any) -> str | None:
    """The id of the event, in binary mode, that a rejection is about."""
    original = json.loads(record.value)["original_base64"]
    headers = dict(json.loads(base64.b64decode(original))["headers"]) if original else {}
    return base64.b64decode(headers.get("ce_id") or "").decode("utf-8", "replace")


def flood(request_id: str) -> dict[str, Any]:
    """A request by Uzbekistan, with a field that this version does not know."""
    place = {"name": "Қамаши", "country": "UZ"}
    need = {"need_id": "N1", "capability": "HCP", "quantity": 2, "unit": "team", "priority": 1, "deliver_to": place}
    return {
        "request_id": request_id,
        "affected_state": "UZ",
        "mode": "exercise",
        "emergency": {"kind": "flood", "title": "Sel", "place": place, "severity": "Severe"},
        "needs": [need],
        "later": ["a field that this version does not know"],
    }


async def test_a_client_written_from_the_contract_alone_is_admitted(system: Stack) -> None:
    """Byte for byte; and the ballot's record, digested as the contract says, is the ballot's id."""
    party = Party.of(system.home / "run.json", "UZ")
    data = flood("UZ-2023-aiokafka-1")
    event_id = await raise_request(party, data)

    raised = await first(party, "requests", lambda record: record.key == data["request_id"].encode())
    attributes = dict(raised.headers)
    assert (attributes["ce_id"], attributes["ce_mode"]) == (event_id.encode(), b"exercise")
    assert json.loads(raised.value) == data

    opened = await first(party, "decisions", lambda record: record.key == data["request_id"].encode())
    ballot = json.loads(opened.value)["ballot"]
    assert ballot["request_digest"] == f"sha256:{hashlib.sha256(raised.value).hexdigest()}"
    assert (ballot["network"], ballot["affected_state"], ballot["items"]) == (party.run["network"], "UZ", ["N1"])
    # RFC 8785 of a record without floats and with ASCII names: sorted, without white space.
    text = json.dumps(ballot, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert json.loads(opened.value)["ballot_id"] == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


async def test_a_mistake_is_answered_with_its_reason(system: Stack) -> None:
    """Uzbekistan's request under Kazakhstan's key."""
    party = Party.of(system.home / "run.json", "UZ")
    key = Party.of(system.home / "run.json", "KZ").key
    event_id = await raise_request(replace(party, key=key), flood("UZ-2023-aiokafka-2"))
    assert (await rejection(party, event_id))["reason"] == "foreign-source"
