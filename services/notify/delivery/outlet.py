"""One subscription being told: its place in the stream, what is on its way, and whether its target rests."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from chassis.tasks import end
from services.notify.delivery.answer import Answer
from services.notify.delivery.background import Background
from services.notify.delivery.mail import Mail
from services.notify.delivery.webhook import AT_ONCE, Target
from services.notify.domain import subscription as rules
from services.notify.domain.entry import Entry
from services.notify.domain.letter import PER_LETTER, letter
from services.notify.domain.subscription import Message
from services.notify.store.subscriptions import Due, Outcome, Subscription
from services.notify.stream import Stream

_FAILURES_BEFORE_REST = 3
_LONGEST_REST_S = 300.0
_BETWEEN_LETTERS_S = 5.0
"""What happens meanwhile is in the next letter: nobody reads a hundred."""

Note = Callable[[Outcome, Answer | None], None]


class Outlet(ABC):
    """A subscription at work. `note` is told what became of each delivery, and writes it down in batches.

    `busy`: what is on its way or not written yet, and so not to be taken up again.
    """

    def __init__(
        self,
        subscription: Subscription,
        stream: Stream,
        read: Callable[[Entry], Message],
        background: Background,
        note: Note,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.subscription = subscription
        self.busy: set[tuple[str, int]] = set()
        self._stream = stream
        self._read = read
        self._background = background
        self._note = note
        self._failed = failed
        self._seen = subscription.seq
        self._under_way: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._rests_until = 0.0

    @property
    def place(self) -> int:
        """Every event up to it is delivered, noted, or not wanted."""
        return min(self._under_way) - 1 if self._under_way else self._seen

    @property
    @abstractmethod
    def room(self) -> int:
        """How many deliveries that wait may be taken up now."""

    @abstractmethod
    async def begin(self, seq: int, message: Message) -> None:
        """Sends an event as it comes, or notes it for later. Waits while too much is under way."""

    @abstractmethod
    def take(self, due: Sequence[Due]) -> None:
        """Sends what waited, no more than there is room for."""

    async def follow(self) -> None:
        """Tells what is wanted of the stream, as it comes, until cancelled."""
        async for entry in self._stream.read(self._seen):
            message = self._read(entry)
            if await self._wants(message, entry.seq):
                await self.begin(entry.seq, message)
            self._seen = entry.seq

    async def stop(self) -> None:
        """Ends what is on its way; it is sent again later."""
        await end(self._tasks)

    @property
    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    @property
    def _fails(self) -> bool:
        """Whether the target has not taken anything for a while: it is tried with one thing at a time."""
        return self._failures >= _FAILURES_BEFORE_REST

    async def _wants(self, message: Message, seq: int) -> bool:
        wanted = self.subscription.filter
        severity = None
        if wanted.severities and message.request_id is not None:
            severity = await self._background.severity(message.request_id, seq)
        return rules.wants(wanted, message, severity)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)  # a bug: it stops the service

    def _weigh(self, answer: Answer) -> None:
        if answer.ok:
            self._failures, self._rests_until = 0, 0.0
            return
        self._failures += 1
        if self._fails:
            rest = rules.pause_s(self._failures - _FAILURES_BEFORE_REST + 1, random.random())
            self._rests_until = time.monotonic() + max(min(rest, _LONGEST_REST_S), answer.wait_s)

    def _settle(self, kind: str, number: int, attempts: int, answer: Answer) -> None:
        attempts += 1
        state, due_in_s = "delivered", 0.0
        if not answer.ok:
            state = "dead" if answer.gone or rules.given_up(attempts) else "waiting"
            due_in_s = max(rules.pause_s(attempts, random.random()), answer.wait_s)
        self._write_down(kind, number, state, attempts, due_in_s, answer)

    def _write_down(
        self, kind: str, number: int, state: str, attempts: int, due_in_s: float, answer: Answer | None = None
    ) -> None:
        self.busy.add((kind, number))
        outcome = Outcome(
            self.subscription.subscription_id,
            kind,
            number,
            state,
            attempts,
            due_in_s,
            answer.status if answer else None,
            answer.error if answer else None,
            answer.took_ms if answer else None,
        )
        self._note(outcome, answer)


class WebhookOutlet(Outlet):
    """Sends each event at once, a few at a time. A failure waits in the store; so does what comes while it fails."""

    def __init__(self, target: Target, *common: Any) -> None:
        super().__init__(*common)
        self._target = target
        self._slots = asyncio.Semaphore(AT_ONCE)

    @property
    def room(self) -> int:
        """One while the target does not answer, none while it rests."""
        if self._rests:
            return 0
        free = AT_ONCE - len(self._tasks)
        return min(free, 1 - len(self._tasks)) if self._fails else free

    async def begin(self, seq: int, message: Message) -> None:
        """At once, unless the target fails."""
        await self._slots.acquire()
        if self._fails:
            self._slots.release()
            self._write_down("event", seq, "waiting", 0, 0.0)
        else:
            self._under_way.add(seq)
            self._start(self._first(seq, message))

    def take(self, due: Sequence[Due]) -> None:
        """Each by itself."""
        for each in due:
            self.busy.add((each.kind, each.number))
            self._start(self._again(each))

    async def stop(self) -> None:
        """Closes the connections too."""
        await super().stop()
        await self._target.close()

    async def _first(self, seq: int, message: Message) -> None:
        try:
            answer = await self._send(message)
            self._settle("event", seq, 0, answer)
            self._under_way.discard(seq)
        finally:
            self._slots.release()

    async def _again(self, due: Due) -> None:
        answer = await self._send(Message.of(due.entry))
        self._settle(due.kind, due.number, due.attempts, answer)

    async def _send(self, message: Message) -> Answer:
        mine = self.subscription
        message_id = rules.message_id(mine.subscription_id, message)
        answer = await self._target.send(mine.target, message_id, message.body, mine.secrets)
        self._weigh(answer)
        return answer


class MailOutlet(Outlet):
    """Notes each event, and sends what is due as one letter: at once, or at the end of each digest's time."""

    def __init__(self, mail: Mail, *common: Any) -> None:
        super().__init__(*common)
        self._mail = mail

    @property
    def room(self) -> int:
        """One letter at a time, with a pause between."""
        return 0 if self._rests or self._tasks else PER_LETTER

    async def begin(self, seq: int, message: Message) -> None:
        """It goes with the next letter."""
        in_s = rules.digest_in_s(self.subscription.digest_minutes, time.time())
        self._write_down("event", seq, "waiting", 0, in_s)

    def take(self, due: Sequence[Due]) -> None:
        """All as one letter; what is real, exercises and tests each in their own."""
        self.busy.update((each.kind, each.number) for each in due)
        self._start(self._write(due))

    async def _write(self, due: Sequence[Due]) -> None:
        by_mode: dict[str | None, list[tuple[Due, Message]]] = {}
        for each in due:
            message = Message.of(each.entry)
            by_mode.setdefault(message.mode, []).append((each, message))
        for mode, together in by_mode.items():
            answer = await self._send(mode, [message for _, message in together])
            for each, _ in together:
                self._settle(each.kind, each.number, each.attempts, answer)

    async def _send(self, mode: str | None, messages: Sequence[Message]) -> Answer:
        mine = self.subscription
        parts = [(message, await self._background.about(message.request_id)) for message in messages]
        # The same messages make the same letter, at every attempt.
        ids = " ".join(rules.message_id(mine.subscription_id, message) for message in messages)
        answer = await self._mail.send(mine.target, letter(parts, mode, footer(mine)), uuid5(NAMESPACE_URL, ids).hex)
        self._weigh(answer)
        if answer.ok:
            self._rests_until = time.monotonic() + _BETWEEN_LETTERS_S
        return answer


def footer(subscription: Subscription) -> str:
    """Why somebody is told."""
    name = f" ({subscription.name})" if subscription.name else ""
    return f"You are told because of the subscription {subscription.subscription_id}{name} of {subscription.owner}."
