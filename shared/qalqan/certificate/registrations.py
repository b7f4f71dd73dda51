"""The keys and members that a certificate brings along, as far as root.json bears them out.

CONTRACT "root.json": a registration's signer is checked by signature and source, not by window.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from qalqan import jsontext
from qalqan.complaints import complaints, shown
from qalqan.envelope import BadEnvelope, Event, from_structured
from qalqan.events import Chained, KeyRegistered, MemberRegistered, type_of
from qalqan.registry import NotRegistered, RegisteredKey, Root, registered_key
from qalqan.signing import BadSignature, Material, PublicKey, read_material, verify
from qalqan.sources import root_source, secretariat_source

_R = TypeVar("_R", bound=Chained)


class Registrations:
    """What holds of a certificate's `keys` and `members`; `reasons` says what does not, and why."""

    def __init__(self, root: Root, keys: Iterable[Any], members: Iterable[Any]) -> None:
        self.reasons: list[str] = []
        self._root = root
        self._secretariat = secretariat_source(root.network)
        self._keys: dict[str, list[RegisteredKey]] = {}
        self._members: dict[str, MemberRegistered] = {}
        self._chain: dict[int, tuple[str, str | None]] = {}
        """By serial: the digest of the data, and the digest that it names as the one before."""
        self._read_keys(keys)
        self._read_members(members)
        self.reasons += self._broken_chain()

    def doubt(self, event: Event, source: str, scope: str | None = None, at: datetime | None = None) -> str | None:
        """Why it is not proven to be from `source`, by a key with `scope`, valid `at`; None: it is."""
        if event.source != source:
            return f"is from {shown(event.source)}, not from {source}"
        try:
            material = read_material(event)
        except BadEnvelope as error:
            return str(error)
        registered = self._keys.get(material.key_id)
        if registered is None:
            return f"its key {material.key_id} is not among the certificate's keys"
        own = [key for key in registered if key.source == source]
        if not own:
            return f"its key {material.key_id} is registered for {registered[0].source}, not for {source}"
        wrong = _wrong(event, material, own[0].public_key)
        if wrong:
            return wrong
        if scope is not None:
            own = [key for key in own if scope in key.scopes]
        if not own:
            return f"its key {material.key_id} has not the scope `{scope}`"
        if at is not None and not any(key.valid_at(at) for key in own):
            return f"its key {material.key_id} was not valid at {at.isoformat()}"
        return None

    def has_key_of(self, source: str) -> bool:
        """Whether a key of that source is here."""
        return any(key.source == source for keys in self._keys.values() for key in keys)

    def member(self, state: str) -> MemberRegistered | None:
        """The last registration of a state that is here."""
        return self._members.get(state)

    def members(self) -> Iterable[MemberRegistered]:
        """The last registration of each state that is here."""
        return self._members.values()

    def _read_keys(self, keys: Iterable[Any]) -> None:
        read = list(self._read(keys, "keys", KeyRegistered))
        # The Secretariat's first: they prove the others.
        read.sort(key=lambda entry: entry[2].source != self._secretariat)
        for where, event, registration in read:
            of_secretariat = registration.source == self._secretariat
            wrong = self._signed_by_root(event) if of_secretariat else self.doubt(event, self._secretariat)
            if wrong:
                self.reasons.append(f"{where}: {wrong}")
                continue
            try:
                key = registered_key(registration, event, self._root.network)
            except NotRegistered as error:
                self.reasons.append(f"{where}: {error}")
                continue
            self._keys.setdefault(key.key_id, []).append(key)
            self._link(where, event, registration)

    def _read_members(self, members: Iterable[Any]) -> None:
        for where, event, registration in self._read(members, "members", MemberRegistered):
            wrong = self.doubt(event, self._secretariat)
            if wrong:
                self.reasons.append(f"{where}: {wrong}")
                continue
            known = self._members.get(registration.state)
            if known is None or known.serial < registration.serial:
                self._members[registration.state] = registration
            self._link(where, event, registration)

    def _read(self, entries: Iterable[Any], name: str, model: type[_R]) -> Iterator[tuple[str, Event, _R]]:
        for number, entry in enumerate(entries):
            where = f"{name}[{number}]"
            try:
                event = from_structured(entry)
                if event.type != type_of(model.__name__):
                    raise BadEnvelope(f"is a {shown(event.type)}, not a {model.__name__}")
                registration = model.model_validate(jsontext.parse(event.data))
            except ValidationError as error:
                self.reasons += complaints(error, where)
            except ValueError as error:
                self.reasons.append(f"{where}: {error}")
            else:
                yield where, event, registration

    def _signed_by_root(self, event: Event) -> str | None:
        if event.source != root_source(self._root.network):
            return f"a key of the Secretariat, registered by {shown(event.source)} and not by a root key"
        try:
            material = read_material(event)
            key = self._root.public_key(material.key_id)
        except ValueError as error:  # also a root.json whose key is none
            return str(error)
        if key is None:
            return f"a key of the Secretariat, registered with {material.key_id}, which is not in root.json"
        return _wrong(event, material, key)

    def _link(self, where: str, event: Event, registration: Chained) -> None:
        """Two registrations with one serial: somebody was shown another `members` than others were."""
        own = jsontext.digest(event.data)
        known = self._chain.setdefault(registration.serial, (own, registration.previous))
        if known[0] != own:
            self.reasons.append(f"{where}: another registration has the serial {registration.serial} too")

    def _broken_chain(self) -> Iterator[str]:
        for serial, (_, previous) in self._chain.items():
            before = self._chain.get(serial - 1)
            if (serial == 1) != (previous is None) or (before is not None and before[0] != previous):
                yield f"the registration with serial {serial} does not continue the one before"


def _wrong(event: Event, material: Material, key: PublicKey) -> str | None:
    try:
        verify(event, material, key)
    except BadSignature as error:
        return str(error)
    return None
