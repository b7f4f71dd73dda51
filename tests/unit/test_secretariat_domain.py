"""The pure domain of the secretariat: a chain of registrations that only the right keys extend."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.facts import Refused
from qalqan.envelope import to_base64
from qalqan.events import KeyRegistered, MemberRegistered
from qalqan.fields import Model
from qalqan.jsontext import digest
from qalqan.registry import possession_claim
from qalqan.signing import Ed25519Key
from qalqan.sources import service_source, state_source
from services.secretariat import store
from services.secretariat.domain import Register, decide, evolve
from tests.unit.builders import NETWORK
from tests.unit.network import ROOT, SECRETARIAT, Network, key_of

KZ = state_source(NETWORK, "KZ")


class Office:
    """The secretariat service without its shell: a network that has nothing yet, and its register."""

    def __init__(self) -> None:
        self.network = Network(empty=True)
        self.network.keys |= {SECRETARIAT: key_of(SECRETARIAT), KZ: key_of(KZ)}
        self.register: Register | None = None
        self._doc: dict[str, Any] = {}
        self._parts: dict[str, Any] = {}

    def submit(self, data: Model, by: str | None = None) -> None:
        """Admits a registration, folds and stores it. Raises Refused."""
        record = self.network.incoming(data, by=by)
        (fact,) = decide(self.register, record, NETWORK)
        assert fact.event == record.event
        before, self.register = self.register, evolve(self.register, fact)
        self.network.serial, self.network.previous = self.register.serial, self.register.previous
        doc, parts = store.split(before, self.register)
        self._doc, self._parts = (
            json.loads(json.dumps(doc)),
            self._parts | json.loads(json.dumps(dict(parts))),
        )
        loaded = store.join(self._doc, self._parts)
        assert loaded == self.register
        self.register = loaded

    def key(self, source: str, key: Ed25519Key | None = None, **changes: object) -> KeyRegistered:
        """The next KeyRegistered."""
        return KeyRegistered.model_validate(self.network.key_data(source, key or key_of(source), **changes))

    def member(self, state: str, **changes: object) -> MemberRegistered:
        """The next MemberRegistered."""
        return MemberRegistered.model_validate(self.network.member_data(state, **changes))


@pytest.fixture
def office() -> Office:
    """With the Secretariat's own key registered."""
    office = Office()
    office.submit(office.key(SECRETARIAT), by=ROOT)
    return office


def test_root_then_secretariat_then_the_rest(office: Office) -> None:
    office.submit(office.key(KZ))
    office.submit(office.key(service_source(NETWORK, "consensus")))
    office.submit(office.member("KZ"))
    assert office.register is not None
    assert office.register.serial == 4
    assert set(office.register.members) == {"KZ"}
    assert {key.source for key in office.register.keys.values()} == {
        SECRETARIAT,
        KZ,
        service_source(NETWORK, "consensus"),
    }


def test_the_head_is_the_digest_of_the_data_as_signed(office: Office) -> None:
    record = office.network.incoming(office.member("KZ"))
    (fact,) = decide(office.register, record, NETWORK)
    assert evolve(office.register, fact).previous == digest(record.event.data)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"serial": 1}, "stale"),
        ({"serial": 3}, "not-allowed"),
        ({"previous": None}, "not-allowed"),
        ({"previous": "sha256:" + "0" * 64}, "not-allowed"),
    ],
)
def test_the_chain_has_no_gap_and_no_fork(office: Office, changes: dict[str, object], reason: str) -> None:
    before = office.register
    with pytest.raises(Refused, match=rf"^{reason}"):
        office.submit(office.member("KZ", **changes))
    assert office.register == before
    office.submit(office.member("KZ"))


def test_the_secretariats_key_is_a_root_keys_to_register_and_nothing_else_is(office: Office) -> None:
    other = Ed25519Key.generate()
    with pytest.raises(Refused, match=r"^not-allowed"):
        office.submit(office.key(SECRETARIAT, other), by=SECRETARIAT)
    with pytest.raises(Refused, match=r"^not-allowed"):
        office.submit(office.key(KZ), by=ROOT)
    office.submit(office.key(SECRETARIAT, other), by=ROOT)


def test_a_key_is_registered_once(office: Office) -> None:
    office.submit(office.key(KZ))
    with pytest.raises(Refused, match=r"^not-allowed"):
        office.submit(office.key(KZ))
    with pytest.raises(Refused, match=r"^not-allowed"):
        office.submit(office.key(state_source(NETWORK, "UZ"), key_of(KZ)))


def test_possession_must_be_proven_for_this_source_network_and_key(office: Office) -> None:
    """A proof that was given for another source, network or key proves nothing here."""
    key, other = key_of(KZ), Ed25519Key.generate()
    for network, source, key_id, signer in (
        (NETWORK, state_source(NETWORK, "UZ"), key.key_id, key),
        ("prod", KZ, key.key_id, key),
        (NETWORK, KZ, other.key_id, key),
        (NETWORK, KZ, key.key_id, other),
    ):
        proof = to_base64(signer.sign(possession_claim(network, source, key_id)))
        with pytest.raises(Refused, match=r"^bad-data.*possession"):
            office.submit(office.key(KZ, possession=proof))
    with pytest.raises(Refused, match=r"^bad-data.*possession"):
        office.submit(office.key(KZ, possession="?"))
    office.submit(office.key(KZ))


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "qalqan://prod/states/KZ"},
        {"source": "nobody"},
        {"public_key": "not PEM"},
        {"algorithm": "rot13"},
        {"algorithm": "ecdsa-p256"},
        {"key_id": "0" * 64},
    ],
)
def test_a_key_that_is_none_is_refused(office: Office, changes: dict[str, object]) -> None:
    with pytest.raises(Refused, match=r"^bad-data"):
        office.submit(KeyRegistered.model_validate(office.network.key_data(KZ, key_of(KZ)) | changes), SECRETARIAT)


def test_a_services_key_has_no_scope(office: Office) -> None:
    service = service_source(NETWORK, "consensus")
    with pytest.raises(Refused, match=r"^bad-data.*scopes"):
        office.submit(office.key(service, scopes=["vote"]))
    office.submit(office.key(service, scopes=[]))


@given(st.lists(st.sampled_from(["KZ", "UZ", "TR", "AZ"]), max_size=6), st.integers(0, 5))
def test_any_chain_folds_and_goes_on_from_its_head_alone(states: list[str], skipped: int) -> None:
    """The latest registration of a state is the one that stands."""
    office = Office()
    office.submit(office.key(SECRETARIAT), by=ROOT)
    for state in states:
        office.submit(office.member(state, names={"en": f"{state} {office.network.serial}"}))
    assert office.register is not None
    assert office.register.serial == len(states) + 1
    for state in set(states):
        last = len(states) - states[::-1].index(state)
        assert office.register.members[state].names == {"en": f"{state} {last}"}
    if skipped:
        with pytest.raises(Refused):
            office.submit(office.member("KG", serial=office.network.serial + 1 + skipped))
