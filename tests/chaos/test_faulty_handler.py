"""A handler that raises, and a record that aiokafka's own consumer can never read: neither loses anything."""

import random

from deploy.local.stack import Stack
from qalqan.client import Message, Submission
from qalqan.topics import INBOX_REQUESTS
from tests.chaos import checks
from tests.chaos.faulty import MARK
from tests.chaos.line import Line, new_id, seed_of_run
from tests.chaos.replicas import Replica, second, until
from tests.conftest import Party, request_data
from tests.integration.stranger import Raw, Stranger

_PATIENCE_S = 40.0


async def test_a_handler_that_raises_stops_its_replica_loses_nothing(system: Stack, states: Party) -> None:
    """It says so and exits with 1; the other replica handles every record of its lanes, once."""
    chance = random.Random(seed_of_run())
    line = Line(states, chance)
    async with Stranger.of(system) as stranger, line.watching():
        async with second(system, "request", "tests.chaos.faulty") as faulty:
            lane, other_lane = chance.sample(sorted(faulty.lanes()), 2)
            unreadable = [await put_unreadable(stranger, lane)]
            # The replica with the bug reads past it.
            await line.seen(await raise_one(line, states, lane), "RequestRaised")
            # Good ones before it and behind, in the same lane and beside it.
            for _ in range(chance.randint(0, 3)):
                await raise_one(line, states, lane)
            unreadable.append(await put_unreadable(stranger, lane))
            marked = await raise_one(line, states, lane, text=MARK)
            unreadable.append(await put_unreadable(stranger, lane))
            behind = [await raise_one(line, states, chance.choice((lane, other_lane))) for _ in range(6)]
            await until(lambda: faulty.pid() is None, "the replica with the bug does not stop")
            assert_said_so(faulty)
        for request_id in (marked, *behind):
            await line.seen(request_id, "RequestRaised")
        # And the lanes go on.
        await line.run_all([new_id(lane), new_id(other_lane)], _PATIENCE_S)
        line.acknowledged += unreadable
        messages = await line.check()
    reasons = [rejected(messages, submission) for submission in unreadable]
    assert reasons == [["bad-envelope"]] * len(unreadable)


def assert_said_so(faulty: Replica) -> None:
    """It named the bug, and its exit code tells a supervisor."""
    assert faulty.exit_code() == 1
    stopped = faulty.said("service.stopped")
    assert len(stopped) == 1
    assert MARK in str(stopped[0]["error"])


async def raise_one(line: Line, states: Party, lane: int, **fields: str) -> str:
    """A request in a lane; returns its id."""
    request_id = new_id(lane)
    await line.say(lambda: states["TR"].raise_request({**request_data(request_id), **fields}))
    return request_id


async def put_unreadable(stranger: Stranger, lane: int) -> Submission:
    """A record with a header's name that is no UTF-8, as the broker acknowledged it."""
    key = new_id(lane)
    place = await stranger.put(Raw(INBOX_REQUESTS, key.encode(), b"{}", [], broken_name=b"x-\xff\xfe"))
    return Submission("", "", "unreadable", key, place.topic, place.partition, place.offset, 0)


def rejected(messages: list[Message], submission: Submission) -> list[str]:
    """For which reasons a record was rejected."""
    place = (submission.topic, submission.partition, submission.offset)
    return [
        message.data["reason"]
        for message in checks.distinct(messages)
        if message.name == "SubmissionRejected" and checks.rejected_place(message) == place
    ]
