"""A webhook's target as somebody else would write it: an HTTP server that checks signatures with the library."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook


@dataclass
class Call:
    """One request that came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The idempotency key."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The structured CloudEvent."""
        return dict(json.loads(self.body))

    def verified(self, secret: str) -> dict[str, Any]:
        """The event, after the library has checked signature and time; it raises otherwise."""
        return dict(Webhook(secret).verify(self.body, self.headers))


Reply = Callable[[Call, asyncio.StreamWriter], Awaitable[None]]


async def ok(_: Call, writer: asyncio.StreamWriter) -> None:
    """Takes it."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def status(line: str, *headers: str) -> Reply:
    """Answers a status, with no body."""

    async def reply(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([f"HTTP/1.1 {line}", "Content-Length: 0", *headers, "", ""]).encode())

    return reply


@dataclass
class Receiver:
    """Takes calls on a loopback port; `reply` may be exchanged while it runs."""

    reply: Reply = ok
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def until(self, wanted: Callable[[list[Call]], bool], timeout_s: float = 20.0) -> list[Call]:
        """The calls, once they are as wanted."""
        async with asyncio.timeout(timeout_s), self._came:
            await self._came.wait_for(lambda: wanted(self.calls))
        return self.calls

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not reader.at_eof():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
                call = Call(headers, await reader.readexactly(int(headers["content-length"])))
                async with self._came:
                    self.calls.append(call)
                    self._came.notify_all()
                await self.reply(call, writer)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiving(reply: Reply = ok, port: int = 0, **options: Any) -> AsyncIterator[Receiver]:
    """A receiver for the length of the block. `options`: of `asyncio.start_server`."""
    receiver = Receiver(reply, scheme="https" if "ssl" in options else "http")
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port, **options)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in receiver.tasks:
            task.cancel()
