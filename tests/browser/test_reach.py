"""Everybody reaches everything: without a mouse, on a phone, with assistive technology, in the dark."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.acts import card, pledged, raised, section, voted
from tests.browser.conftest import DESK, PHONE, Open
from tests.conftest import Party
from tests.foreign.node.fetched import package

VIEWS = ("signin", "now", "request", "streams")


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's program."""
    return (package("axe-core") / "axe.min.js").read_text(encoding="utf-8")


async def a_request(states: Party, data: dict[str, Any]) -> str:
    """One that has come all the way, so that every part of its view has content."""
    ballot = await raised(states, data)
    await pledged(states, data["request_id"], accepted=2)
    await voted(states, ballot, "AZ", "KG", "KZ", "UZ")
    return str(data["request_id"])


async def settled_view(open_page: Open, view: str, request_id: str, size: tuple[int, int], dark: bool) -> Page:
    """A view with its content."""
    token = None if view == "signin" else ""
    path = {"request": f"/requests/{request_id}", "streams": "/streams"}.get(view, "/")
    page = await open_page(path, size=size, token=token, dark=dark)
    there = {"signin": "form.signin", "now": ".card", "request": ".event", "streams": ".tile"}[view]
    await expect(page.locator(there).first).to_be_visible()
    if view == "now":  # one card, and not what other tests have left
        await page.get_by_label("Mode").select_option("exercise")
        await expect(page.locator(".card:not(.exercise)")).to_have_count(0)
    return page


@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (PHONE, True)], ids=["desk", "phone-dark"])
async def test_axe_finds_nothing(
    open_page: Open,
    states: Party,
    new_request: Callable[..., dict[str, Any]],
    axe: str,
    size: tuple[int, int],
    dark: bool,
) -> None:
    """axe-core with all its rules, on each view; and a phone never scrolls sideways."""
    request_id = await a_request(states, new_request(mode="exercise"))
    for view in VIEWS:
        page = await settled_view(open_page, view, request_id, size, dark)
        if view == "request":
            await section(page, "Events").get_by_role("button").first.click()
        await page.evaluate(axe)
        found = await page.evaluate("axe.run(document)")
        told = [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found["violations"]]
        assert told == [], f"{view}: {told}"
        assert await page.evaluate("document.documentElement.scrollWidth") <= size[0], view


async def test_everything_without_a_mouse(
    open_page: Open, states: Party, new_request: Callable[..., dict[str, Any]]
) -> None:
    """From signing in to an event's data with the keyboard alone, and the focus is always seen."""
    data = new_request()
    await a_request(states, data)
    page = await open_page()
    shown = card(page, data["request_id"]).get_by_role("link")
    await page.get_by_label("Mode").focus()
    await page.keyboard.type("Test")
    await expect(shown).to_be_visible()
    await tab_to(page, shown)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(data["emergency"]["title"])
    event = section(page, "Events").locator(".event").first
    await tab_to(page, event.get_by_role("button"))
    await page.keyboard.press("Enter")
    await expect(event.locator("pre")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(event.locator("pre")).to_be_focused()

    await page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    await tab_to(page, page.get_by_role("link", name="Skip to the content"))
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await tab_to(page, page.get_by_role("link", name="All requests"))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Now")


async def tab_to(page: Page, wanted: Any, limit: int = 300) -> None:
    """Presses Tab until it has the focus; on the way whatever has it is seen to have it."""
    for _ in range(limit):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("element => element === document.activeElement"):
            outline = await wanted.evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline == "solid", "the focus is not seen"
            return
    raise AssertionError(f"no Tab leads to {wanted}")
