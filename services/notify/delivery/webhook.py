"""Webhooks by Standard Webhooks (https://www.standardwebhooks.com): signed, to a checked address, answers bounded."""

import asyncio
import base64
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import httpcore2
from standardwebhooks import Webhook

from qalqan.envelope import STRUCTURED_JSON
from services.notify.delivery.answer import Answer
from services.notify.delivery.guard import Guard, GuardedNetwork, NotAllowed

CONNECT_S, BODY_S = 5.0, 2.0
ANSWER_LIMIT_BYTES = 64 * 1024
AT_ONCE = 4
"""Connections to one target."""
_KEPT_S = 60.0
_LONGEST_WAIT_S = 3600.0


def new_secret() -> str:
    """A secret of 32 random bytes, as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Webhooks:
    """What all targets share: the guard, and the roots of trust."""

    def __init__(self, guard: Guard, timeout_s: float) -> None:
        self.guard = guard
        self.timeout_s = timeout_s
        # The roots are read once, not for each target.
        self.tls = httpcore2.default_ssl_context()
        self.network = GuardedNetwork(guard)

    def target(self) -> "Target":
        """The connections of one subscription."""
        return Target(self)


class Target:
    """Sends to one target and keeps its connections."""

    def __init__(self, shared: Webhooks) -> None:
        self._shared = shared
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=shared.tls,
            network_backend=shared.network,
            max_connections=AT_ONCE,
            keepalive_expiry=_KEPT_S,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()

    async def send(self, url: str, message_id: str, body: str, signing: Sequence[str]) -> Answer:
        """One attempt. `signing`: the secrets, the newest first; while one is rotated there are two."""
        began, whole_s = time.monotonic(), self._shared.timeout_s
        try:
            self._shared.guard.check_url(url)
            async with asyncio.timeout(whole_s):
                headers, content = _headers(message_id, body, signing), body.encode()
                kept = any(connection.is_idle() for connection in self._pool.connections)
                try:
                    return await self._post(url, headers, content, began)
                except (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError):
                    if not kept:
                        raise
                    # The target closed a connection that it had kept just when we used it: no fault of its.
                    return await self._post(url, headers, content, began)
        except NotAllowed as error:
            failure = str(error)
        except TimeoutError:
            failure = f"no answer within {whole_s:g} s"
        except httpcore2.TimeoutException as error:
            failure = str(error) or f"no answer within {whole_s:g} s"
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            failure = f"the connection failed: {error}"[:300]
        return Answer(False, None, failure, _ms_since(began))

    async def _post(self, url: str, headers: list[tuple[bytes, bytes]], body: bytes, began: float) -> Answer:
        extensions = {"timeout": {"connect": CONNECT_S}}  # the whole has its own limit
        async with self._pool.stream("POST", url, headers=headers, content=body, extensions=extensions) as response:
            status = response.status
            took_ms = _ms_since(began)
            text = await _beginning(response)
        ok = 200 <= status < 300
        # 410: the subscription is to end (Standard Webhooks, "Success and failure").
        return Answer(ok, status, None if ok else _why(status), took_ms, text, _wait_s(response), status == 410)


async def _beginning(response: httpcore2.Response) -> str:
    """At most 64 KiB of what the target says, and not for long: its status is the answer."""
    kept = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in response.aiter_stream():
                kept += chunk
                if len(kept) >= ANSWER_LIMIT_BYTES:
                    break
    except (TimeoutError, httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError):
        pass  # the connection is closed with the block; the status has come
    return bytes(kept[:ANSWER_LIMIT_BYTES]).decode("utf-8", "replace")


def _headers(message_id: str, body: str, signing: Sequence[str]) -> list[tuple[bytes, bytes]]:
    at = datetime.now(UTC)
    signatures = " ".join(Webhook(secret).sign(message_id, at, body) for secret in signing)
    return [
        (b"Content-Type", f"{STRUCTURED_JSON}; charset=utf-8".encode()),
        (b"User-Agent", b"qalqan-notify/1"),
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", str(int(at.timestamp())).encode()),
        (b"webhook-signature", signatures.encode()),
    ]


def _why(status: int) -> str:
    if 300 <= status < 400:
        return f"answered {status}: a redirect, which is never followed"
    return "answered 410: it wants nothing more" if status == 410 else f"answered {status}"


def _wait_s(response: httpcore2.Response) -> float:
    for name, value in response.headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return min(float(value), _LONGEST_WAIT_S)
    return 0.0


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
