"""The seam of algorithms: keys of other kinds, from their registration through admission to a certificate."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from chassis.admission import Admission
from qalqan import signing
from qalqan.certificate import verify_certificate, verify_event
from qalqan.events import KeyRegistered, PledgeOffered, VoteCast
from qalqan.registry import NotRegistered
from qalqan.signing import Algorithm, EcdsaP256Key, Ed25519Key, SigningKey
from qalqan.sources import service_source, state_source
from qalqan.topics import INBOX_PLEDGES, INBOX_VOTES
from tests.unit.builders import NETWORK, T0, example
from tests.unit.hearing import CONSENSUS, Hearing
from tests.unit.network import Network
from tests.unit.test_draft import A
from tests.unit.tray import Inbox, TrayLane, told

KZ = state_source(NETWORK, "KZ")


class Rsa:
    """Another algorithm than the contract's: RSA with PKCS#1 v1.5, for these tests alone."""

    name = "rsa-2048-test"

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        try:
            key = load_der_public_key(public_key)
        except ValueError as error:
            raise ValueError("no key at all") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("not an RSA key")
        try:
            key.verify(signature, message, PKCS1v15(), SHA256())
        except Exception:
            return False
        return True


class RsaKey:
    """A key of it."""

    algorithm = Rsa.name

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        public = self._key.public_key()
        spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = sha256(spki).hexdigest()
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, PKCS1v15(), SHA256())


@pytest.fixture(params=[EcdsaP256Key.generate, RsaKey], ids=["ecdsa-p256", "one of the test's own"])
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SigningKey:
    """A key that is not Ed25519; the table of algorithms knows the test's own while the test runs."""
    algorithm: Algorithm = Rsa()
    monkeypatch.setitem(signing.ALGORITHMS, algorithm.name, algorithm)
    made: SigningKey = request.param()
    return made


def test_a_vote_is_admitted_under_it(key: SigningKey) -> None:
    network = Network()
    network.register_key(KZ, key)
    admission = Admission(INBOX_VOTES, network.registry, CONSENSUS)
    event = network.event(example(VoteCast))
    assert admission.judge(network.record(event), T0).refused is None
    forged = admission.judge(network.record(replace(event, data=event.data + b" ")), T0)
    assert forged.refused is not None
    assert forged.refused.reason == "bad-signature"


def test_its_scopes_and_window_are_as_any_keys(key: SigningKey) -> None:
    network = Network()
    network.register_key(KZ, key, scopes=["pledge"], valid_until="2023-02-06T04:00:00Z")
    vote = network.record(network.event(example(VoteCast)))
    pledge = example(PledgeOffered, pledge_id="KZ-1", pledging_state="KZ")
    offer = network.record(network.event(pledge))
    votes = Admission(INBOX_VOTES, network.registry, CONSENSUS)
    pledges = Admission(INBOX_PLEDGES, network.registry, service_source(NETWORK, "pledge"))
    late = T0 + timedelta(hours=1)
    reasons = [
        judgement.refused and judgement.refused.reason
        for judgement in (votes.judge(vote, T0), pledges.judge(offer, T0), pledges.judge(offer, late))
    ]
    assert reasons == ["key-scope", None, "key-not-valid"]


def test_an_offer_goes_through_a_lane_under_it(key: SigningKey) -> None:
    network = Network()
    network.register_key(state_source(NETWORK, "AZ"), key)
    lane, inbox = TrayLane(network), Inbox(network)
    taken = inbox.offered(A, "AZ-1", T0)
    assert told(lane.handle(inbox.raised(A, T0), taken)) == ["PledgeOffered AZ-1"]
    (out,) = lane.out
    assert out.value == taken.value


def test_a_ballot_with_keys_of_every_kind_has_a_certificate_that_holds(key: SigningKey) -> None:
    """The affected state, a voter and the service itself sign with it; the others with Ed25519."""
    network = Network()
    other: SigningKey = type(key)() if isinstance(key, RsaKey) else EcdsaP256Key.generate()
    third: SigningKey = type(key)() if isinstance(key, RsaKey) else EcdsaP256Key.generate()
    network.register_key(state_source(NETWORK, "TR"), key)
    network.register_key(KZ, other)
    network.register_key(CONSENSUS, third)
    hearing = Hearing(network)
    hearing.raised(T0)
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0 + timedelta(minutes=1))
    assert verify_certificate(hearing.closing.certificate, network.root) == []
    assert verify_event(hearing.closing_event, network.root) == []


def test_the_algorithm_belongs_to_the_key(key: SigningKey) -> None:
    """A key registered under another algorithm's name is none, whatever its holder can prove."""
    network = Network()
    for algorithm in ("ed25519", "ecdsa-p256", "rsa-2048-test", "none"):
        if algorithm != key.algorithm:
            data = KeyRegistered.model_validate(network.key_data(KZ, key, algorithm=algorithm))
            with pytest.raises(NotRegistered, match="public_key"):
                network.apply(network.registration(data))


def test_an_algorithm_that_is_not_in_the_table_registers_nobody() -> None:
    network = Network()
    key = RsaKey()
    data = KeyRegistered.model_validate(network.key_data(KZ, key))
    with pytest.raises(NotRegistered, match="unknown algorithm"):
        network.apply(network.registration(data))
    network.register_key(KZ, Ed25519Key.generate())
