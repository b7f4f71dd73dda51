"""The whole line: from a signed request to teams on the ground, on the real broker and database."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from qalqan import topics
from qalqan.certificate import verify_event
from qalqan.client import Message, Rejected
from tests.conftest import Party, pledge_data

Made = Callable[..., dict[str, Any]]
VOTERS = ("AZ", "KG", "KZ", "UZ")


async def raised(states: Party, data: dict[str, Any]) -> str:
    """Raises a request and waits until it stands."""
    await states["TR"].settled(await states["TR"].raise_request(data))
    request_id: str = data["request_id"]
    return request_id


async def first(states: Party, request_id: str, *names: str) -> Message:
    """The first event of these types on a request. TimeoutError after 20 s."""
    async with asyncio.timeout(20):
        async for message in states["TR"].follow(request_id, from_beginning=True):
            if message.name in names:
                return message
    raise AssertionError("a stream has no end")


async def test_from_a_signed_request_to_teams_on_the_ground(states: Party, new_request: Made) -> None:
    """Every step of the plain path, each by the state whose step it is, checked by signature."""
    tr, az = states["TR"], states["AZ"]
    request_id = await raised(states, new_request())
    ballot = await az.ballot(request_id)
    await az.settled(await az.pledge(pledge_data(request_id)))
    await tr.settled(await tr.accept(request_id, "AZ-1", 3))
    for state in VOTERS:
        await states[state].settled(await states[state].vote(ballot, "approve"))

    reached = await first(states, request_id, "ConsensusReached")
    assert reached.data["tally"] == dict.fromkeys(["AZ", "KG", "KZ", "TR", "UZ"], "approve")
    assert verify_event(reached.event, tr.root) == []
    authorized = await first(states, request_id, "MobilizationAuthorized")
    assert authorized.data["decisions"] == [reached.data["decision_digest"]]
    assert [(line["pledge_id"], line["quantity"]) for line in authorized.data["lines"]] == [("AZ-1", 3)]
    line_id = authorized.data["lines"][0]["line_id"]

    place = {"name": "Adana", "country": "TR"}
    at = "2023-02-06T09:00:00Z"
    await az.settled(await az.commit(request_id, "AZ-1", 3, line_id=line_id, at=at, place=place))
    await az.settled(await az.depart(request_id, "AZ-1", 3, line_id=line_id, at=at, place=place))
    await tr.settled(await tr.arrive(request_id, "AZ-1", 3, line_id=line_id, at=at, place=place))
    await tr.settled(await tr.release(request_id, "AZ-1", 3, line_id=line_id, at=at, place=place))
    await tr.settled(await tr.close(request_id, "over"))
    await first(states, request_id, "MandateEnded")

    seen: dict[str, list[int | None]] = {}
    for message in await tr.read(topics.REQUEST_TOPICS, request_id):
        if message.event.subject != request_id:
            continue  # another request's, in the same partition
        assert message.event.extensions["mode"] == "test"
        seen.setdefault(message.topic, []).append(message.position)
    for topic, positions in seen.items():
        assert positions == list(range(1, len(positions) + 1)), f"{topic} has gaps"


async def test_an_objection_blocks_and_says_why(states: Party, new_request: Made) -> None:
    """Consensus is the absence of objection: one is enough, and its reason stands in the decision."""
    request_id = await raised(states, new_request())
    ballot = await states["AZ"].ballot(request_id)
    await states["KZ"].settled(await states["KZ"].vote(ballot, "object", reason="no overflight"))
    for state in ("AZ", "KG", "UZ"):
        await states[state].settled(await states[state].vote(ballot, "approve"))
    blocked = await first(states, request_id, "ConsensusBlocked", "ConsensusReached")
    assert blocked.data["blocked_by"] == [{"state": "KZ", "reason": "no overflight"}]
    assert verify_event(blocked.event, states["TR"].root) == []


async def test_a_vote_is_corrected_until_the_result_is_proclaimed(states: Party, new_request: Made) -> None:
    """The highest sequence counts, whatever the order of arrival."""
    request_id = await raised(states, new_request())
    kz = states["KZ"]
    ballot = await kz.ballot(request_id)
    await kz.settled(await kz.vote(ballot, "approve", sequence=2))
    with pytest.raises(Rejected, match="stale"):
        await kz.settled(await kz.vote(ballot, "object", reason="late news", sequence=1))
    await kz.settled(await kz.vote(ballot, "abstain", sequence=3))
    for state in ("AZ", "KG", "UZ"):
        await states[state].settled(await states[state].vote(ballot, "approve"))
    reached = await first(states, request_id, "ConsensusReached")
    assert reached.data["tally"]["KZ"] == "abstain"
    with pytest.raises(Rejected, match="too-late"):
        await kz.settled(await kz.vote(ballot, "approve", sequence=4))


async def test_a_cancelled_request_withdraws_its_ballot(states: Party, new_request: Made) -> None:
    """Its certificate carries the cancellation as signed."""
    request_id = await raised(states, new_request())
    ballot = await states["AZ"].ballot(request_id)
    await states["TR"].settled(await states["TR"].cancel(request_id, "a false alarm"))
    withdrawn = await first(states, request_id, "BallotWithdrawn")
    assert withdrawn.data["certificate"]["cause"]["type"] == "qalqan.RequestCancelled.v1"
    assert verify_event(withdrawn.event, states["TR"].root) == []
    with pytest.raises(Rejected, match="request-closed"):
        await states["AZ"].settled(await states["AZ"].vote(ballot, "approve"))


async def test_an_offer_waits_for_its_request(states: Party, new_request: Made) -> None:
    """A pledge that comes before its request stands in the database until the request is raised, and then counts."""
    data = new_request()
    request_id = data["request_id"]
    offered = await states["AZ"].pledge(pledge_data(request_id))
    withdrawn = await states["AZ"].withdraw(request_id, "AZ-1", "needed at home")
    await raised(states, data)
    await states["AZ"].settled(offered)
    await states["AZ"].settled(withdrawn)
    read = await states["TR"].read([topics.PLEDGES], request_id)
    names = [message.name for message in read if message.event.subject == request_id]
    assert names == ["PledgeOffered", "PledgeWithdrawn"]
