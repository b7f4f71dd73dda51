"""A national system with no code of ours: hashlib, cryptography, aiokafka, and the contract."""

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from deploy.local.stack import Stack

PATIENCE_S = 20.0
PAYLOAD_TYPE = "https://cloudevents.io/verifiability/dsse/v0.1"


def headers(key: Ed25519PrivateKey, attributes: dict[str, str], data: bytes) -> list[tuple[str, bytes]]:
    """A signed event's headers in Kafka's binary mode (CONTRACT "Signature"); `attributes` by their names."""

    def sha(text: str) -> bytes:
        return hashlib.sha256(text.encode()).digest()

    named = ("id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time")
    digests = [sha(attributes.get(name, "")) for name in named]
    core = hashlib.sha256(b"".join([*digests, hashlib.sha256(data).digest()])).digest()
    payload = b'{"core":"%b"}' % base64.b64encode(core)
    signed = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": hashlib.sha256(public).hexdigest(), "sig": base64.b64encode(key.sign(signed)).decode()}
        ],
    }
    rest = {name: text for name, text in attributes.items() if name != "datacontenttype"}
    rest["dssematerial"] = base64.b64encode(json.dumps(envelope).encode()).decode()
    return [
        ("content-type", b"application/json"),
        *((f"ce_{name}", text.encode()) for name, text in rest.items()),
    ]


async def raise_request(kafka: str, network: str, key: Ed25519PrivateKey, data: dict[str, Any]) -> str:
    """Raises a request and returns the event's id."""
    request_id = str(data["request_id"])
    attributes = {
        "id": f"foreign-{request_id}",
        "source": f"qalqan://{network}/states/{data['affected_state']}",
        "specversion": "1.0",
        "type": "qalqan.RequestRaised.v1",
        "datacontenttype": "application/json",
        "subject": request_id,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    body = json.dumps(data, ensure_ascii=False, indent=2).encode()
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        signed = headers(key, attributes, body)
        await producer.send_and_wait("inbox.requests", body, key=request_id.encode(), headers=signed)
    finally:
        await producer.stop()
    return attributes["id"]


async def first(kafka: str, topic: str, request_id: str) -> Any:
    """The first record of a request on a topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for record in consumer:
                if record.key == request_id.encode():
                    return record
    finally:
        await consumer.stop()


async def test_a_client_written_from_the_contract_alone_is_admitted(system: Stack) -> None:
    """What it signed stands on `requests` byte for byte, and a ballot is opened on exactly that."""
    run = json.loads((system.home / "run.json").read_text())
    key = load_pem_private_key((Path(run["keys"]) / "UZ.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    place = {"name": "Қамаши", "country": "UZ"}
    data: dict[str, Any] = {
        "request_id": "UZ-2023-foreign-1",
        "affected_state": "UZ",
        "mode": "exercise",
        "emergency": {"kind": "flood", "title": "Sel", "place": place, "severity": "Severe"},
        "needs": [
            {
                "need_id": "N1",
                "capability": "HCP",
                "quantity": 2,
                "unit": "team",
                "priority": 1,
                "deliver_to": place,
            }
        ],
        "later": ["a field that this version does not know"],
    }
    event_id = await raise_request(run["kafka"], run["network"], key, data)

    raised = await first(run["kafka"], "requests", data["request_id"])
    attributes = dict(raised.headers)
    assert (attributes["ce_id"], attributes["ce_mode"]) == (event_id.encode(), b"exercise")
    assert json.loads(raised.value) == data

    opened = await first(run["kafka"], "decisions", data["request_id"])
    ballot = json.loads(opened.value)["ballot"]
    assert ballot["request_digest"] == f"sha256:{hashlib.sha256(raised.value).hexdigest()}"
    assert (ballot["network"], ballot["affected_state"], ballot["items"]) == (run["network"], "UZ", ["N1"])
    # RFC 8785 of a record without floats and with ASCII names: sorted, without white space.
    text = json.dumps(ballot, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert json.loads(opened.value)["ballot_id"] == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
