"""What the tests of the page have states do, and where the page shows it."""

from typing import Any

from playwright.async_api import Locator, Page

from qalqan.client import Ballot
from tests.conftest import Party, pledge_data

VOTERS = ("AZ", "KG", "KZ", "UZ")


async def raised(states: Party, data: dict[str, Any]) -> Ballot:
    """TR raises a request; returns when the members are asked."""
    await states["TR"].settled(await states["TR"].raise_request(data))
    return await states["TR"].ballot(data["request_id"])


async def voted(states: Party, ballot: Ballot, *voters: str) -> None:
    """These members approve."""
    for state in voters:
        await states[state].settled(await states[state].vote(ballot, "approve"))


async def pledged(states: Party, request_id: str, accepted: int = 0, **fields: Any) -> None:
    """AZ offers four teams; TR accepts so many of them."""
    await states["AZ"].settled(await states["AZ"].pledge(pledge_data(request_id, **fields)))
    if accepted:
        await states["TR"].settled(await states["TR"].accept(request_id, "AZ-1", accepted))


def card(page: Page, request_id: str) -> Locator:
    """A request's card on the board."""
    return page.locator(f'.card[data-key="{request_id}"]')


def section(page: Page, title: str) -> Locator:
    """A part of the view, by its heading."""
    return page.get_by_role("region", name=title, exact=True).and_(page.locator("section"))
