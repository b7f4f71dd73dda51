"""Targets of webhooks in a process of their own: `python -m tests.bench.receivers LIVE HANGING`.

It prints the ports, one for each, those that hang last. After each line on standard input it prints what came since the
line before: how late each event was at each live target, from its append to Kafka, and how many came twice.
"""

import asyncio
import json
import re
import socket
import sys
import time
from datetime import datetime
from typing import Any

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"webhook-id: *(\S+)", re.IGNORECASE)
_APPENDED = re.compile(rb'"appendedtime": ?"([^"]+)"')
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Account:
    """What came to all live targets."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.seen: set[bytes] = set()
        self.repeated = 0

    def take(self, head: bytes, body: bytes) -> None:
        """One call. A bare one has no id."""
        now = time.time()
        found, name = _APPENDED.search(body), _ID.search(head)
        assert found is not None
        if name is not None and name[1] in self.seen:
            self.repeated += 1
            return
        if name is not None:
            self.seen.add(name[1])
        self.late_ms.append((now - datetime.fromisoformat(found[1].decode()).timestamp()) * 1000)

    def told(self) -> dict[str, Any]:
        """The account so far; the next begins."""
        found = {"late_ms": self.late_ms, "repeated": self.repeated}
        self.late_ms, self.repeated = [], 0
        return found


class Target(asyncio.Protocol):
    """One connection to a live target."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._read = b""

    def connection_made(self, transport: Any) -> None:
        """Keeps it."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers each call when it is whole."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n") + 4) > 3:
            head = self._read[:end]
            length = _LENGTH.search(head)
            assert length is not None
            whole = end + int(length[1])
            if len(self._read) < whole:
                return
            self._account.take(head, self._read[end:whole])
            self._read = self._read[whole:]
            self._transport.write(_ANSWER)


class Hanging(asyncio.Protocol):
    """Takes everything and answers nothing."""


async def main(live: int, hanging: int) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    account = Account()
    ports = []
    for number in range(live + hanging):
        make = (lambda: Target(account)) if number < live else Hanging
        listening = socket.create_server(("127.0.0.1", 0))
        await loop.create_server(make, sock=listening)
        ports.append(listening.getsockname()[1])
    print(json.dumps(ports), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(account.told()), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
