import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from qalqan.envelope import BadEnvelope, Event, core_digest, from_base64
from qalqan.signing import (
    ALGORITHMS,
    PAYLOAD_TYPE,
    BadSignature,
    EcdsaP256Key,
    Ed25519Key,
    PublicKey,
    SigningKey,
    _any_material,
    _usual_material,
    pae,
    read_material,
    sign,
    verify,
)

EVENT = Event(
    id="vote-1",
    source="qalqan://dev-3f9a/states/KZ",
    type="qalqan.VoteCast.v1",
    subject="TR-2023-0001",
    time="2023-02-06T01:17:34Z",
    datacontenttype="application/json",
    data=b'{"round": 1}',
    extensions={"partitionkey": "TR-2023-0001"},
)
ED25519 = Ed25519Key(bytes(range(32)))
KEYS: list[SigningKey] = [ED25519, EcdsaP256Key.generate()]
both = pytest.mark.parametrize("key", KEYS, ids=[key.algorithm for key in KEYS])


def public(key: SigningKey) -> PublicKey:
    return PublicKey.from_pem(key.public_pem, key.algorithm)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def opened(event: Event) -> dict[str, Any]:
    """The DSSE envelope of a signed event."""
    material: dict[str, Any] = json.loads(base64.b64decode(event.dssematerial or ""))
    return material


def closed(material: object, event: Event = EVENT) -> Event:
    return replace(event, dssematerial=b64(json.dumps(material).encode()))


def signed_payload(payload: object, payload_type: str = PAYLOAD_TYPE) -> Event:
    """EVENT with any payload, properly signed by ED25519."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signature = b64(ED25519.sign(pae(payload_type, raw)))
    signatures = [{"keyid": ED25519.key_id, "sig": signature}]
    return closed({"payload": b64(raw), "payloadType": payload_type, "signatures": signatures})


CORE = b64(core_digest(EVENT))


@both
def test_what_is_signed_is_verified(key: SigningKey) -> None:
    event = sign(EVENT, key)
    assert replace(event, dssematerial=None) == EVENT
    material = read_material(event)
    assert material.key_id == key.key_id
    assert material.core == core_digest(EVENT)
    assert material.payload_type == PAYLOAD_TYPE
    verify(event, material, public(key))


def test_the_material_as_the_contract_spells_it() -> None:
    material = opened(sign(EVENT, ED25519))
    payload = json.dumps({"core": CORE}, separators=(",", ":")).encode()
    signed = f"DSSEv1 46 https://cloudevents.io/verifiability/dsse/v0.1 {len(payload)} ".encode() + payload
    assert material == {
        "payload": b64(payload),
        "payloadType": "https://cloudevents.io/verifiability/dsse/v0.1",
        "signatures": [{"keyid": ED25519.key_id, "sig": b64(ED25519.sign(signed))}],
    }


@both
def test_another_event_under_the_same_material_is_refused(key: SigningKey) -> None:
    event = sign(EVENT, key)
    material = read_material(event)
    changed: list[Event] = [
        replace(event, id="vote-2"),
        replace(event, source="qalqan://other/states/KZ"),
        replace(event, type="qalqan.PledgeOffered.v1"),
        replace(event, subject="TR-2023-0002"),
        replace(event, time=None),
        replace(event, dataschema="https://example.org/"),
        replace(event, data=b'{"round":1}'),
    ]
    for other in changed:
        with pytest.raises(BadSignature, match="digest"):
            verify(other, material, public(key))


@both
@given(st.integers(0, 511))
def test_a_signature_with_any_bit_turned_is_refused(key: SigningKey, bit: int) -> None:
    event = sign(EVENT, key)
    material = read_material(event)
    turned = bytearray(material.signature)
    turned[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignature, match="signature is wrong"):
        verify(event, replace(material, signature=bytes(turned)), public(key))


@both
@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(key: SigningKey, length: int) -> None:
    assert not public(key).verify(b"message", bytes(length))
    assert not public(key).verify(b"message", key.sign(b"message") + b"\0")


def test_another_key_is_refused_under_its_own_id_and_under_the_first() -> None:
    event = sign(EVENT, ED25519)
    material = read_material(event)
    stranger = public(Ed25519Key.generate())
    with pytest.raises(BadSignature, match="another key"):
        verify(event, material, stranger)
    with pytest.raises(BadSignature, match="signature is wrong"):
        verify(event, replace(material, key_id=stranger.key_id), stranger)


def test_an_envelope_may_be_spelled_otherwise_and_may_say_more() -> None:
    material = opened(sign(EVENT, ED25519))
    material["note"] = {"any": [1, None]}
    material["signatures"][0]["cert"] = "x"
    event = replace(EVENT, dssematerial=b64(json.dumps(material, indent=2).encode()))
    verify(event, read_material(event), public(ED25519))
    more = signed_payload({"note": 1, "core": CORE})
    verify(more, read_material(more), public(ED25519))


def _changed(change: Callable[[dict[str, Any]], object]) -> Event:
    material = opened(sign(EVENT, ED25519))
    change(material)
    return closed(material)


def _signature(**changes: object) -> Event:
    return _changed(lambda material: material["signatures"][0].update(changes))


UNDECODABLE = {
    "absent": EVENT,
    "not base64": replace(EVENT, dssematerial="{}"),
    "unpadded": replace(EVENT, dssematerial="e30"),
    "URL-safe": replace(EVENT, dssematerial="_-8="),
    "not UTF-8": replace(EVENT, dssematerial=b64(b'{"a":"\xff"}')),
    "not JSON": replace(EVENT, dssematerial=b64(b"x")),
    "deep": replace(EVENT, dssematerial=b64(b"[" * 50_000)),
    "list": closed([]),
    "empty": closed({}),
    "no payload": _changed(lambda material: material.pop("payload")),
    "payload object": _changed(lambda material: material.update(payload={"core": CORE})),
    "payload not base64": _changed(lambda material: material.update(payload="x")),
    "no payloadType": _changed(lambda material: material.pop("payloadType")),
    "payloadType number": _changed(lambda material: material.update(payloadType=1)),
    "no signatures": _changed(lambda material: material.pop("signatures")),
    "no signature": _changed(lambda material: material.update(signatures=[])),
    "two signatures": _changed(lambda material: material.update(signatures=material["signatures"] * 2)),
    "signatures object": _changed(lambda material: material.update(signatures=material["signatures"][0])),
    "signature text": _changed(lambda material: material.update(signatures=["x"])),
    "no keyid": _changed(lambda material: material["signatures"][0].pop("keyid")),
    "keyid null": _signature(keyid=None),
    "keyid in capitals": _signature(keyid=ED25519.key_id.upper()),
    "keyid short": _signature(keyid=ED25519.key_id[1:]),
    "keyid of the specification": _signature(keyid="testkey"),
    "no sig": _changed(lambda material: material["signatures"][0].pop("sig")),
    "sig hex": _signature(sig="00" * 63 + "0"),
    "payload a raw digest": signed_payload(core_digest(EVENT)),
    "payload list": signed_payload([CORE]),
    "payload without core": signed_payload({}),
    "core twice": signed_payload(f'{{"core":"{CORE}","core":"{CORE}"}}'.encode()),
    "core number": signed_payload({"core": 1}),
    "core hex": signed_payload({"core": core_digest(EVENT).hex() + "0"}),
    "core of 31 bytes": signed_payload({"core": b64(bytes(31))}),
    "core of 33 bytes": signed_payload({"core": b64(bytes(33))}),
}


@pytest.mark.parametrize("event", UNDECODABLE.values(), ids=UNDECODABLE.keys())
def test_material_that_cannot_be_decoded_is_a_bad_envelope(event: Event) -> None:
    with pytest.raises(BadEnvelope, match="dssematerial: ") as refused:
        read_material(event)
    assert str(refused.value).isascii()


DIGEST = b64(bytes(32))
OUTSIDE_THE_PROFILE = {
    "another payloadType": signed_payload({"core": CORE}, "https://cloudevents.io/verifiability/dsse/v0.2"),
    "another payloadType, any payload": signed_payload(b"\xff", "text/plain; x=қ"),
    "extensions signed": signed_payload({"core": CORE, "ext": DIGEST, "signedextattrs": ["partitionkey"]}),
    # Verifiability extension, "Test Vectors", cases 8a to 8e (8f is of typed extensions).
    "8a": signed_payload({"core": CORE, "ext": DIGEST, "signedextattrs": ["exta", "exta"]}),
    "8b": signed_payload({"core": CORE, "ext": DIGEST, "signedextattrs": ["exta", "id"]}),
    "8c": signed_payload({"core": CORE, "ext": DIGEST, "signedextattrs": ["dssematerial"]}),
    "8d": signed_payload({"core": CORE, "signedextattrs": ["exta"]}),
    "8e": signed_payload({"core": CORE, "ext": DIGEST}),
    "null": signed_payload({"core": CORE, "ext": None}),
}


@pytest.mark.parametrize("event", OUTSIDE_THE_PROFILE.values(), ids=OUTSIDE_THE_PROFILE.keys())
def test_material_outside_the_contract_is_refused_though_properly_signed(event: Event) -> None:
    material = read_material(event)
    assert public(ED25519).verify(material.signed, material.signature)
    with pytest.raises(BadSignature, match=r"payloadType|signedextattrs"):
        verify(event, material, public(ED25519))


# Verifiability extension, "Test Vectors", at commit c2845a49bc98 of the specification's repository: payload,
# signature of the cases whose signatures hold. Most have s in the upper half, which the contract does not
# take; the same signature with n - s is theirs too.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
P256_Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
VECTORS = {
    # An older text's payload: the raw digest.
    "1 and 2": (
        base64.b64decode("5xz5/VtoxNJVYaYxmLeL6xL9I6Cav9P3goh6qyCYGfQ="),
        "wYj8bRPXYCILrywsP7WGUBwTJsnZHYXMHiXFmYhuBGa9Mhp7X4vE7QAbHWo+Wf+cMDAb3zuypF5UmWpdkIPjiQ==",
    ),
    "3 and 4": (
        b'{"core":"wKCa8sq3dyg/00ZiDQy/aXAY1tepQnrKLa6xP0Y3D/Q="}',
        "UMqiNYp7SQZq6MHdms4dn2msHGinLHvZaUV3ghcj/cn5Bi3d5jz0sfhm9pZ89CcOa+WWtjY6cZvj7c/tOWsTVg==",
    ),
    "5": (
        b'{"core":"qCSeiZkS+hH9WiClfq6plfqYNVy2kvxWRfoBrLEzoDk="}',
        "F2ip0xmgJX3ugHZC6tMrr7A2Eqai08raGrTwdyh/OGDIIrF7ByM2yITLKqNrF3dzZGR2o0Cs9fEBFdLxROUyEQ==",
    ),
    "7": (
        b'{"core":"LTgQKHGheg6T48xpGGr5zNkdhp22kenZCOqicFtI4SA=",'
        b'"ext":"HB1pe431FoQZRsJbyLNMq0QaAvqPtmhdi8dHGShbJAU=","signedextattrs":["exta","extb"]}',
        "2g1UoAQpz1oPjZTPRZe+yvLzZQNECZakjbZVXizDwdMneIH++/53uXN2bCSkVJImfwOiYyKBm4mvsMHJXIUhzg==",
    ),
}


def p256(point: bytes) -> PublicKey:
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + point
    return PublicKey.from_pem(pem(spki), "ecdsa-p256")


def pem(spki: bytes) -> str:
    return f"-----BEGIN PUBLIC KEY-----\n{b64(spki)}\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(("payload", "signature"), VECTORS.values(), ids=VECTORS.keys())
def test_signatures_of_the_specification(payload: bytes, signature: str) -> None:
    key = p256(P256_X.to_bytes(32, "big") + P256_Y.to_bytes(32, "big"))
    raw = base64.b64decode(signature)
    s = int.from_bytes(raw[32:], "big")
    twin = raw[:32] + (P256_ORDER - s).to_bytes(32, "big")
    low, high = (raw, twin) if s <= P256_ORDER // 2 else (twin, raw)
    signed = pae(PAYLOAD_TYPE, payload)
    assert key.verify(signed, low)
    assert not key.verify(signed, high)
    assert not key.verify(payload, low)
    assert not key.verify(signed + b" ", low)


def test_a_case_of_the_specification_from_end_to_end() -> None:
    # Case 5, with the signature's low twin and the key id in the contract's form.
    key = p256(P256_X.to_bytes(32, "big") + P256_Y.to_bytes(32, "big"))
    payload, signature = VECTORS["5"]
    raw = base64.b64decode(signature)
    low = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    signatures = [{"keyid": key.key_id, "sig": b64(low)}]
    data = b"\xf0\x9f\xa4\xa1"
    event = Event("1", "example/uri", "example.type.binary", None, None, "application/octet-stream", data)
    event = closed({"payload": b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}, event)
    verify(event, read_material(event), key)


def test_pae_counts_bytes() -> None:
    # The example of DSSE 1.0.2, protocol.md.
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("қ", "€".encode()) == b"DSSEv1 2 \xd2\x9b 3 \xe2\x82\xac"


def test_ed25519_against_the_rfc() -> None:
    # RFC 8032 section 7.1, test 2.
    key = Ed25519Key(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert public(key).spki[12:].hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72") == signature
    assert public(key).verify(b"\x72", signature)
    # The same s plus the group's order (RFC 8032 section 5.1.7: decode s in the range 0 <= s < L).
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    assert not public(key).verify(b"\x72", signature[:32] + s.to_bytes(32, "little"))


def test_a_small_order_key_proves_nothing() -> None:
    # The neutral point as key and as R, s = 0: the equation holds for every message.
    neutral = b"\x01" + bytes(31)
    weak = PublicKey.from_pem(pem(bytes.fromhex("302a300506032b6570032100") + neutral), "ed25519")
    assert not weak.verify(b"any message", neutral + bytes(32))


@pytest.mark.parametrize("r_s", [(0, 0), (0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER)])
def test_p256_signatures_outside_the_group_are_refused(r_s: tuple[int, int]) -> None:
    signature = b"".join(number.to_bytes(32, "big") for number in r_s)
    assert not public(KEYS[1]).verify(b"message", signature)


@given(st.binary(max_size=100))
def test_p256_signatures_are_always_of_the_low_form(message: bytes) -> None:
    signature = KEYS[1].sign(message)
    assert int.from_bytes(signature[32:], "big") <= P256_ORDER // 2
    assert public(KEYS[1]).verify(message, signature)


@both
def test_private_keys_come_back_from_pem(key: Ed25519Key | EcdsaP256Key) -> None:
    again = type(key).from_pem(key.to_pem())
    assert (again.key_id, again.public_pem) == (key.key_id, key.public_pem)
    assert key.to_pem().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert public(key).verify(b"message", again.sign(b"message"))


def test_public_keys_as_other_tools_write_them() -> None:
    # RFC 8410 section 10.1, a public key in PEM.
    body = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    key = PublicKey.from_pem(f"-----BEGIN PUBLIC KEY-----\r\n{body}\r\n-----END PUBLIC KEY-----", "ed25519")
    assert key.spki[12:].hex() == "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    # And section 10.3, a private key: the same pair.
    private = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    assert Ed25519Key.from_pem(private + b"-----END PRIVATE KEY-----\n").key_id == key.key_id


ED25519_PEM, P256_PEM = (key.public_pem for key in KEYS)


@pytest.mark.parametrize(
    ("text", "algorithm", "message"),
    [
        (ED25519_PEM, "ecdsa-p256", "not a P-256"),
        (P256_PEM, "ed25519", "not an Ed25519"),
        (ED25519_PEM, "none", "unknown algorithm"),
        (ED25519_PEM.replace("PUBLIC", "PRIVATE"), "ed25519", "not a PEM"),
        ("", "ed25519", "not a PEM"),
        (ED25519_PEM + ED25519_PEM, "ed25519", "not a PEM"),
        (ED25519_PEM.replace("=", ""), "ed25519", "base64"),
        (pem(PublicKey.from_pem(ED25519_PEM, "ed25519").spki + b"\0"), "ed25519", "not an Ed25519"),
        (pem(b""), "ed25519", "not an Ed25519"),
        (P256_PEM.replace("A", "B", 1), "ecdsa-p256", "not a P-256"),
    ],
)
def test_what_is_no_key_of_the_algorithm_is_refused(text: str, algorithm: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PublicKey.from_pem(text, algorithm)


def test_a_point_off_the_curve_is_no_key() -> None:
    with pytest.raises(ValueError, match=r".+"):
        p256(b"\x01" * 64)


@pytest.mark.parametrize("kind", [Ed25519Key, EcdsaP256Key])
def test_what_is_no_private_key_of_the_algorithm_is_refused(
    kind: type[Ed25519Key] | type[EcdsaP256Key],
) -> None:
    others = [key.to_pem() for key in KEYS if isinstance(key, Ed25519Key | EcdsaP256Key) and not isinstance(key, kind)]
    for text in [b"", b"x", ED25519_PEM.encode(), *others]:
        with pytest.raises(ValueError, match=r".+"):
            kind.from_pem(text)


def test_a_private_key_under_a_password_is_refused() -> None:
    secret = load_pem_private_key(ED25519.to_pem(), None)
    locked = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with pytest.raises(ValueError, match="private key"):
        Ed25519Key.from_pem(locked)


def test_a_private_key_does_not_show_itself() -> None:
    assert bytes(range(32)).hex() not in repr(vars(ED25519)) + repr(ED25519)


class Reversed:
    """The message backwards: an algorithm needs nothing but its place in ALGORITHMS."""

    name = "reversed"

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        return signature == message[::-1]


class ReversedKey:
    key_id = "ab" * 32
    algorithm = "reversed"
    public_pem = pem(b"any")

    def sign(self, message: bytes) -> bytes:
        return message[::-1]


def test_another_algorithm_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "reversed", Reversed())
    event = sign(EVENT, ReversedKey())
    key = replace(PublicKey.from_pem(ReversedKey.public_pem, "reversed"), key_id=ReversedKey.key_id)
    verify(event, read_material(event), key)
    with pytest.raises(BadSignature, match="wrong"):
        verify(event, replace(read_material(event), signature=b"x"), key)


USUAL = from_base64(sign(EVENT, ED25519).dssematerial or "")


def test_what_we_sign_is_spelled_as_usual() -> None:
    assert _usual_material(USUAL) == _any_material(USUAL)


@given(
    st.integers(0, len(USUAL) - 1), st.integers(0, 3), st.sampled_from([b"", b"=", b"A", b"-", b"\\", b'"', b"\xff"])
)
def test_the_quick_reading_of_material_takes_nothing_that_the_strict_one_does_not(
    at: int, cut: int, put: bytes
) -> None:
    raw = USUAL[:at] + put + USUAL[at + cut :]
    quick = _usual_material(raw)
    assert quick is None or quick == _any_material(raw)
