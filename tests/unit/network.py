"""A network with real keys and its registry, for tests that sign: as `tests.unit.builders`, but everything
verifies.

network = Network()                                  five members, Hungary observing
network.incoming(example(VoteCast), by="KZ")         as `builders.incoming`, signed with KZ's own key
network.record(network.event(example(VoteCast)))     the bytes of it, as Kafka hands them over
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from aiokafka import ConsumerRecord

from chassis.admission import Record
from chassis.bus import Outgoing
from chassis.facts import Incoming
from chassis.publication import Publisher
from qalqan.envelope import Event, from_kafka, to_base64, to_kafka
from qalqan.events import EVENTS, KeyRegistered, MemberRegistered
from qalqan.fields import Model
from qalqan.instants import to_millis
from qalqan.jsontext import digest as digest_of_bytes
from qalqan.registry import Registry, Root, possession_claim
from qalqan.signing import Ed25519Key, SigningKey
from qalqan.sources import Source, root_source, secretariat_source, service_source, state_source
from qalqan.topics import Topic, partition_of
from tests.unit import builders
from tests.unit.builders import NETWORK, T0

MEMBERS = ("AZ", "KG", "KZ", "TR", "UZ")
OBSERVERS = ("HU",)
SERVICES = ("request", "pledge", "consensus", "notify", "secretariat")
SCOPES = ["request", "pledge", "accept", "vote", "track", "consent"]
SECRETARIAT = secretariat_source(NETWORK)
ROOT = root_source(NETWORK)

_KEY_CACHE: dict[str, Ed25519Key] = {}


def key_of(source: str) -> Ed25519Key:
    """The one key of a source that all networks of a test run share: made once, used often."""
    return _KEY_CACHE.setdefault(source, Ed25519Key.generate())


class Network:
    """Members, keys and their registry; `keys` by source."""

    def __init__(
        self, members: Iterable[str] = MEMBERS, observers: Iterable[str] = OBSERVERS, empty: bool = False
    ) -> None:
        self.keys: dict[str, SigningKey] = {ROOT: key_of(ROOT)}
        self.serial = 0
        self.previous: str | None = None
        self.root = root_with(self.keys[ROOT])
        self.registry = Registry(self.root)
        if empty:
            return
        self.register_key(SECRETARIAT)
        for service in SERVICES:
            self.register_key(service_source(NETWORK, service))
        for state in (*members, *observers):
            self.register_key(state_source(NETWORK, state))
        for state in members:
            self.register_member(state)
        for state in observers:
            self.register_member(state, status="observer")

    # --- registrations -------------------------------------------------------------------------------------

    def key_data(self, source: str, key: SigningKey, **changes: object) -> dict[str, Any]:
        """Data of the next KeyRegistered."""
        possession = key.sign(possession_claim(NETWORK, source, key.key_id))
        return {
            "serial": self.serial + 1,
            "previous": self.previous,
            "source": source,
            "key_id": key.key_id,
            "algorithm": key.algorithm,
            "public_key": key.public_pem,
            "scopes": SCOPES if "/states/" in source else [],
            "valid_from": "2022-01-01T00:00:00Z",
            "valid_until": None,
            "possession": to_base64(possession),
            **changes,
        }

    def member_data(self, state: str, **changes: object) -> dict[str, Any]:
        """Data of the next MemberRegistered."""
        return {
            "serial": self.serial + 1,
            "previous": self.previous,
            "state": state,
            "names": {"en": state},
            "status": "member",
            "from": "2022-01-01T00:00:00Z",
            "until": None,
            **changes,
        }

    def registration(self, data: Model, by: str | None = None) -> Event:
        """A registration as it would be submitted: signed, not applied."""
        return self.event(data, by=by)

    def apply(self, event: Event) -> Event:
        """The next event of `members`: the chain and the registry go on."""
        self.registry.apply(event)
        self.registry.next_offset += 1
        self.serial += 1
        self.previous = digest_of_bytes(event.data)
        return event

    def register_key(self, source: str, key: SigningKey | None = None, **changes: object) -> Event:
        """Registers a key, and makes it the one that `source` signs with."""
        key = key or key_of(source)
        data = KeyRegistered.model_validate(self.key_data(source, key, **changes))
        event = self.apply(self.registration(data))
        self.keys[source] = key
        return event

    def register_member(self, state: str, **changes: object) -> Event:
        """Registers a state."""
        return self.apply(self.registration(MemberRegistered.model_validate(self.member_data(state, **changes))))

    # --- events --------------------------------------------------------------------------------------------

    def event(self, data: Model, *, by: str | None = None, key: SigningKey | None = None, **more: Any) -> Event:
        """As `builders.event`, signed by whose word it is (or with `key`)."""
        source = builders.event(data, by=by).source
        return builders.event(data, by=by, key=key or self.keys[source], **more)

    def incoming(self, data: Model, *, by: str | None = None, key: SigningKey | None = None, **more: Any) -> Incoming:
        """As `builders.incoming`, signed by whose word it is (or with `key`)."""
        source = builders.event(data, by=by).source
        return builders.incoming(data, by=by, key=key or self.keys[source], **more)

    def record(self, event: Event, offset: int = 0, at: datetime = T0, topic: Topic | None = None) -> Record:
        """The record of an event in its inbox (or `topic`), on the partition of its key."""
        key, value, headers = to_kafka(event)
        read_from = topic or EVENTS[event.type].inbox
        assert read_from is not None
        return record(
            read_from.name,
            partition_of(key.decode(), read_from.partitions),
            offset,
            at,
            key,
            value,
            tuple(headers),
        )


def root_with(key: SigningKey, **changes: object) -> Root:
    """A root.json of one key."""
    entry: Mapping[str, object] = {
        "key_id": key.key_id,
        "algorithm": key.algorithm,
        "public_key": key.public_pem,
        "valid_from": "2022-01-01T00:00:00Z",
        "valid_until": None,
        **changes,
    }
    return Root.model_validate({"network": NETWORK, "keys": [entry]})


def record(
    topic: str,
    partition: int,
    offset: int,
    at: datetime,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
) -> Record:
    """A record as aiokafka hands it over, appended at `at`."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=to_millis(at),
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=headers,
    )


def published(outgoing: Outgoing, offset: int = 0, at: datetime = T0) -> Record:
    """A record that a service made, as its readers get it."""
    outgoing = sealed(outgoing)
    return record(outgoing.topic, outgoing.partition, offset, at, outgoing.key, outgoing.value, tuple(outgoing.headers))


def event_of(outgoing: Outgoing) -> Event:
    """The event in a record that a service made."""
    outgoing = sealed(outgoing)
    return from_kafka(outgoing.key, outgoing.headers, outgoing.value)


def sealed(outgoing: Outgoing) -> Outgoing:
    """A record with the signature of the service that made it."""
    source = dict(outgoing.headers)["ce_source"].decode()
    return Publisher(source, key_of(source)).sealed(outgoing)


def source_of(event: Event) -> Source:
    """Whose word an event is."""
    source = Source.parse(event.source)
    assert source is not None
    return source
