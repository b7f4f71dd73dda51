"""Plays a scenario through a running system: each step a signed submission of its state, in compressed time.

Steps are played in their order, each only when the one before it is settled: admitted on a public topic, or
rejected. So a run gives the same events whatever the speed, and every wait shows up as a latency, not as
another outcome.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from qalqan import topics
from qalqan.client import Ballot, Client, Feed, Message, Submission, admits, ballot_of, is_closing, rejects
from qalqan.replay.scenario import Planned, Scenario
from qalqan.runinfo import RunInfo

LONGEST_PAUSE_S = 1.0
"""However long nothing happened in the scenario, the replay waits no longer than this."""
SETTLE_TIMEOUT_S = 90.0
"""A pledge may wait 60 s for its request (CONTRACT "PledgeOffered"); after this, something is lost."""
BALLOT_TIMEOUT_S = 30.0
QUIET_S = 1.0
"""The replay is over when nothing new has been published for so long after its last step."""


class Stuck(Exception):
    """The replay cannot go on: something that must come did not."""


@dataclass(slots=True)
class Sent:
    """A submission of the replay, and what came of it. Seconds are of the process's monotonic clock."""

    planned: Planned
    submission: Submission
    sent_s: float
    settled: Message | None = None
    settled_s: float | None = None

    @property
    def admitted(self) -> bool:
        """Whether it stands on its public topic."""
        return self.settled is not None and admits(self.settled, self.submission)


@dataclass(frozen=True, slots=True)
class Seen:
    """A public event as the replay saw it: when, in scenario time and on the monotonic clock.

    `sent` is the submission that it admits or rejects; None: a service says something. `latency_s` is since
    that submission was sent; of what a service says, since the one that it names as its cause, or the last.
    """

    message: Message
    at: datetime
    seen_s: float
    latency_s: float
    sent: Sent | None


@dataclass(slots=True)
class Play:
    """A replay as it happened: what was sent, what was seen, in order; `trouble` says why it did not end."""

    scenario: Scenario
    request_id: str
    sent: list[Sent] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    trouble: str | None = None

    def of(self, *names: str) -> list[Seen]:
        """What was seen of these kinds of event."""
        return [seen for seen in self.seen if seen.message.name in names]

    def open_ballot(self) -> Ballot | None:
        """The request's ballot that is open, as far as was seen."""
        latest: Message | None = None
        for seen in self.seen:
            if seen.message.name == "BallotOpened":
                latest = seen.message
            elif is_closing(seen.message):
                latest = None
        return None if latest is None else ballot_of(latest)


async def free_request_id(client: Client, wanted: str) -> str:
    """The scenario's request id, or the first of `<id>-2`, `<id>-3` ... that this network does not know."""
    known = {message.event.subject for message in await client.read([topics.REQUESTS])}
    candidates = (wanted if number == 1 else f"{wanted}-{number}" for number in count(1))
    return next(candidate for candidate in candidates if candidate not in known)


async def play(
    scenario: Scenario,
    run: RunInfo,
    *,
    speed: float,
    on_seen: Callable[[Seen], None] = lambda seen: None,
) -> Play:
    """Plays the scenario and gives what happened; `on_seen` is told of every event as it comes.

    `speed`: seconds of the scenario in one second; 0: without pauses. OSError: a state's key cannot be read.
    What goes wrong in the system does not raise: it stands in `Play.trouble`, and the checks find it.
    """
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(Client.connect(run))
        states = {state: Client.connect(run, state=state) for state in scenario.states}
        await asyncio.gather(*(stack.enter_async_context(client) for client in states.values()))
        request_id = await free_request_id(reader, scenario.request_id)
        feed = reader.follow([*topics.REQUEST_TOPICS, topics.REJECTIONS], request_id=request_id)
        await stack.enter_async_context(feed)
        player = _Player(Play(scenario, request_id), states, speed, on_seen)
        watching = asyncio.create_task(player.watch(feed))
        playing = asyncio.create_task(player.run())
        try:
            await asyncio.wait((watching, playing), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                player.play.trouble = f"reading stopped: {watching.exception()!r}"
            elif (error := playing.exception()) is not None:
                if not isinstance(error, Stuck):
                    raise error
                player.play.trouble = str(error)
        finally:
            for task in (watching, playing):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
    return player.play


class _Player:
    def __init__(self, play: Play, states: dict[str, Client], speed: float, on_seen: Callable[[Seen], None]) -> None:
        self.play = play
        self._states = states
        self._speed = speed
        self._on_seen = on_seen
        self._now = play.scenario.steps[0].at
        self._last_sent_s = time.monotonic()
        self._sequences: dict[tuple[str, str], int] = {}
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()

    async def watch(self, feed: Feed) -> None:
        """Notes what is published, for ever."""
        async for message in feed:
            seen_s = time.monotonic()
            async with self._sending:
                self._note(message, seen_s)
            self._news.set()

    async def run(self) -> None:
        """Plays every step, then waits until the system has no more to say. Stuck: see there."""
        plan = self.play.scenario.plan(self.play.request_id)
        for step in range(len(self.play.scenario.steps)):
            batch = [planned for planned in plan if planned.step == step]
            await self._pause(batch[0].at)
            sent = [await self._send(planned) for planned in batch]
            await self._until(partial(_all_settled, sent), SETTLE_TIMEOUT_S, _named(sent))
        with suppress(Stuck):
            while True:
                seen = len(self.play.seen)
                await self._until(partial(self._more_than, seen), QUIET_S, "news")

    def _more_than(self, seen: int) -> bool:
        return len(self.play.seen) > seen

    async def _pause(self, until: datetime) -> None:
        if self._speed > 0:
            await asyncio.sleep(min((until - self._now).total_seconds() / self._speed, LONGEST_PAUSE_S))
        self._now = until

    async def _send(self, planned: Planned) -> Sent:
        data = planned.data
        if planned.event == "VoteCast":
            data = data | await self._ballot_of_vote(planned.by)
        # The answer may be read before the broker's word on where the submission stands: it waits for that.
        async with self._sending:
            self._last_sent_s = time.monotonic()
            submission = await self._states[planned.by].submit(planned.event, data)
            sent = Sent(planned, submission, self._last_sent_s)
            self.play.sent.append(sent)
        return sent

    async def _ballot_of_vote(self, state: str) -> dict[str, Any]:
        """What a vote must say of its ballot: the open one, or the last one if the vote comes too late."""
        await self._until(lambda: bool(self.play.of("BallotOpened")), BALLOT_TIMEOUT_S, "BallotOpened")
        ballot = self.play.open_ballot() or ballot_of(self.play.of("BallotOpened")[-1].message)
        counted = (state, ballot.ballot_id)
        self._sequences[counted] = self._sequences.get(counted, 0) + 1
        return {"ballot_id": ballot.ballot_id, "round": ballot.round, "sequence": self._sequences[counted]}

    async def _until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Waits for news until it holds. Stuck: it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise Stuck(f"no {what} within {timeout_s:g} s") from error

    def _note(self, message: Message, seen_s: float) -> None:
        sent = next((one for one in reversed(self.play.sent) if _answers(message, one.submission)), None)
        if sent is None:
            if message.topic == topics.REJECTIONS.name:
                return  # somebody else's
            cause = self._cause_of(message)
            at, since_s = (cause.planned.at, cause.sent_s) if cause else (self._now, self._last_sent_s)
            seen = Seen(message, at, seen_s, seen_s - since_s, None)
        else:
            if sent.settled is None:
                sent.settled, sent.settled_s = message, seen_s
            seen = Seen(message, sent.planned.at, seen_s, seen_s - sent.sent_s, sent)
        self.play.seen.append(seen)
        self._on_seen(seen)

    def _cause_of(self, message: Message) -> Sent | None:
        """The submission of ours that a service names as the cause of what it says."""
        cause = message.event.extensions.get("causationid")
        return next((one for one in self.play.sent if one.submission.event_id == cause), None)


def _answers(message: Message, submission: Submission) -> bool:
    return admits(message, submission) or rejects(message, submission)


def _all_settled(sent: list[Sent]) -> bool:
    return all(one.settled is not None for one in sent)


def _named(sent: list[Sent]) -> str:
    return "answer to " + ", ".join(f"{one.planned.event} of {one.planned.by}" for one in sent)
