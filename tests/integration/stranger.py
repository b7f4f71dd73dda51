"""A stranger at the inboxes: raw bytes in, and out, with every signature checked, what came of them."""

import asyncio
import contextlib
import gzip
import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

from deploy.local.keys import Identity
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.client import Client, Message
from qalqan.envelope import Event, to_base64, to_kafka
from qalqan.events import type_of
from qalqan.instants import format_instant
from qalqan.jsontext import canonical, digest
from qalqan.registry import possession_claim
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key, SigningKey, sign
from qalqan.sources import secretariat_source, service_source, state_source
from qalqan.topics import Topic, partition_of
from tests.conftest import pledge_data, request_data

PATIENCE_S = 60.0
OWNERS = {
    topics.INBOX_REQUESTS.name: "request",
    topics.INBOX_PLEDGES.name: "pledge",
    topics.INBOX_VOTES.name: "consensus",
    topics.INBOX_GOVERNANCE.name: "secretariat",
}
"""Who judges what is sent to an inbox (CONTRACT "Submissions")."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as it goes to the broker. `partition` None: by the key. `broken_name`: of one more header."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    partition: int | None = None
    broken_name: bytes | None = None

    def to_partition(self) -> int:
        """Where it goes."""
        if self.partition is not None:
            return self.partition
        return partition_of((self.key or b"").decode("utf-8", "replace"), self.topic.partitions)

    def header(self, name: str, content: bytes | None) -> Self:
        """The same with one more header."""
        return replace(self, headers=[*self.headers, (name, content)])

    def without(self, name: str) -> Self:
        """The same without a header."""
        return replace(self, headers=[header for header in self.headers if header[0] != name])

    def size(self) -> int:
        """Bytes of key, value and headers, as CONTRACT "Limits" counts them."""
        headers = sum(len(name.encode()) + len(content or b"") for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker put a record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def raw(event: Event, topic: Topic) -> Raw:
    """The record of an event, in binary mode."""
    key, value, headers = to_kafka(event)
    return Raw(topic, key, value, [*headers])


class _Broken(str):
    """A header's name that is encoded as bytes which are no UTF-8."""

    name: bytes

    def encode(self, *_: object) -> bytes:
        """The bytes."""
        return self.name


def built(records: Sequence[Raw], codec: str | None = None) -> bytes:
    """A record batch of magic 2 (KIP-98)."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, 0, 8 * 1024 * 1024)
    for offset, record in enumerate(records):
        headers = [*record.headers]
        if record.broken_name is not None:
            name = _Broken()
            name.name = record.broken_name
            headers.append((name, b""))
        builder.append(offset, None, record.key, record.value, headers)
    batch = bytes(builder.build())
    return batch if codec is None else _compressed(batch, codec)


def _compressed(batch: bytes, codec: str) -> bytes:
    """The same batch under a codec, its records stored rather than squeezed: every decoder takes that."""
    records = batch[61:]
    size = len(records)
    if codec == "gzip":
        number, packed = 1, gzip.compress(records)
    elif codec == "snappy":
        assert 2**14 > size > 2**7
        length = bytes([size & 127 | 128, size >> 7])
        number, packed = 2, length + bytes([61 << 2]) + (size - 1).to_bytes(2, "little") + records
    elif codec == "lz4":
        header = bytes.fromhex("04224d18604082")
        number, packed = 3, header + (size | 1 << 31).to_bytes(4, "little") + records + bytes(4)
    else:
        header = bytes.fromhex("28b52ffda0") + size.to_bytes(4, "little")
        number, packed = 4, header + (size << 3 | 1).to_bytes(3, "little") + records
    checked = number.to_bytes(2, "big") + batch[23:61] + packed
    checksum = int(calc_crc32c(checked)).to_bytes(4, "big")
    length_field = (61 - 12 + len(packed)).to_bytes(4, "big")
    return batch[:8] + length_field + batch[12:17] + checksum + checked


class Watch:
    """Everything that is published from now on, as a client reads it who believes nobody."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def over(self, client: Client) -> AsyncIterator[Self]:
        """Watches while the block runs."""
        async with client.follow() as feed:
            self._task = asyncio.create_task(self._read(feed), name="watch")
            try:
                yield self
            finally:
                self._task.cancel()

    async def _read(self, feed: AsyncIterator[Message]) -> None:
        async for message in feed:
            self.messages.append(message)
            self._moved.set()

    async def first(self, wanted: Callable[[Message], bool]) -> Message:
        """The first message that is wanted. TimeoutError after a while; Doubtful: not to be believed."""
        assert self._task is not None
        async with asyncio.timeout(PATIENCE_S):
            seen = 0
            while True:
                for message in self.messages[seen:]:
                    if wanted(message):
                        return message
                seen = len(self.messages)
                self._moved.clear()
                moved = asyncio.create_task(self._moved.wait())
                await asyncio.wait({moved, self._task}, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                if self._task.done():
                    self._task.result()


class Stranger:
    """Signs with any key it is given, sends any bytes, and reads what comes of them."""

    def __init__(self, system: Stack, producer: AIOKafkaProducer, client: Client, watch: Watch) -> None:
        self.run = RunInfo.load(system.home / "run.json")
        self.identity = Identity(system.home)
        self.client = client
        self.watch = watch
        self._producer = producer
        self._standing: dict[int, str] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, system: Stack) -> AsyncIterator["Stranger"]:
        """Connects for as long as the block runs."""
        run = RunInfo.load(system.home / "run.json")
        producer = AIOKafkaProducer(bootstrap_servers=run.kafka, acks="all")
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client.connect(run))
            watch = await stack.enter_async_context(Watch().over(client))
            await producer.start()
            stack.push_async_callback(producer.stop)
            yield cls(system, producer, client, watch)

    # --- who says what ---

    @property
    def network(self) -> str:
        """The network's name."""
        return self.run.network

    def state_key(self, state: str) -> Ed25519Key:
        """A state's own key, with all scopes."""
        return _read_key(self.run.key_path(state))

    def service_key(self, service: str) -> Ed25519Key:
        """A service's key, which no stranger has."""
        return _read_key(self.identity.service_key(service))

    def office_key(self, office: str) -> Ed25519Key:
        """The key of the `root` or of the `secretariat`."""
        return _read_key(self.identity.office_key(office))

    def event(self, name: str, data: Mapping[str, Any] | bytes, by: str = "TR", **attributes: Any) -> Event:
        """An event without signature; `by`: a state. Attributes replace what they would be by the data."""
        exact = data if isinstance(data, bytes) else canonical(dict(data))
        of_data = "" if isinstance(data, bytes) else str(data.get("request_id", ""))
        subject = attributes.get("subject", of_data)
        made = Event(
            id=f"{name}-{os.getpid()}-{next(_numbers)}",
            source=state_source(self.network, by),
            type=type_of(name),
            subject=subject,
            time=format_instant(datetime.now(UTC)),
            datacontenttype="application/json",
            data=exact,
            extensions={"partitionkey": subject},
        )
        return replace(made, **attributes)

    def signed(
        self,
        name: str,
        data: Mapping[str, Any] | bytes,
        by: str = "TR",
        key: SigningKey | None = None,
        **attributes: Any,
    ) -> Event:
        """The same, signed with the state's own key or another."""
        return sign(self.event(name, data, by, **attributes), key or self.state_key(by))

    # --- in and out ---

    async def put(self, record: Raw) -> Place:
        """Writes a record and returns once the broker has it."""
        (place,) = await self.put_batch([record])
        return place

    async def put_batch(self, records: Sequence[Raw], codec: str | None = None) -> list[Place]:
        """Writes records of one partition as one batch, compressed if so wished.

        The batch is made by hand: aiokafka's own producer would refuse much of what another's can send.
        """
        topic, partition = records[0].topic, records[0].to_partition()
        batch = self._producer.create_batch()
        batch.close()
        batch._buffer, batch._relative_offset = built(records, codec), len(records)
        done = await (await self._producer.send_batch(batch, topic.name, partition=partition))
        return [Place(topic.name, partition, done.offset + n) for n in range(len(records))]

    async def rejection(self, place: Place) -> Message:
        """The SubmissionRejected about a record."""
        return await self.watch.first(lambda message: _rejects(message, place))

    async def outcome(self, place: Place, event: Event) -> Message:
        """The event on its public topic, or its rejection."""
        return await self.watch.first(lambda message: _admits(message, event) or _rejects(message, place))

    async def admit(self, event: Event, topic: Topic) -> Message:
        """Sends an event and returns it as it was admitted. AssertionError: it was not."""
        message = await self.outcome(await self.put(raw(event, topic)), event)
        assert _admits(message, event), f"{event.type}: {message.data['reason']}: {message.data['detail']}"
        return message

    async def ends(self, topic: Topic) -> dict[TopicPartition, int]:
        """The next offset of each partition of a topic."""
        async with self._consumer() as consumer:
            found: dict[TopicPartition, int] = await consumer.end_offsets(_partitions(topic))
            return found

    async def written_since(self, ends: dict[TopicPartition, int]) -> list[Any]:
        """The records that were written to partitions since `ends`, but for the services' own ticks."""
        async with self._consumer() as consumer:
            now = await consumer.end_offsets(list(ends))
            behind = [tp for tp, end in ends.items() if now[tp] > end]
            consumer.assign(behind)
            for tp in behind:
                consumer.seek(tp, ends[tp])
            found: list[Any] = []
            while any([await consumer.position(tp) < now[tp] for tp in behind]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        return [record for record in found if ("ce_type", b"qalqan.Tick.v1") not in record.headers]

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.run.kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    # --- what is good ---

    def new_request(self, partition: int | None = None, **fields: Any) -> dict[str, Any]:
        """The data of a RequestRaised by TR under an id of its own, in a partition if that matters."""
        while True:
            data = {**request_data(f"TR-2023-S{os.getpid()}-{next(_numbers)}"), **fields}
            if partition in (None, partition_of(data["request_id"])):
                return data

    async def raised(self, partition: int | None = None, **fields: Any) -> str:
        """A request that stands."""
        data = self.new_request(partition, **fields)
        await self.admit(self.signed("RequestRaised", data), topics.INBOX_REQUESTS)
        return str(data["request_id"])

    async def offered(self, request_id: str, pledge_id: str = "AZ-1", **fields: Any) -> str:
        """A pledge that stands, so that the pledge service knows its request."""
        data = pledge_data(request_id, pledge_id, **fields)
        await self.admit(self.signed("PledgeOffered", data, pledge_id.split("-")[0]), topics.INBOX_PLEDGES)
        return pledge_id

    async def stated(self, name: str, request_id: str) -> Message:
        """The first event of a type on a request."""
        return await self.watch.first(lambda it: (it.name, it.event.subject) == (name, request_id))

    async def vote_data(self, request_id: str, state: str = "KZ", **fields: Any) -> dict[str, Any]:
        """An approval of the request's ballot, but for `fields`."""
        opened = (await self.stated("BallotOpened", request_id)).data
        return {
            "request_id": request_id,
            "ballot_id": opened["ballot_id"],
            "round": opened["ballot"]["round"],
            "state": state,
            "sequence": 1,
            "position": "approve",
            **fields,
        }

    async def voted(self, request_id: str, state: str = "KZ", **fields: Any) -> Event:
        """A vote that stands."""
        event = self.signed("VoteCast", await self.vote_data(request_id, state, **fields), state)
        await self.admit(event, topics.INBOX_VOTES)
        return event

    async def register_key(
        self, state: str, scopes: list[str], key: SigningKey | None = None, **fields: Any
    ) -> SigningKey:
        """A new key for a state, registered by the Secretariat."""
        new = key or Ed25519Key.generate()
        await self.admit(await self.registration(state, scopes, new, **fields), topics.INBOX_GOVERNANCE)
        return new

    async def revoke_key(self, key_id: str) -> None:
        """The Secretariat takes a key out of use."""
        await self.admit(await self.revocation(key_id), topics.INBOX_GOVERNANCE)

    async def revocation(self, key_id: str) -> Event:
        """The KeyRevoked that goes on where the chain stands."""
        head = (await self.client.read([topics.MEMBERS]))[-1]
        data = {
            "serial": head.data["serial"] + 1,
            "previous": digest(head.event.data),
            "key_id": key_id,
            "reason": "the device was lost",
        }
        office = secretariat_source(self.network)
        return self.signed("KeyRevoked", data, key=self.office_key("secretariat"), source=office, subject=key_id)

    async def registration(self, state: str, scopes: list[str], key: SigningKey, **fields: Any) -> Event:
        """The KeyRegistered that goes on where the chain stands."""
        head = (await self.client.read([topics.MEMBERS]))[-1]
        source = state_source(self.network, state)
        data = {
            "serial": head.data["serial"] + 1,
            "previous": digest(head.event.data),
            "source": source,
            "key_id": key.key_id,
            "algorithm": key.algorithm,
            "public_key": key.public_pem,
            "scopes": scopes,
            "valid_from": "2023-01-01T00:00:00Z",
            "valid_until": None,
            "possession": to_base64(key.sign(possession_claim(self.network, source, key.key_id))),
            **fields,
        }
        office = secretariat_source(self.network)
        secretariat = self.office_key("secretariat")
        return self.signed("KeyRegistered", data, key=secretariat, source=office, subject=key.key_id)

    async def good(self, topic: str, partition: int) -> None:
        """Something good goes through a partition of an inbox."""
        if topic == topics.INBOX_GOVERNANCE.name:
            await self.register_key("UZ", ["pledge"])
        elif topic == topics.INBOX_REQUESTS.name:
            await self.raised(partition)
        else:
            request_id = await self._standing_request(partition)
            if topic == topics.INBOX_PLEDGES.name:
                await self.offered(request_id, f"AZ-G{next(_numbers)}")
            else:
                await self.voted(request_id, "KG", sequence=next(_numbers), position="abstain")

    async def _standing_request(self, partition: int) -> str:
        if partition not in self._standing:
            self._standing[partition] = await self.raised(partition)
        return self._standing[partition]


def sender(source: str, network: str) -> str:
    """The source of the service that owns an inbox."""
    return service_source(network, OWNERS[source])


def _admits(message: Message, event: Event) -> bool:
    return (message.event.source, message.event.id) == (event.source, event.id)


def _rejects(message: Message, place: Place) -> bool:
    return message.topic == topics.REJECTIONS.name and message.event.subject == str(place)


def _partitions(topic: Topic) -> list[TopicPartition]:
    return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


def _read_key(path: Path) -> Ed25519Key:
    return Ed25519Key.from_pem(path.read_bytes())
