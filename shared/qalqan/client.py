"""The client of a national system: raises, pledges, accepts, votes, reports, and follows what concerns it.

    async with Client.connect(state="KZ") as kz:
        ballot = await kz.ballot("TR-2023-0001")
        await kz.settled(await kz.vote(ballot, "approve"))

It signs what it sends, and checks the signature of what it reads, trusting root.json alone.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import ValidationError

from qalqan import jsontext, topics, trust
from qalqan.access import Access
from qalqan.complaints import complaints
from qalqan.envelope import Event, from_kafka, to_kafka
from qalqan.events import EVENTS, BallotClosed, BallotOpened, SubmissionRejected, type_of
from qalqan.instants import format_instant, from_millis
from qalqan.registry import Registry, Root
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key, SigningKey, sign
from qalqan.sources import state_source
from qalqan.topics import Topic

_POLL_MS = 500
_CLOCK_SKEW_MS = 60_000  # brokers' clocks may differ: a search by time begins this much earlier


class Doubtful(Exception):
    """A record of a public topic not to be believed: somebody other than its one writer can write there.

    `message`, `why`: what it says, and why that is not believed; None: it is no event at all.
    """

    def __init__(self, text: str, message: "Message | None" = None, why: str | None = None) -> None:
        super().__init__(text)
        self.message = message
        self.why = why


class Rejected(Exception):
    """A submission was not admitted: `reason` as in CONTRACT "SubmissionRejected", `detail` for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Submission:
    """Something sent, and where the broker put it (as in `GET /submissions/<topic>/<partition>/<offset>`)."""

    event_id: str
    source: str
    type: str
    request_id: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """A record read from a topic: where it stands, its log time, the event and its data."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    event: Event
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """`VoteCast`, of `qalqan.VoteCast.v1`."""
        kind = EVENTS.get(self.event.type)
        return kind.name if kind else self.event.type

    @property
    def position(self) -> int | None:
        """The event's place among those of its key on this topic, from 1; None where there is no counting."""
        text = self.event.extensions.get("position", "")
        return int(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True, slots=True)
class Ballot:
    """An open ballot: what a vote must name, until when it is in time, and the whole record."""

    request_id: str
    ballot_id: str
    round: int
    deadline: datetime
    record: BallotOpened


class Client:
    """Sends as one state and reads what all may read; without a key it only reads.

    `kafka`: where it is and how to show oneself there; of bootstrap servers alone, without any proof. `verify`: check
    every signature read, by `root` and the topic `members`; a record that fails raises Doubtful.
    """

    def __init__(
        self,
        kafka: Access | str,
        *,
        root: Root,
        key: SigningKey | None = None,
        source: str | None = None,
        verify: bool = True,
    ) -> None:
        self.kafka = kafka if isinstance(kafka, Access) else Access(bootstrap_servers=kafka)
        self.root = root
        self.source = source
        self.verify = verify
        self.registry = Registry(root)
        self._key = key
        self._producer: Any = None
        self._feeds: set[Feed] = set()
        self._refused: dict[int, str] = {}
        self._reading_members = asyncio.Lock()

    @classmethod
    def connect(cls, run: RunInfo | None = None, *, state: str | None = None, verify: bool = True) -> Self:
        """A client of the system that run.json describes, with the development key of `state` if named.

        Where Kafka asks who one is, it is that state, or else a reader.

        NotRunning: no run.json; OSError, ValueError: root.json or the key cannot be read.
        """
        run = run or RunInfo.load()
        root = Root.load(run.root)
        if state is None:
            return cls(run.access(), root=root, verify=verify)
        key = Ed25519Key.from_pem(run.key_path(state).read_bytes())
        return cls(run.access(state), root=root, key=key, source=state_source(root.network, state), verify=verify)

    async def __aenter__(self) -> Self:
        """Connects; KafkaConnectionError when no broker answers."""
        if self._key is not None:
            # The default partitioner is the contract's: murmur2 of the key.
            producer = AIOKafkaProducer(acks="all", enable_idempotence=True, **self.kafka.options())
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self

    async def __aexit__(self, *_: object) -> None:
        for feed in list(self._feeds):
            await feed.stop()
        if self._producer is not None:
            await self._producer.stop()

    # --- what a state says ---

    async def submit(self, name: str, data: Mapping[str, Any], subject: str | None = None) -> Submission:
        """Signs `data` as event `name` and writes it to its inbox; waits until the broker has it.

        `subject` is the request id, and taken from the data when left out. ValueError: not what the contract
        takes, or no key to sign with. Admission is the system's and comes later: see `settled`.
        """
        if self._key is None or self.source is None:
            raise ValueError("this client has no key: it only reads")
        kind = EVENTS[type_of(name)]
        if kind.inbox is None:
            raise ValueError(f"{name} is not submitted: a service states it")
        try:
            kind.model.model_validate(data)
        except ValidationError as error:
            raise ValueError(f"{name}: {'; '.join(complaints(error))}") from error
        request_id = subject or str(data["request_id"])
        event = Event(
            id=str(uuid.uuid4()),
            source=self.source,
            type=kind.type,
            subject=request_id,
            time=format_instant(datetime.now(UTC)),
            datacontenttype="application/json",
            data=jsontext.canonical(dict(data)),
            extensions={"partitionkey": request_id},
        )
        key, value, headers = to_kafka(sign(event, self._key))
        put = await self._producer.send_and_wait(kind.inbox.name, value, key=key, headers=headers)
        return Submission(
            event.id,
            event.source,
            event.type,
            request_id,
            put.topic,
            put.partition,
            put.offset,
            put.timestamp,
        )

    async def anticipate(self, data: Mapping[str, Any]) -> Submission:
        """RequestAnticipated: a request may follow; offers may attach to it already."""
        return await self.submit("RequestAnticipated", data)

    async def raise_request(self, data: Mapping[str, Any]) -> Submission:
        """RequestRaised: the affected state asks for help."""
        return await self.submit("RequestRaised", data)

    async def amend(self, data: Mapping[str, Any]) -> Submission:
        """RequestAmended: the whole new content and its `revision`; a new ballot takes the place of an open one."""
        return await self.submit("RequestAmended", data)

    async def cancel(self, request_id: str, reason: str) -> Submission:
        """RequestCancelled: the request was a mistake or is no longer wanted."""
        return await self.submit("RequestCancelled", {"request_id": request_id, "reason": reason})

    async def close(self, request_id: str, reason: str) -> Submission:
        """RequestClosed: nothing more is needed. (The client itself is closed by leaving `async with`.)"""
        return await self.submit("RequestClosed", {"request_id": request_id, "reason": reason})

    async def pledge(self, data: Mapping[str, Any]) -> Submission:
        """PledgeOffered: this state offers something."""
        return await self.submit("PledgeOffered", data)

    async def revise(self, data: Mapping[str, Any]) -> Submission:
        """PledgeRevised: the whole new offer and its `revision`; what was accepted of the old one is void."""
        return await self.submit("PledgeRevised", data)

    async def withdraw(self, request_id: str, pledge_id: str, reason: str) -> Submission:
        """PledgeWithdrawn: this state takes its offer back."""
        data = {"request_id": request_id, "pledge_id": pledge_id, "reason": reason}
        return await self.submit("PledgeWithdrawn", data)

    async def accept(self, request_id: str, pledge_id: str, quantity: int, revision: int = 1) -> Submission:
        """PledgeAccepted: the affected state takes a quantity of that revision of an offer."""
        data = {"request_id": request_id, "pledge_id": pledge_id, "pledge_revision": revision}
        return await self.submit("PledgeAccepted", data | {"quantity": quantity})

    async def decline(self, request_id: str, pledge_id: str, reason: str, revision: int = 1) -> Submission:
        """PledgeDeclined: the affected state does not take that revision of an offer."""
        data = {
            "request_id": request_id,
            "pledge_id": pledge_id,
            "pledge_revision": revision,
            "reason": reason,
        }
        return await self.submit("PledgeDeclined", data)

    async def vote(self, ballot: Ballot, position: str, *, sequence: int = 1, **texts: str) -> Submission:
        """VoteCast: this state's position on a ballot; a correction takes a higher `sequence`.

        `texts`: `reason` (an objection needs it), `declaration` (a constructive abstention needs it),
        `reservation`.
        """
        data = {
            "request_id": ballot.request_id,
            "ballot_id": ballot.ballot_id,
            "round": ballot.round,
            "state": (self.source or "").rpartition("/")[2],
            "sequence": sequence,
            "position": position,
        }
        return await self.submit("VoteCast", data | texts)

    async def commit(self, request_id: str, pledge_id: str, quantity: int, at: str, **more: Any) -> Submission:
        """ResourceCommitted: this state's own go. `at`: instant; `more`: `place`, `line_id`."""
        return await self._report("ResourceCommitted", request_id, pledge_id, quantity, at, more)

    async def depart(self, request_id: str, pledge_id: str, quantity: int, at: str, **more: Any) -> Submission:
        """ResourceDeparted, as `commit`."""
        return await self._report("ResourceDeparted", request_id, pledge_id, quantity, at, more)

    async def arrive(self, request_id: str, pledge_id: str, quantity: int, at: str, **more: Any) -> Submission:
        """ResourceArrived, as `commit`; also the affected state's to say."""
        return await self._report("ResourceArrived", request_id, pledge_id, quantity, at, more)

    async def release(self, request_id: str, pledge_id: str, quantity: int, at: str, **more: Any) -> Submission:
        """ResourceReleased, as `arrive`."""
        return await self._report("ResourceReleased", request_id, pledge_id, quantity, at, more)

    async def _report(
        self, name: str, request_id: str, pledge_id: str, quantity: int, at: str, more: Mapping[str, Any]
    ) -> Submission:
        data = {"request_id": request_id, "pledge_id": pledge_id, "quantity": quantity, "at": at}
        return await self.submit(name, data | dict(more))

    # --- what a state reads ---

    def consumer(self) -> Any:
        """A consumer of aiokafka for this client's broker, outside any group and not started."""
        return AIOKafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=topics.REQUESTS.max_message_bytes,
            **self.kafka.options(),
        )

    def follow(
        self,
        of: Iterable[Topic | str] | str = topics.PUBLIC,
        *,
        request_id: str | None = None,
        from_beginning: bool = False,
        since_ms: int | None = None,
    ) -> "Feed":
        """What stands on these topics (all public ones), of one request or of all: live, nothing twice.

        `of` may be a request id instead. From now on, from the beginning, or from a log time on. Iterate it
        with `async for`; opened with `async with` it misses nothing from then on.
        """
        chosen: Iterable[Topic | str]
        if isinstance(of, str):
            request_id, chosen = (request_id, [of]) if of in topics.BY_NAME else (of, topics.REQUEST_TOPICS)
        else:
            chosen = of
        named = [topics.BY_NAME[topic] if isinstance(topic, str) else topic for topic in chosen]
        return Feed(self, _partitions(named, request_id), key=request_id, beginning=from_beginning, since_ms=since_ms)

    async def read(self, of: Iterable[Topic], request_id: str | None = None) -> list[Message]:
        """All that stands on these topics now, as it stands: repetitions too, and no signature checked.

        With a request id: of its partitions whole, since a chain of certificates spans the requests of a
        partition.
        """
        async with Feed(self, _partitions(list(of), request_id), beginning=True, raw=True) as feed:
            return [message async for message in feed.present()]

    async def ballot(self, request_id: str) -> Ballot:
        """The ballot that is open on a request; waits until there is one."""
        latest: Message | None = None
        async with self.follow([topics.DECISIONS], request_id=request_id, from_beginning=True) as feed:
            async for message in feed.present():
                if message.name == "BallotOpened":
                    latest = message
                elif is_closing(message):
                    latest = None
            while latest is None:
                message = await anext(feed)
                latest = message if message.name == "BallotOpened" else None
        return ballot_of(latest)

    async def settled(self, submission: Submission) -> Message:
        """Waits until the system has admitted the submission; gives it as it stands on its public topic.

        Rejected: it was not admitted.
        """
        public = EVENTS[submission.type].topic
        assert public is not None
        since_ms = max(0, submission.timestamp_ms - _CLOCK_SKEW_MS)
        partitions = _partitions([public], submission.request_id) + _partitions([topics.REJECTIONS], None)
        async with Feed(self, partitions, since_ms=since_ms) as feed:
            async for message in feed:
                if admits(message, submission):
                    return message
                if rejects(message, submission):
                    raise Rejected(message.data["reason"], message.data["detail"])
        raise AssertionError("a feed has no end")

    async def doubt(self, message: Message) -> str | None:
        """Why a public record is not to be believed; None: it is. Reads on in `members` as needed."""
        if message.topic == topics.MEMBERS.name:
            await self._read_members(message.offset + 1)
            return self._refused.get(message.offset)
        judged_by = message.event.extensions.get("membersoffset", "")
        await self._read_members(int(judged_by) if judged_by.isdigit() else 0)
        appended_at = from_millis(message.timestamp_ms)
        why = trust.doubt(message.event, message.topic, appended_at, self.registry)
        if why == trust.UNKNOWN_KEY:
            await self._read_members(None)
            why = trust.doubt(message.event, message.topic, appended_at, self.registry)
        return why

    async def _read_members(self, until: int | None) -> None:
        """Folds `members` up to this next offset; up to its present end, if None."""
        async with self._reading_members:
            if until is not None and self.registry.next_offset >= until:
                return
            partitions = _partitions([topics.MEMBERS], None)
            async with Feed(self, partitions, offset=self.registry.next_offset, raw=True) as feed:
                while True:
                    try:
                        async for message in feed.present():
                            self._fold_member(message)
                        break
                    except Doubtful:
                        continue  # no event at all: it changes nothing, as for every service
                self.registry.next_offset = max(self.registry.next_offset, *feed._ends.values())

    def _fold_member(self, message: Message) -> None:
        if (why := self.registry.take(message.offset, message.event)) is not None:
            self._refused[message.offset] = why


class Feed:
    """Records of some partitions, in the order of each: an async iterator without an end.

    It drops repetitions (a `position` not above the last of its topic and key) and, unless the client does
    not verify, raises Doubtful at what is not to be believed. `raw`: neither.
    """

    def __init__(
        self,
        client: Client,
        partitions: list[TopicPartition],
        *,
        key: str | None = None,
        beginning: bool = False,
        since_ms: int | None = None,
        offset: int | None = None,
        raw: bool = False,
    ) -> None:
        self._client = client
        self._partitions = partitions
        self._key = key
        self._beginning = beginning
        self._since_ms = since_ms
        self._offset = offset
        self._raw = raw
        self._consumer: Any = None
        self._ready: deque[Any] = deque()
        """Kafka's records, not yet given to the caller."""
        self._ends: dict[TopicPartition, int] = {}
        self._positions: dict[tuple[str, str | None], int] = {}

    async def __aenter__(self) -> Self:
        """Connects and fixes where reading begins."""
        if self._consumer is None:
            self._consumer = self._client.consumer()
            self._client._feeds.add(self)
            try:
                await self._open()
            except BaseException:
                await self.stop()
                raise
        return self

    async def _open(self) -> None:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        self._ends = await self._consumer.end_offsets(self._partitions)
        for partition, start in (await self._starts()).items():
            self._consumer.seek(partition, start)

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Disconnects; the client does it for every feed when it is left."""
        self._client._feeds.discard(self)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            # While a broker is away, aiokafka's stop raises what its fetches met, their cancellation too.
            await asyncio.gather(consumer.stop(), return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        await self.__aenter__()
        while True:
            if not self._ready:
                await self._poll()
            message = await self._take()
            if message is not None:
                return message

    async def present(self) -> AsyncIterator[Message]:
        """What stood there when the feed was opened, perhaps a little more; the feed itself may go on."""
        await self.__aenter__()
        while self._ready or not await self._caught_up():
            if not self._ready:
                await self._poll()
            message = await self._take()
            if message is not None:
                yield message

    async def _starts(self) -> dict[TopicPartition, int]:
        if self._offset is not None:
            return dict.fromkeys(self._partitions, self._offset)
        if self._beginning:
            return dict(await self._consumer.beginning_offsets(self._partitions))
        if self._since_ms is None:
            return self._ends
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, self._since_ms))
        return {tp: self._ends[tp] if at is None else at.offset for tp, at in found.items()}

    async def _caught_up(self) -> bool:
        for partition, end in self._ends.items():
            if await self._consumer.position(partition) < end:
                return False
        return True

    async def _poll(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).values():
            self._ready.extend(record for record in records if self._wants(record))

    def _wants(self, record: Any) -> bool:
        """Whether it is of the request that is asked for; what has no request for its key always is."""
        keyed = topics.BY_NAME[record.topic] in topics.REQUEST_TOPICS
        return self._key is None or not keyed or bool(record.key == self._key.encode())

    async def _take(self) -> Message | None:
        """The next message that is ready; None: there is none, or it is a repetition.

        A record leaves the queue at the very end: a caller's time limit loses none. A doubtful one is passed.
        """
        if not self._ready:
            return None
        record = self._ready[0]
        try:
            message = _message(record)
            why = await self._client.doubt(message) if self._client.verify and not self._raw else None
        except Doubtful:
            self._ready.popleft()
            raise
        self._ready.popleft()
        if why is not None:
            place = f"{message.topic}/{message.partition}/{message.offset}"
            raise Doubtful(f"{place}: {message.name}: {why}", message, why)
        if self._raw or message.position is None:
            return message
        counted = (message.topic, message.event.subject)
        if message.position <= self._positions.get(counted, 0):
            return None
        self._positions[counted] = message.position
        return message


def ballot_of(message: Message) -> Ballot:
    """The ballot that a BallotOpened states."""
    opened = BallotOpened.model_validate(message.data)
    return Ballot(opened.request_id, opened.ballot_id, opened.ballot.round, opened.ballot.deadline, opened)


def is_closing(message: Message) -> bool:
    """Whether this is one of the events that close a ballot."""
    kind = EVENTS.get(message.event.type)
    return kind is not None and issubclass(kind.model, BallotClosed)


def admits(message: Message, submission: Submission) -> bool:
    """Whether this is the submission on its public topic."""
    return (message.event.source, message.event.id) == (submission.source, submission.event_id)


def rejects(message: Message, submission: Submission) -> bool:
    """Whether this is the SubmissionRejected about the submission."""
    place = (message.data.get("source_topic"), message.data.get("partition"), message.data.get("offset"))
    return message.name == SubmissionRejected.__name__ and place == (
        submission.topic,
        submission.partition,
        submission.offset,
    )


def _partitions(of: list[Topic], request_id: str | None) -> list[TopicPartition]:
    """All partitions of these topics, or of those keyed by request the one that the request is in."""
    found = []
    for topic in of:
        one = request_id is not None and topic in topics.REQUEST_TOPICS
        numbers = [topics.partition_of(request_id or "", topic.partitions)] if one else range(topic.partitions)
        found += [TopicPartition(topic.name, number) for number in numbers]
    return found


def _message(record: Any) -> Message:
    """A Kafka record of a public topic as a Message. Doubtful: it is no event of the contract."""
    where = f"{record.topic}/{record.partition}/{record.offset}"
    try:
        event = from_kafka(record.key, record.headers, record.value)
        # A certificate carries whole events in base64: longer texts than a submission's data may have.
        data = jsontext.parse(event.data, max_string=None)
    except ValueError as error:
        raise Doubtful(f"{where}: {error}") from error
    return Message(record.topic, record.partition, record.offset, record.timestamp, event, data)
