"""Webhooks by Standard Webhooks (https://www.standardwebhooks.com): signed, to a checked address, answers bounded."""

import asyncio
import base64
import re
import secrets
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from qalqan.envelope import STRUCTURED_JSON
from services.notify.delivery.answer import Answer
from services.notify.delivery.connection import Connection, NoAnswer, Reply, connect
from services.notify.delivery.guard import Guard, NotAllowed

CONNECT_S = 5.0
AT_ONCE = 4
"""Connections to one target."""
_ADDRESSES = 3
_KEPT_S = 60.0
_LONGEST_WAIT_S = 3600.0


def new_secret() -> str:
    """A secret of 32 random bytes, as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Webhooks:
    """What all targets share: the guard, the roots of trust, how long an attempt may take."""

    def __init__(self, guard: Guard, timeout_s: float) -> None:
        self.guard = guard
        self.timeout_s = timeout_s

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """The roots of trust: read once, when the first target asks for them. SSL_CERT_FILE names others."""
        return ssl.create_default_context()

    def target(self) -> "Target":
        """The connections of one subscription."""
        return Target(self)


class Target:
    """Sends to one target and keeps its connections."""

    def __init__(self, shared: Webhooks) -> None:
        self._shared = shared
        self._url = ""
        self._idle: list[Connection] = []

    async def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    async def send(self, url: str, message_id: str, body: str, signing: Sequence[str]) -> Answer:
        """One attempt. `signing`: the secrets, the newest first; while one is rotated there are two."""
        began, whole_s = time.monotonic(), self._shared.timeout_s
        try:
            host, port = self._shared.guard.check_url(url)
            async with asyncio.timeout(whole_s):
                reply = await self._post(url, host, port, _request(url, message_id, body, signing))
        except NotAllowed as error:
            why = str(error)
        except TimeoutError:
            why = f"no answer within {whole_s:g} s"
        except NoAnswer as error:
            why = f"the connection failed: {error}"[:300]
        else:
            return _answer(reply, _ms_since(began))
        return Answer(False, None, why, _ms_since(began))

    async def _post(self, url: str, host: str, port: int, request: bytes) -> Reply:
        if url != self._url:
            await self.close()
            self._url = url
        now = asyncio.get_running_loop().time()
        while self._idle:
            kept = self._idle.pop()
            if kept.usable and now - kept.idle_since < _KEPT_S:
                try:
                    return await self._call(kept, url, request)
                except NoAnswer as error:
                    if not error.at_once:
                        raise
                    # It closed a connection that it had kept just when we used it: no fault of its.
                    break
            kept.close()
        return await self._call(await self._connect(url, host, port), url, request)

    async def _call(self, connection: Connection, url: str, request: bytes) -> Reply:
        reply = await connection.call(request)
        if connection.usable and url == self._url:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    async def _connect(self, url: str, host: str, port: int) -> Connection:
        tls = self._shared.tls if url.startswith("https:") else None
        try:
            async with asyncio.timeout(CONNECT_S):
                try:
                    addresses = await self._shared.guard.addresses(host, port)
                except OSError as error:
                    raise NoAnswer(f"the name does not resolve ({error.strerror or error})") from None
                return await connect(addresses[:_ADDRESSES], port, tls, host)
        except TimeoutError:
            raise NoAnswer(f"none within {CONNECT_S:g} s") from None


def _request(url: str, message_id: str, body: str, signing: Sequence[str]) -> bytes:
    """The whole of it. `check_url` let nothing into the URL that could end a line."""
    at = datetime.now(UTC)
    parts = urlsplit(url)
    where = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    content = body.encode()
    head = (
        f"POST {where} HTTP/1.1\r\n"
        f"Host: {parts.netloc}\r\n"
        f"User-Agent: qalqan-notify/1\r\n"
        f"Content-Type: {STRUCTURED_JSON}; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\n"
        f"webhook-id: {message_id}\r\n"
        f"webhook-timestamp: {int(at.timestamp())}\r\n"
        f"webhook-signature: {' '.join(Webhook(secret).sign(message_id, at, body) for secret in signing)}\r\n"
        "\r\n"
    )
    return head.encode("ascii") + content


def _answer(reply: Reply, took_ms: int) -> Answer:
    status = reply.status
    ok = 200 <= status < 300
    asked_s = reply.headers.get("retry-after", "")
    return Answer(
        ok=ok,
        status=status,
        error=None if ok else _why(status),
        took_ms=took_ms,
        body=reply.body.decode("utf-8", "replace"),
        wait_s=min(float(asked_s), _LONGEST_WAIT_S) if re.fullmatch("[0-9]{1,9}", asked_s) else 0.0,
        # 410: the subscription is to end (Standard Webhooks, "Success and failure").
        gone=status == 410,
    )


def _why(status: int) -> str:
    if 300 <= status < 400:
        return f"answered {status}: a redirect, which is never followed"
    return "answered 410: it wants nothing more" if status == 410 else f"answered {status}"


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
