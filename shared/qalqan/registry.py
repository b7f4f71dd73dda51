"""Members and keys, folded from the topic `members` and trusting nothing but root.json (CONTRACT "root.json")."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Self

from qalqan import jsontext
from qalqan.envelope import BadEnvelope, Event, to_structured
from qalqan.events import EVENTS, KeyRegistered, KeyRevoked, MemberRegistered
from qalqan.fields import Instant, Model
from qalqan.jsontext import Settled
from qalqan.signing import BadSignature, PublicKey, read_material, verify
from qalqan.sources import Source, root_source, secretariat_source


class RootKey(Model):
    """A root key as root.json has it."""

    key_id: str
    algorithm: str
    public_key: str
    valid_from: Instant
    valid_until: Instant | None = None


class Root(Model):
    """The one thing a stranger must trust: the network's name and its root keys."""

    network: str
    keys: list[RootKey]

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads root.json; OSError or ValueError when it cannot be read."""
        return cls.model_validate(json.loads(Path(path).read_text("utf-8")))

    def public_key(self, key_id: str) -> PublicKey | None:
        """The root key of that id."""
        for key in self.keys:
            if key.key_id == key_id:
                return PublicKey.from_pem(key.public_key, key.algorithm)
        return None


@dataclass(frozen=True)
class RegisteredKey:
    """A key, whose it is, what it may sign and when; `event` is the registration as signed.

    `revoked_at`: the offset of `members` from which on it signs nothing more.
    """

    source: str
    key_id: str
    public_key: PublicKey
    scopes: frozenset[str]
    valid_from: datetime
    valid_until: datetime | None
    event: Event
    revoked_at: int | None = None

    def revoked_before(self, members_offset: int) -> bool:
        """Whether it was revoked for those who had read `members` up to this offset (the next to be read)."""
        return self.revoked_at is not None and self.revoked_at < members_offset

    def valid_at(self, instant: datetime) -> bool:
        """Whether `instant` lies in the window: from <= t < until."""
        return self.valid_from <= instant and (self.valid_until is None or instant < self.valid_until)

    @cached_property
    def registration(self) -> Settled:
        """The registration as it stands in certificates."""
        return Settled(to_structured(self.event))


@dataclass(frozen=True)
class Member:
    """A state's standing in the mechanism; `event` is the registration as signed, at this offset of `members`."""

    state: str
    status: str
    from_: datetime
    until: datetime | None
    names: dict[str, str]
    event: Event
    offset: int

    def stands_at(self, instant: datetime) -> bool:
        """Whether the registration covers `instant`: from <= t < until."""
        return self.from_ <= instant and (self.until is None or instant < self.until)

    @cached_property
    def registration(self) -> Settled:
        """The registration as it stands in certificates."""
        return Settled(to_structured(self.event))


class NotRegistered(ValueError):
    """A registration that does not hold; the text says why."""


class Registry:
    """Members and keys as of an offset of `members`."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.next_offset = 0
        """The next offset of `members` to be read; whoever reads the topic keeps it."""
        self.serial = 0
        self.previous: str | None = None
        self._digests: list[str] = []
        self._keys: dict[str, RegisteredKey] = {}
        self._members: dict[str, list[Member]] = {}

    @property
    def network(self) -> str:
        """The network's name."""
        return self.root.network

    def key(self, key_id: str) -> RegisteredKey | None:
        """The registered key of that id."""
        return self._keys.get(key_id)

    def keys(self) -> Iterator[RegisteredKey]:
        """All registered keys, in the order of their registration."""
        return iter(self._keys.values())

    def member(self, state: str, before: int | None = None) -> Member | None:
        """The latest registration of a state; or the latest before an offset of `members`."""
        registrations = self._members.get(state, [])
        known = [member for member in registrations if before is None or member.offset < before]
        return known[-1] if known else None

    def members(self) -> Iterator[Member]:
        """All states registered, whatever their status."""
        return (registrations[-1] for registrations in self._members.values())

    def roll(self, instant: datetime) -> list[str]:
        """The members (not observers, not partners) at that instant, sorted: whose position counts."""
        return sorted(m.state for m in self.members() if m.status == "member" and m.stands_at(instant))

    def take(self, offset: int, event: Event) -> str | None:
        """Folds the record at an offset of `members`, and is as far as behind it; why it does not hold, if it does not.

        Somebody wrote there who may not: that changes nothing, and everybody sees the same.
        """
        self.next_offset = offset
        try:
            self.apply(event)
        except NotRegistered as error:
            return str(error)
        finally:
            self.next_offset = offset + 1
        return None

    def apply(self, event: Event) -> bool:
        """Folds the next event of `members`. NotRegistered: it does not hold and changes nothing.

        False: it stands already, for its writer may repeat itself after a crash.
        """
        kind = EVENTS.get(event.type)
        if kind is None or kind.model not in (MemberRegistered, KeyRegistered, KeyRevoked):
            raise NotRegistered(f"{event.type} is no registration")
        try:
            data = jsontext.parse(event.data)
            registration = kind.model.model_validate(data)
        except ValueError as error:
            raise NotRegistered(f"{kind.name} {event.id}: {error}") from error
        assert isinstance(registration, MemberRegistered | KeyRegistered | KeyRevoked)
        own = jsontext.digest(event.data)
        if self._digests[registration.serial - 1 : registration.serial] == [own]:
            return False
        self._check_signature(event, registration)
        if (registration.serial, registration.previous) != (self.serial + 1, self.previous):
            raise NotRegistered(
                f"{kind.name} {event.id}: serial {registration.serial} does not continue the chain at {self.serial}"
            )
        if isinstance(registration, KeyRegistered):
            self._keys[registration.key_id] = registered_key(registration, event, self.network)
        elif isinstance(registration, KeyRevoked):
            key = self._keys[registration.key_id]
            self._keys[registration.key_id] = replace(key, revoked_at=key.revoked_at or self.next_offset)
        else:
            member = Member(
                registration.state,
                registration.status,
                registration.from_,
                registration.until,
                registration.names,
                event,
                self.next_offset,
            )
            self._members.setdefault(registration.state, []).append(member)
        self.serial = registration.serial
        self.previous = own
        self._digests.append(own)
        return True

    def _check_signature(self, event: Event, registration: MemberRegistered | KeyRegistered | KeyRevoked) -> None:
        try:
            material = read_material(event)
            verify(event, material, self._signer(event, material.key_id, registration))
        except (BadEnvelope, BadSignature) as error:
            raise NotRegistered(f"{event.type} {event.id}: {error}") from error

    def _signer(
        self, event: Event, key_id: str, registration: MemberRegistered | KeyRegistered | KeyRevoked
    ) -> PublicKey:
        """The key that may have signed this: a root key for the Secretariat's, else the Secretariat's."""
        if self._source_of_key(registration) == secretariat_source(self.network):
            key = self.root.public_key(key_id)
            if key is None or event.source != root_source(self.network):
                raise NotRegistered(f"{event.id}: the Secretariat's key is registered and revoked by a root key")
            return key
        registered = self._keys.get(key_id)
        if registered is None or not event.source == registered.source == secretariat_source(self.network):
            raise NotRegistered(f"{event.id}: a registration must be signed by the Secretariat's key")
        if registered.revoked_at is not None:
            raise NotRegistered(f"{event.id}: signed with the key {key_id}, which was revoked")
        return registered.public_key

    def _source_of_key(self, registration: MemberRegistered | KeyRegistered | KeyRevoked) -> str | None:
        """Whose key it is about, if it is about one."""
        if isinstance(registration, KeyRevoked):
            key = self._keys.get(registration.key_id)
            if key is None:
                raise NotRegistered(f"key {registration.key_id} is not registered, so it cannot be revoked")
            return key.source
        return registration.source if isinstance(registration, KeyRegistered) else None


def registered_key(registration: KeyRegistered, event: Event, network: str) -> RegisteredKey:
    """The key that a registration brings. NotRegistered: malformed, of another network, or without possession."""
    source = Source.parse(registration.source)
    if source is None or source.network != network:
        raise NotRegistered(f"{registration.source!r} is no source of network {network}")
    if source.kind == "root":
        raise NotRegistered("a root key stands in root.json and nowhere else")
    if source.kind == "service" and registration.scopes:
        raise NotRegistered("scopes: a service's key has none; what it may state stands in the contract")
    try:
        public_key = PublicKey.from_pem(registration.public_key, registration.algorithm)
    except ValueError as error:
        raise NotRegistered(f"public_key: {error}") from error
    if public_key.key_id != registration.key_id:
        raise NotRegistered("key_id is not the SHA-256 of the key's SubjectPublicKeyInfo")
    claim = possession_claim(network, registration.source, registration.key_id)
    try:
        possession = base64.b64decode(registration.possession, validate=True)
    except ValueError as error:
        raise NotRegistered(f"possession: {error}") from error
    if not public_key.verify(claim, possession):
        raise NotRegistered("possession: not the key's own signature")
    return RegisteredKey(
        registration.source,
        registration.key_id,
        public_key,
        frozenset(registration.scopes),
        registration.valid_from,
        registration.valid_until,
        event,
    )


def possession_claim(network: str, source: str, key_id: str) -> bytes:
    """What a key signs to prove that its holder has it: RFC 8785 of network, source and key id."""
    return jsontext.canonical({"network": network, "source": source, "key_id": key_id})
