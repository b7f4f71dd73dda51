"""From a fact to the record on its public topic (CONTRACT "Envelope")."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from chassis.bus import Outgoing
from chassis.facts import Fact, Incoming
from chassis.traces import Traces
from qalqan.envelope import Event, from_kafka, to_kafka
from qalqan.events import EVENTS, EventType, type_of
from qalqan.instants import format_instant
from qalqan.signing import SigningKey, sign
from qalqan.topics import REQUEST_TOPICS, Topic, partition_of

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:qalqan:event")
_KEPT = ("correlationid", "traceparent")
"""Extensions of a submission that stay on the public topic."""
_SEAL = "ce_dssematerial"
_SEAL_BYTES = 600
"""More than a signature's header takes."""


def event_type(fact: Fact) -> EventType:
    """The entry of the event table behind a fact."""
    return EVENTS[type_of(type(fact.data).__name__)]


def format_followed(next_offsets: Mapping[str, int]) -> str:
    """`requests:12,decisions:7`: the extension `followed`."""
    return ",".join(f"{topic}:{offset}" for topic, offset in next_offsets.items())


def parse_followed(text: str) -> dict[str, int]:
    """What `format_followed` made. ValueError: it did not make this."""
    places = (place.rpartition(":") for place in text.split(",") if place)
    return {topic: int(offset) for topic, _, offset in places}


def public_topic(fact: Fact) -> Topic:
    """The public topic a fact stands on."""
    topic = event_type(fact).topic
    assert topic is not None, f"{type(fact.data).__name__} stands on no topic"
    return topic


class Publisher:
    """Makes public records: forwards what a state signed byte for byte, signs what this service states.

    What it states is stored unsigned (`record`) and signed on its way out (`sealed`): that takes a while, for which the
    commit need not wait, and an event is the same whenever it is signed, for its id and its core are.
    """

    def __init__(self, source: str, key: SigningKey, traces: Traces | None = None) -> None:
        self._source = source
        self._key = key
        self._traces = traces

    def record(
        self,
        fact: Fact,
        subject: str,
        *,
        mode: str | None,
        position: int | None,
        step: int,
        now: datetime,
        members_offset: int,
        cause: Incoming | None,
        ordinal: int = 0,
        followed: Mapping[str, int] | None = None,
    ) -> Outgoing:
        """The record of a fact, not sealed. `position` and `mode`: only on the topics of a request.

        `ordinal`: its place in the transaction `step`; `followed`: the next offset of each public topic that its lane
        follows. By these a rebuild folds in the order of the line (`chassis.rebuild`).
        """
        topic = public_topic(fact)
        event = fact.event or self._statement(fact, subject, now)
        extensions = {name: event.extensions[name] for name in _KEPT if name in event.extensions}
        extensions["partitionkey"] = subject
        extensions["step"] = str(step)
        if ordinal:
            extensions["ordinal"] = str(ordinal)
        if followed:
            extensions["followed"] = format_followed(followed)
        extensions["membersoffset"] = str(members_offset)
        if fact.recorded_at is not None:
            extensions["recordedtime"] = format_instant(fact.recorded_at)
        if topic in REQUEST_TOPICS:
            assert mode is not None
            assert position is not None
            extensions["mode"] = mode
            extensions["position"] = f"{position:010d}"
        if fact.event is None and cause is not None:
            extensions["causationid"] = cause.event.id
            for name in _KEPT:
                if name in cause.event.extensions:
                    extensions[name] = cause.event.extensions[name]
        if self._traces is not None and fact.event is None and "traceparent" not in extensions:
            # A state's own event stays as it came; this one is ours.
            ours = self._traces.traceparent_of_event(topic.name, event.source, event.id, subject)
            extensions |= {} if ours is None else {"traceparent": ours}
        key, value, headers = to_kafka(replace(event, extensions=extensions))
        size = len(key) + len(value) + sum(len(name) + len(content) for name, content in headers) + _SEAL_BYTES
        if size > topic.max_message_bytes:
            # Said before the commit: what the broker will never take must not be promised.
            raise ValueError(f"{type(fact.data).__name__} of {subject} has {size} bytes of {topic.max_message_bytes}")
        return Outgoing(topic.name, partition_of(subject, topic.partitions), key, value, headers)

    def sealed(self, record: Outgoing) -> Outgoing:
        """The record with this service's signature, if it is this service's own word and has none yet."""
        headers = dict(record.headers)
        if _SEAL in headers or headers.get("ce_source") != self._source.encode():
            return record
        signed = sign(from_kafka(record.key, record.headers, record.value), self._key)
        assert signed.dssematerial is not None
        return replace(record, headers=[*record.headers, (_SEAL, signed.dssematerial.encode())])

    def _statement(self, fact: Fact, subject: str, now: datetime) -> Event:
        """What this service states; its id is derived from what it states, so that a repetition is the same."""
        data = fact.data.to_json()
        kind = event_type(fact)
        name = "\n".join((self._source, kind.type, subject, hashlib.sha256(data).hexdigest()))
        return Event(
            id=str(uuid.uuid5(_NAMESPACE, name)),
            source=self._source,
            type=kind.type,
            subject=subject,
            time=format_instant(now),
            datacontenttype="application/json",
            data=data,
        )
