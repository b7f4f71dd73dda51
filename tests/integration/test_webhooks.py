"""Webhooks against real HTTP servers: signed, at least once, and none of what a target may do holds up another."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest_asyncio

from qalqan.client import Client
from qalqan.runinfo import RunInfo
from tests.integration.receiver import receiving

Party = dict[str, Client]


@pytest_asyncio.fixture
async def notify(run: RunInfo) -> AsyncIterator[httpx2.AsyncClient]:
    """Notify over HTTP, as the Secretariat."""
    headers = {"Authorization": f"Bearer {run.token}"}
    async with httpx2.AsyncClient(base_url=run.http["notify"], headers=headers, timeout=30) as client:
        yield client


async def test_an_event_is_told_at_once_signed(
    states: Party, new_request: Callable[..., dict[str, Any]], notify: httpx2.AsyncClient
) -> None:
    request = new_request()
    async with receiving() as receiver:
        wanted = {"requests": [request["request_id"]], "types": ["RequestRaised"], "severities": ["Extreme"]}
        answer = await notify.post("/subscriptions", json={"kind": "webhook", "target": receiver.url, "filter": wanted})
        assert answer.status_code == 201, answer.text
        await states["TR"].settled(await states["TR"].raise_request(request))
        [call] = await receiver.until(lambda calls: len(calls) == 1)
    event = call.verified(answer.json()["secret"])
    assert (event["type"], event["subject"]) == ("qalqan.RequestRaised.v1", request["request_id"])
