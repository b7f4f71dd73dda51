"""Members and keys folded from `members`, believing nothing but root.json."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from qalqan.envelope import Event, to_base64
from qalqan.events import KeyRegistered, MemberRegistered, VoteCast
from qalqan.registry import NotRegistered, Registry, possession_claim
from qalqan.signing import EcdsaP256Key, Ed25519Key, SigningKey, sign
from qalqan.sources import service_source, state_source
from tests.unit.builders import NETWORK, T0, example
from tests.unit.network import MEMBERS, OBSERVERS, ROOT, SECRETARIAT, Network, key_of, root_with

KZ = state_source(NETWORK, "KZ")


@pytest.fixture
def network() -> Network:
    """Only the Secretariat's key is registered."""
    network = Network(empty=True)
    network.register_key(SECRETARIAT)
    return network


def key_event(network: Network, source: str, key: SigningKey, by: str | None = None, **changes: object) -> Event:
    """A KeyRegistered that continues the chain."""
    data = KeyRegistered.model_validate(network.key_data(source, key, **changes))
    return network.event(data, by=by)


def test_root_then_secretariat_then_everybody() -> None:
    network = Network()
    registry = network.registry
    assert registry.roll(T0) == list(MEMBERS)
    assert {member.state for member in registry.members()} == {*MEMBERS, *OBSERVERS}
    found = registry.key(key_of(KZ).key_id)
    assert found is not None
    assert (found.source, found.scopes) == (
        KZ,
        frozenset({"request", "pledge", "accept", "vote", "track", "consent"}),
    )
    assert next(registry.keys()).source == SECRETARIAT
    assert registry.serial == registry.next_offset == network.serial


def test_a_repeated_delivery_changes_nothing(network: Network) -> None:
    """After a crash the secretariat publishes again what it may have published; another at that place is refused."""
    first = network.registration(MemberRegistered.model_validate(network.member_data("KZ")))
    network.apply(first)
    second = key_event(network, KZ, key_of(KZ))
    network.apply(second)
    registry = network.registry
    stands = (registry.serial, registry.previous, list(registry.keys()), list(registry.members()))
    assert not any(registry.apply(event) for event in (first, second, first))
    assert (registry.serial, registry.previous, list(registry.keys()), list(registry.members())) == stands
    data = example(MemberRegistered, serial=registry.serial, previous=None, state="UZ")
    with pytest.raises(NotRegistered, match="does not continue the chain"):
        registry.apply(network.registration(data))


def test_nothing_holds_before_the_secretariats_key(network: Network) -> None:
    fresh = Registry(network.root)
    with pytest.raises(NotRegistered, match="Secretariat"):
        fresh.apply(network.registration(MemberRegistered.model_validate(network.member_data("KZ"))))


def test_a_root_key_registers_the_secretariats_and_nothing_else(network: Network) -> None:
    other = Ed25519Key.generate()
    with pytest.raises(NotRegistered, match="root key"):
        network.apply(key_event(network, SECRETARIAT, other, by=SECRETARIAT))
    with pytest.raises(NotRegistered, match="Secretariat's key"):
        network.apply(key_event(network, KZ, key_of(KZ), by=ROOT))
    network.apply(key_event(network, SECRETARIAT, other, by=ROOT))
    assert network.registry.key(other.key_id) is not None


def test_a_root_key_that_is_not_in_root_json_is_nobodys(network: Network) -> None:
    stranger = Ed25519Key.generate()
    data = KeyRegistered.model_validate(network.key_data(SECRETARIAT, Ed25519Key.generate()))
    with pytest.raises(NotRegistered, match="root key"):
        network.apply(network.event(data, by=ROOT, key=stranger))


def test_nobody_registers_a_root_key(network: Network) -> None:
    """Else the Secretariat could make the keys that register the Secretariat's."""
    with pytest.raises(NotRegistered, match="root"):
        network.apply(key_event(network, ROOT, Ed25519Key.generate(), by=SECRETARIAT))


def forged(event: Event) -> Event:
    return replace(event, data=event.data.replace(b'"KZ"', b'"UZ"'))


def unsigned(event: Event) -> Event:
    return replace(event, dssematerial=None)


def by_a_state(event: Event) -> Event:
    return sign(replace(event, source=KZ), key_of(KZ))


def as_the_secretariat_with_another_key(event: Event) -> Event:
    return sign(event, key_of(KZ))


def of_another_type(event: Event) -> Event:
    return sign(replace(event, type="qalqan.VoteCast.v1"), key_of(SECRETARIAT))


def of_a_later_version(event: Event) -> Event:
    return sign(replace(event, type="qalqan.MemberRegistered.v2"), key_of(SECRETARIAT))


def not_json(event: Event) -> Event:
    return sign(replace(event, data=b"{"), key_of(SECRETARIAT))


@pytest.mark.parametrize(
    "spoil",
    [
        forged,
        unsigned,
        by_a_state,
        as_the_secretariat_with_another_key,
        of_another_type,
        of_a_later_version,
        not_json,
    ],
)
def test_what_does_not_hold_changes_nothing(network: Network, spoil: Callable[[Event], Event]) -> None:
    network.register_key(KZ)
    registry = network.registry
    good = network.registration(MemberRegistered.model_validate(network.member_data("KZ")))
    before = (registry.serial, registry.previous, list(registry.members()), list(registry.keys()))
    with pytest.raises(NotRegistered):
        registry.apply(spoil(good))
    assert (registry.serial, registry.previous, list(registry.members()), list(registry.keys())) == before
    network.apply(good)


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": 1},
        {"serial": 3},
        {"previous": None},
        {"previous": "sha256:" + "0" * 64},
    ],
)
def test_the_chain_has_no_gap_and_no_fork(network: Network, changes: dict[str, object]) -> None:
    data = MemberRegistered.model_validate(network.member_data("KZ", **changes))
    with pytest.raises(NotRegistered, match="chain"):
        network.apply(network.registration(data))
    network.register_member("KZ")


def test_possession_is_the_keys_own_word_on_this_source_and_network(network: Network) -> None:
    """And a key without it does not move the chain: what does not hold changes nothing."""
    key, other = key_of(KZ), Ed25519Key.generate()
    for claimed_network, source, key_id, signer in (
        (NETWORK, state_source(NETWORK, "UZ"), key.key_id, key),
        ("prod", KZ, key.key_id, key),
        (NETWORK, KZ, other.key_id, key),
        (NETWORK, KZ, key.key_id, other),
    ):
        proof = to_base64(signer.sign(possession_claim(claimed_network, source, key_id)))
        with pytest.raises(NotRegistered, match="possession"):
            network.apply(key_event(network, KZ, key, possession=proof))
        assert network.registry.key(key.key_id) is None
    network.register_key(KZ)


def test_keys_of_both_algorithms_are_registered(network: Network) -> None:
    key = EcdsaP256Key.generate()
    network.register_key(KZ, key)
    found = network.registry.key(key.key_id)
    assert found is not None
    assert found.public_key.algorithm == "ecdsa-p256"
    with pytest.raises(NotRegistered, match="public_key"):
        network.apply(key_event(network, KZ, Ed25519Key.generate(), algorithm="ecdsa-p256"))


def test_a_window_holds_from_its_beginning_to_before_its_end(network: Network) -> None:
    network.register_key(KZ, valid_from="2023-02-06T03:00:00Z", valid_until="2023-02-06T04:00:00Z")
    key = network.registry.key(key_of(KZ).key_id)
    assert key is not None
    moment = timedelta(milliseconds=1)
    end = T0 + timedelta(hours=1)
    assert [key.valid_at(at) for at in (T0 - moment, T0, end - moment, end)] == [False, True, True, False]


def test_the_roll_is_of_members_at_an_instant_sorted(network: Network) -> None:
    for state, changes in (
        ("UZ", {}),
        ("AZ", {}),
        ("HU", {"status": "observer"}),
        ("TM", {"status": "partner"}),
        ("KZ", {"from": "2023-02-06T03:00:00Z", "until": "2023-02-06T04:00:00Z"}),
    ):
        network.register_member(state, **changes)
    moment = timedelta(milliseconds=1)
    assert network.registry.roll(T0 - moment) == ["AZ", "UZ"]
    assert network.registry.roll(T0) == ["AZ", "KZ", "UZ"]
    assert network.registry.roll(T0 + timedelta(hours=1) - moment) == ["AZ", "KZ", "UZ"]
    assert network.registry.roll(T0 + timedelta(hours=1)) == ["AZ", "UZ"]


def test_a_later_registration_replaces_and_the_earlier_one_is_still_known(network: Network) -> None:
    network.register_member("KZ")
    opened_at = network.registry.next_offset
    network.register_member("KZ", status="partner")
    now, then = network.registry.member("KZ"), network.registry.member("KZ", before=opened_at)
    assert now is not None
    assert then is not None
    assert (then.status, now.status) == ("member", "partner")
    assert network.registry.member("KZ", before=1) is None
    assert network.registry.roll(T0) == []


def test_a_key_of_a_service_has_no_scope(network: Network) -> None:
    network.register_key(service_source(NETWORK, "consensus"))
    key = network.registry.key(key_of(service_source(NETWORK, "consensus")).key_id)
    assert key is not None
    assert key.scopes == frozenset()


def test_what_is_no_registration_is_ignored(network: Network) -> None:
    network.register_key(KZ)
    with pytest.raises(NotRegistered, match="no registration"):
        network.registry.apply(network.event(example(VoteCast)))


def test_a_root_json_of_another_network_believes_nobody_here(network: Network) -> None:
    other = Registry(root_with(Ed25519Key.generate()))
    with pytest.raises(NotRegistered):
        other.apply(key_event(Network(empty=True), SECRETARIAT, key_of(SECRETARIAT)))
