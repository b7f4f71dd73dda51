"""notify dies while somebody watches: the page says so, and goes on by itself with nothing missed."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import httpx2
from playwright.async_api import expect

from deploy.local.stack import Stack
from qalqan.runinfo import RunInfo
from tests.browser.acts import card, pledged, raised, section, voted
from tests.browser.conftest import Open
from tests.conftest import Party


async def test_notify_is_killed_while_two_watch(
    open_page: Open, system: Stack, states: Party, new_request: Callable[..., dict[str, Any]]
) -> None:
    """One at the board, one at the request; votes come meanwhile. Both windows end as the API says."""
    data = new_request(mode="actual")
    request_id = data["request_id"]
    ballot = await raised(states, data)
    board, request = await open_page("/"), await open_page(f"/requests/{request_id}")
    await expect(card(board, request_id)).to_contain_text("1 of 5")
    await expect(section(request, "Events").locator(".event")).to_have_count(2)

    run = RunInfo.load(system.home / "run.json")
    os.kill(run.pids["notify"], signal.SIGKILL)
    lost = [
        expect(page.get_by_role("status").first).to_have_text("Connection lost, resuming") for page in (board, request)
    ]
    await asyncio.gather(*lost, voted(states, ballot, "AZ", "KG"))
    await pledged(states, request_id, accepted=2)

    for page in (board, request):
        await expect(page.locator(".connection")).to_have_text("Live")
    await expect(card(board, request_id)).to_contain_text("3 of 5")
    await expect(card(board, request_id).locator(".coverage")).to_contain_text("20%")
    for state in ("AZ", "KG"):
        await expect(section(request, "Ballot").locator(f'.position[data-key="{state}"]')).to_contain_text("Approves")
    await voted(states, ballot, "KZ", "UZ")  # and live again, not only read once
    await expect(card(board, request_id)).to_contain_text("Mobilised")

    events = section(request, "Events").locator(".event")
    await expect(events).to_have_count(10)
    shown = [(await event.get_attribute("data-key") or "").removeprefix("event ") for event in await events.all()]
    headers = {"Authorization": f"Bearer {run.token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        told = (await http.get(f"{run.dashboard}/requests/{request_id}/events")).json()["items"]
    assert [str(item["seq"]) for item in told] == shown[::-1]
