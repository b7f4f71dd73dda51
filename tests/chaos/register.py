"""Members and keys are registered and revoked without pause: one chain, whatever happens to the secretariat."""

import asyncio
import itertools
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.local.keys import Identity
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.client import Message, Submission
from qalqan.envelope import Event, to_base64, to_kafka
from qalqan.events import type_of
from qalqan.instants import format_instant
from qalqan.jsontext import canonical, digest
from qalqan.keys import read_key
from qalqan.registry import possession_claim
from qalqan.signing import Ed25519Key, sign
from qalqan.sources import secretariat_source, state_source
from tests.chaos.line import Line

_OBSERVER = "HU"
"""On no roll: no ballot is another for it."""
_BETWEEN_S = 0.1
_AGAIN_AFTER_S = 0.5
_numbers = itertools.count(1)


class Register:
    """Extends the chain on `members` from where it stands. What the broker has, the line remembers as acknowledged."""

    def __init__(self, system: Stack, line: Line, head: Message) -> None:
        self.first_serial = head.data["serial"] + 1
        self._identity = Identity(system.home)
        self._kafka = system.kafka
        self._line = line
        self._serial, self._previous = head.data["serial"], digest(head.event.data)

    async def extend(self, stop: asyncio.Event) -> None:
        """A member's entry, a key, its revocation, over and over until told to stop; nothing waits for admission."""
        key = read_key(self._identity.office_key("secretariat"))
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            while not stop.is_set():
                for name, subject, data in self._round():
                    await self._say(producer, sign(self._event(name, subject, data), key))
                    await asyncio.sleep(_BETWEEN_S)
        finally:
            await producer.stop()

    def _round(self) -> Iterable[tuple[str, str, dict[str, Any]]]:
        network, since = self._identity.network, "2023-01-01T00:00:00Z"
        new, source = Ed25519Key.generate(), state_source(network, _OBSERVER)
        yield "MemberRegistered", _OBSERVER, {
            "state": _OBSERVER, "names": {"en": "Hungary"}, "status": "observer", "from": since, "until": None,
        }  # fmt: skip
        yield "KeyRegistered", new.key_id, {
            "source": source, "key_id": new.key_id, "algorithm": new.algorithm, "public_key": new.public_pem,
            "scopes": ["pledge"], "valid_from": since, "valid_until": None,
            "possession": to_base64(new.sign(possession_claim(network, source, new.key_id))),
        }  # fmt: skip
        yield "KeyRevoked", new.key_id, {"key_id": new.key_id, "reason": "the device was lost"}

    def _event(self, name: str, subject: str, data: Mapping[str, Any]) -> Event:
        return Event(
            id=f"{name}-{os.getpid()}-c{next(_numbers)}",
            source=secretariat_source(self._identity.network),
            type=type_of(name),
            subject=subject,
            time=format_instant(datetime.now(UTC)),
            datacontenttype="application/json",
            data=canonical({"serial": self._serial + 1, "previous": self._previous, **data}),
            extensions={"partitionkey": subject},
        )

    async def _say(self, producer: AIOKafkaProducer, event: Event) -> None:
        """Until the broker has it: the same again is a repetition, and has no second effect."""
        key, value, headers = to_kafka(event)
        while True:
            try:
                put = await producer.send_and_wait(topics.INBOX_GOVERNANCE.name, value, key=key, headers=headers)
            except KafkaError:
                await asyncio.sleep(_AGAIN_AFTER_S)
                continue
            place = (put.topic, put.partition, put.offset, put.timestamp)
            self._line.acknowledged.append(Submission(event.id, event.source, event.type, str(event.subject), *place))
            self._serial, self._previous = self._serial + 1, digest(event.data)
            return

    def stands(self, messages: Iterable[Message]) -> list[Message]:
        """What stands on `members` of it, once each. AssertionError: not all of it, or not in one chain."""
        chain: dict[int, Message] = {}
        for message in messages:
            if message.topic == topics.MEMBERS.name:
                chain.setdefault(message.data["serial"], message)
        assert list(chain) == list(range(1, self._serial + 1))
        for serial in range(2, self._serial + 1):
            assert chain[serial].data["previous"] == digest(chain[serial - 1].event.data)
        return [message for serial, message in chain.items() if serial >= self.first_serial]
