"""A target's connections: TLS checks the name, a name that resolves into a private network is refused at each
connection, connections are kept; what is not HTTP is a failure in words."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.notify.delivery.answer import Answer
from services.notify.delivery.guard import Guard
from services.notify.delivery.webhook import Webhooks, new_secret
from services.notify.settings import DeliverySettings
from tests.integration.receiver import Call, ok, receiving, status

SECRET = new_secret()
PRIVATE = [
    "127.0.0.1",
    "127.1",
    "0",
    "0x7f000001",
    "2130706433",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:0:0::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
]
BODY = '{"specversion":"1.0"}'


def shared(allow: str) -> Webhooks:
    """What targets share under these settings, with short patience."""
    settings = DeliverySettings(QALQAN_WEBHOOK_ALLOW=allow, QALQAN_WEBHOOK_HTTP=True)  # type: ignore[call-arg]
    return Webhooks(Guard(settings), 3.0)


@pytest_asyncio.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    """With loopback allowed."""
    found = shared("127.0.0.0/8,::1/128")
    yield found
    found.guard.close()


async def sent(webhooks: Webhooks, url: str, times: int = 1) -> list[Answer]:
    """Attempts one after another on the same target."""
    target = webhooks.target()
    try:
        return [await target.send(url, "msg_1", BODY, [SECRET]) for _ in range(times)]
    finally:
        await target.close()


async def test_connections_are_kept(webhooks: Webhooks) -> None:
    async with receiving() as receiver:
        assert all(answer.ok for answer in await sent(webhooks, receiver.url, 10))
        assert (receiver.connections, len(receiver.calls)) == (1, 10)
        receiver.calls[0].verified(SECRET)


async def _once(call: Call, writer: asyncio.StreamWriter) -> None:
    await ok(call, writer)
    await writer.drain()
    writer.close()


async def test_a_connection_that_the_target_gave_up_is_no_failure(webhooks: Webhooks) -> None:
    """It says that it keeps the connection, and closes it."""
    async with receiving(_once) as receiver:
        assert all(answer.ok for answer in await sent(webhooks, receiver.url, 5))
        assert receiver.connections == 5


async def test_a_name_that_leads_into_a_private_network_is_refused_at_each_connection() -> None:
    """Whatever it led to when the subscription was made: nothing arrives there."""
    strict = shared("")
    try:
        async with receiving() as receiver:
            [answer] = await sent(strict, f"http://localhost:{receiver.port}/")
            assert answer.error is not None
            assert "localhost is no public address" in answer.error
            assert receiver.connections == 0
    finally:
        strict.guard.close()


@pytest.mark.parametrize("host", PRIVATE)
async def test_no_private_address_passes_in_whatever_form(host: str) -> None:
    strict = shared("")
    try:
        text = f"[{host}]" if ":" in host else host
        [answer] = await sent(strict, f"http://{text}:9/")
        assert answer.error is not None
        assert "no public address" in answer.error
    finally:
        strict.guard.close()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "its answer is not HTTP/1.1"),
        (b"HTTP/2 200 OK\r\n\r\n", "its answer is not HTTP/1.1"),
        (b"", "it closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "the head of its answer is longer than 64 KiB"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "answered 101"),
    ],
)
async def test_what_is_no_answer(webhooks: Webhooks, said: bytes, why: str) -> None:
    async def reply(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    async with receiving(reply) as receiver:
        [answer] = await sent(webhooks, receiver.url)
        assert not answer.ok
        assert why in str(answer.error)


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello", "hello"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (b"HTTP/1.0 201 Created\r\n\r\nuntil the end", "until the end"),
        (b"HTTP/1.1 204\r\n\r\n", ""),
    ],
)
async def test_what_is_an_answer(webhooks: Webhooks, said: bytes, body: str) -> None:
    async def reply(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    async with receiving(reply) as receiver:
        [answer] = await sent(webhooks, receiver.url)
        assert (answer.ok, answer.body) == (True, body)


async def test_a_target_that_asks_for_time_gets_it(webhooks: Webhooks) -> None:
    """In seconds, an hour at most."""
    async with receiving(status("503 Busy", "Retry-After: 120")) as receiver:
        [answer] = await sent(webhooks, receiver.url)
        assert (answer.error, answer.wait_s) == ("answered 503", 120)
        receiver.reply = status("429 Too Many", "Retry-After: 999999")
        [answer] = await sent(webhooks, receiver.url)
        assert answer.wait_s == 3600


async def test_tls_checks_the_name(webhooks: Webhooks, tmp_path: Path) -> None:
    """A certificate of `localhost`, signed by whom we trust: that name passes, the bare address does not."""
    authority, server = _certificates(tmp_path)
    untrusted = shared("127.0.0.0/8")
    webhooks.tls.load_verify_locations(cadata=authority)
    async with receiving(ssl=server) as receiver:
        [answer] = await sent(webhooks, f"https://localhost:{receiver.port}/")
        assert (answer.ok, answer.error) == (True, None)
        [answer] = await sent(webhooks, f"https://127.0.0.1:{receiver.port}/")
        assert "certificate" in str(answer.error)
        [answer] = await sent(untrusted, f"https://localhost:{receiver.port}/")
        assert "certificate" in str(answer.error)
    untrusted.guard.close()


def _certificates(folder: Path) -> tuple[str, ssl.SSLContext]:
    """An authority's certificate, and a server's context with one of `localhost` that it signed."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = (
        builder(name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        builder(x509.Name([]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + server.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return authority.public_bytes(serialization.Encoding.PEM).decode(), context
