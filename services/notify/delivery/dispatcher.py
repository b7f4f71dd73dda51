"""The dispatcher: on one replica at a time, it has every subscription told, and writes down what became of it.

1. An event is sent at once, straight from the stream; nothing is written before.
2. What became of it is written in batches, together with the place up to which each subscription has been told. A
   failure becomes a row that is tried again later; so a dead target holds up nothing.
3. After a crash a subscription goes on from its place: what was sent and not yet written is sent again, under the same
   id. Every event at least once.
4. The lease is a row with the database's clock. A replica that freezes loses it within seconds; should it wake and
   still send, that is a repetition.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from functools import partial

import asyncpg
import structlog

from chassis.database import TRANSIENT, Pool, patiently
from services.notify.delivery.outlet import Outlet, SeverityOf
from services.notify.delivery.webhook import Answer, Webhooks
from services.notify.domain.entry import Entry
from services.notify.domain.subscription import Message
from services.notify.store import subscriptions as store
from services.notify.store.subscriptions import Outcome
from services.notify.stream import Stream

log = structlog.get_logger()

LEASE_S = 4.0
_RENEW_S = 1.0
_WRITE_S = 0.5
_LOOK_S = 1.0
_READ_KEPT = 1_024


class Dispatcher:
    """Tells every active subscription, while this replica holds the lease."""

    def __init__(self, pool: Pool, stream: Stream, webhooks: Webhooks, severity_of: SeverityOf, replica: str) -> None:
        self._pool = pool
        self._stream = stream
        self._webhooks = webhooks
        self._severity_of = severity_of
        self._replica = replica
        self._outlets: dict[str, Outlet] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._noted: list[Outcome] = []
        self._written: dict[str, int] = {}
        self._news = asyncio.Event()
        self._kept: OrderedDict[int, Message] = OrderedDict()

    async def run(self) -> None:
        """Dispatches whenever the lease is ours, until cancelled."""
        work: asyncio.Task[None] | None = None
        held_until = 0.0
        try:
            while True:
                asked_at = time.monotonic()
                try:
                    async with asyncio.timeout(LEASE_S / 2):
                        if await store.lease(self._pool, self._replica, LEASE_S):
                            held_until = asked_at + LEASE_S
                except TRANSIENT as error:
                    log.warning("dispatcher.lease_unknown", error=repr(error))
                if time.monotonic() < held_until:
                    work = work or asyncio.create_task(self._work(), name="dispatching")
                elif work is not None:
                    log.warning("dispatcher.lease_lost")
                    await ended(work)
                    work = None
                if work is not None:
                    await asyncio.wait([work], timeout=_RENEW_S)
                    if work.done():
                        await work  # a bug: it stops the service
                else:
                    await asyncio.sleep(_RENEW_S)
        finally:
            if work is not None:
                await ended(work)
                with contextlib.suppress(*TRANSIENT):
                    await store.release(self._pool, self._replica)

    async def _work(self) -> None:
        log.info("dispatcher.began")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look(group), name="subscriptions")
                group.create_task(self._write(), name="outcomes")
                group.create_task(self._listen(), name="news")
        finally:
            outlets, self._outlets = self._outlets, {}
            self._following.clear()
            await asyncio.gather(*(outlet.stop() for outlet in outlets.values()))
            with contextlib.suppress(*TRANSIENT):
                await self._write_noted()
            self._noted.clear()
            self._written.clear()
            log.info("dispatcher.ended")

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Keeps up with what subscriptions there are, and tries again what is due."""
        while True:
            self._news.clear()
            await self._compare(group)
            if room := {key: outlet.room for key, outlet in self._outlets.items() if outlet.room > 0}:
                for due in await patiently(partial(store.due, self._pool, room)):
                    outlet = self._outlets.get(due.subscription_id)
                    if outlet is not None and (due.kind, due.number) not in outlet.busy:
                        outlet.retry(due)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_S)

    async def _compare(self, group: asyncio.TaskGroup) -> None:
        wanted = {each.subscription_id: each for each in await patiently(lambda: store.active(self._pool))}
        for key in self._outlets.keys() - wanted.keys():
            self._following.pop(key).cancel()
            await self._outlets.pop(key).stop()
            self._written.pop(key, None)
        for key, subscription in wanted.items():
            if key in self._outlets:
                self._outlets[key].subscription = subscription
                continue
            outlet = Outlet(
                subscription, self._webhooks.target(), self._stream, self._read, self._severity_of, self._note
            )
            self._outlets[key] = outlet
            self._written[key] = subscription.seq
            self._following[key] = group.create_task(outlet.follow(), name=f"outlet {key}")

    def _note(self, outcome: Outcome, answer: Answer | None) -> None:
        self._noted.append(outcome)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_S)
            await self._write_noted()

    async def _write_noted(self) -> None:
        noted, self._noted = self._noted, []
        moved = {key: outlet.place for key, outlet in self._outlets.items() if outlet.place > self._written.get(key, 0)}
        if not noted and not moved:
            return

        async def attempt() -> None:
            try:
                await store.record(self._pool, noted, moved)
            except asyncpg.ForeignKeyViolationError:
                await store.record(self._pool, noted, moved)  # a subscription went at this moment: without it

        await patiently(attempt)
        self._written.update(moved)
        for outcome in noted:
            if (outlet := self._outlets.get(outcome.subscription_id)) is not None:
                outlet.busy.discard((outcome.kind, outcome.number))

    async def _listen(self) -> None:
        """Looks at once when somebody says that there is news; without a connection, each second."""
        while True:
            with contextlib.suppress(*TRANSIENT):
                async with self._pool.acquire() as connection:
                    await connection.add_listener(store.CHANNEL, self._wake)
                    cut = asyncio.Event()
                    connection.add_termination_listener(lambda _, cut=cut: cut.set())
                    await cut.wait()
            await asyncio.sleep(_LOOK_S)

    def _wake(self, *_: object) -> None:
        self._news.set()

    def _read(self, entry: Entry) -> Message:
        """An entry, read once for all subscriptions."""
        message = self._kept.get(entry.seq)
        if message is None:
            message = self._kept[entry.seq] = Message.of(entry.body)
            if len(self._kept) > _READ_KEPT:
                self._kept.popitem(last=False)
        return message


async def ended(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits until it has ended."""
    task.cancel()
    await asyncio.wait([task])
