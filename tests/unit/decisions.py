"""Networks with real keys, and their ballots with every outcome: what certificates are made of, for tests.

world = World.founded()
Decision(world).vote("AZ").vote("KG", "object").certificate("blocked", DEADLINE)
"""

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from qalqan.certificate import CLOSING, digest
from qalqan.envelope import Event, to_base64, to_structured
from qalqan.events import type_of
from qalqan.instants import format_instant, parse_instant
from qalqan.jsontext import digest as digest_of_bytes
from qalqan.jsontext import digest_of
from qalqan.registry import Root, possession_claim
from qalqan.signing import Ed25519Key, sign
from qalqan.topics import partition_of

NETWORK = "test-1"
REQUEST_ID = "TR-2023-0001"
STATES = ("AZ", "KG", "KZ", "TR", "UZ")
OPENED_AT = "2023-02-06T01:30:00Z"
RAISED_AT = "2023-02-06T01:29:59.5Z"
DEADLINE = "2023-02-07T01:30:00Z"
ALL_SCOPES = ["request", "pledge", "accept", "vote", "track", "consent"]
TYPE_OF_OUTCOME = {outcome: event_type for event_type, outcome in CLOSING.items()}

Json = dict[str, Any]


def at(minutes: float) -> str:
    """So long after the ballot opened."""
    return format_instant(parse_instant(OPENED_AT) + timedelta(minutes=minutes))


def source_of(actor: str) -> str:
    return f"qalqan://{NETWORK}/{f'states/{actor}' if actor.isupper() else actor}"


@dataclass(repr=False)
class World:
    """A network: its keys, and what its Secretariat registered."""

    keys: dict[str, Ed25519Key] = field(default_factory=dict)
    key_events: dict[str, Json] = field(default_factory=dict)
    member_events: dict[str, Json] = field(default_factory=dict)
    serial: int = 0
    previous: str | None = None

    @property
    def root(self) -> Root:
        key = self.keys["root"]
        entry = {
            "key_id": key.key_id,
            "algorithm": "ed25519",
            "public_key": key.public_pem,
            "valid_from": OPENED_AT,
        }
        return Root.model_validate({"network": NETWORK, "keys": [entry]})

    def event(self, actor: str, name: str, said: Json, key: Ed25519Key | None = None, **changes: Any) -> Event:
        """A signed event, about the request; `changes` are made before it is signed."""
        event = Event(
            id=f"{name}-{actor.replace('/', '-')}",
            source=source_of(actor),
            type=type_of(name),
            subject=REQUEST_ID,
            time="2023-02-06T01:29:00Z",
            datacontenttype="application/json",
            data=json.dumps(said, ensure_ascii=False).encode(),
        )
        return sign(replace(event, **changes), key or self.keys[actor])

    def structured(self, *args: Any, **more: Any) -> Json:
        return to_structured(self.event(*args, **more))

    def register(self, name: str, subject: str, data: Json, by: str = "secretariat") -> Json:
        """The next event of `members`."""
        self.serial += 1
        chained = {"serial": self.serial, "previous": self.previous, **data}
        event = self.event(by, name, chained, subject=subject)
        self.previous = digest_of_bytes(event.data)
        return to_structured(event)

    def key_data(self, actor: str, key: Ed25519Key, **changes: Any) -> Json:
        source = source_of(actor)
        return {
            "source": source,
            "key_id": key.key_id,
            "algorithm": "ed25519",
            "public_key": key.public_pem,
            "scopes": ALL_SCOPES if "/states/" in source else [],
            "valid_from": "2023-01-01T00:00:00Z",
            "valid_until": None,
            "possession": to_base64(key.sign(possession_claim(NETWORK, source, key.key_id))),
            **changes,
        }

    def register_key(self, actor: str, by: str = "secretariat", **changes: Any) -> Json:
        key = self.keys.setdefault(actor, Ed25519Key.generate())
        return self.register("KeyRegistered", key.key_id, self.key_data(actor, key, **changes), by)

    def register_member(self, state: str, **changes: Any) -> Json:
        data = {"state": state, "names": {"en": state}, "status": "member", "from": "2023-01-01T00:00:00Z"}
        return self.register("MemberRegistered", state, {**data, "until": None, **changes})

    @classmethod
    def founded(cls, states: tuple[str, ...] = STATES) -> "World":
        world = cls()
        for actor in ("root", "secretariat", "services/consensus", "services/pledge", *states):
            world.keys[actor] = Ed25519Key.generate()
        world.key_events["secretariat"] = world.register_key("secretariat", by="root")
        for actor in ("services/consensus", *states):
            world.key_events[actor] = world.register_key(actor)
        for state in states:
            world.member_events[state] = world.register_member(state)
        return world


@dataclass
class Decision:
    """A ballot of a world and how it went; `certificate()` is what the service would issue."""

    world: World
    roll: list[str] = field(default_factory=lambda: list(STATES))
    severity: str = "Severe"
    ballot_changes: Json = field(default_factory=dict)
    votes: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.request = self.world.event("TR", "RequestRaised", self.request_data())
        self.set_ballot()

    def request_data(self, **changes: Any) -> Json:
        place = {"name": "Adana", "country": "TR"}
        emergency = {
            "kind": "earthquake",
            "title": "Kahramanmaraş",
            "place": place,
            "severity": self.severity,
        }
        need = {"capability": "MUSAR", "quantity": 10, "unit": "team", "priority": 1, "deliver_to": place}
        return {
            "request_id": REQUEST_ID, "affected_state": "TR", "mode": "actual", "emergency": emergency,
            "needs": [{"need_id": "N1", **need}, {"need_id": "N2", **need}], "acceptance": "manual",
        } | changes  # fmt: skip

    def set_ballot(self, **changes: Any) -> None:
        """The ballot record; votes cast before are on another ballot."""
        self.ballot: Json = {
            "network": NETWORK, "mode": "actual", "request_id": REQUEST_ID, "revision": 1,
            "request_digest": digest_of_bytes(self.request.data), "round": 1, "items": ["N1", "N2"],
            "rule": {"rule_id": "c-1", "kind": "consensus", "window": "PT24H", "window_at_risk": "PT6H"},
            "roll": self.roll, "affected_state": "TR", "members_offset": self.world.serial,
            "governance_offset": 0, "opened_at": OPENED_AT, "deadline": DEADLINE, **changes,
        }  # fmt: skip

    def vote(
        self,
        state: str,
        position: str = "approve",
        minutes: float = 1,
        *,
        says: Json | None = None,
        event: Json | None = None,
        key: Ed25519Key | None = None,
    ) -> "Decision":
        """Counts a vote; `says`: changes to its data; `event`: to its envelope; `key`: another to sign it."""
        data = {
            "request_id": REQUEST_ID,
            "ballot_id": digest_of(self.ballot),
            "round": 1,
            "state": state,
            "sequence": 1,
            "position": position,
            "reason": "the road is closed" if position == "object" else None,
            "declaration": "we stand aside" if position == "constructive-abstain" else None,
        }
        cast = self.world.structured(state, "VoteCast", data | (says or {}), key, **(event or {}))
        entry = {
            "state": state,
            "position": position,
            "by": "vote",
            "recorded_at": at(minutes),
            "event": cast,
        }
        self.votes.append(entry)
        return self

    def certificate(self, outcome: str = "reached", decided_at: str | None = None, **changes: Any) -> Json:
        counted = list(self.votes)
        if "TR" in self.roll and not any(entry["state"] == "TR" for entry in counted):
            counted.append({"state": "TR", "position": "approve", "by": "request", "recorded_at": RAISED_AT})
        partition = partition_of(REQUEST_ID)
        latest = max((entry["recorded_at"] for entry in self.votes), default=RAISED_AT)
        return {
            "version": 1, "ballot": self.ballot, "outcome": outcome, "decided_at": decided_at or latest,
            "request": to_structured(self.request), "request_recorded_at": RAISED_AT, "counted": counted,
            "cause": None,
            "inbox": {"topic": "inbox.votes", "partition": partition, "from": 120, "to": 151},
            "keys": list(self.world.key_events.values()),
            "members": [self.world.member_events[state] for state in self.roll],
            "chain": f"decisions-{partition}", "serial": 17, "previous": "sha256:" + "0" * 64,
        } | changes  # fmt: skip


def closing_event(world: World, certified: Json, actor: str = "services/consensus", **changes: Any) -> Event:
    """The event that states a certificate; `changes` to its data."""
    counted, ballot = certified["counted"], certified["ballot"]
    tally = {entry["state"]: entry["position"] for entry in counted}
    data = {
        "request_id": ballot["request_id"], "ballot_id": digest_of(ballot), "revision": ballot["revision"],
        "round": ballot["round"], "mode": ballot["mode"], "tally": tally,
        "absent": sorted(set(ballot["roll"]) - tally.keys()),
        "blocked_by": [
            {"state": state, "reason": "the road is closed"} for state in tally if tally[state] == "object"
        ],
        "decided_at": certified["decided_at"], "decision_digest": digest(certified), "certificate": certified,
    } | changes  # fmt: skip
    kind = TYPE_OF_OUTCOME[certified["outcome"]]
    name = kind.removeprefix("qalqan.").removesuffix(".v1")
    extensions = {"mode": ballot["mode"], "partitionkey": REQUEST_ID, "position": "0000000002"}
    return world.event(actor, name, data, extensions=extensions)
