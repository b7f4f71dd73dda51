"""One HTTP/1.1 connection to a webhook's target, as little of it as a webhook needs (RFC 9112).

A general client costs 0.3 ms of a processor for each call, which with hundreds of targets is what they wait for. Here
a call is one write; of the answer the status counts, and of its body no more is read than 64 KiB and for two seconds.
Where its end is not plain from a Content-Length, the connection is not used again.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BODY_S = 2.0
LIMIT_BYTES = 64 * 1024
"""Of the head of an answer, and of its body."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")


class NoAnswer(Exception):
    """The target gave none, or none that is HTTP; str() says what happened. `at_once`: nothing of it had come."""

    def __init__(self, why: str, at_once: bool = False) -> None:
        super().__init__(why)
        self.at_once = at_once


@dataclass(frozen=True, slots=True)
class Reply:
    """What a target answered: status, headers (names in lower case), the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def connect(addresses: Sequence[str], port: int, tls: ssl.SSLContext | None, host: str) -> "Connection":
    """A connection to the first of these addresses that takes one. With TLS the certificate is checked for `host`.

    NoAnswer: none does. Blocks until then: the caller limits the time.
    """
    loop = asyncio.get_running_loop()
    why = "no address"
    for address in addresses:
        try:
            _, made = await loop.create_connection(
                Connection, address, port, ssl=tls, server_hostname=host if tls else None
            )
        except OSError as error:  # TLS's among them
            why = str(error)
        else:
            return made
    raise NoAnswer(why)


class Connection(asyncio.Protocol):
    """Takes one call at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._read = bytearray()
        self._answer: asyncio.Future[Reply] | None = None
        self._head: tuple[int, Mapping[str, str]] | None = None
        self._length: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.usable = True
        """Whether another call may be made on it."""
        self.idle_since = 0.0

    async def call(self, request: bytes) -> Reply:
        """Sends a whole request and returns the answer. NoAnswer; when cancelled, the connection is of no more use."""
        self._answer = asyncio.get_running_loop().create_future()
        self._head = self._length = None
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._answer = None
            self.idle_since = asyncio.get_running_loop().time()

    def close(self) -> None:
        """At once: what is not sent is not sent."""
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """An answer without a length ends here; one that has not begun never comes."""
        self.usable = False
        if self._head is not None:
            self._finish()
        else:
            why = f"it closed the connection without an answer{f' ({error})' if error else ''}"
            self._fail(why, at_once=not self._read)

    def data_received(self, data: bytes) -> None:
        """Some of the answer."""
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        self._read += data
        while self._head is None:
            end = self._read.find(b"\r\n\r\n")
            if end < 0:
                if len(self._read) > LIMIT_BYTES:
                    self._fail("the head of its answer is longer than 64 KiB")
                return
            if not self._take_head(bytes(self._read[: end + 2])):
                return
            del self._read[: end + 4]
        if len(self._read) >= (LIMIT_BYTES if self._length is None else min(self._length, LIMIT_BYTES)):
            self._finish()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BODY_S, self._finish)

    def _take_head(self, head: bytes) -> bool:
        """False: it is none."""
        line = _STATUS.match(head)
        if line is None:
            self._fail("its answer is not HTTP/1.1")
            return False
        status = int(line[2])
        headers: dict[str, str] = {}
        for field in head[line.end() :].split(b"\r\n"):
            name, _, value = field.partition(b":")
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())
        if 100 <= status < 200 and status != 101:
            return True  # the answer proper follows (RFC 9110, 15.2)
        if status in (204, 304):
            self._length = 0
        elif "transfer-encoding" not in headers and headers.get("content-length", "").isdecimal():
            self._length = int(headers["content-length"][:12])
        if self._length is None or line[1] == b"0" or "close" in headers.get("connection", "").lower():
            self.usable = False
        self._head = status, headers
        return True

    def _finish(self) -> None:
        if self._head is None or self._answer is None or self._answer.done():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        status, headers = self._head
        self._answer.set_result(Reply(status, headers, bytes(self._read[:LIMIT_BYTES])))
        if len(self._read) != self._length:
            self.usable = False
        self._read.clear()
        if not self.usable:
            self.close()

    def _fail(self, why: str, at_once: bool = False) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(why, at_once))
        self.close()
