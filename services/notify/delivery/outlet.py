"""One subscription being told: its place in the stream, what is on its way, and whether its target rests."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine

from services.notify.delivery.webhook import AT_ONCE, Answer, Target
from services.notify.domain import subscription as rules
from services.notify.domain.entry import Entry
from services.notify.domain.subscription import Message
from services.notify.store.subscriptions import Due, Outcome, Subscription
from services.notify.stream import Stream

_FAILURES_BEFORE_REST = 3
_LONGEST_REST_S = 300.0

Reading = Callable[[Entry], Message]
SeverityOf = Callable[[str, int], Awaitable[str | None]]
"""Of a request, once the event of that number is known."""


class Outlet:
    """A webhook subscription at work. What it does is noted by `note`, which the dispatcher writes in batches."""

    def __init__(
        self,
        subscription: Subscription,
        target: Target,
        stream: Stream,
        read: Reading,
        severity_of: SeverityOf,
        note: Callable[[Outcome, Answer | None], None],
    ) -> None:
        self.subscription = subscription
        self.target = target
        self.busy: set[tuple[str, int]] = set()
        """What is on its way, or not written yet: it is not to be taken up again."""
        self._stream = stream
        self._read = read
        self._severity_of = severity_of
        self._note = note
        self._seen = subscription.seq
        self._under_way: set[int] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._rests_until = 0.0

    @property
    def place(self) -> int:
        """Every event up to it is delivered, noted, or not wanted."""
        return min(self._under_way) - 1 if self._under_way else self._seen

    @property
    def room(self) -> int:
        """How many deliveries that wait may be tried now: one while the target does not answer, none while it rests."""
        if time.monotonic() < self._rests_until:
            return 0
        free = AT_ONCE - len(self._tasks)
        return min(free, 1) if self._failures >= _FAILURES_BEFORE_REST else free

    async def follow(self) -> None:
        """Sends what is wanted of the stream, as it comes, until cancelled."""
        async for entry in self._stream.read(self._seen):
            message = self._read(entry)
            if not await self._wants(message, entry.seq):
                self._seen = entry.seq
            elif self._failures >= _FAILURES_BEFORE_REST:
                # It is written down for later: a dead target is not asked for each event.
                self._seen = entry.seq
                self._noted(Outcome(self.subscription.subscription_id, "event", entry.seq, "waiting", 0))
            else:
                await self._slots.acquire()
                self._seen = entry.seq
                self._under_way.add(entry.seq)
                self._start(self._first(entry.seq, message))

    def retry(self, due: Due) -> None:
        """Tries a delivery that waited."""
        self.busy.add((due.kind, due.number))
        self._start(self._again(due))

    async def stop(self) -> None:
        """Ends what is on its way; it is sent again later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.target.close()

    async def _wants(self, message: Message, seq: int) -> bool:
        wanted = self.subscription.filter
        severity = None
        if wanted.severities and message.request_id is not None:
            severity = await self._severity_of(message.request_id, seq)
        return rules.wants(wanted, message, severity)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _first(self, seq: int, message: Message) -> None:
        try:
            answer = await self._send(message)
            self._settle("event", seq, 0, answer)
            self._under_way.discard(seq)
        finally:
            self._slots.release()

    async def _again(self, due: Due) -> None:
        answer = await self._send(Message.of(due.body))
        self._settle(due.kind, due.number, due.attempts, answer)

    async def _send(self, message: Message) -> Answer:
        mine = self.subscription
        message_id = rules.message_id(mine.subscription_id, message)
        answer = await self.target.send(mine.target, message_id, message.body, mine.secrets)
        if answer.ok:
            self._failures, self._rests_until = 0, 0.0
        else:
            self._failures += 1
            if self._failures >= _FAILURES_BEFORE_REST:
                rest = rules.pause_s(self._failures - _FAILURES_BEFORE_REST + 1, random.random())
                self._rests_until = time.monotonic() + min(rest, _LONGEST_REST_S)
        return answer

    def _settle(self, kind: str, number: int, attempts: int, answer: Answer) -> None:
        attempts += 1
        state, due_in_s = "delivered", 0.0
        if not answer.ok:
            state = "dead" if rules.given_up(attempts) else "waiting"
            due_in_s = max(rules.pause_s(attempts, random.random()), answer.wait_s)
        self._noted(
            Outcome(
                self.subscription.subscription_id,
                kind,
                number,
                state,
                attempts,
                due_in_s,
                answer.status,
                answer.error,
                answer.took_ms,
            ),
            answer,
        )

    def _noted(self, outcome: Outcome, answer: Answer | None = None) -> None:
        self.busy.add((outcome.kind, outcome.number))
        self._note(outcome, answer)
