"""The checks find what they are there for: a true record of a request, spoilt in each way."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from qalqan.client import Message
from tests.chaos.checks import complaints
from tests.chaos.line import Line, new_id
from tests.conftest import Party

Messages = list[Message]
Spoil = Callable[[Messages, Message], Messages]


@pytest_asyncio.fixture(scope="module")
async def told(states: Party) -> tuple[Line, Messages]:
    """A request that went through the whole line, and all that stands on the public topics."""
    line = Line(states, random.Random(1))
    async with line.watching():
        await line.run_all([new_id()], 30)
        return line, await line.check()


def again(message: Message, **extensions: str) -> Message:
    """The same behind everything, but for some extensions."""
    event = replace(message.event, extensions={**message.event.extensions, **extensions})
    return replace(message, offset=message.offset + 1_000, event=event)


def other(message: Message) -> Message:
    """The same said once more, as an event of its own at a position behind all."""
    spoken = again(message, position="0000001000")
    return replace(spoken, event=replace(spoken.event, id=f"{message.event.id}-2"))


SPOILT: dict[str, tuple[str, Spoil, str]] = {
    "lost": ("VoteCast", lambda all, one: [m for m in all if m is not one], "0 times on a public topic"),
    "a gap": ("PledgeOffered", lambda all, one: [m for m in all if m is not one], "has position 2 after 0"),
    "moved": ("PledgeAccepted", lambda all, one: [*all, again(one, position="0000000003")], "has position 3"),
    "another": (
        "PledgeOffered",
        lambda all, one: [*all, replace(one, event=replace(one.event, data=b"{}"))],
        "is another event",
    ),
    "elsewhere": (
        "VoteCast",
        lambda all, one: [replace(m, partition=(m.partition + 1) % 12) if m is one else m for m in all],
        "does not belong to this partition",
    ),
    "decided twice": ("ConsensusReached", lambda all, one: [*all, other(one)], "was closed 2 times"),
    "undecided": ("ConsensusReached", lambda all, one: [m for m in all if m is not one], "closed 0 times"),
    "authorised twice": ("MobilizationAuthorized", lambda all, one: [*all, other(one)], "authorised 2 times"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_each_fault_is_found(told: tuple[Line, Messages], states: Party, how: str) -> None:
    """By the words that say what it is; a repetition as it was is none."""
    line, messages = told
    name, spoil, words = SPOILT[how]
    (request_id,) = line.authorized
    one = next(m for m in messages if m.event.subject == request_id and m.name == name)
    root = states["TR"].root
    assert complaints([*messages, again(one)], line.acknowledged, line.authorized, root) == []
    found = complaints(spoil(messages, one), line.acknowledged, line.authorized, root)
    assert any(words in complaint for complaint in found), found
