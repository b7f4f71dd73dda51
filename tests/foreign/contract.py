"""CONTRACT "Signature" with hashlib and cryptography: what the clients in Python share, and no line of ours in it."""

import base64
import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

PAYLOAD_TYPE = "https://cloudevents.io/verifiability/dsse/v0.1"
CORE = ("id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time")

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Party:
    """A state: what run.json says of the network, its code, and the key it signs with."""

    run: dict[str, Any]
    state: str
    key: Ed25519PrivateKey

    @classmethod
    def of(cls, run_json: Path, state: str) -> "Party":
        """With the state's development key."""
        run = json.loads(run_json.read_text())
        key = load_pem_private_key((Path(run["keys"]) / f"{state}.pem").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        return cls(run, state, key)

    def attributes(self, name: str, request_id: str) -> dict[str, str]:
        """The attributes of a new event of this state on a request."""
        return {
            "id": f"foreign-{os.getpid()}-{next(_numbers)}",
            "source": f"qalqan://{self.run['network']}/states/{self.state}",
            "specversion": "1.0",
            "type": f"qalqan.{name}.v1",
            "datacontenttype": "application/json",
            "subject": request_id,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def material(self, attributes: dict[str, str], data: bytes) -> str:
        """The event's `dssematerial`; `time` among the attributes in whole seconds, UTC."""
        digests = [hashlib.sha256(attributes.get(name, "").encode()).digest() for name in CORE]
        core = hashlib.sha256(b"".join([*digests, hashlib.sha256(data).digest()])).digest()
        payload = b'{"core":"%b"}' % base64.b64encode(core)
        signed = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        signature = {
            "keyid": hashlib.sha256(public).hexdigest(),
            "sig": base64.b64encode(self.key.sign(signed)).decode(),
        }
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [signature],
        }
        return base64.b64encode(json.dumps(envelope).encode()).decode()

    def headers(self, attributes: dict[str, str], data: bytes) -> list[tuple[str, bytes]]:
        """The signed event's headers in Kafka's binary mode."""
        rest = {name: text for name, text in attributes.items() if name != "datacontenttype"}
        rest["dssematerial"] = self.material(attributes, data)
        return [
            ("content-type", attributes["datacontenttype"].encode()),
            *((f"ce_{name}", text.encode()) for name, text in rest.items()),
        ]
