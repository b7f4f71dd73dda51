"""Keys, and the signature of events (CONTRACT "Signature").

The material of an event is a DSSE 1.0.2 envelope, as the CloudEvents verifiability extension has it, over the
event's core digest alone. An algorithm belongs to the registered key, never to the message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Protocol, Self

import nacl.exceptions
import nacl.signing
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from qalqan.envelope import BadEnvelope, Event, core_digest, from_base64, to_base64
from qalqan.jsontext import canonical, parse

PAYLOAD_TYPE = "https://cloudevents.io/verifiability/dsse/v0.1"

_USUAL_ENVELOPE = re.compile(
    rb'\{"payload":"(?P<payload>[A-Za-z0-9+/=]+)","payloadType":"%b",'
    rb'"signatures":\[\{"keyid":"(?P<keyid>[0-9a-f]{64})","sig":"(?P<sig>[A-Za-z0-9+/=]+)"\}\]\}'
    % re.escape(PAYLOAD_TYPE.encode())
)
_USUAL_PAYLOAD = re.compile(rb'\{"core":"([A-Za-z0-9+/=]{44})"\}')
_KEY_ID = re.compile(r"[0-9a-f]{64}")
_PUBLIC_PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
# DER SubjectPublicKeyInfo up to the key itself (RFC 8410 section 4; RFC 5480, P-256, uncompressed point).
# Only these spellings are taken: a key has one id.
_ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
_P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-4, D.1.2.3


class BadSignature(ValueError):
    """The material does not prove this event under this key; str() says why."""


class Algorithm(Protocol):
    """A signature algorithm of the contract; the seam for others."""

    @property
    def name(self) -> str:
        """As in KeyRegistered's `algorithm`."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is one of `message` under this DER SubjectPublicKeyInfo.

        Raises ValueError when the public key is not one of this algorithm.
        """


class Ed25519:
    """RFC 8032 by libsodium, which also refuses small-order keys and non-canonical signatures."""

    name = "ed25519"

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        if len(public_key) != 44 or not public_key.startswith(_ED25519_SPKI):
            raise ValueError("not an Ed25519 public key")
        if len(signature) != 64:
            return False
        try:
            nacl.signing.VerifyKey(public_key[12:]).verify(message, signature)
        except nacl.exceptions.BadSignatureError:
            return False
        return True


class EcdsaP256:
    """ECDSA on P-256 with SHA-256: r and s of 32 bytes each, s in the lower half: one form a signature."""

    name = "ecdsa-p256"

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        key = _p256_public_key(public_key)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if len(signature) != 64 or s > _P256_ORDER // 2:
            return False
        try:
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


ALGORITHMS: dict[str, Algorithm] = {algorithm.name: algorithm for algorithm in (Ed25519(), EcdsaP256())}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key with its algorithm and its id: lower-case hex SHA-256 of `spki` (DER)."""

    key_id: str
    algorithm: str
    spki: bytes

    @classmethod
    def from_pem(cls, pem: str, algorithm: str) -> Self:
        """Read PEM (RFC 7468, `PUBLIC KEY`).

        Raises ValueError: not PEM, an unknown algorithm, a key of another algorithm.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError(f"unknown algorithm {algorithm[:40]!a}")
        found = _PUBLIC_PEM.fullmatch(pem)
        if found is None:
            raise ValueError("not a PEM public key")
        spki = from_base64("".join(found[1].split()))
        key = cls(key_id_of(spki), algorithm, spki)
        key.verify(b"", bytes(64))  # raises for a key of another algorithm
        return key

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's own of `message`."""
        return ALGORITHMS[self.algorithm].verify(self.spki, message, signature)


class SigningKey(Protocol):
    """What signs: a key in memory, or one that stays in a device."""

    @property
    def key_id(self) -> str:
        """Lower-case hex SHA-256 of the DER SubjectPublicKeyInfo."""

    @property
    def algorithm(self) -> str:
        """A name of ALGORITHMS."""

    @property
    def public_pem(self) -> str:
        """The public key as PEM (SubjectPublicKeyInfo)."""

    def sign(self, message: bytes) -> bytes:
        """The signature in the form of the algorithm (64 bytes for both of the contract)."""


class Ed25519Key:
    """An Ed25519 private key in memory."""

    algorithm = Ed25519.name

    def __init__(self, seed: bytes) -> None:
        self._key = nacl.signing.SigningKey(seed)
        spki = _ED25519_SPKI + bytes(self._key.verify_key)
        self.key_id = key_id_of(spki)
        self.public_pem = _public_pem(spki)

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(bytes(nacl.signing.SigningKey.generate()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read PKCS 8 PEM without a password. Raises ValueError."""
        key = _load_private(pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 private key")
        return cls(key.private_bytes_raw())

    def to_pem(self) -> bytes:
        """PKCS 8 PEM, not encrypted."""
        return _private_pem(Ed25519PrivateKey.from_private_bytes(bytes(self._key)))

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


class EcdsaP256Key:
    """A P-256 private key in memory."""

    algorithm = EcdsaP256.name

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("not a P-256 private key")
        self._key = key
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = key_id_of(spki)
        self.public_pem = _public_pem(spki)

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read PKCS 8 PEM without a password. Raises ValueError."""
        key = _load_private(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not a P-256 private key")
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS 8 PEM, not encrypted."""
        return _private_pem(self._key)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Material:
    """An event's `dssematerial`, decoded and not yet believed.

    `signed` is what the signature is over. `core` is the signed digest, or None when the payload has not the
    contract's form: another `payload_type`, or extension attributes are signed too.
    """

    key_id: str
    signature: bytes
    signed: bytes
    core: bytes | None
    payload_type: str


def sign(event: Event, key: SigningKey) -> Event:
    """The same event with the key's `dssematerial`. Raises ValueError when `time` is not RFC 3339."""
    payload = canonical({"core": to_base64(core_digest(event))})
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    material = {
        "payload": to_base64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.key_id, "sig": to_base64(signature)}],
    }
    return replace(event, dssematerial=to_base64(canonical(material)))


def read_material(event: Event) -> Material:
    """Decode the event's `dssematerial`, unknown members ignored. Raises BadEnvelope: absent, undecodable."""
    if event.dssematerial is None:
        raise BadEnvelope("dssematerial: missing")
    try:
        return _read(event.dssematerial)
    except ValueError as error:  # BadData among them
        raise BadEnvelope(f"dssematerial: {error}") from None


def verify(event: Event, material: Material, key: PublicKey) -> None:
    """Nothing, if `material` proves `event` under `key`; else raises BadSignature. Cheap checks go first."""
    if material.payload_type != PAYLOAD_TYPE:
        raise BadSignature(f"payloadType is not {PAYLOAD_TYPE}")
    if material.core is None:
        raise BadSignature("ext or signedextattrs is there: the contract signs no extension attributes")
    if material.key_id != key.key_id:
        raise BadSignature("signed with another key")
    if material.core != core_digest(event):
        raise BadSignature("the signed digest is another event's")
    if not key.verify(material.signed, material.signature):
        raise BadSignature("the signature is wrong")


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding; both lengths count bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id_of(spki: bytes) -> str:
    """The id of the key with this DER SubjectPublicKeyInfo."""
    return sha256(spki).hexdigest()


_USUAL_LENGTH = 2048


def _read(text: str) -> Material:
    return _read_again(text) if len(text) <= _USUAL_LENGTH else _parse_material(text)


@lru_cache(maxsize=1024)
def _read_again(text: str) -> Material:
    """A submission's material is read when it is judged, when it is folded, and when it is decided on."""
    return _parse_material(text)


def _parse_material(text: str) -> Material:
    raw = from_base64(text)
    return _usual_material(raw) or _any_material(raw)


def _usual_material(raw: bytes) -> Material | None:
    """The material as nearly everybody spells it: members in the contract's order, no white space, nothing more.

    None: it is spelled otherwise. To read it by its form takes a fraction of the time that JSON does.
    """
    envelope = _USUAL_ENVELOPE.fullmatch(raw)
    if envelope is None:
        return None
    try:
        payload, signature = (from_base64(envelope[name].decode()) for name in ("payload", "sig"))
        members = _USUAL_PAYLOAD.fullmatch(payload)
        core = from_base64(members[1].decode()) if members else None
    except ValueError:
        return None
    if core is None or len(core) != 32:
        return None
    return Material(envelope["keyid"].decode(), signature, pae(PAYLOAD_TYPE, payload), core, PAYLOAD_TYPE)


def _any_material(raw: bytes) -> Material:
    material = parse(raw, max_string=None)
    payload_type = _string(material, "payloadType")
    payload = _bytes(material, "payload")
    match material.get("signatures"):
        case [{"keyid": str(key_id), "sig": str(signature)}] if _KEY_ID.fullmatch(key_id):
            pass
        case _:
            raise ValueError("signatures: not exactly one with keyid (64 lower-case hex digits) and sig")
    core = _core_of(payload) if payload_type == PAYLOAD_TYPE else None
    return Material(key_id, _bytes({"sig": signature}, "sig"), pae(payload_type, payload), core, payload_type)


def _core_of(payload: bytes) -> bytes | None:
    members = parse(payload, max_string=None)
    core = _bytes(members, "core")
    if len(core) != 32:
        raise ValueError("core: not 32 bytes")
    return None if "ext" in members or "signedextattrs" in members else core


def _string(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing, or not a string")
    return value


def _bytes(members: Mapping[str, object], name: str) -> bytes:
    try:
        return from_base64(_string(members, name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _public_pem(spki: bytes) -> str:
    text = to_base64(spki)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def _load_private(pem: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:  # encrypted, or of a kind unknown here
        raise ValueError(f"cannot read this private key: {error}") from error


def _private_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@lru_cache(maxsize=1024)
def _p256_public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    key = serialization.load_der_public_key(spki) if spki.startswith(_P256_SPKI) and len(spki) == 91 else None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not a P-256 public key")
    return key
