"""A key that is revoked: by whom, from which offset on, and what of it still stands (CONTRACT "KeyRevoked")."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.admission import Admission
from chassis.facts import Refused
from qalqan import trust
from qalqan.certificate import verify_event
from qalqan.envelope import Event
from qalqan.events import KeyRevoked, VoteCast
from qalqan.registry import NotRegistered
from qalqan.signing import Ed25519Key
from qalqan.sources import service_source, state_source
from qalqan.topics import INBOX_VOTES, VOTES
from services.secretariat.domain import decide
from tests.unit.builders import NETWORK, T0, example
from tests.unit.hearing import Hearing
from tests.unit.network import ROOT, SECRETARIAT, Network, key_of
from tests.unit.test_secretariat_domain import Office

KZ = state_source(NETWORK, "KZ")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def revocation(network: Network, key_id: str, by: str = SECRETARIAT) -> Event:
    """The next event of `members`: a key is taken out of use."""
    data = KeyRevoked(serial=network.serial + 1, previous=network.previous, key_id=key_id, reason="the device was lost")
    return network.event(data, by=by)


def test_a_revoked_key_signs_nothing_more_and_another_of_the_state_does() -> None:
    network = Network()
    old, new = key_of(KZ), Ed25519Key.generate()
    network.register_key(KZ, new)
    admission = Admission(INBOX_VOTES, network.registry, service_source(NETWORK, "consensus"))

    def judged(key: Ed25519Key) -> str | None:
        refused = admission.judge(network.record(network.event(example(VoteCast), by="KZ", key=key)), NOW).refused
        return refused.reason if refused else None

    assert (judged(old), judged(new)) == (None, None)
    network.apply(revocation(network, old.key_id))
    assert (judged(old), judged(new)) == ("key-not-valid", None)


def test_what_was_judged_before_the_revocation_stands() -> None:
    network = Network()
    at = network.registry.next_offset
    network.apply(revocation(network, key_of(KZ).key_id))
    vote = network.event(example(VoteCast), by="KZ", key=key_of(KZ))

    def doubted(**extensions: str) -> str | None:
        stands = replace(vote, extensions={**vote.extensions, "recordedtime": "2023-02-06T03:00:00Z", **extensions})
        return trust.doubt(stands, VOTES.name, NOW, network.registry)

    assert doubted(membersoffset=str(at)) is None
    assert doubted(membersoffset=str(at + 1)) == "the key had been revoked when the event was taken"
    assert doubted() == "the key had been revoked when the event was taken"


def test_a_certificate_holds_though_a_key_was_revoked_later() -> None:
    hearing = Hearing(Network())
    hearing.raised()
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0)
    hearing.network.apply(revocation(hearing.network, key_of(KZ).key_id))
    assert verify_event(hearing.closing_event, hearing.network.root) == []


def test_the_secretariat_revokes_keys_and_a_root_key_the_secretariats() -> None:
    network = Network()
    with pytest.raises(NotRegistered, match="root key"):
        network.registry.apply(revocation(network, key_of(SECRETARIAT).key_id))
    with pytest.raises(NotRegistered, match="Secretariat's key"):
        network.registry.apply(revocation(network, key_of(KZ).key_id, by=ROOT))
    with pytest.raises(NotRegistered, match="not registered"):
        network.registry.apply(revocation(network, "0" * 64))
    network.apply(revocation(network, key_of(SECRETARIAT).key_id, by=ROOT))
    with pytest.raises(NotRegistered, match="was revoked"):
        network.registry.apply(revocation(network, key_of(KZ).key_id))


def test_the_register_of_revocations() -> None:
    office = Office()
    office.submit(office.key(SECRETARIAT))
    office.submit(office.key(KZ))

    def revoked(key_id: str) -> KeyRevoked:
        return KeyRevoked(
            serial=office.network.serial + 1, previous=office.network.previous, key_id=key_id, reason="lost"
        )

    def refusal(data: KeyRevoked, by: str) -> str:
        with pytest.raises(Refused) as caught:
            decide(office.register, office.network.incoming(data, by=by), NETWORK)
        return caught.value.reason

    own, secretariat = key_of(KZ).key_id, key_of(SECRETARIAT).key_id
    assert refusal(revoked("0" * 64), SECRETARIAT) == "not-allowed"
    assert refusal(revoked(secretariat), SECRETARIAT) == "not-allowed"
    assert refusal(revoked(own), ROOT) == "not-allowed"
    office.submit(revoked(own), by=SECRETARIAT)
    assert refusal(revoked(own), SECRETARIAT) == "not-allowed"
    office.submit(revoked(secretariat), by=ROOT)
