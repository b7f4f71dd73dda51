"""The notify service's composition root: the one place where its parts meet."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI

from chassis import metrics, recovery
from chassis.database import Pool, connect, patiently
from chassis.http import application, serving
from chassis.metrics import Standing, told
from chassis.rebuild import Progress, Rebuilt
from chassis.service import Parts, run
from chassis.settings import Settings
from chassis.tasks import end
from qalqan.topics import PUBLIC
from services.notify.api.board import board_router
from services.notify.api.contract import contract_router
from services.notify.api.me import me_router
from services.notify.api.page import page_router
from services.notify.api.rejections import rejections_router
from services.notify.api.stream import stream_router
from services.notify.api.streams import streams_router
from services.notify.api.subscriptions import subscriptions_router
from services.notify.api.turns import turns_router
from services.notify.board import Board
from services.notify.delivery.delivery import Delivery
from services.notify.handlers import Intake
from services.notify.rebuild import rebuild
from services.notify.settings import DeliverySettings, StandingSettings
from services.notify.standing import Overview
from services.notify.store import events
from services.notify.store.carried import carry_over
from services.notify.stream import Stream
from services.notify.turns import Turns

__all__ = ["build", "carry_over"]

NAME = "notify"

_FETCH_MIN_BYTES, _FETCH_WAIT_MS = 1_000_000, 40
"""The broker gathers records for up to 40 ms. Who watches does not notice; and the line, which the same records wake,
has the processor and the disk to itself for as long as it takes from a vote to a mobilisation."""
_NICENESS = 10
"""The stream gives way to the line."""


class NotifyService:
    """Reads every public topic and tells whoever listens; it writes to its own store only: no lane."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Intake]:
        """Connects everything in order and takes it down in reverse."""
        parts, settings = self.parts, self.parts.settings
        async with contextlib.AsyncExitStack() as stack:
            if parts.traces is not None:
                stack.callback(parts.traces.close)
            pool = await connect(settings.database, settings.replica)
            stack.push_async_callback(pool.close)
            await patiently(lambda: self._check(pool))
            intake = Intake(parts.bus, pool, parts.traces)
            stream = Stream(pool)
            board = Board(pool, stream, parts.follower, lambda: intake.behind)
            outside = DeliverySettings()  # type: ignore[call-arg]  # from the environment
            delivery = self._delivery(pool, stream, board, outside)
            stack.callback(delivery.close)
            metrics.begin(PUBLIC, judges=False)
            stack.enter_context(told(Standing(intake.standing, lambda: [*stream.measures(), *delivery.measures()])))
            await parts.follower.start()
            stack.push_async_callback(parts.follower.stop)
            works = {
                "stream": stream.follow_store,
                "board": board.follow,
                "keeping the board": board.keep,
                "delivery": delivery.run,
                "turns": Turns(pool, board, parts.follower.registry.network).tell,
            }
            tasks = [asyncio.create_task(work(), name=name) for name, work in works.items()]
            for task in tasks:
                task.add_done_callback(intake.failure.must_not_end)
            stack.push_async_callback(end, tasks)
            parts.bus.subscribe(
                PUBLIC, intake, intake.take, fetch_min_bytes=_FETCH_MIN_BYTES, fetch_max_wait_ms=_FETCH_WAIT_MS
            )
            await parts.bus.open(publishes=False)
            stack.push_async_callback(parts.bus.close)
            asked = StandingSettings().services  # type: ignore[call-arg]  # from the environment
            overview = Overview(asked, settings.kafka, settings.replica)
            stack.push_async_callback(overview.close)
            app = self._application(pool, intake.ready.is_set, stream, board, delivery, overview)
            await stack.enter_async_context(serving(app, settings.http_host, settings.http_port))
            yield intake

    def document(self, pool: Pool) -> dict[str, Any]:
        """Its OpenAPI document. Nothing runs: the pool need not be connected."""
        stream = Stream(pool)
        board = Board(pool, stream, self.parts.follower)
        delivery = self._delivery(pool, stream, board, DeliverySettings.model_construct())
        overview = Overview((), self.parts.settings.kafka, self.parts.settings.replica)
        return self._application(pool, lambda: False, stream, board, delivery, overview).openapi()

    def _delivery(self, pool: Pool, stream: Stream, board: Board, outside: DeliverySettings) -> Delivery:
        parts = self.parts
        return Delivery(pool, stream, board, parts.tokens, parts.source, parts.settings.replica, outside)

    def _application(
        self,
        pool: Pool,
        ready: Callable[[], bool],
        stream: Stream,
        board: Board,
        delivery: Delivery,
        overview: Overview,
    ) -> FastAPI:
        parts = self.parts
        return application(
            NAME,
            ready,
            parts.follower.registry,
            contract_router(),
            stream_router(stream, parts.tokens),
            board_router(board, pool, parts.follower, parts.tokens),
            turns_router(pool, parts.tokens),
            subscriptions_router(pool, delivery, parts.tokens),
            streams_router(overview, parts.tokens),
            rejections_router(pool, parts.tokens),
            me_router(parts.tokens),
            page_router(),
        )

    async def _check(self, pool: Pool) -> None:
        """Whether database and topics belong together."""
        settings = self.parts.settings
        offsets = await events.next_offsets(pool)
        await recovery.check_reader(settings.kafka, settings.replica, pool, NAME, PUBLIC, offsets)

    async def publish_rest(self) -> int:
        """It publishes nothing."""
        return 0

    async def rebuild(self, progress: Progress) -> Rebuilt:
        """Fills the empty store from the topics; the service must not run meanwhile."""
        return await rebuild(self.parts.settings, progress)


def build(settings: Settings) -> NotifyService:
    """The service, not yet connected to anything."""
    return NotifyService(Parts.of(NAME, settings))


if __name__ == "__main__":
    os.nice(_NICENESS)
    run(build, NAME)
