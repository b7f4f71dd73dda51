"""A service: one FastStream application over aiokafka with FastAPI beside it in one event loop.

What each of the five needs and none should write again; its `main.build` brings the parts that differ.
"""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic

import structlog
import uvloop
from fastapi import APIRouter, FastAPI
from faststream import FastStream

from chassis import metrics, recovery, telemetry
from chassis.admission import Admission
from chassis.bus import Bus
from chassis.database import Pool, connect, patiently
from chassis.follower import Follower
from chassis.handlers import Handlers, S
from chassis.http import application, serving
from chassis.lane import Lane
from chassis.lanes import Lanes
from chassis.lookup import Lookup
from chassis.metrics import Measure, Standing, told
from chassis.publication import Publisher
from chassis.rebuild import Progress, Rebuild, Rebuilt, publish_rest
from chassis.settings import Settings, read_files
from chassis.submissions import Submissions, submissions
from chassis.tokens import Tokens
from chassis.traces import Traces
from qalqan.registry import Root
from qalqan.signing import Ed25519Key, SigningKey
from qalqan.sources import service_source

log = structlog.get_logger()


@dataclass(slots=True)
class Parts:
    """What a service stands on, made in `main.build`; nothing is connected yet."""

    name: str
    settings: Settings
    root: Root
    key: SigningKey
    bus: Bus
    follower: Follower
    tokens: Tokens
    traces: Traces | None = None
    source: str = field(init=False)

    def __post_init__(self) -> None:
        self.source = service_source(self.root.network, self.name)

    @classmethod
    def of(cls, name: str, settings: Settings) -> "Parts":
        """The ordinary parts. OSError or ValueError when root.json or the key cannot be read."""
        root = Root.load(settings.root)
        return cls(
            name,
            settings,
            root,
            Ed25519Key.from_pem(settings.key.read_bytes()),
            Bus(settings, name),
            Follower(settings.kafka, settings.replica, root),
            Tokens(settings.tokens, settings.token),
            Traces.of(name, settings, root.network),
        )


class LaneService(Generic[S]):
    """A service that works in lanes: request, pledge, consensus, secretariat."""

    def __init__(
        self,
        parts: Parts,
        handlers: Handlers[S],
        routers: Callable[[Pool, Lookup, Tokens], Sequence[APIRouter]] = lambda pool, lookup, tokens: (),
        *,
        judges_by_its_own_word: bool = False,
    ) -> None:
        self.parts = parts
        self.handlers = handlers
        self._routers = routers
        self._judges_by_its_own_word = judges_by_its_own_word
        """Only the secretariat: it admits the keys that sign what comes next, its own among them."""
        self.admission = Admission(handlers.inbox, parts.follower.registry, parts.source)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Lanes]:
        """Connects everything in order and takes it down in reverse. Consuming begins when the block does."""
        parts, settings = self.parts, self.parts.settings
        async with contextlib.AsyncExitStack() as stack:
            if parts.traces is not None:
                stack.callback(parts.traces.close)
            pool = await connect(settings.database, settings.replica)
            stack.push_async_callback(pool.close)
            await patiently(
                lambda: recovery.check(
                    settings.kafka,
                    settings.replica,
                    pool,
                    parts.name,
                    parts.source,
                    self.handlers.inbox,
                    self.handlers.follows,
                )
            )
            lanes = Lanes(
                parts.bus,
                self.handlers.inbox,
                self.handlers.follows,
                self._lane_maker(pool),
                parts.source,
                parts.key,
            )
            metrics.begin((self.handlers.inbox, *self.handlers.follows))
            stack.enter_context(told(self._standing(lanes)))
            app = self._application(pool, lanes.ready.is_set)
            await stack.enter_async_context(serving(app, settings.http_host, settings.http_port))
            await parts.follower.start()
            stack.push_async_callback(parts.follower.stop)
            if not self._judges_by_its_own_word:
                await parts.follower.wait_for_key(parts.key.key_id)
            parts.bus.subscribe((self.handlers.inbox, *self.handlers.follows), lanes, lanes.feed)
            lanes.start()
            stack.push_async_callback(lanes.stop)
            await parts.bus.open()
            stack.push_async_callback(parts.bus.close)
            yield lanes

    async def publish_rest(self) -> int:
        """Publishes what the outbox still holds, before the database is made again; how many events that were."""
        parts, settings = self.parts, self.parts.settings
        async with contextlib.AsyncExitStack() as stack:
            pool = await connect(settings.database, settings.replica)
            stack.push_async_callback(pool.close)
            await parts.bus.open_to_publish()
            stack.push_async_callback(parts.bus.close)
            return await publish_rest(pool, parts.bus, Publisher(parts.source, parts.key))

    async def rebuild(self, progress: Progress) -> Rebuilt:
        """Fills this service's empty tables from the topics (`chassis.rebuild`); it must not run meanwhile."""
        parts = self.parts
        await parts.follower.start()
        try:
            return await Rebuild(
                parts.name, parts.source, self.handlers, parts.follower.registry, parts.settings.kafka, progress
            ).run(parts.settings.database)
        finally:
            await parts.follower.stop()

    def document(self, pool: Pool) -> dict[str, Any]:
        """Its OpenAPI document. Nothing runs: the pool need not be connected."""
        return self._application(pool, lambda: False).openapi()

    def _application(self, pool: Pool, ready: Callable[[], bool]) -> FastAPI:
        parts, inbox = self.parts, self.handlers.inbox
        lookup = Lookup(parts.settings.kafka, parts.settings.replica)
        taking = Submissions(inbox, self.admission, parts.bus, parts.follower, pool, lookup, parts.traces)
        return application(
            parts.name,
            ready,
            parts.follower.registry,
            submissions(inbox, taking, parts.tokens),
            *self._routers(pool, lookup, parts.tokens),
        )

    def _standing(self, lanes: Lanes) -> Standing:
        def own() -> list[Measure]:
            subjects = (subject for lane in lanes.owned for subject in lane.committed.subjects.values())
            states = [subject.state for subject in subjects if subject.state is not None]
            return self.handlers.measures(states, datetime.now(UTC))

        return Standing(lambda: [lane.standing() for lane in lanes.owned], own)

    def _lane_maker(self, pool: Pool) -> Callable[..., Lane[S]]:
        parts = self.parts

        def make(partition: int, on_alarm: Callable[[], None], pause: Callable[[int, bool], None]) -> Lane[S]:
            return Lane(
                partition,
                handlers=self.handlers,
                pool=pool,
                bus=parts.bus,
                follower=parts.follower,
                publisher=Publisher(parts.source, parts.key, parts.traces),
                admission=self.admission,
                key_id=parts.key.key_id,
                replica=parts.settings.replica,
                on_alarm=on_alarm,
                pause=pause,
                judges_by_its_own_word=self._judges_by_its_own_word,
                traces=parts.traces,
            )

        return make


def run(build: Callable[[Settings], Any], name: str) -> None:
    """Runs a service until it is told to stop; exits 1 on a bug, having said so and skipped nothing, and with
    `recovery.EXIT_CODE` when its database and the topics do not belong together."""
    read_files(os.environ)
    settings = Settings()  # type: ignore[call-arg]  # from the environment
    telemetry.configure(name, settings.replica, settings.log_level)
    try:
        service = build(settings)
        if service.parts.traces is not None:
            telemetry.name_traces(service.parts.traces.trace_id)
        code = uvloop.run(_run(service))
    except recovery.Refusal as refusal:
        log.critical("service.refuses", why=str(refusal))
        print(refusal, file=sys.stderr)  # for people, and as last words for whoever started it
        code = recovery.EXIT_CODE
    sys.exit(code)


async def _run(service: Any) -> int:
    code = 0

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nonlocal code
        async with service.running() as lanes:
            # What is loaded now stays for good: collections need not walk it again.
            gc.collect()
            gc.freeze()
            failures = (lanes.failed, service.parts.follower.failed)
            watch = asyncio.create_task(_watch(failures, app))
            try:
                yield
            finally:
                watch.cancel()
                if any(failed.done() for failed in failures):
                    code = 1

    app = FastStream(service.parts.bus.broker, logger=None, lifespan=lifespan)
    await app.run()
    return code


async def _watch(failures: Sequence[asyncio.Future[BaseException]], app: FastStream) -> None:
    done, _ = await asyncio.wait(failures, return_when=asyncio.FIRST_COMPLETED)
    error = done.pop().result()
    log.critical("service.stopped", error=repr(error), exc_info=error)
    app.exit()
