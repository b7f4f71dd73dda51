"""Submissions as nobody means them, made at every level: data, attributes, signature, mode, record."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from qalqan import topics
from qalqan.envelope import Event, to_base64, to_kafka, to_structured
from qalqan.events import EVENTS, type_of
from qalqan.signing import EcdsaP256Key, Ed25519Key, SigningKey, sign
from qalqan.sources import secretariat_source, state_source
from qalqan.topics import RECORD_LIMIT_BYTES, Topic
from tests.conftest import STATES, pledge_data, request_data
from tests.fuzz.values import TEXTS, Tree, cut, flipped, spelled, spoilt_tree
from tests.integration.stranger import Raw
from tests.unit.builders import EXAMPLES

CAST: Final = ("AZ", "KG", "KZ", "UZ", "TR", "HU")


@dataclass(frozen=True, slots=True)
class Target:
    """A request that stands, and its ballot."""

    request_id: str
    ballot_id: str


@dataclass(frozen=True, slots=True)
class World:
    """What a well-informed attacker knows, and more: every state's key, a service's, the Secretariat's."""

    network: str
    name: str
    """Begins the ids that this run makes, so that no two runs make the same."""
    keys: Mapping[str, SigningKey]
    foreign: tuple[SigningKey, ...]
    """Keys that may not sign, or not this: unregistered ones, a service's, two of UZ's (one scope, another time)."""
    secretariat: SigningKey
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Shot:
    """A record to send, and what was done to it."""

    record: Raw
    how: tuple[str, ...]


@dataclass(slots=True)
class Grammar:
    """Makes one submission after another; the same seed and world make the same ones."""

    rng: Random
    world: World
    _made: int = 0
    _shots: list[Shot] = field(default_factory=list)

    def shot(self) -> Shot:
        """The next one. One in twenty is an earlier one again."""
        if self._shots and self.rng.random() < 0.05:
            earlier = self.rng.choice(self._shots)
            return Shot(earlier.record, (*earlier.how, "again"))
        self._made += 1
        how: list[str] = []
        event, topic = self._template()
        event = self._spoil_data(event, how)
        event = self._spoil_attributes(event, how)
        event = self._sign(event, how)
        event = self._spoil_material(event, how)
        record = self._record(event, topic, how)
        for _ in range(self._often((0, 0, 0, 1, 2))):
            spoil = self.rng.choice(RECORDS)
            record = spoil(self.rng, record)
            how.append(spoil.__name__.strip("_"))
        made = Shot(record, tuple(how) or ("nothing",))
        self._shots.append(made)
        return made

    def _often(self, weights: tuple[int, ...]) -> int:
        return self.rng.choice(weights)

    # --- what is said, and by whom ---

    def _template(self) -> tuple[Event, Topic]:
        """A submission that would be good, or nearly: any event, any of the cast, small numbers that collide."""
        rng, target = self.rng, self.rng.choice(self.world.targets)
        if rng.random() < 0.04:
            return self._office(), topics.INBOX_GOVERNANCE
        name = rng.choice(NAMES)
        kind = EVENTS[type_of(name)]
        assert kind.inbox is not None
        data: Tree = {**EXAMPLES[name], "request_id": target.request_id}
        state = "TR" if kind.scope in ("request", "accept") else rng.choice(CAST)
        pledge_id = f"{state if kind.scope in ('pledge', 'track') else rng.choice(CAST)}-{rng.randrange(1, 6)}"
        match name:
            case "RequestRaised" | "RequestAnticipated" if rng.random() < 0.8:
                data["request_id"] = f"TR-2023-{self.world.name}-{self._made}"
            case "RequestRaised" | "RequestAmended":
                data = {**request_data(target.request_id), **({"revision": 2} if name == "RequestAmended" else {})}
            case "PledgeOffered" | "PledgeRevised":
                data = pledge_data(target.request_id, pledge_id, quantity=rng.randrange(1, 9))
                data |= {"revision": rng.randrange(1, 4)} if name == "PledgeRevised" else {}
                data["channel"] = rng.choice(("mechanism", "mechanism", "bilateral"))
            case "VoteCast":
                data |= {"ballot_id": target.ballot_id, "state": state, "sequence": rng.randrange(1, 50)}
                data["position"] = rng.choice(("approve", "object", "abstain", "constructive-abstain"))
                data |= {"reason": "Жоқ", "declaration": "we accept"} if rng.random() < 0.9 else {}
            case _ if "pledge_id" in data:
                data["pledge_id"] = pledge_id
                # Not of offers and what follows them, which would wait a minute for their request.
                if kind.scope == "accept" and rng.random() < 0.1:
                    data["request_id"] = f"TR-2023-{self.world.name}-none-{self._made}"
                data |= {key: rng.randrange(1, 6) for key in ("quantity", "pledge_revision") if key in data}
        return self._event(name, data, state_source(self.world.network, state)), kind.inbox

    def _office(self) -> Event:
        """The Secretariat's own word, out of its chain, so that it changes nobody's standing."""
        name = self.rng.choice(("MemberRegistered", "KeyRegistered", "KeyRevoked"))
        data = {**EXAMPLES[name], "serial": self.rng.randrange(2, 2**20), "previous": "sha256:" + "0" * 64}
        subject = str(data.get("key_id", data.get("state")))
        made = self._event(name, data, secretariat_source(self.world.network))
        return replace(made, subject=subject, extensions={"partitionkey": subject})

    def _event(self, name: str, data: Tree, source: str) -> Event:
        subject = str(data.get("request_id", "subject"))
        return Event(
            id=f"{self.world.name}-{self._made}",
            source=source,
            type=type_of(name),
            subject=subject,
            time="2023-02-06T04:20:00Z",
            datacontenttype="application/json",
            data=json.dumps(data, ensure_ascii=False).encode(),
            extensions={"partitionkey": subject},
        )

    # --- what is done to it ---

    def _spoil_data(self, event: Event, how: list[str]) -> Event:
        tree, trees = json.loads(event.data), self._often((0, 0, 1, 1, 2))
        for _ in range(trees):
            tree = spoilt_tree(self.rng, tree) or tree
        data = spelled(self.rng, tree)
        if self.rng.random() < 0.15:
            data = self.rng.choice(TEXTS)(self.rng, data)
            how.append("text")
        how += ["tree"] * trees
        return replace(event, data=data)

    def _spoil_attributes(self, event: Event, how: list[str]) -> Event:
        if self.rng.random() > 0.2:
            return event
        name = self.rng.choice(
            ("id", "source", "type", "subject", "time", "datacontenttype", "extension", "dataschema")
        )
        how.append(name)
        if name == "extension":
            label = self.rng.choice(
                ("traceparent", "correlationid", "partitionkey", "position", "x" * 50, "data", "Id")
            )
            return replace(event, extensions={**event.extensions, label: self.rng.choice(STRINGS)})
        if name == "type":
            known = self.rng.choice(list(EVENTS))
            return replace(event, type=self.rng.choice((known, known, "qalqan.Tick.v1", known.upper(), "", "ş")))
        if name == "source":
            source = self.rng.choice((state_source(self.world.network, self.rng.choice(STATES)), *self._sources()))
            return replace(event, source=source)
        if name == "id" and self.rng.random() < 0.5:
            return replace(event, id=f"{self.world.name}-{self.rng.randrange(1, 6)}")
        value = self.rng.choice(TIMES if name == "time" else STRINGS)
        if name == "id" and value:  # long or strange, but this run's alone
            value = (self.world.name + value)[: max(len(value), 100)]
        spoilt = replace(event, **{name: value})
        return replace(spoilt, extensions={"partitionkey": value}) if name == "subject" else spoilt

    def _sources(self) -> tuple[str, ...]:
        network = self.world.network
        return (
            f"qalqan://{network}/states/",
            f"qalqan://{network}/states/TR/",
            f"qalqan://{network}/states/%54R",
            f"qalqan://{network}/states/tr",
            f"qalqan://{network}/states/XX",
            f"qalqan://{network}/services/request",
            f"qalqan://{network}/root",
            f"qalqan://{network}",
            "qalqan://dev-none/states/TR",
            "qalqan:///states/TR",
            "",
            "ş",
        )

    def _sign(self, event: Event, how: list[str]) -> Event:
        world, chance = self.world, self.rng.random()
        if event.source == secretariat_source(world.network):
            key = world.secretariat
        else:
            key = world.keys.get(event.source.rpartition("/")[2], world.keys["TR"])
        if chance < 0.1:
            key = self.rng.choice((*world.keys.values(), *world.foreign))
            how.append("another key")
        try:
            return sign(event, key)
        except (ValueError, UnicodeError):  # nothing to sign: then somebody else's signature stands there
            how.append("unsignable")
            return replace(event, dssematerial=sign(replace(event, time=None, data=b""), key).dssematerial)

    def _spoil_material(self, event: Event, how: list[str]) -> Event:
        if self.rng.random() > 0.2:
            return event
        spoil = self.rng.choice(MATERIALS)
        how.append(f"material {spoil.__name__.strip('_')}")
        return replace(event, dssematerial=spoil(self.rng, event.dssematerial or ""))

    def _record(self, event: Event, topic: Topic, how: list[str]) -> Raw:
        if self.rng.random() > 0.3:
            key, value, headers = to_kafka(replace(event, extensions=event.extensions or {"partitionkey": "x"}))
            return Raw(topic, key, value, [*headers])
        how.append("structured")
        members: Tree = to_structured(event)
        content_type = b"application/cloudevents+json"
        if self.rng.random() < 0.3:
            how.append("members")
            members = spoilt_tree(self.rng, members)
        value = spelled(self.rng, members)
        if self.rng.random() < 0.1:
            how.append("text of the event")
            value = self.rng.choice(TEXTS)(self.rng, value)
        if self.rng.random() < 0.1:
            how.append("content type")
            content_type = self.rng.choice(CONTENT_TYPES)
        key = (event.subject or "").encode("utf-8", "surrogatepass")
        return Raw(topic, key, value, [("content-type", content_type)])


NAMES = tuple(
    name
    for name, often in {
        "RequestRaised": 3, "RequestAnticipated": 2, "RequestAmended": 1, "PledgeOffered": 4, "PledgeRevised": 2,
        "PledgeWithdrawn": 2, "PledgeAccepted": 3, "PledgeDeclined": 2, "ResourceCommitted": 2, "ResourceDeparted": 2,
        "ResourceArrived": 2, "ResourceReleased": 2, "VoteCast": 6,
    }.items()
    for _ in range(often)
)  # fmt: skip
"""How often each event is the one that is spoilt. Nothing ends a request on purpose: what is behind it goes deeper."""

STRINGS = (
    "", " ", "x" * 128, "x" * 129, "x" * 20_000, "ş", "\0", "\n", "\x7f", "\ufffe", "a b", "TR-2023-0001", "%", "%00",
    "\"'<>&", "../..", "true", "0", "2023-02-06T04:20:00Z", "application/json", "0000000099",
)  # fmt: skip
TIMES = (
    None, "", "now", "2023-02-06", "2023-02-06T04:20:00", "2023-02-06T04:20:00.999999999Z", "2023-02-06t04:20:00z",
    "2023-02-06T04:20:60Z", "2023-02-06T04:20:00+06:00", "2023-02-06T04:20:00-23:59", "2023-02-06T04:20:00+24:00",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2023-02-29T00:00:00Z", "ş",
)  # fmt: skip
CONTENT_TYPES = (
    b"application/cloudevents+json; charset=utf-8", b"Application/CloudEvents+JSON", b"application/cloudevents+json;",
    b"application/cloudevents+json; charset=utf-16", b"application/cloudevents", b"application/cloudevents-batch+json",
    b"application/cloudevents+avro", b"application/json", b"", b"\xff",
)  # fmt: skip


# --- the signature's envelope ---


def _decoded(text: str) -> Any:
    return json.loads(base64.b64decode(text))


def _flip(rng: Random, text: str) -> str:
    return flipped(rng, text.encode()).decode("latin-1")


def _flip_inside(rng: Random, text: str) -> str:
    return to_base64(flipped(rng, base64.b64decode(text)))


def _tree(rng: Random, text: str) -> str:
    return to_base64(spelled(rng, spoilt_tree(rng, _decoded(text))))


def _white_space(rng: Random, text: str) -> str:
    return to_base64(json.dumps(_decoded(text), indent=rng.randrange(4)).encode())


def _unknown_members(_: Random, text: str) -> str:
    return to_base64(json.dumps({"a": [1], **_decoded(text), "z": None}).encode())


def _second_signature(_: Random, text: str) -> str:
    whole = _decoded(text)
    whole["signatures"] *= 2
    return to_base64(json.dumps(whole).encode())


def _json_text(rng: Random, text: str) -> str:
    return to_base64(rng.choice(TEXTS)(rng, base64.b64decode(text)))


def _other_base64(rng: Random, text: str) -> str:
    url = text.replace("+", "-").replace("/", "_")
    return rng.choice((text.rstrip("="), text + "=", text + "\n", f" {text}", url, text[:-1], "", "====", text * 2))


def _signature_bits(rng: Random, text: str) -> str:
    whole = _decoded(text)
    signature = bytearray(base64.b64decode(whole["signatures"][0]["sig"]))
    match rng.randrange(4):
        case 0:
            signature[rng.randrange(len(signature))] ^= 1 << rng.randrange(8)
        case 1:
            signature = bytearray(rng.choice((0, 63, 65, 72, 10_000)))
        case 2 if len(signature) == 64:  # s + L: the same signature to a careless verifier of Ed25519
            order = 2**252 + 27742317777372353535851937790883648493
            number = int.from_bytes(signature[32:], "little") + order
            signature[32:] = (number % 2**256).to_bytes(32, "little")
        case _:  # n - s: the same signature to a careless verifier of P-256
            order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
            number = (order - int.from_bytes(signature[32:], "big")) % 2**256
            signature[32:] = number.to_bytes(32, "big")
    whole["signatures"][0]["sig"] = to_base64(bytes(signature))
    return to_base64(json.dumps(whole).encode())


def _key_id(rng: Random, text: str) -> str:
    whole = _decoded(text)
    key_id = whole["signatures"][0]["keyid"]
    whole["signatures"][0]["keyid"] = rng.choice((key_id.upper(), key_id[:-1], "0" * 64, "", None, f"sha256:{key_id}"))
    return to_base64(json.dumps(whole).encode())


def _payload(rng: Random, text: str) -> str:
    """Spelled otherwise: then the signature is over something else."""
    whole = _decoded(text)
    payload = base64.b64decode(whole["payload"])
    whole["payload"] = to_base64(rng.choice(TEXTS)(rng, payload))
    return to_base64(json.dumps(whole).encode())


MATERIALS: tuple[Callable[[Random, str], str], ...] = (
    _flip, _flip_inside, _tree, _white_space, _white_space, _unknown_members, _second_signature, _json_text,
    _other_base64, _signature_bits, _signature_bits, _key_id, _payload,
)  # fmt: skip


# --- the record ---


def _flip_value(rng: Random, record: Raw) -> Raw:
    return replace(record, value=flipped(rng, record.value or b""))


def _cut_value(rng: Random, record: Raw) -> Raw:
    return replace(record, value=cut(rng, record.value or b""))


def _no_value(_: Random, record: Raw) -> Raw:
    return replace(record, value=None)


def _other_key(rng: Random, record: Raw) -> Raw:
    key = rng.choice(
        (None, b"", b"\xff\xfe", b"TR-2023-0001", flipped(rng, record.key or b""), (record.key or b"") + b" ")
    )
    return replace(record, key=key, partition=record.to_partition())


def _other_partition(rng: Random, record: Raw) -> Raw:
    return replace(record, partition=rng.randrange(record.topic.partitions))


def _other_topic(rng: Random, record: Raw) -> Raw:
    return replace(record, topic=rng.choice(topics.INBOXES), partition=None)


def _header_gone(rng: Random, record: Raw) -> Raw:
    gone = rng.randrange(len(record.headers) or 1)
    return replace(record, headers=[*record.headers[:gone], *record.headers[gone + 1 :]])


def _header_twice(rng: Random, record: Raw) -> Raw:
    return record.header(*rng.choice(record.headers or [("x", b"")]))


def _header_changed(rng: Random, record: Raw) -> Raw:
    if not record.headers:
        return record
    at = rng.randrange(len(record.headers))
    name, content = record.headers[at]
    name, content = rng.choice(
        (
            (name, None),
            (name, b""),
            (name, b"\xff"),
            (name, flipped(rng, content or b"")),
            (name.upper(), content),
            (name.replace("ce_", "ce-"), content),
            (name + " ", content),
            ("ce_", content),
            ("", content),
            ("ce_ş", content),
        )
    )
    return replace(record, headers=[*record.headers[:at], (name, content), *record.headers[at + 1 :]])


def _header_more(rng: Random, record: Raw) -> Raw:
    return record.header(rng.choice(("x", "ce_x", "ce_data", "ce_time", "ş", "\0", "n" * 300)), rng.choice((b"1", b"")))


def _headers_many(_: Random, record: Raw) -> Raw:
    return replace(record, headers=[*record.headers, *((f"x{number}", b"") for number in range(2_000))])


def _headers_shuffled(rng: Random, record: Raw) -> Raw:
    return replace(record, headers=rng.sample(record.headers, len(record.headers)))


def _header_name_broken(rng: Random, record: Raw) -> Raw:
    return replace(record, broken_name=rng.choice((b"\xff", b"ce_\xc3", b"x\xed\xa0\x80", b"\xc0\x80")))


def _sized(rng: Random, record: Raw) -> Raw:
    """About the limit, rarely: it is a quarter of a megabyte."""
    if rng.random() > 0.05:
        return record
    room = RECORD_LIMIT_BYTES + rng.choice((-1, 0, 1, 50_000)) - record.size() - len("x-padding")
    return record.header("x-padding", b"." * max(room, 0))


RECORDS: tuple[Callable[[Random, Raw], Raw], ...] = (
    _flip_value, _cut_value, _no_value, _other_key, _other_partition, _other_topic, _header_gone, _header_twice,
    _header_changed, _header_changed, _header_changed, _header_more, _headers_many, _headers_shuffled,
    _header_name_broken, _sized,
)  # fmt: skip


def unregistered() -> tuple[SigningKey, ...]:
    """Keys of nobody, one of each algorithm."""
    return (Ed25519Key.generate(), EcdsaP256Key.generate())
