"""The register of members and keys: a chain that the Secretariat's key extends, and for that key a root key.

Pure. Rules: CONTRACT "root.json", "MemberRegistered", "KeyRegistered", "KeyRevoked".
"""

from pydantic import Field

from chassis.facts import Fact, Incoming, Refused, forwarded
from qalqan import jsontext
from qalqan.events import KeyRegistered, KeyRevoked, MemberRegistered
from qalqan.fields import Model
from qalqan.registry import NotRegistered, registered_key
from qalqan.sources import root_source, secretariat_source


class Register(Model):
    """The head of the chain, and the data of what stands in it, by state and by key."""

    serial: int = 0
    previous: str | None = None
    members: dict[str, MemberRegistered] = Field(default_factory=dict)
    keys: dict[str, KeyRegistered] = Field(default_factory=dict)
    revoked: dict[str, KeyRevoked] = Field(default_factory=dict)


def decide(register: Register | None, incoming: Incoming, network: str) -> list[Fact]:
    """Admits a registration that continues the chain. Refused: why not."""
    register = register or Register()
    data = incoming.data
    assert isinstance(data, MemberRegistered | KeyRegistered | KeyRevoked)
    if data.serial <= register.serial:
        raise Refused("stale", f"serial {data.serial} is taken; the chain stands at {register.serial}")
    if (data.serial, data.previous) != (register.serial + 1, register.previous):
        raise Refused(
            "not-allowed",
            f"the chain stands at serial {register.serial}, {register.previous}: it goes on from there",
        )
    if isinstance(data, KeyRegistered):
        _check_key(register, data, incoming, network)
    elif isinstance(data, KeyRevoked):
        _check_revocation(register, data, incoming, network)
    return [forwarded(incoming)]


def _check_key(register: Register, data: KeyRegistered, incoming: Incoming, network: str) -> None:
    try:
        registered_key(data, incoming.event, network)
    except NotRegistered as error:
        raise Refused("bad-data", str(error)) from error
    if data.key_id in register.keys:
        raise Refused("not-allowed", f"key {data.key_id} is registered already, of {register.keys[data.key_id].source}")
    _check_authority(data.source, incoming, network)


def _check_revocation(register: Register, data: KeyRevoked, incoming: Incoming, network: str) -> None:
    key = register.keys.get(data.key_id)
    if key is None:
        raise Refused("not-allowed", f"key {data.key_id} is not registered")
    if data.key_id in register.revoked:
        raise Refused("not-allowed", f"key {data.key_id} is revoked already")
    _check_authority(key.source, incoming, network)


def _check_authority(source: str, incoming: Incoming, network: str) -> None:
    of_secretariat = source == secretariat_source(network)
    if of_secretariat != (incoming.event.source == root_source(network)):
        raise Refused("not-allowed", "a root key answers for the Secretariat's key, and that key for the rest")


def evolve(register: Register | None, fact: Fact) -> Register:
    """The register after a registration."""
    register = register or Register()
    data = fact.data
    assert fact.event is not None
    assert isinstance(data, MemberRegistered | KeyRegistered | KeyRevoked)
    head = {"serial": data.serial, "previous": jsontext.digest(fact.event.data)}
    if isinstance(data, MemberRegistered):
        return register.model_copy(update={**head, "members": {**register.members, data.state: data}})
    if isinstance(data, KeyRevoked):
        return register.model_copy(update={**head, "revoked": {**register.revoked, data.key_id: data}})
    return register.model_copy(update={**head, "keys": {**register.keys, data.key_id: data}})
