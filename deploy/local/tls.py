"""A certificate authority for one home, and the certificates by which brokers and the runner know each other.

The authority is made once; what it signs is made anew at every start, so that nothing expires in use.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.local.ports import LOOPBACK
from deploy.local.private import write_private

_AUTHORITY_LIFE = timedelta(days=3650)
_LIFE = timedelta(days=365)
_CLOCKS_DIFFER = timedelta(minutes=5)


class Authority:
    """The authority of a home, under `directory`: `ca.pem` is what clients trust, `ca.key` stays here (0600)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate_file = directory / "ca.pem"
        key_file = directory / "ca.key"
        if not self.certificate_file.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name(f"Qalqan development {directory.parent.name}")
            made = (
                _builder(name, name, key.public_key(), _AUTHORITY_LIFE)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(signs=True), critical=True)
                .sign(key, hashes.SHA256())
            )
            write_private(key_file, _pem(key))
            write_private(self.certificate_file, made.public_bytes(Encoding.PEM))  # last: with it, the key is there
        found = load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        self._key = found
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def issue(self, name: str, *hosts: str) -> Path:
        """A new key with its certificate (CN=`name`, for the loopback address and `hosts`, as server and as client), in
        one PEM file of mode 0600."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = (
            _builder(_name(name), self._certificate.subject, key.public_key(), _LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ip_address(LOOPBACK)), *map(x509.DNSName, ("localhost", *hosts))]
                ),
                critical=False,
            )
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self.directory / f"{name}.pem"
        write_private(path, _pem(key) + made.public_bytes(Encoding.PEM))
        return path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
