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
from collections.abc import Callable
from functools import partial
from itertools import groupby, product
from operator import attrgetter

import asyncpg
import structlog
from prometheus_client import Counter

from chassis.database import TRANSIENT, Pool, patiently
from chassis.metrics import Measure
from chassis.tasks import Failure, end
from services.notify.delivery.answer import Answer
from services.notify.delivery.background import Background
from services.notify.delivery.mail import Mail
from services.notify.delivery.outlet import MailOutlet, Outlet, WebhookOutlet
from services.notify.delivery.webhook import Webhooks
from services.notify.domain.entry import Entry
from services.notify.domain.subscription import Message, digest_in_s, wants
from services.notify.store import subscriptions as store
from services.notify.store.subscriptions import Outcome, Subscription, Totals
from services.notify.stream import Stream

log = structlog.get_logger()

DELIVERIES = Counter("qalqan_deliveries", "Attempts to tell subscribers, by what came of them", ["kind", "outcome"])
for _kind, _outcome in product(("webhook", "email"), ("delivered", "failed", "dead")):
    DELIVERIES.labels(_kind, _outcome)  # from 0 on: what begins at 1 is no increase to Prometheus

LEASE_S = 4.0
_RENEW_S = 1.0
_WRITE_S = 0.5
_LOOK_S = 1.0
_COUNT_S = 10.0
_TIDY_EVERY = 6
_SPREAD_AT_ONCE = 100
_LAST_WRITE_S = 2.0
_READ_KEPT = 1_024


class Dispatcher:
    """Tells every active subscription of an owner who still has a token, while this replica holds the lease."""

    def __init__(
        self,
        pool: Pool,
        stream: Stream,
        background: Background,
        webhooks: Webhooks,
        mail: Mail | None,
        owners: Callable[[], set[str]],
        replica: str,
    ) -> None:
        self._pool = pool
        self._stream = stream
        self._background = background
        self._webhooks = webhooks
        self._mail = mail
        self._owners = owners
        self._replica = replica
        self._outlets: dict[str, Outlet] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._noted: list[Outcome] = []
        self._gone: list[Subscription] = []
        self._written: dict[str, int] = {}
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._kept: OrderedDict[int, Message] = OrderedDict()
        self._totals = Totals(0, 0, 0.0)
        self._failure: Failure

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
                    await asyncio.wait([work], timeout=_RENEW_S)
                    if work.done():
                        await work  # a bug: it stops the service
                else:
                    if work is not None:
                        log.warning("dispatcher.lease_lost")
                        await end([work])
                        work = None
                    await asyncio.sleep(_RENEW_S)
        finally:
            if work is not None:
                await end([work])
                with contextlib.suppress(*TRANSIENT):
                    await store.release(self._pool, self._replica)

    def measures(self) -> list[Measure]:
        """How it stands, for `GET /metrics`; all 0 on a replica that does not dispatch."""
        totals = self._totals
        return [
            Measure("dispatching", "Whether this replica tells subscriptions", float(bool(self._following))),
            Measure("subscriptions_active", "Subscriptions that this replica tells", len(self._outlets)),
            Measure("deliveries_waiting", "Deliveries that wait for their time or another attempt", totals.waiting),
            Measure("deliveries_dead", "Deliveries given up, not yet replayed or forgotten", totals.dead),
            Measure("deliveries_oldest_waiting_seconds", "Since when the oldest of those is due", totals.oldest_s),
        ]

    async def _work(self) -> None:
        log.info("dispatcher.began")
        self._failure = Failure()
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in {
                "subscriptions": self._look(),
                "outcomes": self._write(),
                "news": self._listen(),
                "old deliveries": self._tidy(),
            }.items()
        ]
        for task in tasks:
            task.add_done_callback(self._failure.must_not_end)
        try:
            raise await self._failure.happened
        finally:
            await end([*tasks, *self._following.values()])
            await asyncio.gather(*(outlet.stop() for outlet in self._outlets.values()))
            with contextlib.suppress(*TRANSIENT, TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self._write_noted()
            for left in (self._outlets, self._following, self._noted, self._written):
                left.clear()
            self._totals = Totals(0, 0, 0.0)
            log.info("dispatcher.ended")

    async def _look(self) -> None:
        """Keeps up with what subscriptions there are, and takes up what is due."""
        while True:
            self._news.clear()
            await self._compare()
            await self._spread()
            room = {key: outlet.room for key, outlet in self._outlets.items() if outlet.room > 0}
            if room:
                found = await patiently(partial(store.due, self._pool, room))
                for key, group in groupby(found, attrgetter("subscription_id")):
                    outlet = self._outlets[key]
                    if due := [each for each in group if (each.kind, each.number) not in outlet.busy]:
                        outlet.take(due)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_S)

    async def _compare(self) -> None:
        found = await patiently(lambda: store.active(self._pool))
        owners = self._owners()
        wanted = {each.subscription_id: each for each in found if each.owner in owners}
        for key in self._outlets.keys() - wanted.keys():
            await end([self._following.pop(key)])
            await self._outlets[key].stop()
            await self._write_noted()
            del self._outlets[key], self._written[key]
        for key, subscription in wanted.items():
            if key in self._outlets:
                self._outlets[key].subscription = subscription
            elif (outlet := self._outlet(subscription)) is not None:
                self._outlets[key], self._written[key] = outlet, subscription.seq
                self._following[key] = asyncio.create_task(outlet.follow(), name=f"telling {key}")
                self._following[key].add_done_callback(self._failure.must_not_end)

    async def _spread(self) -> None:
        """Announcements wait like what failed: so they are told at least once, too."""
        while said := await patiently(partial(store.unspread, self._pool, _SPREAD_AT_ONCE)):
            wanted = []
            for entry in said:
                message = Message.of(entry)
                severity = (await self._background.about(message.request_id)).severity
                wanted += [
                    (key, entry.seq, digest_in_s(outlet.subscription.digest_minutes, time.time()))
                    for key, outlet in self._outlets.items()
                    if wants(outlet.subscription.filter, message, severity)
                ]
            await patiently(partial(store.spread, self._pool, [entry.seq for entry in said], wanted))

    def _outlet(self, subscription: Subscription) -> Outlet | None:
        common = (subscription, self._stream, self._read, self._background, self._note, self._failure.note)
        if subscription.kind == "webhook":
            return WebhookOutlet(self._webhooks.target(), *common)
        return None if self._mail is None else MailOutlet(self._mail, *common)

    def _note(self, outcome: Outcome, answer: Answer | None) -> None:
        self._noted.append(outcome)
        if answer is None:
            return
        outlet = self._outlets.get(outcome.subscription_id)
        kind = "webhook" if outlet is None else outlet.subscription.kind
        DELIVERIES.labels(kind, "failed" if outcome.state == "waiting" else outcome.state).inc()
        if answer.gone and outlet is not None:
            self._gone.append(outlet.subscription)

    async def _write(self) -> None:
        """Writes what became of deliveries, twice a second."""
        while True:
            await asyncio.sleep(_WRITE_S)
            await self._write_noted()
            while self._gone:
                gone = self._gone.pop()
                why = "the target answered 410: it wants nothing more"
                await patiently(partial(store.disable, self._pool, gone.subscription_id, gone.target, why))

    async def _write_noted(self) -> None:
        """Outcomes, and places that moved: what is before a place is written with it, or was before."""
        async with self._writing:
            noted = list(self._noted)
            places = {key: outlet.place for key, outlet in self._outlets.items()}
            moved = {key: place for key, place in places.items() if place > self._written[key]}
            if not noted and not moved:
                return
            await patiently(partial(self._record, noted, moved))
            del self._noted[: len(noted)]
            self._written.update(moved)
            for outcome in noted:
                if (outlet := self._outlets.get(outcome.subscription_id)) is not None:
                    outlet.busy.discard((outcome.kind, outcome.number))
                if outcome.attempts == 0 and not outcome.due_in_s:
                    self._news.set()

    async def _record(self, noted: list[Outcome], moved: dict[str, int]) -> None:
        try:
            await store.record(self._pool, noted, moved)
        except asyncpg.ForeignKeyViolationError:
            await store.record(self._pool, noted, moved)  # a subscription went at this moment: now without it

    async def _tidy(self) -> None:
        while True:
            if dead := await patiently(lambda: store.tidy(self._pool)):
                DELIVERIES.labels("any", "dead").inc(dead)
            for _ in range(_TIDY_EVERY):
                self._totals = await patiently(lambda: store.totals(self._pool))
                await asyncio.sleep(_COUNT_S)

    async def _listen(self) -> None:
        """Looks at once when somebody says that there is news; without a connection, each second."""
        while True:
            with contextlib.suppress(*TRANSIENT):
                async with self._pool.acquire() as connection:
                    await connection.add_listener(store.CHANNEL, self._wake)
                    cut = asyncio.Event()
                    connection.add_termination_listener(lambda _, cut=cut: cut.set())
                    try:
                        await cut.wait()
                    finally:
                        if not connection.is_closed():
                            await connection.remove_listener(store.CHANNEL, self._wake)
            await asyncio.sleep(_LOOK_S)

    def _wake(self, *_: object) -> None:
        self._news.set()

    def _read(self, entry: Entry) -> Message:
        """An entry, read once for all subscriptions."""
        message = self._kept.get(entry.seq)
        if message is None:
            message = self._kept[entry.seq] = Message.of(entry)
            if len(self._kept) > _READ_KEPT:
                self._kept.popitem(last=False)
        return message
