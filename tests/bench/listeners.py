"""A thousand readers of a live stream, in a process of their own: how late each of them has each event.

`python -m tests.bench.listeners`: reads its orders (`Orders`, JSON) on standard input, prints "ready" once all readers
have their answer's head, reads another line, prints what they found (JSON) and ends.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import uvloop

_APPENDED = re.compile(rb'"appendedtime": ?"([^"]+)"')
_CONNECTING = 50


@dataclass(frozen=True, slots=True)
class Orders:
    """How many readers of which URL, with which token; the first `stopped` of them read nothing after the head."""

    url: str
    token: str
    readers: int
    stopped: int

    def as_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))


class _Reader(asyncio.Protocol):
    """One reader: notes how late each event is, from its append to here, in ms."""

    def __init__(self, head: bytes, stops: bool) -> None:
        self.begun = asyncio.get_running_loop().create_future()
        self.late_ms: list[float] = []
        self.ended = False
        self._head = head
        self._stops = stops
        self._rest = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        if not self.begun.done():
            self.begun.set_result(data.split(b"\r\n", 1)[0])
            if self._stops:
                self._transport.pause_reading()
        *whole, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for event in whole:
            if found := _APPENDED.search(event):
                self.late_ms.append((now - datetime.fromisoformat(found[1].decode()).timestamp()) * 1000)

    def connection_lost(self, _: Exception | None) -> None:
        self.ended = True
        if not self.begun.done():
            self.begun.set_exception(ConnectionError("closed before the answer began"))


async def _listen(orders: Orders) -> None:
    place = urlsplit(orders.url)
    head = (
        f"GET {place.path}?{place.query} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Authorization: Bearer {orders.token}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    readers: list[_Reader] = []
    turns = asyncio.Semaphore(_CONNECTING)

    async def connect(number: int) -> None:
        async with turns:
            _, reader = await loop.create_connection(
                lambda: _Reader(head, number < orders.stopped), place.hostname, place.port
            )
            assert b" 200 " in await reader.begun, reader.begun.result()
            readers.append(reader)

    await asyncio.gather(*(connect(number) for number in range(orders.readers)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    live = [reader for reader in readers if not reader._stops]
    found = {
        "late_ms": [round(late, 2) for reader in live for late in reader.late_ms],
        "fewest": min(len(reader.late_ms) for reader in live),
        "most": max(len(reader.late_ms) for reader in live),
        "ended": sum(reader.ended for reader in live),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(_listen(Orders(**json.loads(sys.stdin.readline()))))
