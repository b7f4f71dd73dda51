"""The load: requests at an even rate, each brought whole to its end by five states."""

import asyncio
import random
import time
import uuid
from typing import Any

from qalqan import jsontext
from qalqan.events import type_of
from tests.bench.ground import Ground, Open, Reader
from tests.conftest import pledge_data, request_data

FOLLOWED = ("pledges", "decisions", "mobilizations", "rejections")
SUBMISSIONS = 10
"""Of each request: raised, offered, accepted, four votes, departed, arrived, closed."""
_PATIENCE_S = 60.0
_IN_FLIGHT_SECONDS = 30
_JITTER = 0.5


class Load:
    """Raises `rate` requests a second until its time is over; keeps nothing of a request that has ended.

    What does not come to its end within 60 s counts as lost; where 30 seconds' worth of requests are under way, no
    more are raised (`held_back`).
    """

    def __init__(self, ground: Ground, reader: Reader, rate: float) -> None:
        self.raised = self.ended = self.lost = self.held_back = 0
        self.latencies_ms: list[float] = []
        """Last needed vote sent -> MobilizationAuthorized read, since `take_latencies`."""
        self._ground = ground
        self._reader = reader
        self._rate = rate
        self._random = random.Random(ground.seed)
        self._tag = uuid.uuid4().hex[:8]
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests that were raised and have not ended."""
        return len(self._under_way)

    def take_latencies(self) -> list[float]:
        """The latencies in ms since this was asked last."""
        found, self.latencies_ms = self.latencies_ms, []
        return found

    async def run(self, seconds: float) -> None:
        """Raises requests for this long, each at a random moment of its turn, then waits for the last of them."""
        began = time.monotonic()
        for number in range(round(seconds * self._rate)):
            turn = number + self._random.uniform(-_JITTER, _JITTER) * (number > 0)
            await asyncio.sleep(began + turn / self._rate - time.monotonic())
            if self.in_flight >= _IN_FLIGHT_SECONDS * self._rate:
                self.held_back += 1
                continue
            task = asyncio.create_task(self._bring_to_its_end(f"TR-2026-S{self._tag}-{number}"))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self.raised += 1
        await asyncio.gather(*self._under_way)

    async def _bring_to_its_end(self, request_id: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._one(request_id)
            self.ended += 1
        except TimeoutError:
            self.lost += 1

    async def _one(self, request_id: str) -> None:
        ballot = self._expect("decisions", request_id, "BallotOpened")
        await self._send("TR", "RequestRaised", request_data(request_id))
        opened = jsontext.parse((await ballot)[1].value or b"")
        votes = Open(request_id, opened["ballot_id"], opened["ballot"]["round"])
        about = {"request_id": request_id, "pledge_id": "AZ-1"}

        accepted = self._expect("pledges", request_id, "PledgeAccepted")
        await self._send("AZ", "PledgeOffered", pledge_data(request_id))
        await self._send("TR", "PledgeAccepted", about | {"pledge_revision": 1, "quantity": 3})
        for state in ("AZ", "KG", "KZ"):
            await self._send(state, "VoteCast", votes.vote(state))
        await accepted

        authorized = self._expect("mobilizations", request_id, "MobilizationAuthorized")
        last_vote = self._ground.signed("UZ", "VoteCast", votes.vote("UZ"))
        sent_at = time.perf_counter()
        await self._ground.send(last_vote)
        self.latencies_ms.append(((await authorized)[0] - sent_at) * 1000)

        arrived = self._expect("mobilizations", request_id, "ResourceArrived")
        report = about | {
            "line_id": None,
            "quantity": 3,
            "at": "2023-02-06T09:00:00Z",
            "place": {"name": "Adana", "country": "TR"},
        }
        await self._send("AZ", "ResourceDeparted", report)
        await self._send("TR", "ResourceArrived", report)
        await arrived

        over = self._expect("decisions", request_id, "MandateEnded")
        await self._send("TR", "RequestClosed", {"request_id": request_id, "reason": "over"})
        await over

    def _expect(self, topic: str, request_id: str, name: str) -> asyncio.Future[Any]:
        return self._reader.expect(topic, request_id.encode(), type_of(name))

    async def _send(self, state: str, name: str, data: dict[str, Any]) -> None:
        await self._ground.send(self._ground.signed(state, name, data))
