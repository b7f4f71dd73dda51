"""A request that is anticipated, raised, amended and amended again, on the real broker and database."""

from collections.abc import Callable
from typing import Any

import pytest

from qalqan import topics
from qalqan.certificate import verify_event
from qalqan.client import Client, Message, Rejected
from tests.conftest import Party, pledge_data

Made = Callable[..., dict[str, Any]]
VOTERS = ("AZ", "KG", "KZ", "UZ")


async def the(client: Client, name: str, request_id: str, number: int = 1) -> Message:
    """The event of a type on a request, the first or a later one."""
    async for message in client.follow(request_id, from_beginning=True):
        if message.name == name:
            number -= 1
            if number == 0:
                return message
    raise AssertionError("a stream has no end")


async def decide(states: Party, request_id: str, objector: str | None = None) -> None:
    """Everybody votes on the open ballot."""
    ballot = await states["AZ"].ballot(request_id)
    for state in VOTERS:
        texts = {"reason": "not this way"} if state == objector else {}
        vote = await states[state].vote(ballot, "object" if state == objector else "approve", **texts)
        await states[state].settled(vote)


async def test_from_an_anticipated_request_to_its_second_amendment(states: Party, new_request: Made) -> None:
    """Offers are taken along, a superseded ballot takes no vote, and a blocked amendment empties the plan."""
    tr, az, kz = states["TR"], states["AZ"], states["KZ"]
    content = new_request()
    request_id = content["request_id"]
    head = {name: content[name] for name in ("request_id", "affected_state", "mode", "emergency")}
    await tr.settled(await tr.anticipate(head))
    await az.settled(await az.pledge(pledge_data(request_id, answers=[])))
    await kz.settled(await kz.pledge(pledge_data(request_id, "KZ-1", answers=[], channel="bilateral", quantity=2)))
    await tr.settled(await tr.raise_request(content))
    first = await az.ballot(request_id)

    (need,) = content["needs"]
    await tr.settled(await tr.amend({**content, "needs": [{**need, "quantity": 5}], "revision": 2}))
    superseded = await the(tr, "BallotSuperseded", request_id)
    assert verify_event(superseded.event, tr.root) == []
    with pytest.raises(Rejected, match="too-late"):
        await az.settled(await az.vote(first, "approve"))

    await az.settled(await az.revise({**pledge_data(request_id, answers=[], quantity=3), "revision": 2}))
    with pytest.raises(Rejected, match="stale"):
        await tr.settled(await tr.accept(request_id, "AZ-1", 3, revision=1))
    await tr.settled(await tr.accept(request_id, "AZ-1", 3, revision=2))
    await tr.settled(await tr.accept(request_id, "KZ-1", 2))
    await decide(states, request_id)
    reached = await the(tr, "ConsensusReached", request_id)
    assert (reached.data["revision"], verify_event(reached.event, tr.root)) == (2, [])
    plan = (await the(tr, "MobilizationAuthorized", request_id)).data
    assert [(line["line_id"], line["quantity"]) for line in plan["lines"]] == [("AZ-1.1", 3)]
    assert [(each["requested"], each["covered"], each["bilateral"]) for each in plan["coverage"]] == [(5, 5, 2)]

    await az.settled(await az.depart(request_id, "AZ-1", 1, line_id="AZ-1.1", at="2023-02-06T09:00:00Z"))
    await tr.settled(await tr.amend({**content, "revision": 3}))
    await decide(states, request_id, objector="UZ")
    blocked = await the(tr, "ConsensusBlocked", request_id)
    assert verify_event(blocked.event, tr.root) == []
    emptied = (await the(tr, "MobilizationRevised", request_id)).data
    assert emptied["decisions"] == []
    assert [(line["line_id"], line["quantity"]) for line in emptied["lines"]] == [("AZ-1.1", 1)]

    for topic in topics.REQUEST_TOPICS:
        read = [message for message in await tr.read([topic], request_id) if message.event.subject == request_id]
        assert [message.position for message in read] == list(range(1, len(read) + 1)), f"{topic.name} has gaps"
