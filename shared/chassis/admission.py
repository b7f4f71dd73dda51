"""Which submissions are admitted: the contract's checks, in the contract's order (CONTRACT
"SubmissionRejected").

Cheap things first (size, envelope, network, key), signatures next, data last; the state of things is each
domain's.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from chassis.bus import record_size
from chassis.facts import Incoming, Refused
from qalqan import jsontext, trust
from qalqan.complaints import complaints, shown
from qalqan.envelope import BadEnvelope, Event, from_kafka
from qalqan.events import EVENTS, TICK, EventType, KeyRegistered, KeyRevoked, MemberRegistered
from qalqan.fields import Model
from qalqan.instants import from_millis, parse_instant
from qalqan.registry import RegisteredKey, Registry
from qalqan.signing import BadSignature, Material, read_material, verify
from qalqan.sources import Source, root_source, secretariat_source
from qalqan.topics import RECORD_LIMIT_BYTES, REQUESTS, Topic, partition_of

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
Headers: TypeAlias = Sequence[tuple[str, bytes]]

_FINDINGS = 8
FIRST_POSITION = "0000000001"
_POSITION = re.compile(r"(?!0{10})[0-9]{10}")
_NETWORK = re.compile(r"qalqan://([^/]*)/")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who said what: the same core again is a repetition, another core under the same id an accusation."""

    source: str
    id: str
    core: bytes


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a record: `incoming`, or `refused`.

    `identity`: set when the record passed every check up to `key-scope`, whatever came of it after.
    `members_offset`: the next offset of `members` when it was judged.
    """

    incoming: Incoming | None
    refused: Refused | None
    identity: Identity | None
    members_offset: int
    envelope: Event | None = None


class Admission:
    """The checks of one service's inbox."""

    def __init__(self, inbox: Topic, registry: Registry, own_source: str) -> None:
        self._inbox = inbox
        self._registry = registry
        self._own_source = own_source

    def judge(self, record: Record, now: datetime) -> Judgement:
        """All checks that need no state.

        `now`: the log time at which the record is judged (its key's window).
        """
        offset = self._registry.next_offset
        event: Event | None = None
        identity: Identity | None = None
        try:
            if record_size(record) > RECORD_LIMIT_BYTES:
                raise Refused("too-large", f"the record has {record_size(record)} bytes of {RECORD_LIMIT_BYTES}")
            event, material = _open(record)
            kind = self._address(event, record)
            self._authenticate(event, material, kind, now)
            assert material.core is not None, "its signature was checked"
            identity = Identity(event.source, event.id, material.core)
            incoming = Incoming(
                record.topic,
                record.partition,
                record.offset,
                now,
                event,
                kind,
                read_data(event, kind),
                _source(event),
            )
            return Judgement(incoming, None, identity, offset, event)
        except Refused as refused:
            return Judgement(None, refused, identity, offset, event)

    def _address(self, event: Event, record: Record) -> EventType:
        """Network, type, key and partition."""
        network = _NETWORK.match(event.source)
        if network is None or network[1] != self._registry.network:
            raise Refused("wrong-network", f"source {shown(event.source)} is not of network {self._registry.network!r}")
        # A tick is the service's own; from anybody else it is a type like any other that the contract does
        # not know.
        is_tick = event.type == TICK.type and event.source == self._own_source
        kind = TICK if is_tick else EVENTS.get(event.type)
        if kind is None or (kind is not TICK and kind.inbox != self._inbox):
            raise Refused("wrong-type", f"type {shown(event.type)} is not taken on {self._inbox.name}")
        key = event.subject
        assert key is not None, "an envelope has a subject"
        for what, value in (
            ("record's key", record.key or b""),
            ("partitionkey", event.extensions.get("partitionkey", key).encode()),
        ):
            if value != key.encode():
                raise Refused(
                    "key-mismatch",
                    f"the {what} {shown(value.decode(errors='replace'))} is unlike the subject {shown(key)}",
                )
        expected = partition_of(key, self._inbox.partitions)
        if record.partition != expected:
            raise Refused(
                "wrong-partition",
                f"key {shown(key)} belongs to partition {expected} (murmur2), not {record.partition}",
            )
        return kind

    def _authenticate(self, event: Event, material: Material, kind: EventType, now: datetime) -> None:
        """Key, source, window, signature, scope."""
        key = self._root_key(material.key_id, event) or self._registry.key(material.key_id)
        if key is None:
            raise Refused("unknown-key", f"key {material.key_id} is not registered")
        if key.source != event.source:
            raise Refused("foreign-source", f"key {key.key_id} is of {key.source}, not of {shown(event.source)}")
        if key.revoked_at is not None:
            raise Refused("key-not-valid", f"key {key.key_id} was revoked")
        if not key.valid_at(now):
            raise Refused("key-not-valid", f"key {key.key_id} is not valid at {now.isoformat()}")
        _check_signature(event, material, key)
        self._check_scope(event, kind, key)

    def _root_key(self, key_id: str, event: Event) -> RegisteredKey | None:
        """The root key of that id, in the form of a registered one: root.json is its registration."""
        root = self._registry.root
        public_key = root.public_key(key_id)
        if public_key is None:
            return None
        known = next(key for key in root.keys if key.key_id == key_id)
        source = root_source(root.network)
        return RegisteredKey(source, key_id, public_key, frozenset(), known.valid_from, known.valid_until, event)

    def _check_scope(self, event: Event, kind: EventType, key: RegisteredKey) -> None:
        if kind is TICK:
            allowed = event.source == self._own_source
        elif event.source == root_source(self._registry.network):
            allowed = kind.model in (KeyRegistered, KeyRevoked)  # of the Secretariat: the domain sees to that
        elif kind.signer == "secretariat":
            allowed = event.source == secretariat_source(self._registry.network)
        else:
            allowed = kind.scope in key.scopes and _source(event).kind == "state"
        if not allowed:
            raise Refused("key-scope", f"key {key.key_id} may not sign {kind.name} (it may: {sorted(key.scopes)})")


def _open(record: Record) -> tuple[Event, Material]:
    try:
        event = from_kafka(record.key, record.headers, record.value)
        return event, read_material(event)
    except BadEnvelope as error:
        raise Refused("bad-envelope", str(error)) from error


def _check_signature(event: Event, material: Material, key: RegisteredKey) -> None:
    try:
        verify(event, material, key.public_key)
    except BadSignature as error:
        raise Refused("bad-signature", str(error)) from error


def _source(event: Event) -> Source:
    source = Source.parse(event.source)
    if source is None:
        raise Refused("foreign-source", f"source {shown(event.source)} is nobody's")
    return source


def read_data(event: Event, kind: EventType) -> Model:
    """The data of an event as its model. Refused `bad-data`: what and where."""
    try:
        raw = jsontext.parse(event.data)
    except ValueError as error:
        raise Refused("bad-data", str(error)) from error
    try:
        data = kind.model.model_validate(raw)
    except ValidationError as error:
        raise Refused("bad-data", _in_words(error)) from error
    _check_names(event, kind, raw, data)
    return data


def _check_names(event: Event, kind: EventType, raw: Mapping[str, Any], data: Model) -> None:
    """The subject, the acting state and the prefix of a new id must be the source's own."""
    subject = _subject_of(data, raw)
    if subject is not None and subject != event.subject:
        raise Refused("bad-data", f"the data is about {subject!r}, the subject is {event.subject!r}")
    if kind.signer != "state":
        return
    state = _source(event).name
    if kind.actor is not None and raw[kind.actor] != state:
        raise Refused("bad-data", f"{kind.actor}: {raw[kind.actor]!r} is not the source's state {state!r}")
    if kind.mints is not None and not raw[kind.mints].startswith(f"{state}-"):
        raise Refused("bad-data", f"{kind.mints}: {raw[kind.mints]!r} does not begin with '{state}-'")


def _subject_of(data: Model, raw: Mapping[str, Any]) -> str | None:
    if isinstance(data, MemberRegistered):
        return data.state
    if isinstance(data, KeyRegistered | KeyRevoked):
        return data.key_id
    subject: str | None = raw.get("request_id")
    return subject


def _in_words(error: ValidationError) -> str:
    """pydantic's findings as one sentence, bounded: where, and what."""
    found = list(complaints(error))
    more = [f"and {len(found) - _FINDINGS} more"] if len(found) > _FINDINGS else []
    return "; ".join([*found[:_FINDINGS], *more])


class Doubtful(Exception):
    """A record of a public topic that its one writer did not write there: it is passed over, and said loudly."""


def read_public(record: Record, registry: Registry) -> Incoming:
    """A record of a public topic, believed by its signature alone: who may write there is Kafka's to enforce, what is
    acted on is ours. Doubtful: why not (`trust.UNKNOWN_KEY`: perhaps only not known yet)."""
    try:
        event = from_kafka(record.key, record.headers, record.value)
    except BadEnvelope as error:
        raise Doubtful(f"{type(error).__name__}: {error}") from error
    appended_at = from_millis(record.timestamp)
    return believed(event, record.topic, record.partition, record.offset, record.key, appended_at, registry)


def believed(
    event: Event,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    appended_at: datetime,
    registry: Registry,
) -> Incoming:
    """The same of an event that was read before. Doubtful."""
    try:
        kind = EVENTS[event.type]
        why = _misplaced(event, partition, key) or trust.doubt(event, topic, appended_at, registry)
        if why is not None:
            raise Doubtful(why)
        source = _source(event)
        if topic == REQUESTS.name and (why := _unlike_a_request(event, kind, source)) is not None:
            raise Doubtful(why)
        # A state may sign anything, also what no inbox takes; a service's certificates are beyond an inbox's limits.
        by_state = source.kind == "state"
        data = read_data(event, kind) if by_state else kind.model.model_validate_json(event.data)
        recorded = event.extensions.get("recordedtime")
        recorded_at = parse_instant(recorded) if recorded else appended_at
    except Refused as refused:
        raise Doubtful(f"{refused.reason}: {refused.detail}") from refused
    except (KeyError, ValueError) as error:
        raise Doubtful(f"{type(error).__name__}: {error}") from error
    return Incoming(topic, partition, offset, recorded_at, event, kind, data, source)


def _misplaced(event: Event, partition: int, key: bytes | None) -> str | None:
    """What the writer of a topic of a request never gets wrong, and no signature covers: key, partition, position."""
    subject = event.subject or ""
    if (key or b"") != subject.encode():
        return f"the record's key is unlike the subject {shown(subject)}"
    if partition != partition_of(subject):
        return f"{shown(subject)} does not belong on partition {partition}"
    position = event.extensions.get("position", "")
    return None if _POSITION.fullmatch(position) else f"position: {shown(position)} is none"


def _unlike_a_request(event: Event, kind: EventType, source: Source) -> str | None:
    """The first word of a request raises it, and every word of it is the affected state's, whose code begins its id."""
    if not (event.subject or "").startswith(f"{source.name}-"):
        return f"{shown(event.subject or '')} is no request of {source.name}"
    if event.extensions["position"] == FIRST_POSITION and kind.mints is None:
        return f"{kind.name} begins no request"
    return None


def record_of(
    topic: str, partition: int, offset: int, timestamp_ms: int, key: bytes, value: bytes, headers: Headers
) -> Record:
    """A record as a consumer would hand it over: of what came by HTTP, or waited in the database."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp_ms,
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key),
        serialized_value_size=len(value),
        headers=tuple(headers),
    )


def original_base64(record: Record) -> str:
    """The whole record, for `rejections`: invalid bytes of a header's name as U+FFFD (CONTRACT
    "SubmissionRejected")."""

    def encoded(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name, _ in record.headers]
    whole = {
        "key": encoded(record.key),
        "headers": [[name, encoded(value)] for name, (_, value) in zip(names, record.headers, strict=True)],
        "value": encoded(record.value),
    }
    return base64.b64encode(json.dumps(whole, ensure_ascii=False).encode()).decode()
